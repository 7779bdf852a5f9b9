"""Weights that a training starts from: those of a backbone, all but its head, or none."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from labbook.errors import DataError
from labbook.files import read_bytes

__all__ = ["PRETRAINED", "Start", "read_start"]

PRETRAINED = Path("data/pretrained")


@dataclass(frozen=True)
class Start:
    """Pretrained weights by the names of a model's state.

    Attributes:
        path: where they were read.
        weights: empty where an experiment starts from weights drawn at random.
        digest: sha256 of the file.
    """

    path: Path
    weights: dict[str, Tensor]
    digest: str

    def give_to(self, model: nn.Module) -> None:
        """Load them into `model`; what they leave out must be learnt, such as a new head.

        Raises:
            DataError: a weight has no place in the model or another shape, or a frozen one is not among them.
        """
        if not self.weights:
            return
        state = model.state_dict()
        for name, tensor in self.weights.items():
            if name not in state:
                raise DataError(f"{self.path}: holds {name}, which the model has not. These are weights of another model.")
            if tensor.shape != state[name].shape:
                found, expected = tuple(tensor.shape), tuple(state[name].shape)
                raise DataError(f"{self.path}: {name} has the shape {found}, the model's has {expected}. They do not fit.")
        frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        missing = [name for name in frozen if name not in self.weights]
        if missing:
            raise DataError(f"{self.path}: holds no {missing[0]}, which is frozen in the model. They do not fit.")
        model.load_state_dict(self.weights, strict=False)


def read_start(name: str, folder: Path = PRETRAINED) -> Start:
    """Read the weights that `params.yaml` calls `name`.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = folder / f"{name}.safetensors"
    mend = "Restore it from git." if name == "none" else f"Run `dvc repro pretrain@{name}`."
    content = read_bytes(path, mend)
    try:
        return Start(path, safetensors.torch.load(content), hashlib.sha256(content).hexdigest())
    except SafetensorError as error:
        raise DataError(f"{path}: damaged, no weights ({error}). {mend}") from error
