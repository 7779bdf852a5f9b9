"""Titles of the assignments, and the experiments that their questions, pairs and comparisons refer to.

No other module of the report refers to an experiment by name.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "ASSIGNMENTS", "CLAIMS", "COMPARISONS", "DETAILED", "EFFECTS", "OVERVIEW", "PAIRS", "QUESTIONS",
    "Claim", "Comparison", "Effect", "Pair", "Question",
]  # fmt: skip

ASSIGNMENTS = {
    "A": "Depth versus width on MNIST",
    "B": "Variations of a small CNN on MNIST",
    "C": "Wide versus deep networks on CIFAR-10 and Tiny ImageNet",
    "D": "CNNs on CIFAR-10, and transfer learning",
    "E": "Layers in NumPy, and segmentation",
}


@dataclass(frozen=True)
class Pair:
    """Two experiments on 2D points that are shown side by side.

    Attributes:
        name: name of the print figure.
        assignment: letter of the assignment.
        title: heading.
        first: the experiment on the left.
        second: the experiment on the right.
    """

    name: str
    assignment: str
    title: str
    first: str
    second: str


@dataclass(frozen=True)
class Claim:
    """What an assignment claims about one experiment of a pair.

    Attributes:
        outcome: a key of `labbook.report.principles.OUTCOMES`.
        reference: the experiment whose seeds are compared with those of this one, if any.
    """

    outcome: str
    reference: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Two experiments whose training and validation curves are drawn together.

    Attributes:
        assignment: letter of the assignment.
        first: the experiment without the change.
        second: the experiment with the change, which also names the print figure.
        caption: text below the charts.
    """

    assignment: str
    first: str
    second: str
    caption: str


@dataclass(frozen=True)
class Question:
    """A question of an assignment.

    Attributes:
        kind: a key of `labbook.report.answers.ANSWERS`.
        experiments: their names, in the order that the answer expects.
        text: the question, for kinds that answer more than one.
        reported: the report's answer as numbers, one per experiment.
    """

    kind: str
    experiments: tuple[str, ...]
    text: str = ""
    reported: tuple[float, ...] = ()


@dataclass(frozen=True)
class Effect:
    """What a report claims about the effect of a change.

    Attributes:
        metric: a metric of `Record.values`.
        direction: direction of the effect; `highest` means larger than the effect of every other change.
    """

    metric: str
    direction: Literal["higher", "lower", "not higher", "same", "highest"]


PAIRS = (
    Pair("rings_relu", "A", "ReLU: random versus zero initial weights", "rings_relu_random", "rings_relu_zero"),
    Pair("rings_sigmoid", "A", "Sigmoid: random versus zero initial weights", "rings_sigmoid_random", "rings_sigmoid_zero"),
    Pair("dying_relu", "A", "Dying ReLU: sorted versus shuffled points", "dying_relu_sorted", "dying_relu_shuffled"),
)
CLAIMS = {
    "rings_relu_random": Claim("corners"),
    "rings_relu_zero": Claim("no_gradient"),
    "rings_sigmoid_random": Claim("slower_and_smoother", reference="rings_relu_random"),
    "rings_sigmoid_zero": Claim("straight_line"),
    "dying_relu_sorted": Claim("dead_units"),
    "dying_relu_shuffled": Claim("fewer_dead_units", reference="dying_relu_sorted"),
}
COMPARISONS = (
    Comparison(
        "D", "cifar10_cnn", "cifar10_cnn_plus_flip", "Without and with random flips: training dashed, validation solid."
    ),
)
QUESTIONS = {
    "B": (
        Question("pytorch_and_numpy", ("mnist_mlp_2x50", "mnist_mlp_2x50_numpy")),
        Question("pool_and_relu", ("mnist_cnn_small", "mnist_cnn_pool_first")),
        Question("relu_and_tanh", ("mnist_cnn_pool_first", "mnist_cnn_pool_first_tanh"), reported=(20, 50)),
        Question("sgd_and_adam", ("mnist_cnn_small", "mnist_cnn_adam")),
    ),
    "C": (
        Question(
            "accuracies", ("cifar10_wide", "cifar10_deep_residual"),
            "Is the wide or the deep network more accurate on CIFAR-10?",
        ),
        Question("accuracies", ("tiny_wide", "tiny_deep"), "Is the wide or the deep network more accurate on Tiny ImageNet?"),
        Question("image_sizes", ("tiny_wide_32px", "tiny_wide", "tiny_wide_128px")),
    ),
    "D": (
        Question(
            "single_changes",
            (
                "cifar10_cnn", "cifar10_cnn_plus_flip", "cifar10_cnn_plus_double", "cifar10_cnn_plus_elu",
                "cifar10_cnn_plus_dropout", "cifar10_cnn_plus_bn",
            ),
        ),
        Question("overfitting", ("cifar10_cnn_best",)),
    ),
    "E": (Question("accuracies", ("scenes_unet", "scenes_unet_sgd"), "Is SGD worse than Adam?"),),
}  # fmt: skip
EFFECTS = {  # `cifar10_cnn_plus_…` is compared with `cifar10_cnn`; the others with the previous experiment of their question
    "cifar10_cnn_plus_flip": (Effect("val_accuracy", "higher"), Effect("val_accuracy", "highest"), Effect("steps", "higher")),
    "cifar10_cnn_plus_double": (Effect("val_accuracy", "not higher"),),
    "cifar10_cnn_plus_elu": (
        Effect("train_accuracy", "higher"),
        Effect("val_accuracy", "lower"),
        Effect("test_accuracy", "lower"),
    ),
    "cifar10_cnn_plus_dropout": (Effect("val_accuracy", "higher"),),
    "cifar10_cnn_plus_bn": (Effect("val_accuracy", "higher"),),
    "cifar10_deep_residual": (Effect("test_accuracy", "lower"),),
    "tiny_deep": (Effect("test_accuracy", "same"),),
    "scenes_unet_sgd": (Effect("test_accuracy", "lower"),),
}
OVERVIEW = "B"  # the assignment whose test curves are drawn in one figure
DETAILED = {  # shown in detail: the model with the best reported accuracy of B's last three, because B has no validation data
    "B": "mnist_resnet_bn_sgd",
}
