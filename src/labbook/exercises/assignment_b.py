"""Assignment B: the parameters of two networks for MNIST."""

import numpy as np

from labbook.exercises.arithmetic import parameter_table, total_parameters
from labbook.exercises.exercise import Exercise, Result
from labbook.exercises.layers import Conv, Linear, Pool, summarize

__all__ = ["MNIST_CNN_SMALL", "MNIST_MLP_2X50", "exercises"]

MNIST_MLP_2X50 = (Linear(50), Linear(50), Linear(10))
MNIST_CNN_SMALL = (Conv(8, 3, 1), Pool(2), Conv(16, 3, 1), Pool(2), Conv(32, 3, 1), Linear(10))


def exercises() -> list[Exercise]:
    """Solve the exercises of assignment B."""
    return [_mlp(), _small_cnn()]


def _mlp() -> Exercise:
    summary = summarize((1, 28, 28), MNIST_MLP_2X50)
    return Exercise(
        name="mnist_mlp_2x50",
        assignment="B",
        question="How many trainable parameters does the network 784-50-50-10 have?",
        steps=(parameter_table("mnist_mlp_2x50", summary),),
        results=(Result("parameters", total_parameters(summary), 42_310),),
    )


def _small_cnn() -> Exercise:
    summary = summarize((1, 28, 28), MNIST_CNN_SMALL)
    return Exercise(
        name="mnist_cnn_small",
        assignment="B",
        question="How many trainable parameters does the small CNN have, and how many features reach its last layer?",
        steps=(parameter_table("mnist_cnn_small", summary),),
        results=(
            Result("features", int(np.prod(summary[-2].shape)), 1_568),
            Result("parameters", total_parameters(summary), 21_578),
        ),
    )
