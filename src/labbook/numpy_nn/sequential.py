"""A sequence of layers, with PyTorch's names: `1.weight` is the weight of the second layer."""

from labbook.errors import NumpyBackendError
from labbook.numpy_nn.layer import Array, Layer

__all__ = ["Sequential"]


class Sequential(Layer):
    """The chain rule: forward from the first layer to the last, backward from the last to the first.

    Raises:
        NumpyBackendError: a layer occurs twice, but it stores only one forward pass.
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        if len(set(map(id, layers))) < len(layers):
            raise NumpyBackendError("Sequential: found the same layer twice, expected one instance for each place")
        self.layers = layers
        for place, layer in enumerate(layers):
            self.parameters |= {f"{place}.{name}": parameter for name, parameter in layer.parameters.items()}
            self.buffers |= {f"{place}.{name}": buffer for name, buffer in layer.buffers.items()}

    def _forward(self, inputs: Array) -> Array:
        for layer in self.layers:
            inputs = layer.forward(inputs)
        return inputs

    def backward(self, upstream: Array) -> Array:
        """Return the gradient of the inputs, and store those of all parameters."""
        self._check_upstream(upstream)
        upstream = self._backward(upstream)
        self._gather()
        return upstream

    def backward_parameters(self, upstream: Array) -> None:
        """Store the gradients of all parameters, without that of the inputs of the first layer that has parameters."""
        self._check_upstream(upstream)
        first = next((place for place, layer in enumerate(self.layers) if layer.parameters), len(self.layers))
        for layer in reversed(self.layers[first + 1 :]):
            upstream = layer.backward(upstream)
        for layer in self.layers[first : first + 1]:
            layer.backward_parameters(upstream)
        self._gather()

    def _backward(self, upstream: Array) -> Array:
        for layer in reversed(self.layers):
            upstream = layer.backward(upstream)
        return upstream

    def _gather(self) -> None:
        self.gradients = {
            f"{place}.{name}": gradient for place, layer in enumerate(self.layers) for name, gradient in layer.gradients.items()
        }

    def train(self, training: bool = True) -> None:
        """Set the mode of all layers."""
        super().train(training)
        for layer in self.layers:
            layer.train(training)
