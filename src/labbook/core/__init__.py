"""What every stage that computes with a model shares: errors, files, typed settings, parts, packed data, the device.

All of it is one dependency of `train` and `evaluate`. So here is only what both import, and nothing that is for the report:
`settings` is what a training depends on, `labbook.params` all of `params.yaml`.
"""
