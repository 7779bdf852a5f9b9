"""One file an architecture family: `Settings`, its keys in `params.yaml`, and `build`.

`build(settings, image_shape, classes)` gives a `torch.nn.Module` that maps images (N, C, H, W) to logits (N, classes).
Every activation and pool is a module instance of its own, never in place: attribution methods hook them.
"""
