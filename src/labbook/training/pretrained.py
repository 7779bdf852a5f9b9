"""Initial weights of a training: those of a pretrained backbone without its head, or none."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from labbook.errors import DataError
from labbook.io import read_bytes

__all__ = ["PRETRAINED", "PretrainedWeights", "read_pretrained"]

PRETRAINED = Path("data/pretrained")


@dataclass(frozen=True)
class PretrainedWeights:
    """Pretrained weights, by the names of a model's state dict.

    Attributes:
        path: the file that they were read from.
        weights: empty if all initial weights are drawn at random.
        source: data source of their training, `official` or `embedded`; `None` if unknown or without weights.
        digest: sha256 of the file.
    """

    path: Path
    weights: dict[str, Tensor]
    source: str | None
    digest: str

    def check_source(self, source: str) -> None:
        """Check that the weights were trained on data of the same source.

        Raises:
            DataError: they were not; the message names the file.
        """
        if self.weights and self.source != source:
            raise DataError(
                f"{self.path}: trained on {self.source or 'unknown'} data, but the dataset is {source}. {_fix(self.path.stem)}"
            )

    def load_into(self, model: nn.Module) -> None:
        """Load the weights into `model`; only its head may be missing, which must then be trainable.

        Raises:
            DataError: a weight is not in the model or has another shape, or more than a trainable head is missing.
        """
        if not self.weights:
            return
        state = model.state_dict()
        for name, tensor in self.weights.items():
            if name not in state:
                raise DataError(
                    f"{self.path}: holds {name}, which the model does not have. These are weights of another model."
                )
            if tensor.shape != state[name].shape:
                shape, expected = tuple(tensor.shape), tuple(state[name].shape)
                raise DataError(
                    f"{self.path}: {name} has shape {shape}, expected {expected}. These are weights of another model."
                )
        missing = [name for name in state if name not in self.weights]
        trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        head = {name.rpartition(".")[0] for name in missing[-1:]}
        for name in missing:
            if name not in trainable or name.rpartition(".")[0] not in head:
                raise DataError(
                    f"{self.path}: lacks {name}, but only a trainable head may be missing. These are weights of another model."
                )
        model.load_state_dict(self.weights, strict=False)


def read_pretrained(name: str, folder: Path = PRETRAINED) -> PretrainedWeights:
    """Read the weights that `params.yaml` calls `name`.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = folder / f"{name}.safetensors"
    content = read_bytes(path, _fix(name))
    try:
        weights = safetensors.torch.load(content)
        with safe_open(path, "pt") as file:
            source = (file.metadata() or {}).get("source")
    except SafetensorError as error:
        raise DataError(f"{path}: damaged, not a safetensors file ({error}). {_fix(name)}") from error
    return PretrainedWeights(path, weights, source, hashlib.sha256(content).hexdigest())


def _fix(name: str) -> str:
    return "Run `dvc repro no_weights`." if name == "none" else f"Run `dvc repro pretrain@{name}`."
