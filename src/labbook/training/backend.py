"""What a backend offers: the function that takes one step of training (`labbook.backends`)."""

from collections.abc import Callable

from torch import Tensor, nn, optim

__all__ = ["Backend", "Loss", "Step"]

Loss = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # images and labels → loss and logits; the model has learnt
Backend = Callable[[nn.Module, Loss, optim.Optimizer, str], Step]  # the last is the precision
