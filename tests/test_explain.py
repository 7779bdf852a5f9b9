"""Attributions in closed form on linear models, the figures of trust, the messages, and the stage as DVC calls it."""

import copy
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from toolbox import CPU, bits, toy_model
from torch import Tensor, nn
from torch.nn import functional

from labbook.augmentations import none, transforms
from labbook.core.errors import DataError, ParamsError
from labbook.core.packed import Packed, Split
from labbook.explain import trust
from labbook.explain.attribution import METHODS, Question, Score, attribute, check_fit, relevance, window
from labbook.explain.experiment import explain
from labbook.explain.layers import activations, find_layer
from labbook.explain.samples import find_samples, read_image
from labbook.params.explain import Look
from labbook.trained import Restored

ALL = tuple(METHODS)
NO_CONVOLUTION = ("saliency", "integrated_gradients", "occlusion")


def linear(channels: int = 1, side: int = 8, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, classes))


def question(
    model: nn.Module, channels: int = 1, count: int = 3, target: int = 1, level: float = 0.2, side: int = 8
) -> Question:
    """Ask for one class of random images, before a baseline of one level."""
    images = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        chosen = torch.zeros_like(model(images))
    chosen[:, target] = 1
    return Question(Score(model), images, chosen, torch.full((1, channels, side, side), level), steps=8)


def weights_of(asked: Question, target: int = 1) -> Tensor:
    return asked.score.model[1].weight[target].reshape(1, *asked.images.shape[1:])


def convolutional(channels: int = 1, activation: type[nn.Module] = nn.ReLU, **keys: object) -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, 4, 3, padding=1)
    return nn.Sequential(conv, activation(**keys), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3))


def restored(packed: Packed, kind: str = "cnn", **keys: object) -> Restored:
    model = toy_model(packed, kind, **keys).eval()
    return Restored(model, none.Scaled().fixed, functional.cross_entropy)


def look(**changes: object) -> Look:
    plain = {"image": 0, "layer": "0", "channels": [0, 2], "attributions": list(ALL), "steps": 4}
    return Look.model_validate(plain | changes)


def segmenting() -> tuple[Restored, Packed]:
    """Give a model that finds bright pixels, and scenes whose bright squares are of the class `square`."""
    images = np.full((6, 1, 8, 8), 20, dtype=np.uint8)
    images[:, 0, 2:5, 2:6] = 250
    labels = (images[:, 0] > 128).astype(np.uint8)
    labels[3:] = 0  # what is bright there is of no class: the model is wrong
    split = Split(images, labels)
    packed = Packed("toy", "embedded", ("background", "square"), split, np.array([0]), split)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[0].weight[0, 0, 1, 1] = 1.0
        model[2].weight[:, 0, 0, 0] = torch.tensor([-4.0, 4.0])
        model[2].bias[:] = torch.tensor([2.0, -2.0])
    return Restored(model.eval(), none.Scaled().fixed, functional.cross_entropy), packed


# Closed forms


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_on_a_linear_model_saliency_is_its_absolute_weights(channels, count):
    asked = question(linear(channels), channels, count)
    answer = attribute(METHODS["saliency"], asked)
    torch.testing.assert_close(answer, weights_of(asked).abs().expand_as(answer))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_on_a_linear_model_integrated_gradients_are_weights_times_distance_and_complete(channels, count):
    asked = question(linear(channels), channels, count)
    answer = attribute(METHODS["integrated_gradients"], asked)
    torch.testing.assert_close(answer, weights_of(asked) * (asked.images - asked.black))
    assert trust.completeness_gap(asked, answer) < 1e-3


@pytest.mark.parametrize("channels", [1, 3])
def test_on_a_linear_model_occlusion_sums_weights_times_distance_over_the_windows(channels):
    asked = question(linear(channels), channels)
    answer = attribute(METHODS["occlusion"], asked)
    terms = (weights_of(asked) * (asked.images - asked.black)).sum(dim=1)  # (N, 8, 8)
    assert window(asked.images) == 2  # so the stride is 1
    sums = functional.avg_pool2d(terms[:, None], 2, stride=1) * 4  # of each of the 7 x 7 windows
    corner, middle = answer[:, 0, 0, 0], answer[:, 0, 3, 3]
    torch.testing.assert_close(corner, sums[:, 0, 0, 0])
    torch.testing.assert_close(middle, sums[:, 0, 2:4, 2:4].mean(dim=(1, 2)))


def test_completeness_gap_tells_an_answer_that_is_not_complete():
    asked = question(linear())
    answer = attribute(METHODS["integrated_gradients"], asked)
    assert trust.completeness_gap(asked, 3 * answer) == pytest.approx(2, rel=1e-4)


def test_grad_cam_is_the_map_weighted_by_its_mean_gradient():
    asked = question(convolutional())
    maps = asked.score.model[:2](asked.images).detach().requires_grad_()
    logits = asked.score.model[2:](maps)
    (gradients,) = torch.autograd.grad(logits[:, 1].sum(), maps)
    expected = (gradients.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).relu()
    torch.testing.assert_close(relevance(attribute(METHODS["layer_gradcam"], asked)), expected.detach())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_every_method_answers_for_each_pixel_of_a_batch_of_any_size(name, channels):
    asked = question(convolutional(channels), channels)
    answer = attribute(METHODS[name], asked)
    assert answer.shape == asked.images.shape
    assert not answer.requires_grad
    others = [question(asked.score.model, channels, target=target) for target in range(3)]  # Grad-CAM may find nothing for one
    assert any(attribute(METHODS[name], other).abs().sum() > 0 for other in others)
    alone = Question(asked.score, asked.images[1:2], asked.chosen[1:2], asked.black, asked.steps)
    torch.testing.assert_close(attribute(METHODS[name], alone)[0], answer[1])


# The model stays as it was


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
def test_the_model_is_left_as_it_was_even_after_an_error(name, fails, monkeypatch):
    model = convolutional().train()
    model[0].bias.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    model[2].eval()
    before = copy.deepcopy(state(model))
    asked = question(model)
    if fails:
        monkeypatch.setattr(torch.autograd, "grad", _breaks)
        monkeypatch.setattr(nn.MaxPool2d, "forward", _breaks)
        with pytest.raises(RuntimeError, match="out of memory"):
            attribute(METHODS[name], asked)
    else:
        answers = {name: attribute(METHODS[name], asked)}
        trust.randomised(asked, {name: METHODS[name]}, answers, seed=0)
        trust.sensitivity_max(asked, METHODS[name], torch.ones_like(asked.black), seed=0)
    assert state(model) == before


def _breaks(*arguments: object, **keys: object) -> None:
    raise RuntimeError("out of memory")


def test_nothing_is_drawn_from_the_global_generator():
    asked = question(convolutional())
    answer = attribute(METHODS["saliency"], asked)
    before = torch.random.get_rng_state()
    trust.randomised(asked, {"saliency": METHODS["saliency"]}, {"saliency": answer}, seed=0)
    trust.infidelity(asked, answer, seed=0)
    trust.sensitivity_max(asked, METHODS["saliency"], torch.ones_like(asked.black), seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)


# Trust


def edges(asked: Question) -> Tensor:
    """Stand for a method that looks at the image alone."""
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return functional.conv2d(asked.images, torch.stack([sobel, sobel.T])[:, None], padding=1).abs().sum(dim=1, keepdim=True)


def test_randomisation_tells_an_edge_detector_from_saliency():
    asked = question(convolutional())
    methods = {"edges": edges, "saliency": METHODS["saliency"]}
    answers = {name: attribute(method, asked) for name, method in methods.items()}
    found = trust.randomised(asked, methods, answers, seed=0)
    assert list(found["edges"]) == ["4", "0"]
    assert found["edges"] == {"4": pytest.approx(1), "0": pytest.approx(1)}
    assert all(value < 0.8 for value in found["saliency"].values())


def test_similarity_is_spearmans_with_ties():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(6, (9, 9), generator=generator).float() for _ in range(2))
    second += first
    expected = stats.spearmanr(first.flatten().numpy(), second.flatten().numpy()).statistic
    assert trust.similarity(first, second) == pytest.approx(expected)
    assert trust.similarity(first, torch.zeros(9, 9)) is None


def test_infidelity_is_0_for_the_weights_and_1_for_nothing():
    asked = question(linear())
    weights = weights_of(asked).expand_as(asked.images)
    assert trust.infidelity(asked, weights.contiguous(), seed=0) == pytest.approx(0, abs=1e-5)
    assert trust.infidelity(asked, torch.zeros_like(asked.images), seed=0) == pytest.approx(1, abs=1e-5)


def test_sensitivity_is_0_where_the_gradient_is_the_same_everywhere():
    asked = question(linear())
    white = torch.ones_like(asked.black)
    assert trust.sensitivity_max(asked, METHODS["saliency"], white, seed=0) == pytest.approx(0, abs=1e-6)
    assert trust.sensitivity_max(asked, METHODS["integrated_gradients"], white, seed=0) > 0.001


def test_deletion_and_insertion_of_a_model_that_looks_at_half_of_the_pixels():
    """One logit is far above the other while any of the upper four rows is bright, and far below it when none is."""

    class Upper(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen = (images[:, :, :4].amax(dim=(1, 2, 3)) > 0.5).float()
            return torch.stack([50 - 100 * seen, 100 * seen - 50], dim=1)

    images = torch.ones(2, 1, 8, 8)
    chosen = torch.tensor([[0.0, 1.0]]).repeat(2, 1)
    asked = Question(Score(Upper()), images, chosen, torch.zeros(1, 1, 8, 8), steps=1)
    upper = torch.zeros(2, 1, 8, 8)
    upper[:, :, :4] = 1
    deletion, insertion = trust.deletion_insertion(asked, upper)
    assert deletion == pytest.approx(0.45)  # gone when half of the pixels are: trapezoids of steps of a tenth
    assert insertion == pytest.approx(0.95)  # there from the first step on
    deletion, insertion = trust.deletion_insertion(asked, -upper)
    assert deletion == pytest.approx(0.95)
    assert insertion == pytest.approx(0.45)


# Segmentation


def test_the_region_of_a_segmenter_is_what_it_predicts_as_the_class():
    model, packed = segmenting()
    samples = find_samples(model, packed, CPU, correct=2, wrong=1, region="square")
    assert [(sample.index, sample.caption, sample.right) for sample in samples.about] == [
        (0, "square, overlap 1.00", True),
        (1, "square, overlap 1.00", True),
        (3, "square, overlap 0.00", False),
    ]
    assert samples.chosen.shape == (3, 2, 8, 8)
    expected = torch.zeros(2, 8, 8)
    expected[1, 2:5, 2:6] = 1
    assert torch.equal(samples.chosen[0], expected)
    asked = Question(Score(model.model), samples.images, samples.chosen, torch.zeros(1, 1, 8, 8), steps=4)
    for name in ALL:
        relevant = relevance(attribute(METHODS[name], asked))[0].abs()
        assert relevant[2:5, 2:6].sum() > 0.5 * relevant.sum(), name


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("sqare", "region: 'sqare' is no class of toy; did you mean 'square'? There are: background, square."),
        (None, "region: missing; labels of toy are of pixels. Classes: background, square."),
    ],
)
def test_a_region_that_is_no_class_is_refused(region, message):
    model, packed = segmenting()
    with pytest.raises(ParamsError, match=f"^{re.escape(message)}$"):
        find_samples(model, packed, CPU, correct=1, wrong=1, region=region)


# Samples and images


def test_samples_are_the_first_right_and_the_first_wrong_ones(tiny_packed):
    model = restored(tiny_packed)
    with torch.no_grad():
        said = model.model(model.convert(torch.from_numpy(tiny_packed.test.images))).argmax(dim=1).numpy()
    right = np.flatnonzero(said == tiny_packed.test.labels)
    wrong = np.flatnonzero(said != tiny_packed.test.labels)
    samples = find_samples(model, tiny_packed, CPU, correct=2, wrong=3, region=None)
    assert [sample.index for sample in samples.about] == [*right[:2], *wrong[:3]]
    assert np.array_equal(samples.pixels, tiny_packed.test.images[[*right[:2], *wrong[:3]]])
    assert samples.chosen.argmax(dim=1).tolist() == said[[*right[:2], *wrong[:3]]].tolist()
    assert samples.about[-1].caption.count(" taken for ") == 1


def test_a_test_set_without_such_samples_is_told(tiny_packed):
    class Right(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.sum(dim=(1, 3)).reshape(-1, 3, 2).sum(dim=2)

    images = np.zeros((3, 1, 6, 6), dtype=np.uint8)
    for label in range(3):
        images[label, 0, 2 * label] = 255
    split = Split(images, np.arange(3))
    packed = Packed("toy", "embedded", tiny_packed.classes, split, np.array([0]), split)
    model = Restored(Right(), none.Scaled().fixed, functional.cross_entropy)
    with pytest.raises(DataError, match=r"none of the 3 test images is among the 0 correct and 2 wrong ones asked for"):
        find_samples(model, packed, CPU, correct=0, wrong=2, region=None)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_file_is_scaled_to_what_the_model_takes(tmp_path, channels):
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[:, 5:25] = (255, 255, 255) if channels == 1 else (255, 0, 100)  # the middle 20 columns are what is kept
    Image.fromarray(pixels).save(tmp_path / "zebra.png")
    split = Split(np.zeros((1, channels, 8, 8), dtype=np.uint8), np.zeros(1, dtype=np.int64))
    packed = Packed("toy", "embedded", ("one",), split, np.array([0]), split)
    convert = transforms.build(transforms.Settings(name="transforms", resize=16)).fixed
    found = read_image(str(tmp_path / "zebra.png"), Restored(nn.Identity(), convert, functional.cross_entropy), packed)
    assert found.shape == (channels, 16, 16)
    inner = found[:, 1:-1, 1:-1]  # the outermost pixels are smoothed with what is cut off
    assert inner.reshape(channels, -1).T.tolist() == [[255] if channels == 1 else [255, 0, 100]] * 196


def test_an_image_that_cannot_be_read_is_told(tiny_packed, tmp_path):
    model = restored(tiny_packed)
    with pytest.raises(ParamsError, match=r"^image: 45 is none of the 45 test images, 0 to 44\.$"):
        read_image(45, model, tiny_packed)
    with pytest.raises(DataError, match=r"zebra\.png: not found\. `image` is an index into the test set or the path"):
        read_image("zebra.png", model, tiny_packed)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: cannot be read as an image .* PNG and JPEG will do\.$"):
        read_image(str(tmp_path / "text.png"), model, tiny_packed)


# The whole, and its messages


def drawn(found: object, tmp_path: Path) -> list[str]:
    digests = []
    for kind in ("filters", "activations", "attributions"):
        file = tmp_path / f"{kind}.png"
        getattr(found, kind).savefig(file, metadata={"Software": None})
        digests.append(hashlib.sha256(file.read_bytes()).hexdigest())
    return digests


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("cnn", {"attributions": list(ALL)}),
        ("mlp", {"attributions": list(NO_CONVOLUTION), "layer": "1"}),
        ("cnn", {"attributions": ["saliency"], "layer": "5", "correct": 0, "wrong": 1}),
        ("cnn", {"attributions": ["saliency"], "layer": "3"}),
    ],
)
def test_the_same_question_gives_the_same_figures_and_pictures(tiny_packed, tmp_path, kind, keys):
    found = [explain(restored(tiny_packed, kind), tiny_packed, look(**keys), CPU, seed=0) for _ in range(2)]
    assert found[0].metrics == found[1].metrics
    assert drawn(found[0], tmp_path) == drawn(found[1], tmp_path)
    assert list(found[0].metrics["methods"]) == keys["attributions"]
    for figures in found[0].metrics["methods"].values():
        assert {"infidelity", "sensitivity_max", "deletion", "insertion", "similarity_randomised_down_to"} <= set(figures)


def test_a_segmenter_is_explained(tmp_path):
    model, packed = segmenting()
    found = explain(model, packed, look(region="square"), CPU, seed=0)
    assert found.metrics["methods"]["integrated_gradients"]["completeness_gap"] < 0.1
    assert len(drawn(found, tmp_path)) == 3


def test_a_model_that_always_says_the_same_has_figures_too(tiny_packed):
    model = restored(tiny_packed)
    for parameter in model.model.parameters():
        nn.init.zeros_(parameter)
    figures = explain(model, tiny_packed, look(), CPU, seed=0).metrics["methods"]
    assert all(np.isfinite(method["infidelity"]) for method in figures.values())
    assert set(figures["saliency"]["similarity_randomised_down_to"].values()) == {None}


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        ("cnn", {"layer": "conv1"}, r"^layer: the model has no 'conv1'\. There are: 0 \(Conv2d\), 1 \(ReLU\), "),
        ("cnn", {"channels": [1, 4]}, r"^channels: 4 is none of the 4 of layer 0 \(Conv2d\), 0 to 3\.$"),
        ("cnn", {"region": "top"}, r"^region: 'top' is for segmentation"),
        ("mlp", {"layer": "1"}, r"^attributions: Grad-CAM weighs the maps of an activation, and no activation of"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(tiny_packed, kind, keys, message):
    with pytest.raises(ParamsError, match=message):
        explain(restored(tiny_packed, kind), tiny_packed, look(**keys), CPU, seed=0)


class Unused(nn.Module):
    """A layer that nothing passes through, and one that gives no maps."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.flat = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3), nn.Flatten(2)

    def forward(self, images: Tensor) -> Tensor:
        return self.flat(self.used(images)).mean(dim=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unused", r"^layer: layer unused \(Conv2d\) computes nothing when the model is shown an image\."),
        ("flat", r"^layer: layer flat \(Flatten\) gives no maps \(N, C, H, W\) and no units"),
    ],
)
def test_a_layer_that_has_nothing_to_show_is_refused(name, message):
    model = Unused()
    assert activations(model, find_layer(model, "used"), torch.zeros(1, 1, 8, 8)).shape == (2, 6, 6)
    with pytest.raises(ParamsError, match=message):
        activations(model, find_layer(model, name), torch.zeros(1, 1, 8, 8))


class Twice(nn.Module):
    """One ReLU for two uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.relu = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(images)))).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("model", "method", "message"),
    [
        (
            Twice(),
            "guided_gradcam",
            r"^attributions: the model uses its ReLU relu 2 times, and guided_gradcam needs an instance",
        ),
        (convolutional(inplace=True), "layer_gradcam", r"^attributions: 1 \(ReLU\) works in place"),
        (convolutional(activation=nn.Tanh), "guided_gradcam", r"^attributions: guided_gradcam guides gradients through ReLUs"),
        (linear(), "layer_gradcam", r"^attributions: Grad-CAM weighs the maps"),
    ],
)
def test_a_model_on_which_a_method_would_go_wrong_silently_is_refused(model, method, message):
    asked = question(model)
    with pytest.raises(ParamsError, match=message):
        check_fit(asked, [method])
    check_fit(asked, NO_CONVOLUTION)


# Settings


def test_what_params_may_name_is_what_there_is():
    assert set(Look.model_json_schema()["properties"]["attributions"]["items"]["enum"]) == set(METHODS)


@pytest.mark.parametrize(("image", "read"), [("7", 7), (7, 7), ("zebra.jpg", "zebra.jpg")])
def test_image_and_layer_are_read_from_a_command_line_too(image, read):
    assert look(image=image, layer=3).image == read
    assert look(layer=3).layer == "3"


# The stage


def test_the_stage_writes_what_dvc_expects_and_the_same_bytes_twice(prepared, run_stage, start_stage):
    trained = run_stage("train", "mnist_mlp_100")
    assert trained.returncode == 0, trained.stderr
    arguments = ("mnist_mlp_100", "--dataset", "mnist", "--image", "3", "--layer", "1", "--channels", "0", "5")
    outputs = [f"plots/{kind}/mnist_mlp_100.png" for kind in ("filters", "activations", "attributions")]
    outputs.append("metrics/explain/mnist_mlp_100.json")
    written = []
    for stage in (run_stage, start_stage):
        done = stage("explain", *arguments, "--attributions", "saliency", "--correct", "1", "--wrong", "1", "--device", "cpu")
        assert done.returncode == 0, done.stderr
        written.append([Path(output).read_bytes() for output in outputs])
    assert written[0] == written[1]
    assert not any(b"Software" in content for content in written[0])
