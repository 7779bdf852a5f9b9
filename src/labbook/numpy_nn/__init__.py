"""Layers in plain NumPy, each with its forward pass beside its backward pass (assignment E).

Names, arguments, shapes and parameters are those of PyTorch's classes, so that weights can be exchanged. Reading order:
`layer` (the base class), `linear`, `activations`, `windows`, `conv`, `pooling`, `norm`, `loss`, `sequential`, `optimizer`.
Backpropagation in general: Goodfellow, Bengio and Courville (2016), "Deep learning", section 6.5.
"""
