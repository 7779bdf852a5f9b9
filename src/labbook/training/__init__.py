"""Training: the loop, its components, preprocessing and augmentation, checkpoints, history, several processes."""
