"""Attribution by Captum: how much each pixel of an image counts for what a model says of it.

Captum hooks modules and sets gradients, so it is only ever given a copy of the model. The baseline is a black image. Grad-CAM
looks at the last activation that still has rows and columns: what a norm or bias takes away from a convolution's output would
decide there which of its maps count.

Saliency: Simonyan et al. (2014), "Deep inside convolutional networks". Integrated gradients: Sundararajan et al. (2017),
"Axiomatic attribution for deep networks". Grad-CAM and guided Grad-CAM: Selvaraju et al. (2017), "Grad-CAM". Occlusion:
Zeiler and Fergus (2014), "Visualizing and understanding convolutional networks".
"""

import contextlib
import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import GuidedGradCam, IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion, Saliency
from torch import Tensor, nn

from labbook.core.errors import ParamsError

__all__ = ["METHODS", "SIGNED", "Method", "Question", "Score", "attribute", "check_fit", "relevance", "window"]

BATCH = 64  # images at once where a method needs many of them
WINDOWS = 4  # occluding windows along each side; they overlap by half


class Score(nn.Module):
    """One number for each image: the sum of chosen logits, of a copy of the model in evaluation mode.

    Args:
        model: images (N, C, H, W) → logits (N, classes, ...). It is left as it is, whatever happens to the copy.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    def forward(self, images: Tensor, chosen: Tensor) -> Tensor:
        """Compute the sums, (N,), of logits times `chosen`, which has their shape (N, classes, ...)."""
        logits: Tensor = self.model(images)
        return (logits * chosen).flatten(1).sum(dim=1)


@dataclass(frozen=True)
class Question:
    """What is to be attributed.

    Attributes:
        score: of the model.
        images: (N, C, H, W), float32.
        chosen: (N, classes, ...): 1 for the logits that the score sums, 0 for the others.
        black: (1, C, H, W), what a black image becomes.
        steps: of integrated gradients.
    """

    score: Score
    images: Tensor
    chosen: Tensor
    black: Tensor
    steps: int


Method = Callable[[Question], Tensor]  # what it gives is (N, C, H, W)


def attribute(method: Method, asked: Question) -> Tensor:
    """Let a method answer: (N, C, H, W), free of gradients, in the memory layout that Captum's figures expect."""
    return method(asked).detach().contiguous()


def saliency(asked: Question) -> Tensor:
    """Give |∂score / ∂pixel|."""
    found: Tensor = Saliency(asked.score).attribute(_leaf(asked.images), additional_forward_args=asked.chosen)
    return found


def integrated_gradients(asked: Question) -> Tensor:
    """Give the pixel's distance from black times the mean gradient on the way from there."""
    found: Tensor = IntegratedGradients(asked.score).attribute(
        _leaf(asked.images),
        baselines=asked.black,
        n_steps=asked.steps,
        internal_batch_size=max(BATCH, len(asked.images)),
        additional_forward_args=asked.chosen,
    )
    return found


def layer_gradcam(asked: Question) -> Tensor:
    """Give the maps of the last activation, weighted by their mean gradients; what is positive of the sum, on the pixels."""
    method = LayerGradCam(asked.score, _last_maps(asked))
    maps = method.attribute(_leaf(asked.images), additional_forward_args=asked.chosen, relu_attributions=True)
    _, channels, *size = asked.images.shape
    enlarged: Tensor = LayerAttribution.interpolate(maps, tuple(size), "bilinear")
    return enlarged.expand_as(asked.images) / channels


def guided_gradcam(asked: Question) -> Tensor:
    """Give Grad-CAM times the gradient that passes only positive parts back through each ReLU."""
    method = GuidedGradCam(asked.score, _last_maps(asked))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")  # of a copy
        found: Tensor = method.attribute(_leaf(asked.images), additional_forward_args=asked.chosen)
    return found


def occlusion(asked: Question) -> Tensor:
    """Give how much the score falls when a square window is black, the mean over the windows that cover a pixel."""
    channels, side = asked.images.shape[1], window(asked.images)
    stride = math.ceil(side / 2)
    found: Tensor = Occlusion(asked.score).attribute(
        asked.images,
        sliding_window_shapes=(channels, side, side),
        strides=(channels, stride, stride),
        baselines=asked.black,
        perturbations_per_eval=max(1, BATCH // len(asked.images)),
        additional_forward_args=asked.chosen,
    )
    return found


METHODS: dict[str, Method] = {
    "saliency": saliency,
    "integrated_gradients": integrated_gradients,
    "layer_gradcam": layer_gradcam,
    "guided_gradcam": guided_gradcam,
    "occlusion": occlusion,
}
SIGNED = frozenset({"integrated_gradients", "guided_gradcam", "occlusion"})


def relevance(attributions: Tensor) -> Tensor:
    """Sum attributions (N, C, H, W) over channels: one number a pixel, (N, H, W)."""
    return attributions.sum(dim=1)


def window(images: Tensor) -> int:
    """Give the side of the square windows that cover images (N, C, H, W), in pixels."""
    return math.ceil(min(images.shape[2:]) / WINDOWS)


def check_fit(asked: Question, methods: Iterable[str]) -> None:
    """Refuse methods that would go wrong silently on this model.

    Raises:
        ParamsError: no activation has rows and columns, one works in place, a ReLU is used twice, or there is none.
    """
    if "layer_gradcam" in methods or "guided_gradcam" in methods:
        _last_maps(asked)
        for name, module in asked.score.model.named_modules():
            if getattr(module, "inplace", False):
                raise ParamsError(
                    f"attributions: {name} ({type(module).__name__}) works in place, and Grad-CAM would read what it "
                    "overwrote. Build it with inplace=False, or leave the method out."
                )
    if "guided_gradcam" in methods:
        _check_relus(asked)


def _check_relus(asked: Question) -> None:
    uses = Counter(name for name, module, _ in _activated(asked) if isinstance(module, nn.ReLU))
    if not uses:
        raise ParamsError("attributions: guided_gradcam guides gradients through ReLUs, and this model has none. Leave it out.")
    for name, count in uses.items():
        if count > 1:
            raise ParamsError(
                f"attributions: the model uses its ReLU {name} {count} times, and guided_gradcam needs an instance for each "
                "use. Give the model more of them, or leave the method out."
            )


def _last_maps(asked: Question) -> nn.Module:
    found = [module for _, module, dimensions in _activated(asked) if dimensions == 4]
    if not found:
        raise ParamsError(
            "attributions: Grad-CAM weighs the maps of an activation, and no activation of this model gives any. Leave it out."
        )
    return found[-1]


def _activated(asked: Question) -> list[tuple[str, nn.Module, int]]:
    """List activations in the order in which an image passes them, a module as often as it is used, and their dimensions."""
    passed: list[tuple[str, nn.Module, int]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, _, output: passed.append((name, module, output.ndim))

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for name, module in asked.score.model.named_modules():
            if type(module).__module__ == nn.ReLU.__module__:
                hooks.enter_context(module.register_forward_hook(note(name)))
        asked.score(asked.images[:1], asked.chosen[:1])
    return passed


def _leaf(images: Tensor) -> Tensor:
    """Give a copy that gradients reach; no parameter of a `Score` has any."""
    return images.detach().clone().requires_grad_()
