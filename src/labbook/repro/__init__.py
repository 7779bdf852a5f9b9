"""`dvc repro` with stages side by side: those that do not wait for each other run at once, dvc.lock is written now and then.

Graph, locks, caches, outputs and messages are DVC's; a run that ends well leaves the files of a sequential one, to the byte.
DVC has no plugin for this (its issue 755): a few of its functions are replaced in our process, tested with the version in
requirements.lock. `dvc repro` itself works as ever.
"""
