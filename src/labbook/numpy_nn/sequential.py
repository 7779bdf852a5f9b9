"""A sequence of layers, with PyTorch's names: `1.weight` is the weight of the second layer."""

from labbook.errors import NumpyBackendError
from labbook.numpy_nn.layer import Array, Layer

__all__ = ["Sequential"]


class Sequential(Layer):
    """Layers applied in order; the backward pass applies the chain rule from the last layer to the first.

    Raises:
        NumpyBackendError: a layer occurs twice; a layer stores only one forward pass.
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        if len(set(map(id, layers))) < len(layers):
            raise NumpyBackendError("Sequential: found the same layer twice, expected a separate instance at each position")
        self.layers = layers
        for index, layer in enumerate(layers):
            self.parameters |= {f"{index}.{name}": parameter for name, parameter in layer.parameters.items()}
            self.buffers |= {f"{index}.{name}": buffer for name, buffer in layer.buffers.items()}

    def _forward(self, inputs: Array) -> Array:
        for layer in self.layers:
            inputs = layer.forward(inputs)
        return inputs

    def backward(self, upstream: Array) -> Array:
        """Return the gradient of the inputs, and store those of all parameters."""
        self._check_upstream(upstream)
        upstream = self._backward(upstream)
        self._collect_gradients()
        return upstream

    def backward_parameters(self, upstream: Array) -> None:
        """Store the gradients of all parameters; the backward pass ends at the first layer that has parameters."""
        self._check_upstream(upstream)
        first = next((index for index, layer in enumerate(self.layers) if layer.parameters), len(self.layers))
        for layer in reversed(self.layers[first + 1 :]):
            upstream = layer.backward(upstream)
        for layer in self.layers[first : first + 1]:
            layer.backward_parameters(upstream)
        self._collect_gradients()

    def _backward(self, upstream: Array) -> Array:
        for layer in reversed(self.layers):
            upstream = layer.backward(upstream)
        return upstream

    def _collect_gradients(self) -> None:
        self.gradients = {
            f"{index}.{name}": gradient for index, layer in enumerate(self.layers) for name, gradient in layer.gradients.items()
        }

    def train(self, training: bool = True) -> None:
        """Set the mode of all layers."""
        super().train(training)
        for layer in self.layers:
            layer.train(training)
