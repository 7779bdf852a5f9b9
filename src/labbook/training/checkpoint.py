"""Checkpoints: a killed training resumes from its last checkpoint and ends with the same bytes as an uninterrupted one.

Checkpoints are stored outside DVC's outputs, because DVC deletes those before a run. The name of a checkpoint file is a
fingerprint of everything that the result depends on. The file is written atomically and starts with a checksum of its content.
"""

import contextlib
import functools
import hashlib
import io
import pickle
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import torch

from labbook.errors import TrainingError
from labbook.fingerprint.meaning import hash_tree, parse
from labbook.fingerprint.sources import is_unhashed
from labbook.io import describe_os_error, write_bytes

__all__ = [
    "CHECKPOINTS", "CHECKPOINT_SECONDS", "Checkpoint", "code_digest", "discard", "fingerprint", "locked_checkpoint",
]  # fmt: skip

CHECKPOINTS = Path(".checkpoints")  # one folder per experiment, and one per seed in it
CHECKPOINT_SECONDS = 10.0  # between two checkpoints: the most training time that an interruption loses
DIGEST_LENGTH = 32


class Checkpoint:
    """The state of one training on disk.

    Args:
        path: the file, in a folder that no other training uses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, state: dict[str, Any]) -> None:
        """Write `state`, which may hold tensors, numbers, strings, lists and dictionaries, atomically."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getvalue()
        write_bytes(self.path, hashlib.sha256(payload).digest() + payload)

    def load(self) -> dict[str, Any] | None:
        """Read the state; return `None` if the file is missing or damaged. A damaged file is reported and removed."""
        if not self.path.is_file():
            return None
        try:
            data = self.path.read_bytes()
            digest, payload = data[:DIGEST_LENGTH], data[DIGEST_LENGTH:]
            if hashlib.sha256(payload).digest() != digest:
                raise ValueError("its checksum does not match its content")
            state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
            return state
        except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            print(f"checkpoint {self.path} is damaged ({error}); training starts again from the beginning", flush=True)
            self.remove()
            return None

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked_checkpoint(folder: Path, digest: str) -> Iterator[Checkpoint]:
    """Lock a training's folder for this process, remove checkpoints with other fingerprints, and yield the matching one.

    Args:
        folder: the folder of the training's checkpoints.
        digest: the training's fingerprint.

    Raises:
        TrainingError: another process is training the same experiment.
    """
    lock = filelock.FileLock(folder / "lock", blocking=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise TrainingError(
            f"{folder}: another process is training this experiment. Wait for it to end, or stop it."
        ) from error
    except OSError as error:
        raise TrainingError(describe_os_error(error, folder)) from error
    try:
        for file in folder.iterdir():
            if file.name not in ("lock", f"{digest}.pt") and file.is_file():
                file.unlink()
        yield Checkpoint(folder / f"{digest}.pt")
    finally:
        lock.release()


def discard(folder: Path) -> None:
    """Remove the checkpoints of an experiment; call this once its outputs are written."""
    shutil.rmtree(folder, ignore_errors=True)


def fingerprint(*parts: object) -> str:
    """Hash the `repr` of everything that a result depends on."""
    return hashlib.sha256("\n".join(repr(part) for part in parts).encode()).hexdigest()[:16]


def code_digest() -> str:
    """Hash the meaning of this package's loaded modules in the same way as a stage's fingerprint."""
    names = [name for name in sys.modules if f"{name}.".startswith("labbook.") and not is_unhashed(name)]
    files = {name: getattr(sys.modules[name], "__file__", None) for name in sorted(names)}
    return fingerprint(*((name, _hash_module(file)) for name, file in files.items() if file))


@functools.cache  # a module does not change after its import
def _hash_module(file: str) -> str:
    return hash_tree(parse(Path(file).read_bytes(), file))
