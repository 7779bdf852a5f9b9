"""`dvc repro` with stages side by side: those that do not wait for each other run at once, dvc.lock is written now and then.

Graph, locks, caches, outputs and messages are DVC's; the files are those of a sequential run, to the byte. DVC has no
plugin for this (its issue 755): a few of its functions are replaced in our process, so the version it was tested with is
pinned, and `dvc repro` itself works as ever.
"""
