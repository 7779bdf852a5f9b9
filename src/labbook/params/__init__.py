"""Typed parameters: the only readers of `params.yaml`.

`training` is what a training run depends on, `project` the whole file; they are apart so that a new key for the report
retrains nothing.
"""
