"""Assignment B: the weights of two networks for MNIST."""

import numpy as np

from labbook.exercises.arithmetic import counted, total_of
from labbook.exercises.exercise import Exercise, Result
from labbook.exercises.layers import Conv, Linear, Pool, walk

__all__ = ["MNIST_CNN_SMALL", "MNIST_MLP_2X50", "exercises"]

MNIST_MLP_2X50 = (Linear(50), Linear(50), Linear(10))
MNIST_CNN_SMALL = (Conv(8, 3, 1), Pool(2), Conv(16, 3, 1), Pool(2), Conv(32, 3, 1), Linear(10))


def exercises() -> list[Exercise]:
    """Work the exercises of assignment B."""
    return [_mlp(), _small_cnn()]


def _mlp() -> Exercise:
    way = walk((1, 28, 28), MNIST_MLP_2X50)
    return Exercise(
        name="mnist_mlp_2x50",
        assignment="B",
        question="How many learnable weights has 784-50-50-10?",
        working=(counted("mnist_mlp_2x50", way),),
        results=(Result("parameters", total_of(way), 42_310),),
    )


def _small_cnn() -> Exercise:
    way = walk((1, 28, 28), MNIST_CNN_SMALL)
    return Exercise(
        name="mnist_cnn_small",
        assignment="B",
        question="How many learnable weights has the small CNN, and how many features reach its last layer?",
        working=(counted("mnist_cnn_small", way),),
        results=(
            Result("features", int(np.prod(way[-2].shape)), 1_568),
            Result("parameters", total_of(way), 21_578),
        ),
    )
