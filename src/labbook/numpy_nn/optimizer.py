"""Stochastic gradient descent, in place, with the formula of `torch.optim.SGD`."""

import numpy as np

from labbook.errors import NumpyBackendError
from labbook.numpy_nn.layer import Layer

__all__ = ["SGD"]


class SGD:
    """w ← w − lr v with v ← momentum · v + g, g the gradient plus weight_decay · w.

    Classical momentum: Sutskever et al. (2013), "On the importance of initialization and momentum in deep learning",
    equations 1 and 2, with the learning rate taken out of the velocity, as PyTorch does.

    Attributes:
        lr: learning rate; may be changed between steps.
        velocities: v of each parameter; empty without momentum.
    """

    def __init__(self, layer: Layer, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        if min(lr, momentum, weight_decay) < 0:
            raise NumpyBackendError(
                f"SGD: found lr {lr}, momentum {momentum}, weight_decay {weight_decay}, expected none below 0"
            )
        self.layer, self.lr, self.momentum, self.weight_decay = layer, lr, momentum, weight_decay
        self.velocities = {name: np.zeros_like(array) for name, array in layer.parameters.items()} if momentum else {}

    def step(self) -> None:
        """Update each parameter of the layer.

        Raises:
            NumpyBackendError: there are no gradients, because there was no backward pass.
        """
        gradients = self.layer.gradients
        for name, parameter in self.layer.parameters.items():
            if name not in gradients:
                raise NumpyBackendError(
                    f"SGD: found step before backward, no gradient of {name} {parameter.shape}, expected backward first"
                )
            slope = gradients[name]
            if self.weight_decay:
                slope = slope + self.weight_decay * parameter
            if self.momentum:
                velocity = self.velocities[name]
                velocity *= self.momentum
                velocity += slope
                slope = velocity
            np.subtract(parameter, self.lr * slope, out=parameter)
