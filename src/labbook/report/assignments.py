"""The five assignments, as their pages are called."""

__all__ = ["ASSIGNMENTS"]

ASSIGNMENTS = {
    "A": "Depth versus width on MNIST",
    "B": "Variations of a small CNN on MNIST",
    "C": "Wide against deep on CIFAR-10 and Tiny ImageNet",
    "D": "CNNs on CIFAR-10, and transfer learning",
    "E": "Layers from scratch, and segmentation",
}
