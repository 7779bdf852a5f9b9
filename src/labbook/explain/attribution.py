"""Attribution methods, from Captum: how much each pixel of an image contributes to an output of a model.

Captum registers hooks and sets gradients, so it only receives a copy of the model. The baseline is a black image. Grad-CAM uses
the last activation function whose output has rows and columns, not the convolution before it, because a normalisation or bias
between the two would change which maps are positive.

Saliency: Simonyan et al. (2014), "Deep inside convolutional networks". Integrated gradients: Sundararajan et al. (2017),
"Axiomatic attribution for deep networks". Grad-CAM and guided Grad-CAM: Selvaraju et al. (2017), "Grad-CAM". Occlusion:
Zeiler and Fergus (2014), "Visualizing and understanding convolutional networks".
"""

import contextlib
import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import GuidedGradCam, IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion, Saliency
from torch import Tensor, nn

from labbook.errors import ParamsError

__all__ = [
    "BATCH",
    "METHODS",
    "SIGNED",
    "Method",
    "MethodInputs",
    "Score",
    "attribute",
    "choose_methods",
    "relevance",
    "window_side",
]

BATCH = 64  # images per forward pass of methods that need many images
WINDOWS = 4  # occluding windows along each side; neighbours overlap by half


class Score(nn.Module):
    """One number per image: the sum of the target logits, computed by a copy of the model in evaluation mode.

    Args:
        model: images (N, C, H, W) → logits (N, classes, ...). Only its copy is modified.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Compute the sums, (N,), of logits times `targets`, which has their shape (N, classes, ...)."""
        logits: Tensor = self.model(images)
        return (logits * targets).flatten(1).sum(dim=1)


@dataclass(frozen=True)
class MethodInputs:
    """Inputs of an attribution method.

    Attributes:
        score: score of the model.
        images: (N, C, H, W), float32.
        targets: (N, classes, ...): 1 for the logits that the score sums, 0 for the others.
        baseline: (1, C, H, W), a black image after preprocessing.
        steps: number of steps of integrated gradients.
    """

    score: Score
    images: Tensor
    targets: Tensor
    baseline: Tensor
    steps: int


Method = Callable[[MethodInputs], Tensor]  # returns attributions (N, C, H, W)


def attribute(method: Method, inputs: MethodInputs) -> Tensor:
    """Compute the attributions of a method: (N, C, H, W), detached and contiguous."""
    return method(inputs).detach().contiguous()


def saliency(inputs: MethodInputs) -> Tensor:
    """Compute |∂score / ∂pixel|."""
    attributions: Tensor = Saliency(inputs.score).attribute(
        _with_gradient(inputs.images), additional_forward_args=inputs.targets
    )
    return attributions


def integrated_gradients(inputs: MethodInputs) -> Tensor:
    """Compute the difference from the baseline times the mean gradient along the line from the baseline to the image."""
    attributions: Tensor = IntegratedGradients(inputs.score).attribute(
        _with_gradient(inputs.images),
        baselines=inputs.baseline,
        n_steps=inputs.steps,
        internal_batch_size=max(BATCH, len(inputs.images)),
        additional_forward_args=inputs.targets,
    )
    return attributions


def layer_gradcam(inputs: MethodInputs) -> Tensor:
    """Compute the sum of the last activation's maps, weighted by their mean gradients; clip it at 0 and resize it."""
    method = LayerGradCam(inputs.score, _last_map_layer(inputs))
    maps = method.attribute(_with_gradient(inputs.images), additional_forward_args=inputs.targets, relu_attributions=True)
    _, channels, *size = inputs.images.shape
    resized: Tensor = LayerAttribution.interpolate(maps, tuple(size), "bilinear")
    return resized.expand_as(inputs.images) / channels


def guided_gradcam(inputs: MethodInputs) -> Tensor:
    """Compute Grad-CAM times the guided gradient, for which each ReLU passes only positive gradients."""
    method = GuidedGradCam(inputs.score, _last_map_layer(inputs))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")  # of a copy
        attributions: Tensor = method.attribute(_with_gradient(inputs.images), additional_forward_args=inputs.targets)
    return attributions


def occlusion(inputs: MethodInputs) -> Tensor:
    """Compute the drop of the score when a square window is black, averaged over the windows that cover a pixel."""
    channels, side = inputs.images.shape[1], window_side(inputs.images)
    stride = math.ceil(side / 2)
    attributions: Tensor = Occlusion(inputs.score).attribute(
        inputs.images,
        sliding_window_shapes=(channels, side, side),
        strides=(channels, stride, stride),
        baselines=inputs.baseline,
        perturbations_per_eval=max(1, BATCH // len(inputs.images)),
        additional_forward_args=inputs.targets,
    )
    return attributions


METHODS: dict[str, Method] = {
    "saliency": saliency,
    "integrated_gradients": integrated_gradients,
    "layer_gradcam": layer_gradcam,
    "guided_gradcam": guided_gradcam,
    "occlusion": occlusion,
}
SIGNED = frozenset({"integrated_gradients", "guided_gradcam", "occlusion"})


def relevance(attributions: Tensor) -> Tensor:
    """Sum attributions (N, C, H, W) over channels: one number per pixel, (N, H, W)."""
    return attributions.sum(dim=1)


def window_side(images: Tensor) -> int:
    """Return the side of the square windows that occlude images (N, C, H, W), in pixels."""
    return math.ceil(min(images.shape[2:]) / WINDOWS)


def choose_methods(inputs: MethodInputs, requested: Sequence[str] | None) -> list[str]:
    """Return the requested methods, or all methods that suit the model.

    Args:
        inputs: inputs of the methods.
        requested: names, or `None`.

    Raises:
        ParamsError: a requested method does not suit the model.
    """
    problems = {name: _find_problem(inputs, name) for name in requested or METHODS}
    if requested is None:
        return [name for name, problem in problems.items() if not problem]
    for problem in problems.values():
        if problem:
            raise ParamsError(f"attributions: {problem}")
    return list(requested)


def _find_problem(inputs: MethodInputs, method: str) -> str | None:
    """Return why a method does not suit this model, or `None` if it does."""
    problem = None
    if method in {"layer_gradcam", "guided_gradcam"}:
        problem = _find_map_problem(inputs)
    if method == "guided_gradcam":
        problem = problem or _find_relu_problem(inputs)
    return problem


def _find_map_problem(inputs: MethodInputs) -> str | None:
    if not _layers_with_maps(_list_activations(inputs)):
        return "Grad-CAM needs an activation function with spatial maps, and this model has none. Remove the method."
    for name, module in inputs.score.model.named_modules():
        if getattr(module, "inplace", False):
            return (
                f"{name} ({type(module).__name__}) operates in place, so Grad-CAM would read overwritten values. "
                "Build it with inplace=False, or remove the method."
            )
    return None


def _find_relu_problem(inputs: MethodInputs) -> str | None:
    uses = Counter(name for name, module, _ in _list_activations(inputs) if isinstance(module, nn.ReLU))
    if not uses:
        return "guided_gradcam needs ReLUs, and this model has none. Remove the method."
    for name, count in uses.items():
        if count > 1:
            return (
                f"the model uses its ReLU {name} {count} times, and guided_gradcam needs one instance per use. "
                "Use separate instances in the model, or remove the method."
            )
    return None


def _last_map_layer(inputs: MethodInputs) -> nn.Module:
    return _layers_with_maps(_list_activations(inputs))[-1]


def _layers_with_maps(calls: list[tuple[str, nn.Module, int]]) -> list[nn.Module]:
    return [module for _, module, dimensions in calls if dimensions == 4]


def _list_activations(inputs: MethodInputs) -> list[tuple[str, nn.Module, int]]:
    """List name, module and output dimensions of each activation function, in the order of their calls."""
    calls: list[tuple[str, nn.Module, int]] = []

    def make_hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, _, output: calls.append((name, module, output.ndim))

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for name, module in inputs.score.model.named_modules():
            if type(module).__module__ == nn.ReLU.__module__:
                hooks.enter_context(module.register_forward_hook(make_hook(name)))
        inputs.score(inputs.images[:1], inputs.targets[:1])
    return calls


def _with_gradient(images: Tensor) -> Tensor:
    """Copy images to a leaf tensor that requires a gradient."""
    return images.detach().clone().requires_grad_()
