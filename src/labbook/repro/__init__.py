"""`dvc repro` with independent stages in parallel, and fewer writes of dvc.lock.

Graph, locks, caches, outputs and messages are DVC's. A successful run leaves the same bytes as a sequential one. DVC has no
plugin interface for this (its issue 755), so a few of its functions are replaced in this process; tests cover the version
of DVC in requirements.lock. `dvc repro` itself is not changed.
"""
