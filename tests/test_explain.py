"""Attributions of linear models in closed form, quality metrics, messages, figures, and the explain stage."""

import copy
import dataclasses
import hashlib
import json
import re
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max as captum_sensitivity_max
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats
from toolbox import CPU, UNIT, bits, toy_model
from torch import Tensor, nn
from torch.nn import functional

from labbook.config.explain import Explain, Method
from labbook.config.images import Preprocess
from labbook.config.reading import validate
from labbook.data.packed import PackedDataset, Split, read_packed, write_packed
from labbook.errors import DataError, ParamsError
from labbook.evaluation.restore import Restored
from labbook.explain import quality
from labbook.explain.attribution import METHODS, SIGNED, MethodInputs, Score, attribute, choose_methods, relevance, window_side
from labbook.explain.experiment import explain
from labbook.explain.layers import Layer, activations, find_layer, first_layer, last_layer, weight_images
from labbook.explain.samples import find_samples, read_image
from labbook.plots import style
from labbook.plots.explanations import Panel, draw_activations, draw_attributions, draw_filters
from labbook.training.preprocessing import Preprocessing

ALL = tuple(METHODS)
NO_CONVOLUTION = ("saliency", "integrated_gradients", "occlusion")


def linear(channels: int = 1, side: int = 8, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, classes))


def make_inputs(
    model: nn.Module, channels: int = 1, count: int = 3, target: int = 1, level: float = 0.2, side: int = 8
) -> MethodInputs:
    """Make random images, with one class as the target and a baseline of one level."""
    images = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        targets = torch.zeros_like(model(images))
    targets[:, target] = 1
    return MethodInputs(Score(model), images, targets, torch.full((1, channels, side, side), level), steps=8)


def weights_of(inputs: MethodInputs, target: int = 1) -> Tensor:
    return inputs.score.model[1].weight[target].reshape(1, *inputs.images.shape[1:])


def convolutional(channels: int = 1, activation: type[nn.Module] = nn.ReLU, **keys: object) -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, 4, 3, padding=1)
    return nn.Sequential(conv, activation(**keys), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3))


def restored(packed: PackedDataset, kind: str = "cnn", **keys: object) -> Restored:
    model = toy_model(packed, kind, **keys).eval()
    return Restored(model, UNIT, functional.cross_entropy)


def settings(**changes: object) -> Explain:
    return Explain.model_validate({"steps": 4} | changes)


def make_segmenter() -> tuple[Restored, PackedDataset]:
    """Return a model that detects bright pixels, and six images, in three of which the bright square has the class `square`."""
    images = np.full((6, 1, 8, 8), 20, dtype=np.uint8)
    images[:, 0, 2:5, 2:6] = 250
    labels = (images[:, 0] > 128).astype(np.uint8)
    labels[3:] = 0  # here the bright pixels are background, so the model is wrong
    split = Split(images, labels)
    packed = PackedDataset("toy", "embedded", ("background", "square"), split, np.array([0]), split)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[0].weight[0, 0, 1, 1] = 1.0
        model[2].weight[:, 0, 0, 0] = torch.tensor([-4.0, 4.0])
        model[2].bias[:] = torch.tensor([2.0, -2.0])
    return Restored(model.eval(), UNIT, functional.cross_entropy), packed


# Closed forms


def test_a_score_is_computed_in_evaluation_mode():
    """In training mode, dropout would set half of the logits to 0 and double the others."""
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5)).train()
    images = torch.arange(1.0, 9.0).reshape(2, 1, 2, 2)
    assert Score(model)(images, torch.ones(2, 4)).tolist() == [10.0, 26.0]
    assert model.training


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_on_a_linear_model_saliency_is_its_absolute_weights(channels, count):
    inputs = make_inputs(linear(channels), channels, count)
    found = attribute(METHODS["saliency"], inputs)
    torch.testing.assert_close(found, weights_of(inputs).abs().expand_as(found))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_on_a_linear_model_integrated_gradients_are_weights_times_distance_and_complete(channels, count):
    inputs = make_inputs(linear(channels), channels, count)
    found = attribute(METHODS["integrated_gradients"], inputs)
    torch.testing.assert_close(found, weights_of(inputs) * (inputs.images - inputs.baseline))
    assert quality.completeness_gap(inputs, found) < 1e-3


@pytest.mark.parametrize("channels", [1, 3])
def test_on_a_linear_model_occlusion_sums_weights_times_distance_over_the_windows(channels):
    inputs = make_inputs(linear(channels), channels)
    found = attribute(METHODS["occlusion"], inputs)
    terms = (weights_of(inputs) * (inputs.images - inputs.baseline)).sum(dim=1)  # (N, 8, 8)
    assert window_side(inputs.images) == 2  # so the stride is 1
    sums = functional.avg_pool2d(terms[:, None], 2, stride=1) * 4  # of each of the 7 x 7 windows
    corner, middle = found[:, 0, 0, 0], found[:, 0, 3, 3]
    torch.testing.assert_close(corner, sums[:, 0, 0, 0])
    torch.testing.assert_close(middle, sums[:, 0, 2:4, 2:4].mean(dim=(1, 2)))


def test_occluding_windows_overlap_by_half_of_their_side_rounded_down():
    """Windows of 3 × 3 start at every second row and column."""
    inputs = make_inputs(linear(side=12), side=12)
    found = attribute(METHODS["occlusion"], inputs)[:, 0]
    sums = functional.avg_pool2d(weights_of(inputs) * (inputs.images - inputs.baseline), 3, stride=2)[:, 0] * 9
    torch.testing.assert_close(found[:, :2, :2], sums[:, :1, :1].expand(3, 2, 2))
    torch.testing.assert_close(found[:, 4, 6], sums[:, 1:3, 2:4].mean(dim=(1, 2)))
    torch.testing.assert_close(found[:, 4, 5], sums[:, 1:3, 2].mean(dim=1))


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 2), (8, 12, 2), (12, 8, 2), (9, 30, 3), (32, 32, 8), (3, 3, 1)])
def test_an_occluding_window_is_a_fourth_of_the_shorter_side_rounded_up(height, width, side):
    assert window_side(torch.zeros(1, 3, height, width)) == side


@pytest.mark.parametrize(("nodes", "weights"), [((0.5,), (1,)), ((0.5 - 12**-0.5, 0.5 + 12**-0.5), (0.5, 0.5))])
def test_integrated_gradients_have_one_gauss_legendre_node_per_step(nodes, weights):
    """The logit of a pixel is its sixth power, whose gradient changes along the line from 0.2 to the pixel."""

    class SixthPower(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) ** 6

    inputs = dataclasses.replace(make_inputs(SixthPower(), target=5), steps=len(nodes))
    distance = inputs.images - 0.2
    expected = sum(weight * 6 * (0.2 + node * distance) ** 5 for node, weight in zip(nodes, weights, strict=True)) * distance
    found = attribute(METHODS["integrated_gradients"], inputs).flatten(1)
    torch.testing.assert_close(found[:, 5], expected.flatten(1)[:, 5])
    assert found[:, :5].abs().max() == 0, "other logits are not attributed"


def test_the_completeness_gap_is_that_of_the_worst_image():
    inputs = make_inputs(linear())
    found = attribute(METHODS["integrated_gradients"], inputs)
    assert quality.completeness_gap(inputs, 3 * found) == pytest.approx(2, rel=1e-4)
    found[1] *= 3
    assert quality.completeness_gap(inputs, found) == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize("target", [0, 1, 2])
def test_grad_cam_is_the_map_weighted_by_its_mean_gradient(target):
    inputs = make_inputs(convolutional(), target=target)
    maps = inputs.score.model[:2](inputs.images).detach().requires_grad_()
    logits = inputs.score.model[2:](maps)
    (gradients,) = torch.autograd.grad(logits[:, target].sum(), maps)
    expected = (gradients.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).relu()
    assert (expected.amax() > 0) == (target != 1), "the weighted maps of class 1 are negative"
    torch.testing.assert_close(relevance(attribute(METHODS["layer_gradcam"], inputs)), expected.detach())


@pytest.mark.parametrize("channels", [1, 3])
def test_grad_cam_is_interpolated_to_the_image_and_divided_among_its_channels(channels):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(channels, 4, 3, stride=2, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 3))
    inputs = make_inputs(model, channels)
    maps = inputs.score.model[:2](inputs.images).detach()
    gradients = inputs.score.model[3].weight[1].reshape(4, 4, 4)
    coarse = (gradients.mean(dim=(1, 2))[:, None, None] * maps).sum(dim=1, keepdim=True).relu()
    expected = functional.interpolate(coarse, (8, 8), mode="bilinear")[:, 0]
    assert expected.amax() > 1.2 * expected.amin() > 0
    found = attribute(METHODS["layer_gradcam"], inputs)
    torch.testing.assert_close(relevance(found), expected)
    torch.testing.assert_close(found, found.mean(dim=1, keepdim=True).expand_as(found))


def test_guided_grad_cam_is_grad_cam_times_the_gradient_that_relus_pass_if_positive():
    inputs = make_inputs(convolutional(), target=0)
    conv = inputs.score.model[0]
    maps = inputs.score.model[:2](inputs.images).detach().requires_grad_()
    (gradients,) = torch.autograd.grad(inputs.score.model[2:](maps)[:, 0].sum(), maps)
    cam = (gradients.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True).relu()
    guided = functional.conv_transpose2d(gradients.relu() * (maps > 0), conv.weight, padding=1)
    assert (gradients < 0).any()
    assert cam.max() > 0.001
    torch.testing.assert_close(attribute(METHODS["guided_gradcam"], inputs), (cam * guided).detach(), rtol=1e-4, atol=1e-9)


def test_only_methods_with_negative_relevance_have_a_scale_of_both_signs():
    inputs = make_inputs(convolutional(), target=0)
    negative = {name for name in ALL if (relevance(attribute(METHODS[name], inputs)) < 0).any()}
    assert negative == SIGNED == {"integrated_gradients", "guided_gradcam", "occlusion"}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_every_method_attributes_each_pixel_whatever_the_batch_size(name, channels):
    inputs = make_inputs(convolutional(channels), channels)
    found = attribute(METHODS[name], inputs)
    assert found.shape == inputs.images.shape
    assert not found.requires_grad
    others = [make_inputs(inputs.score.model, channels, target=target) for target in range(3)]  # Grad-CAM may be 0 for one
    assert any(attribute(METHODS[name], other).abs().sum() > 0 for other in others)
    alone = MethodInputs(inputs.score, inputs.images[1:2], inputs.targets[1:2], inputs.baseline, inputs.steps)
    torch.testing.assert_close(attribute(METHODS[name], alone)[0], found[1])


# The model is unchanged


def state(model: nn.Module) -> object:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        bits(model.state_dict()),
        [module.training for module in model.modules()],
        [
            (parameter.requires_grad, None if parameter.grad is None else parameter.grad.tolist())
            for parameter in model.parameters()
        ],
        [len(getattr(module, name)) for module in model.modules() for name in hooks],
    )


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_the_model_is_unchanged_even_after_an_error(name, fails, monkeypatch):
    model = convolutional().train()
    model[0].bias.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    model[2].eval()
    before = copy.deepcopy(state(model))
    inputs = make_inputs(model)
    if fails:
        monkeypatch.setattr(torch.autograd, "grad", _raise_out_of_memory)
        monkeypatch.setattr(nn.MaxPool2d, "forward", _raise_out_of_memory)
        with pytest.raises(RuntimeError, match="out of memory"):
            attribute(METHODS[name], inputs)
    else:
        found = attribute(METHODS[name], inputs)
        quality.randomization(inputs, {name: METHODS[name]}, {name: found}, seed=0)
        quality.sensitivity_max(inputs, METHODS[name], found, torch.ones_like(inputs.baseline), seed=0)
    assert state(model) == before


def _raise_out_of_memory(*arguments: object, **keys: object) -> None:
    raise RuntimeError("out of memory")


def test_nothing_is_drawn_from_the_global_generator():
    inputs = make_inputs(convolutional())
    found = attribute(METHODS["saliency"], inputs)
    before = torch.random.get_rng_state()
    quality.randomization(inputs, {"saliency": METHODS["saliency"]}, {"saliency": found}, seed=0)
    quality.occlude_squares(inputs, seed=0)
    quality.sensitivity_max(inputs, METHODS["saliency"], found, torch.ones_like(inputs.baseline), seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)


# Quality


def edges(inputs: MethodInputs) -> Tensor:
    """Detect edges: an attribution method that ignores the model."""
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return functional.conv2d(inputs.images, torch.stack([sobel, sobel.T])[:, None], padding=1).abs().sum(dim=1, keepdim=True)


def test_randomization_changes_saliency_and_not_an_edge_detector():
    inputs = make_inputs(convolutional())
    methods = {"edges": edges, "saliency": METHODS["saliency"]}
    attributions = {name: attribute(method, inputs) for name, method in methods.items()}
    found = quality.randomization(inputs, methods, attributions, seed=0)
    assert list(found["edges"]) == ["4", "0"]
    assert found["edges"] == {"4": pytest.approx(1), "0": pytest.approx(1)}
    assert all(value < 0.8 for value in found["saliency"].values())


def test_randomization_is_the_mean_over_the_images_with_relevance():
    inputs = make_inputs(convolutional())
    method = {"edges": lambda one: edges(one) * torch.tensor([0.0, 1.0, 1.0])[:, None, None, None]}
    found = quality.randomization(inputs, method, {"edges": edges(inputs)}, seed=0)
    assert found == {"edges": {"4": pytest.approx(1), "0": pytest.approx(1)}}


@pytest.mark.parametrize("sign", [-1, 1])
def test_randomization_compares_magnitudes_not_signs(sign):
    inputs = make_inputs(convolutional())
    method = {"edges": lambda one: sign * edges(one)}
    found = quality.randomization(inputs, method, {"edges": -sign * edges(inputs)}, seed=0)
    assert found == {"edges": {"4": pytest.approx(1), "0": pytest.approx(1)}}


def test_randomization_reaches_a_third_two_thirds_and_all_of_the_layers():
    """Each stage keeps the new weights of the previous one; the normalisation has weights, the activations have none."""
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten()]
    inputs = make_inputs(nn.Sequential(*body, nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3)))
    trained = attribute(METHODS["saliency"], inputs)
    found = quality.randomization(inputs, {"saliency": METHODS["saliency"]}, {"saliency": trained}, seed=7)
    assert list(found["saliency"]) == ["6", "2", "0"]
    score = copy.deepcopy(inputs.score)
    torch.manual_seed(7)
    for names in ("86", "32", "0"):
        for name in names:
            score.model[int(name)].reset_parameters()
        randomized = attribute(METHODS["saliency"], dataclasses.replace(inputs, score=score))
        pairs = zip(trained.abs().flatten(1), randomized.abs().flatten(1), strict=True)
        expected = np.mean([stats.spearmanr(*pair).statistic for pair in pairs])
        assert found["saliency"][names[-1]] == pytest.approx(expected, abs=1e-6)


def test_the_rank_correlation_matches_scipy_with_ties():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(6, (9, 9), generator=generator).float() for _ in range(2))
    second += first
    expected = stats.spearmanr(first.flatten().numpy(), second.flatten().numpy()).statistic
    assert quality.rank_correlation(first, second) == pytest.approx(expected)
    assert quality.rank_correlation(first, torch.zeros(9, 9)) is None


def test_infidelity_is_0_for_the_weights_and_1_for_zero_attributions():
    inputs = make_inputs(linear())
    occluded = quality.occlude_squares(inputs, seed=0)
    assert quality.infidelity(weights_of(inputs).expand_as(inputs.images), occluded) == pytest.approx(0, abs=1e-5)
    assert quality.infidelity(torch.zeros_like(inputs.images), occluded) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_squares_are_black_and_the_score_drops_by_what_the_model_computes(channels):
    inputs = make_inputs(convolutional(channels), channels)
    occluded = quality.occlude_squares(inputs, seed=0)
    assert occluded.removed.shape == (3, 16, channels, 8, 8)
    images = inputs.images[:, None] - occluded.removed
    changed = (occluded.removed != 0).any(dim=2)
    assert changed.sum(dim=(2, 3)).tolist() == [[4] * 16] * 3  # squares of 2 × 2
    torch.testing.assert_close(images.movedim(2, -1)[changed], torch.full((192, channels), 0.2))
    for row in range(3):
        drops = inputs.score.model(inputs.images[[row]])[:, 1] - inputs.score.model(images[row])[:, 1]
        torch.testing.assert_close(occluded.drops[row], drops)
    assert len({square.numpy().tobytes() for square in changed.flatten(0, 1)}) > 16, "positions are drawn at random"


def test_squares_cover_every_row_and_column():
    inputs = make_inputs(convolutional(), count=8)
    changed = (quality.occlude_squares(inputs, seed=0).removed != 0).flatten(0, 2).any(dim=0)
    assert changed.any(dim=1).tolist() == changed.any(dim=0).tolist() == [True] * 8


@pytest.mark.parametrize("name", ALL)
def test_infidelity_is_captums_divided_by_that_of_zero_attributions(name):
    inputs = make_inputs(convolutional())
    found, occluded = attribute(METHODS[name], inputs), quality.occlude_squares(inputs, seed=0)
    removed = occluded.removed.flatten(0, 1)

    def error(attributions: Tensor, normalize: bool) -> Tensor:
        return captum_infidelity(
            inputs.score,
            lambda images: (removed, images - removed),
            inputs.images,
            attributions,
            additional_forward_args=inputs.targets,
            n_perturb_samples=16,
            normalize=normalize,
        )

    expected = (error(found, normalize=True) / error(torch.zeros_like(found), normalize=False)).mean()
    assert quality.infidelity(found, occluded) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_sensitivity_matches_captum(name):
    inputs = make_inputs(convolutional(), target=0)
    generator = torch.Generator().manual_seed(5)

    def shift(images: Tensor) -> Tensor:  # by at most a fiftieth of the distance between 0.2 and 1
        return images + 0.02 * 0.8 * (2 * torch.rand(images.shape, generator=generator) - 1)

    def method(images: Tensor | tuple[Tensor], additional_forward_args: Tensor | tuple[Tensor]) -> tuple[Tensor]:
        own, targets = (one[0] if isinstance(one, tuple) else one for one in (images, additional_forward_args))
        return (attribute(METHODS[name], dataclasses.replace(inputs, images=own, targets=targets)),)

    expected = captum_sensitivity_max(
        method, inputs.images, shift, n_perturb_samples=3, additional_forward_args=inputs.targets
    ).mean()
    found, white = attribute(METHODS[name], inputs), torch.ones_like(inputs.baseline)
    assert expected > 0.001
    assert quality.sensitivity_max(inputs, METHODS[name], found, white, seed=5) == pytest.approx(float(expected), rel=1e-4)


def test_sensitivity_is_0_where_the_gradient_is_the_same_everywhere():
    inputs = make_inputs(linear())
    found, white = attribute(METHODS["saliency"], inputs), torch.ones_like(inputs.baseline)
    assert quality.sensitivity_max(inputs, METHODS["saliency"], found, white, seed=0) == pytest.approx(0, abs=1e-6)


def test_deletion_and_insertion_of_a_model_that_depends_on_half_of_the_pixels():
    """One logit is far above the other as long as any of the upper four rows is bright, and far below it otherwise."""

    class Upper(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            visible = (images[:, :, :4].amax(dim=(1, 2, 3)) > 0.5).float()
            return torch.stack([50 - 100 * visible, 100 * visible - 50], dim=1)

    images = torch.ones(2, 1, 8, 8)
    targets = torch.tensor([[0.0, 1.0]]).repeat(2, 1)
    inputs = MethodInputs(Score(Upper()), images, targets, torch.zeros(1, 1, 8, 8), steps=1)
    upper = torch.zeros(2, 1, 8, 8)
    upper[:, :, :4] = 1
    deletion, insertion = quality.deletion_insertion(inputs, upper)
    assert deletion == pytest.approx(0.45)  # 0 once half of the pixels are deleted, integrated in steps of a tenth
    assert insertion == pytest.approx(0.95)  # 1 from the first step on
    deletion, insertion = quality.deletion_insertion(inputs, -upper)
    assert deletion == pytest.approx(0.95)
    assert insertion == pytest.approx(0.45)


def test_deletion_and_insertion_of_a_batch_are_the_means_of_its_images():
    inputs = make_inputs(convolutional())
    inputs.targets[:] = torch.eye(3)
    found = attribute(METHODS["saliency"], inputs)
    alone = [
        quality.deletion_insertion(
            dataclasses.replace(inputs, images=inputs.images[[row]], targets=inputs.targets[[row]]), found[[row]]
        )
        for row in range(3)
    ]
    assert quality.deletion_insertion(inputs, found) == pytest.approx(np.mean(alone, axis=0))
    assert len({deletion for deletion, _ in alone}) == 3


def test_deletion_and_insertion_of_a_region_use_its_mean_probability():
    """The probability is 3/4 at every pixel and for every image, and the regions have 5 and 64 pixels."""

    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([0.0, np.log(3)]).reshape(1, 2, 1, 1).expand(len(images), 2, 8, 8)

    inputs = make_inputs(Constant(), count=2)
    inputs.targets[0, 1].flatten()[5:] = 0
    assert quality.deletion_insertion(inputs, inputs.images) == pytest.approx((0.75, 0.75))


# Segmentation


def test_metrics_of_a_black_image(tiny_packed):
    """The baseline is black: deleting and inserting pixels then changes no probability, and no square lowers a score."""
    black = Split(np.zeros_like(tiny_packed.test.images), tiny_packed.test.labels)
    packed = dataclasses.replace(tiny_packed, test=black)
    found = explain(restored(packed), packed, settings(), CPU, seed=0).summary["methods"]
    assert {"saliency", "occlusion"} < found.keys()
    for metrics in found.values():
        assert 0 < metrics["deletion"] == metrics["insertion"] < 1
        assert metrics["infidelity"] == 0


def test_a_region_is_correct_from_an_overlap_of_one_half():
    """Twelve pixels are predicted, and six or five of them are true."""
    model, packed = make_segmenter()
    labels = np.zeros((2, 8, 8), dtype=np.uint8)
    labels[0, 2:5, 2:4] = labels[1, 2:5, 2:4] = 1
    labels[1, 4, 3] = 0
    test = Split(packed.test.images[:2], labels)
    samples = find_samples(model, dataclasses.replace(packed, test=test), CPU, correct=1, wrong=1, region="square")
    assert [(sample.index, sample.caption, sample.right) for sample in samples.metadata] == [
        (0, "square, overlap 0.50", True),
        (1, "square, overlap 0.42", False),
    ]
    predicted = (packed.test.images[0, 0] == 250).astype(float).tolist()
    assert samples.targets[:, 1].tolist() == [predicted] * 2, "the target is the predicted region, not the true one"
    assert not samples.targets[:, 0].any()


def test_the_target_of_a_segmenter_is_its_predicted_region():
    model, packed = make_segmenter()
    samples = find_samples(model, packed, CPU, correct=2, wrong=1, region="square")
    assert [(sample.index, sample.caption, sample.right) for sample in samples.metadata] == [
        (0, "square, overlap 1.00", True),
        (1, "square, overlap 1.00", True),
        (3, "square, overlap 0.00", False),
    ]
    assert samples.targets.shape == (3, 2, 8, 8)
    expected = torch.zeros(2, 8, 8)
    expected[1, 2:5, 2:6] = 1
    assert torch.equal(samples.targets[0], expected)
    inputs = MethodInputs(Score(model.model), samples.images, samples.targets, torch.zeros(1, 1, 8, 8), steps=4)
    for name in ALL:
        relevant = relevance(attribute(METHODS[name], inputs))[0].abs()
        assert relevant[2:5, 2:6].sum() > 0.5 * relevant.sum(), name


def test_regions_are_searched_in_the_whole_test_set():
    model, packed = make_segmenter()
    images, labels = np.tile(packed.test.images, (10, 1, 1, 1)), np.zeros((60, 8, 8), np.uint8)
    labels[55] = packed.test.labels[0]
    packed = dataclasses.replace(packed, test=Split(images, labels))
    samples = find_samples(model, packed, CPU, correct=1, wrong=2, region="square")
    assert [(sample.index, sample.right) for sample in samples.metadata] == [(55, True), (0, False), (1, False)]
    assert samples.notes == []


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("sqare", "region: 'sqare' is not a class of toy; did you mean 'square'? Classes: background, square."),
        (None, "region: missing; toy has one label per pixel. Choose one of background, square."),
    ],
)
def test_an_unknown_region_is_rejected(region, message):
    model, packed = make_segmenter()
    with pytest.raises(ParamsError, match=f"^{re.escape(message)}$"):
        find_samples(model, packed, CPU, correct=1, wrong=1, region=region)


def test_a_region_that_is_never_predicted_is_attributed_where_it_is_true():
    model, packed = make_segmenter()
    with torch.no_grad():
        model.model[2].bias[:] = torch.tensor([9.0, -9.0])  # always background
    samples = find_samples(model, packed, CPU, correct=1, wrong=1, region="square")
    assert [(sample.index, sample.caption, sample.right) for sample in samples.metadata] == [
        (0, "square, not predicted", False),
        (1, "square, not predicted", False),
    ]
    expected = torch.zeros(2, 8, 8)
    expected[1, 2:5, 2:6] = 1
    assert torch.equal(samples.targets, torch.stack([expected, expected]))
    assert samples.notes == [
        "0 of 1 correct images: the test set has no more",
        "0 of 1 wrong images: the test set has no more",
        "square is predicted nowhere; the target is its logit at the pixels where it is true",
    ]
    summary = explain(model, packed, settings(region="square"), CPU, seed=0).summary
    assert summary["notes"][-1] == samples.notes[-1]
    assert list(summary["methods"]) == list(ALL)


def test_a_region_absent_from_the_test_set_is_rejected():
    model, packed = make_segmenter()
    with torch.no_grad():
        model.model[2].bias[:] = torch.tensor([9.0, -9.0])
    packed.test.labels[:] = 0
    with pytest.raises(DataError, match=r"^region: 'square' is neither predicted nor true in any test image\. Choose another"):
        find_samples(model, packed, CPU, correct=1, wrong=1, region="square")


# Samples and images


def test_samples_are_the_first_correct_and_the_first_wrong_ones(tiny_packed):
    model = restored(tiny_packed)
    with torch.no_grad():
        predicted = model.model(model.convert(torch.from_numpy(tiny_packed.test.images))).argmax(dim=1).numpy()
    right = np.flatnonzero(predicted == tiny_packed.test.labels)
    wrong = np.flatnonzero(predicted != tiny_packed.test.labels)
    samples = find_samples(model, tiny_packed, CPU, correct=2, wrong=3, region=None)
    assert [sample.index for sample in samples.metadata] == [*right[:2], *wrong[:3]]
    assert np.array_equal(samples.pixels, tiny_packed.test.images[[*right[:2], *wrong[:3]]])
    assert samples.targets.argmax(dim=1).tolist() == predicted[[*right[:2], *wrong[:3]]].tolist()
    assert samples.metadata[-1].caption.count(" taken for ") == 1


def test_samples_are_searched_until_there_are_enough_of_both_kinds(tiny_packed):
    """120 images in batches of 50: all are correct except for one image of the second batch and the last one."""
    model, packed = flawless(tiny_packed)
    images, labels = np.tile(packed.test.images, (40, 1, 1, 1)), np.tile(packed.test.labels, 40)
    labels[[60, 119]] = [1, 0]
    samples = find_samples(model, dataclasses.replace(packed, test=Split(images, labels)), CPU, correct=2, wrong=2, region=None)
    assert [(sample.index, sample.caption) for sample in samples.metadata] == [
        (0, packed.classes[0]),
        (1, packed.classes[1]),
        (60, f"{packed.classes[1]} taken for {packed.classes[0]}"),
        (119, f"{packed.classes[0]} taken for {packed.classes[2]}"),
    ]
    assert samples.notes == []
    torch.testing.assert_close(samples.images, UNIT(torch.from_numpy(images[[0, 1, 60, 119]])))
    assert np.array_equal(samples.pixels, images[[0, 1, 60, 119]])


class PerfectClassifier(nn.Module):
    """Choose the class whose two rows are the brightest."""

    def forward(self, images: Tensor) -> Tensor:
        return images.sum(dim=(1, 3)).reshape(-1, 3, 2).sum(dim=2)


def flawless(tiny_packed: PackedDataset) -> tuple[Restored, PackedDataset]:
    """Return a model and three test images that it classifies correctly."""
    images = np.zeros((3, 1, 6, 6), dtype=np.uint8)
    for label in range(3):
        images[label, 0, 2 * label] = 255
    split = Split(images, np.arange(3))
    packed = PackedDataset("toy", "embedded", tiny_packed.classes, split, np.array([0]), split)
    return Restored(PerfectClassifier(), UNIT, functional.cross_entropy), packed


@pytest.mark.parametrize(
    ("correct", "wrong", "indices", "notes"),
    [
        (2, 0, [0, 1], []),
        (2, 1, [0, 1], ["0 of 1 wrong images: the test set has no more"]),
        (5, 1, [0, 1, 2], ["3 of 5 correct images: the test set has no more", "0 of 1 wrong images: the test set has no more"]),
        (0, 2, [0, 1], ["0 of 2 wrong images: the test set has no more", "all that follow are correct"]),
    ],
)
def test_a_model_without_mistakes_is_explained_by_correct_images(tiny_packed, correct, wrong, indices, notes):
    model, packed = flawless(tiny_packed)
    samples = find_samples(model, packed, CPU, correct=correct, wrong=wrong, region=None)
    assert [sample.index for sample in samples.metadata] == indices
    assert all(sample.right for sample in samples.metadata)
    assert samples.notes == notes


def test_a_model_that_is_always_wrong_is_explained_by_its_mistakes(tiny_packed):
    model, packed = flawless(tiny_packed)
    packed.test.labels[:] = [1, 2, 0]
    samples = find_samples(model, packed, CPU, correct=2, wrong=0, region=None)
    assert [(sample.index, sample.right) for sample in samples.metadata] == [(0, False), (1, False)]
    assert samples.notes == ["0 of 2 correct images: the test set has no more", "all that follow are wrong"]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_file_is_cropped_and_scaled_to_the_input_of_the_model(tmp_path, channels):
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[:, 5:25] = (255, 255, 255) if channels == 1 else (255, 0, 100)  # the crop keeps the middle 20 columns
    Image.fromarray(pixels).save(tmp_path / "zebra.png")
    split = Split(np.zeros((1, channels, 8, 8), dtype=np.uint8), np.zeros(1, dtype=np.int64))
    packed = PackedDataset("toy", "embedded", ("one",), split, np.array([0]), split)
    convert = Preprocessing(Preprocess(resize=16))
    found = read_image(str(tmp_path / "zebra.png"), Restored(nn.Identity(), convert, functional.cross_entropy), packed)
    assert found.shape == (channels, 16, 16)
    inner = found[:, 1:-1, 1:-1]  # interpolation mixes the outermost pixels with the cropped ones
    assert inner.reshape(channels, -1).T.tolist() == [[255] if channels == 1 else [255, 0, 100]] * 196


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_file_of_the_size_of_the_input_is_read_unchanged_and_a_larger_one_is_smoothed(tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    split = Split(np.zeros((1, channels, 5, 7), dtype=np.uint8), np.zeros(1, dtype=np.int64))
    packed = PackedDataset("toy", "embedded", ("one",), split, np.array([0]), split)
    model = Restored(nn.Identity(), UNIT, functional.cross_entropy)
    Image.fromarray(pixels.squeeze()).save(tmp_path / "small.png")
    assert np.array_equal(read_image(str(tmp_path / "small.png"), model, packed), np.moveaxis(pixels, 2, 0))
    checkers = 255 * (np.indices((20, 28)).sum(axis=0) % 2).astype(np.uint8)
    Image.fromarray(checkers).save(tmp_path / "large.png")
    found = read_image(str(tmp_path / "large.png"), model, packed)
    assert (found.shape, found.min() > 110, found.max() < 145) == ((channels, 5, 7), True, True)


def test_an_unreadable_image_is_rejected(tiny_packed, tmp_path):
    model = restored(tiny_packed)
    with pytest.raises(ParamsError, match=r"^image: 45 is out of range; expected 0 to 44\.$"):
        read_image(45, model, tiny_packed)
    with pytest.raises(DataError, match=r"zebra\.png: not found\. `image` is an index into the test set or the path"):
        read_image("zebra.png", model, tiny_packed)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: cannot be read as an image .* Use a PNG or JPEG file\.$"):
        read_image(str(tmp_path / "text.png"), model, tiny_packed)


# Explanations and their messages


def figure_digests(explanation: object, tmp_path: Path) -> list[str]:
    digests = []
    for kind in ("filters", "activations", "attributions"):
        file = tmp_path / f"{kind}.png"
        getattr(explanation, kind).savefig(file, metadata={"Software": None})
        digests.append(hashlib.sha256(file.read_bytes()).hexdigest())
    return digests


@pytest.mark.parametrize(
    ("kind", "keys", "methods"),
    [
        ("cnn", {}, ALL),
        ("mlp", {}, NO_CONVOLUTION),
        ("cnn", {"attributions": ["occlusion", "saliency"], "layer": "5", "correct": 0, "wrong": 1}, ("occlusion", "saliency")),
        ("cnn", {"attributions": ["saliency"], "layer": "3", "channels": [3, 0]}, ("saliency",)),
    ],
)
def test_the_same_settings_give_the_same_metrics_and_figures(tiny_packed, tmp_path, kind, keys, methods):
    found = [explain(restored(tiny_packed, kind), tiny_packed, settings(**keys), CPU, seed=0) for _ in range(2)]
    assert found[0].summary == found[1].summary
    assert figure_digests(found[0], tmp_path) == figure_digests(found[1], tmp_path)
    assert tuple(found[0].summary["methods"]) == methods
    for metrics in found[0].summary["methods"].values():
        assert {"infidelity", "sensitivity_max", "deletion", "insertion", "similarity_randomised_down_to"} <= set(metrics)


def test_a_segmenter_is_explained(tmp_path):
    model, packed = make_segmenter()
    found = explain(model, packed, settings(region="square"), CPU, seed=0)
    assert found.summary["methods"]["integrated_gradients"]["completeness_gap"] < 0.1
    assert len(figure_digests(found, tmp_path)) == 3


def test_a_model_with_constant_output_has_metrics(tiny_packed):
    model = restored(tiny_packed)
    for parameter in model.model.parameters():
        nn.init.zeros_(parameter)
    methods = explain(model, tiny_packed, settings(), CPU, seed=0).summary["methods"]
    assert list(methods) == list(ALL)
    assert all(np.isfinite(metrics["infidelity"]) for metrics in methods.values())
    assert set(methods["saliency"]["similarity_randomised_down_to"].values()) == {None}


def test_a_metric_that_is_infinite_is_left_out(tiny_packed, monkeypatch):
    monkeypatch.setattr("labbook.explain.experiment.completeness_gap", lambda *inputs: float("inf"))
    methods = explain(restored(tiny_packed), tiny_packed, settings(), CPU, seed=0).summary["methods"]
    assert methods["integrated_gradients"]["completeness_gap"] is None
    json.dumps(methods, allow_nan=False)


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        ("cnn", {"layer": "conv1"}, r"^layer: the model has no 'conv1'\. Known: 0 \(Conv2d\), 1 \(ReLU\), "),
        ("cnn", {"channels": [1, 4]}, r"^channels: 4 is out of range; layer 0 \(Conv2d\) has channels 0 to 3\.$"),
        ("cnn", {"region": "top"}, r"^region: 'top' is for segmentation, but toy has one label per image\. Remove it\.$"),
        ("mlp", {"attributions": ["layer_gradcam"]}, r"^attributions: Grad-CAM needs an activation function with spatial maps"),
    ],
)
def test_unknown_names_are_rejected_with_the_known_ones(tiny_packed, kind, keys, message):
    with pytest.raises(ParamsError, match=message):
        explain(restored(tiny_packed, kind), tiny_packed, settings(**keys), CPU, seed=0)


# Defaults


@pytest.mark.parametrize(("channels", "shown"), [(2, [0, 1]), (8, [0, 1, 2, 3])])
def test_the_first_channels_of_the_first_layer_are_shown_by_default(tiny_packed, monkeypatch, channels, shown):
    panels = []
    monkeypatch.setattr(
        "labbook.explain.experiment.draw_activations", lambda *arguments: panels.extend(arguments[2]) or Figure()
    )
    model = restored(tiny_packed, channels=[channels, 12], pools=1)
    explain(model, tiny_packed, settings(attributions=["saliency"]), CPU, seed=0)
    assert [panel.title for panel in panels] == [
        "weights of layer 0 (Conv2d)",
        "activations of layer 0 (Conv2d)",
        "activations of layer 3 (Conv2d), the first 10 of 12",
    ]
    assert [list(panel.channels) for panel in panels] == [shown, shown, list(range(10))]
    np.testing.assert_array_equal(panels[0].values, model.model[0].weight.detach().numpy()[shown])


@pytest.mark.parametrize(
    ("layers", "first", "last"),
    [
        ([nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)], "1", "3"),
        ([nn.Flatten(), nn.Linear(64, 3)], "1", "1"),
        (
            [nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(32, 8), nn.Linear(8, 3)],
            "1",
            "2",
        ),
    ],
)
def test_the_last_layer_is_the_last_convolution_or_the_one_before_the_logits(layers, first, last):
    model = nn.Sequential(*layers)
    assert (first_layer(model).name, last_layer(model).name) == (first, last)
    assert last_layer(model).module is model[int(last)]


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3)])
def test_weights_of_pixels_have_the_shape_of_the_image(channels, shown):
    linear = nn.Linear(channels * 4 * 6, 5)
    images = weight_images(Layer("0", linear), (1, channels, 4, 6))
    expected = linear.weight.detach().numpy().reshape(5, channels, 4, 6)
    np.testing.assert_allclose(images.numpy(), expected if shown == channels else expected.mean(axis=1, keepdims=True))
    assert weight_images(Layer("0", linear), (1, channels, 4, 5)) is None, "not on the pixels of the image"


class SharedReLU(nn.Module):
    """A model that uses one ReLU twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.relu = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(images)))).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("model", "methods"),
    [
        (convolutional(), ALL),
        (SharedReLU(), ("saliency", "integrated_gradients", "layer_gradcam", "occlusion")),
        (convolutional(activation=nn.Tanh), ("saliency", "integrated_gradients", "layer_gradcam", "occlusion")),
        (convolutional(inplace=True), NO_CONVOLUTION),
        (convolutional(activation=nn.ELU, inplace=True), NO_CONVOLUTION),
        (linear(), NO_CONVOLUTION),
    ],
)
def test_all_methods_that_suit_the_model_are_used(model, methods):
    assert tuple(choose_methods(make_inputs(model), None)) == methods


@pytest.mark.parametrize(
    ("model", "method", "message"),
    [
        (
            SharedReLU(),
            "guided_gradcam",
            r"^attributions: the model uses its ReLU relu 2 times, and guided_gradcam needs one instance",
        ),
        (convolutional(inplace=True), "layer_gradcam", r"^attributions: 1 \(ReLU\) operates in place"),
        (convolutional(inplace=True), "guided_gradcam", r"^attributions: 1 \(ReLU\) operates in place"),
        (convolutional(activation=nn.Tanh), "guided_gradcam", r"^attributions: guided_gradcam needs ReLUs"),
        (linear(), "layer_gradcam", r"^attributions: Grad-CAM needs an activation"),
    ],
)
def test_a_requested_method_that_does_not_suit_the_model_is_rejected(model, method, message):
    inputs = make_inputs(model)
    with pytest.raises(ParamsError, match=message):
        choose_methods(inputs, ["saliency", method])
    assert choose_methods(inputs, NO_CONVOLUTION[::-1]) == list(NO_CONVOLUTION[::-1])


class UnusedLayer(nn.Module):
    """A model with a layer that is never called, and one whose output has another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.flat = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3), nn.Flatten(2)

    def forward(self, images: Tensor) -> Tensor:
        return self.flat(self.used(images)).mean(dim=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unused", r"^layer: layer unused \(Conv2d\) is not called by the model\."),
        ("flat", r"^layer: the output of layer flat \(Flatten\) is neither maps \(N, C, H, W\) nor units"),
    ],
)
def test_a_layer_without_activations_to_show_is_rejected(name, message):
    model = UnusedLayer()
    assert activations(model, find_layer(model, "used"), torch.zeros(1, 1, 8, 8)).shape == (2, 6, 6)
    with pytest.raises(ParamsError, match=message):
        activations(model, find_layer(model, name), torch.zeros(1, 1, 8, 8))


# Figures


def texts(figure: Figure) -> list[str]:
    """Return all texts, after checking that each lies within the figure."""
    with style():
        figure.draw_without_rendering()
        inside = figure.bbox.padded(1)
        shown = [text for axes in figure.axes for text in axes.texts]
        for text in shown:
            box = text.get_window_extent()
            assert inside.contains(box.x0, box.y0), text.get_text()
            assert inside.contains(box.x1, box.y1), text.get_text()
    return [text.get_text() for text in shown]


def test_attributions_have_a_row_for_each_image_and_a_scale_for_each_method():
    generator = np.random.default_rng(0)
    captions = ["mushroom taken for chimpanzee, anthropoid ape", "a"]
    maps = {name: generator.normal(size=(2, 16, 16)).astype(np.float32) for name in ALL}
    maps["saliency"] = np.abs(maps["saliency"])
    with style():
        figure = draw_attributions(np.zeros((2, 3, 8, 8), np.uint8), captions, maps, frozenset(ALL) - {"saliency"})
    found = texts(figure)
    assert found[0] == "mushroom\ntaken for chimpanzee,\nanthropoid ape"
    assert {"image", "saliency", "integrated\ngradients", "Grad-CAM", "guided\nGrad-CAM", "occlusion"} <= set(found)
    ends = [float(np.percentile(np.abs(values), 99)) for values in maps.values()]
    assert [text for text in found if text.startswith("≥")] == [f"≥ {end:.2g}" for end in ends]
    assert [text for text in found if text.startswith("≤")] == [f"≤ −{end:.2g}" for end in ends[1:]]
    assert found.count("0") == 1
    (axes,) = figure.axes
    assert len(axes.images) == 1 + 2 * len(ALL)  # images, and maps with their scale
    shown = axes.images[-2].get_array()
    assert shown.shape == (16 + 1 + 16, 16, 3)
    expected = colormaps["RdBu_r"]((maps["occlusion"] / ends[-1] + 1) / 2, bytes=True)[..., :3]
    np.testing.assert_allclose(shown[:16].astype(int), expected[0].astype(int), atol=2)
    np.testing.assert_array_equal(shown[16], np.full((16, 3), 255))
    np.testing.assert_allclose(shown[17:].astype(int), expected[1].astype(int), atol=2)


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (0.0017, ["≤ −0.0017", "≥ 0.0017"]),
        (183, ["≤ −180", "≥ 180"]),
        (4000, ["≤ −4000", "≥ 4000"]),
        (1.9e-7, ["≤ −1.9e−7", "≥ 1.9e−7"]),
        (1.9e20, ["≤ −1.9e20", "≥ 1.9e20"]),
    ],
)
@pytest.mark.parametrize("caption", ["9", "German shepherd taken for Yorkshire terrier"])
def test_the_labels_of_a_scale_do_not_overlap(value, labels, caption):
    maps = {name: np.full((1, 8, 8), -value, np.float32) for name in ALL}
    with style():
        figure = draw_attributions(np.zeros((1, 1, 8, 8), np.uint8), [caption], maps, frozenset(ALL))
        figure.draw_without_rendering()
        (axes,) = figure.axes
        shown = [text for text in axes.texts if text.get_text() in labels]
        boxes = [text.get_window_extent() for text in shown]
    assert [text.get_text() for text in shown].count(labels[1]) == len(ALL)
    if caption == "9" and value != 1.9e-7:
        assert [text.get_text() for text in shown].count(labels[0]) == len(ALL)
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])


@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.parametrize("channels", [1, 3])
def test_filters_are_drawn_in_rows_of_16_within_the_figure(count, channels):
    weights = np.random.default_rng(0).normal(size=(count, channels, 5, 3)).astype(np.float32)
    with style():
        figure = draw_filters("weights", weights)
    assert texts(figure)[0] == "weights"
    (axes,) = figure.axes
    tiles = axes.images[-1].get_array()
    left, right, bottom, top = axes.images[-1].get_extent()
    width, height = figure.get_size_inches()
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    across, down = min(count, 16), -(-count // 16)
    assert tiles.shape == (down * 26 - 1, across * 16 - 1, 3)  # a pixel is 5 × 5, and a gap is 1
    assert (bottom - top) / (right - left) == pytest.approx(tiles.shape[0] / tiles.shape[1])
    drawn = tiles[::26, ::16].reshape(-1, 3)  # the first pixel of each filter
    assert len(np.unique(drawn[:count], axis=0)) > count / 2
    assert (drawn[count:] == 255).all()


def test_the_three_channels_of_a_filter_are_red_green_and_blue():
    weights = np.zeros((2, 3, 15, 15), np.float32)
    weights[0, :, 0, 0] = (0.5, -0.25, -0.5)
    with style():
        figure = draw_filters("weights", weights)
    tiles = figure.axes[0].images[0].get_array()
    assert tiles[0, 0].tolist() == [255, 64, 0]
    assert tiles[0, 1].tolist() == [128, 128, 128]
    assert texts(figure) == ["weights"], "RGB filters have no colour scale"


def test_activations_are_labelled_with_their_channels():
    panels = [
        Panel("weights", np.ones((2, 3, 5, 5), np.float32), [7, 3]),
        Panel("maps", -np.ones((10, 4, 4), np.float32), range(20, 30)),
        Panel("units", np.arange(5, dtype=np.float32), range(40, 45)),
    ]
    with style():
        figure = draw_activations("wwwwwwwwwwwwwwwwwwww early in the morning.jpg", np.zeros((1, 4, 8), np.uint8), panels)
    found = texts(figure)
    assert {"weights", "maps", "units", "7", "3", *map(str, range(20, 30))} <= set(found)
    assert "wwwwwwwwwwwwwwwwwwww\nearly in the\nmorning.jpg" in found
    _, bars = figure.axes
    assert [label.get_text() for label in bars.get_xticklabels()] == ["40", "41", "42", "43", "44"]
    (polygon,) = bars.patches
    assert polygon.get_xy()[1:-1:4].tolist() == [[position - 0.4, position] for position in range(5)]


# Settings


def test_the_schema_accepts_all_methods():
    assert typing.get_args(Method) == ALL


@pytest.mark.parametrize(("image", "read"), [("7", 7), (7, 7), ("zebra.jpg", "zebra.jpg")])
def test_image_and_layer_are_read_from_a_command_line_too(image, read):
    assert settings(image=image, layer=3).image == read
    assert settings(layer=3).layer == "3"


@pytest.mark.parametrize("key", ["layer", "channels", "attributions", "region"])
def test_null_is_rejected_because_dvc_would_pass_it_as_text(key):
    with pytest.raises(ParamsError, match=rf"^explain\.mnist_cnn\.{key}: .*None.*: remove the key to use its default\.$"):
        validate({key: None}, Explain, "explain.mnist_cnn")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"correct": 0, "wrong": 0}, "correct and wrong are both 0; set one of them to 1 or more"),
        ({"channels": [1, 1]}, "channels has a duplicate item"),
        ({"attributions": ["saliency", "saliency"]}, "attributions has a duplicate item"),
        ({"chanels": [1]}, "did you mean 'channels'"),
        ({"attributions": ["salience"]}, "'saliency'"),
    ],
)
def test_invalid_settings_are_rejected(values, message):
    with pytest.raises(ParamsError, match=re.escape(message)):
        validate(values, Explain, "explain.mnist_cnn")


# Contents of an explanation


def capture(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[dict[str, tuple], dict]:
    """Explain; return the arguments of each function that draws a figure, and the summary."""
    drawn = {}
    for kind in ("filters", "activations", "attributions"):
        monkeypatch.setattr(
            f"labbook.explain.experiment.draw_{kind}", lambda *given, kind=kind: drawn.update({kind: given}) or Figure()
        )
    return drawn, explain(*arguments, CPU, seed=5).summary


@pytest.fixture
def coloured(tiny_packed) -> tuple[Restored, PackedDataset]:
    """A model of images with three different channels, for which black is -2 and white is 2."""
    images = np.concatenate([tiny_packed.test.images, tiny_packed.test.images[::-1], 255 - tiny_packed.test.images], axis=1)
    packed = dataclasses.replace(tiny_packed, train=Split(images, tiny_packed.test.labels))
    packed = dataclasses.replace(packed, test=packed.train)
    model = restored(packed, channels=[6, 5], pools=1)
    return dataclasses.replace(model, convert=Preprocessing(Preprocess(mean=0.5, std=0.25))), packed


def test_figures_contain_weights_activations_and_relevance_of_the_preprocessed_images(coloured, monkeypatch):
    model, packed = coloured
    drawn, _ = capture(monkeypatch, model, packed, settings(image=7, layer="3", channels=[4, 0]))
    weights = [model.model[index].weight.detach().numpy() for index in (0, 3)]
    assert drawn["filters"][0] == "weights of layer 0 (Conv2d), all 6"
    np.testing.assert_array_equal(drawn["filters"][1], weights[0])
    image = (torch.from_numpy(packed.test.images[[7]]) / 255 - 0.5) / 0.25
    maps = model.model[:4](image)[0].detach().numpy()
    caption, pixels, panels = drawn["activations"]
    assert (caption, np.array_equal(pixels, packed.test.images[7])) == ("test image 7", True)
    shown = {
        "weights of layer 3 (Conv2d), means over 6 input channels": (weights[1].mean(axis=1, keepdims=True)[[4, 0]], [4, 0]),
        "activations of layer 3 (Conv2d)": (maps[[4, 0]], [4, 0]),
        "activations of layer 3 (Conv2d), all 5": (maps, range(5)),
    }
    assert [panel.title for panel in panels] == list(shown)
    for panel, (values, channels) in zip(panels, shown.values(), strict=True):
        np.testing.assert_allclose(panel.values, values, atol=1e-6)
        assert list(panel.channels) == list(channels)


def test_methods_and_their_metrics_use_black_white_and_the_seed(coloured, monkeypatch):
    model, packed = coloured
    drawn, summary = capture(monkeypatch, model, packed, settings(correct=1, wrong=1))
    samples = find_samples(model, packed, CPU, correct=1, wrong=1, region=None)
    black = torch.full((1, 3, 6, 6), -2.0)
    inputs = MethodInputs(Score(model.model), samples.images, samples.targets, black, steps=4)
    pixels, captions, maps, signed = drawn["attributions"]
    assert np.array_equal(pixels, packed.test.images[[sample.index for sample in samples.metadata]])
    assert (captions, signed) == ([sample.caption for sample in samples.metadata], SIGNED)
    assert [sample["caption"] for sample in summary["samples"]] == captions
    assert list(maps) == list(summary["methods"]) == list(ALL)
    occluded = quality.occlude_squares(inputs, seed=5)
    for name in ALL:
        found = attribute(METHODS[name], inputs)
        np.testing.assert_allclose(maps[name], found.sum(dim=1), atol=1e-6)
        deletion, insertion = quality.deletion_insertion(inputs, found)
        correlations = quality.randomization(inputs, {name: METHODS[name]}, {name: found}, seed=5)[name]
        expected = {
            "infidelity": quality.infidelity(found, occluded),
            "sensitivity_max": quality.sensitivity_max(inputs, METHODS[name], found, -black, seed=5),
            "deletion": deletion,
            "insertion": insertion,
        }
        if name == "integrated_gradients":
            expected["completeness_gap"] = quality.completeness_gap(inputs, found)
        metrics = summary["methods"][name]
        assert metrics.pop("similarity_randomised_down_to") == pytest.approx(correlations, rel=5.1e-4, abs=1e-6)
        assert metrics == pytest.approx(expected, rel=5.1e-4, abs=1e-6)
        assert all(float(f"{value:.4g}") == value for value in metrics.values())
    digits = [f"{value:.4g}".lstrip("0.-") for metrics in summary["methods"].values() for value in metrics.values()]
    assert max(map(len, digits)) == 4, "to four digits"


@pytest.mark.parametrize(("units", "shown", "count"), [(16, 16, "all 16"), (70, 64, "the first 64 of 70")])
def test_up_to_64_filters_and_units_before_the_logits_are_shown(tiny_packed, monkeypatch, units, shown, count):
    model = restored(tiny_packed, "mlp", hidden=[units, units])
    drawn, _ = capture(monkeypatch, model, tiny_packed, settings(attributions=["saliency"]))
    *_, last = drawn["activations"][2]
    first, name = [name for name, module in model.model.named_modules() if getattr(module, "out_features", None) == units]
    weights = model.model.get_submodule(first).weight.detach().numpy()
    assert drawn["filters"][0] == f"weights of layer {first} (Linear), {count}"
    np.testing.assert_array_equal(drawn["filters"][1], weights[:shown].reshape(shown, 1, 6, 6))
    assert last.title == f"activations of layer {name} (Linear), {count}"
    assert (last.values.shape, list(last.channels)) == ((shown,), list(range(shown)))


# The stage


@pytest.fixture
def evaluated(prepared, run_stage):
    """The work folder, with one trained and evaluated experiment."""
    for stage in ("train", "evaluate"):
        completed = run_stage(stage, "mnist_mlp_100")
        assert completed.returncode == 0, completed.stderr
    return prepared


OUTPUTS = [
    *(Path(f"plots/explained/mnist_mlp_100/{kind}.png") for kind in ("filters", "activations", "attributions")),
    *(Path("models/explained/mnist_mlp_100") / f"{kind}.pdf" for kind in ("filters", "activations", "attributions")),
    Path("models/explained/mnist_mlp_100/explained.json"),
]


def test_the_stage_writes_what_dvc_expects_and_the_same_bytes_twice(evaluated, run_stage, start_stage):
    written = []
    for stage, keys in ((run_stage, "--image 3 --layer 1"), (start_stage, "--image 3")):
        arguments = f"--channels 0 5 {keys} --correct 1 --wrong 1 --steps 4 --device cpu"
        completed = stage("explain", "mnist_mlp_100", *arguments.split())
        assert completed.returncode == 0, completed.stderr
        written.append([output.read_bytes() for output in OUTPUTS])
    assert written[0] == written[1]
    assert not any(b"Software" in content or b"CreationDate" in content for content in written[0])
    assert {path.name for path in OUTPUTS[-1].parent.iterdir()} == {path.name for path in OUTPUTS if "models" in path.parts}
    explained = json.loads(OUTPUTS[-1].read_text())
    assert list(explained) == ["source", "samples", "notes", "methods"]
    assert [sample["right"] for sample in explained["samples"]] == [True, False]
    assert list(explained["methods"]) == list(NO_CONVOLUTION)


def test_the_stage_explains_the_first_seed(evaluated, run_stage):
    path = Path("models/trained/mnist_mlp_100/summary.json")
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"seeds": [summary["seeds"][0] | {"seed": 7}, *summary["seeds"]]}))
    completed = run_stage("explain", "mnist_mlp_100", "--device", "cpu")
    assert completed.returncode == 1
    assert "models/trained/mnist_mlp_100/seed-7.safetensors: not found" in completed.stderr


def test_test_data_that_differ_from_the_evaluation_are_rejected(evaluated, run_stage):
    path = Path("data/processed/mnist.safetensors")
    packed = read_packed(path)
    packed.test.images[0] = 0
    write_packed(path, packed)
    completed = run_stage("explain", "mnist_mlp_100", "--device", "cpu")
    assert completed.returncode == 1
    assert completed.stderr == (
        "error: models/cards/mnist_mlp_100/card.json: mnist_mlp_100 was evaluated on a different version of mnist. "
        "Run `dvc repro evaluate@mnist_mlp_100`.\n"
    )
    assert not any(output.exists() for output in OUTPUTS)


def test_an_experiment_without_evaluation_is_rejected(prepared, run_stage):
    assert run_stage("train", "mnist_mlp_100").returncode == 0
    completed = run_stage("explain", "mnist_mlp_100", "--device", "cpu")
    assert completed.returncode == 1
    assert "models/cards/mnist_mlp_100/card.json: not found. Run `dvc repro evaluate@mnist_mlp_100`." in completed.stderr


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["--correct", "11"], "error: explain.mnist_mlp_100.correct: "),
        (["--attributions", "salience"], "error: explain.mnist_mlp_100.attributions.0: "),
        (["--steps", "many"], "error: explain.mnist_mlp_100.steps: "),
        (["--channels", "1", "two"], "error: explain.mnist_mlp_100.channels.1: "),
        (["--attribution", "saliency"], "error: explain.mnist_mlp_100.attribution: unknown key; did you mean 'attributions'?"),
    ],
)
def test_the_stage_rejects_invalid_settings(workdir, run_stage, keys, message):
    completed = run_stage("explain", "mnist_mlp_100", *keys)
    assert completed.returncode == 1
    assert completed.stderr.startswith(message)


def test_every_setting_is_an_option_of_the_stage(workdir, run_stage):
    shown = run_stage("explain", "--help").stdout
    assert [key for key in Explain.model_fields if f"--{key} " not in shown] == []
