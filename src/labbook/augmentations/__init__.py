"""One file an augmentation: `build(settings)` gives `fixed`, done to every image once, and `random`, done to each batch.

`fixed` maps bytes (N, C, H, W) to float32 and holds for training and evaluation alike; `random` maps float32 batches to
batches of the same shape with the given generator, and is `None` where there is nothing random.
"""
