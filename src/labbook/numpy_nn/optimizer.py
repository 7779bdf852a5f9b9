"""Stochastic gradient descent, in place, with the formula of `torch.optim.SGD`."""

import numpy as np

from labbook.errors import NumpyBackendError
from labbook.numpy_nn.layer import Layer

__all__ = ["SGD"]


class SGD:
    """w ← w − lr · v and v ← momentum · v + g, where g is the gradient plus weight_decay · w.

    Classical momentum: Sutskever et al. (2013), "On the importance of initialization and momentum in deep learning",
    equations 1 and 2, with the learning rate outside the velocity, as in PyTorch.

    Attributes:
        lr: learning rate; it may change between steps.
        velocities: v of each parameter, by name; empty without momentum.
    """

    def __init__(self, layer: Layer, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        if min(lr, momentum, weight_decay) < 0:
            raise NumpyBackendError(
                f"SGD: found lr {lr}, momentum {momentum}, weight_decay {weight_decay}, expected values of at least 0"
            )
        self.layer, self.lr, self.momentum, self.weight_decay = layer, lr, momentum, weight_decay
        self.velocities = {name: np.zeros_like(array) for name, array in layer.parameters.items()} if momentum else {}

    def step(self) -> None:
        """Update each parameter of the layer.

        Raises:
            NumpyBackendError: there was no backward pass, so there are no gradients.
        """
        gradients = self.layer.gradients
        for name, parameter in self.layer.parameters.items():
            if name not in gradients:
                raise NumpyBackendError(
                    f"SGD: step was called before backward: no gradient of {name} {parameter.shape}. Call backward first."
                )
            update = gradients[name]
            if self.weight_decay:
                update = update + self.weight_decay * parameter
            if self.momentum:
                velocity = self.velocities[name]
                velocity *= self.momentum
                velocity += update
                update = velocity
            np.subtract(parameter, self.lr * update, out=parameter)
