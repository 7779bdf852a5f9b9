"""The interface of a backend, which computes training steps: `labbook.training.torch_step` and `labbook.numpy_nn.step`."""

from collections.abc import Callable

from torch import Tensor, nn, optim

__all__ = ["Backend", "Loss", "Step"]

Loss = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # images and labels → loss and logits; updates the model
Backend = Callable[[nn.Module, Loss, optim.Optimizer, str], Step]  # model, loss, optimizer, precision
