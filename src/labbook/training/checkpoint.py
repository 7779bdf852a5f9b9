"""Checkpoints: a training that was killed goes on where it was, and ends with the bytes of one that never was.

A checkpoint lies outside DVC's outputs, which DVC deletes before a run, in a file named by a fingerprint of all that
the result depends on. It is written aside and renamed, and carries a checksum of itself.
"""

import contextlib
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

from labbook.core.errors import TrainingError
from labbook.core.files import explain, write_bytes

__all__ = ["CHECKPOINTS", "Checkpoint", "code_digest", "discard", "fingerprint", "hold"]

CHECKPOINTS = Path(".checkpoints")  # a folder an experiment
DIGEST_LENGTH = 32


class Checkpoint:
    """The state of one training on disk.

    Args:
        path: its file; the folder is this training's own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, state: dict[str, Any]) -> None:
        """Write tensors, numbers, strings, lists and dictionaries, whole or not at all."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getvalue()
        write_bytes(self.path, hashlib.sha256(payload).digest() + payload)

    def load(self) -> dict[str, Any] | None:
        """Read the state; `None` when there is none. A damaged file is removed, with a word about it."""
        if not self.path.is_file():
            return None
        try:
            data = self.path.read_bytes()
            digest, payload = data[:DIGEST_LENGTH], data[DIGEST_LENGTH:]
            if hashlib.sha256(payload).digest() != digest:
                raise ValueError("its checksum does not fit its content")
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
def hold(folder: Path, mark: str) -> Iterator[Checkpoint]:
    """Hold one training's folder for this process; checkpoints of other fingerprints are removed from it.

    Args:
        folder: of the experiment's checkpoints.
        mark: the fingerprint.

    Raises:
        TrainingError: another process trains the same experiment.
    """
    lock = filelock.FileLock(folder / "lock", blocking=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise TrainingError(f"{folder}: another process trains this experiment now. Wait for it, or stop it.") from error
    except OSError as error:
        raise TrainingError(explain(error, folder)) from error
    try:
        for other in folder.iterdir():
            if other.name not in ("lock", f"{mark}.pt") and other.is_file():
                other.unlink()
        yield Checkpoint(folder / f"{mark}.pt")
    finally:
        lock.release()


def discard(folder: Path) -> None:
    """Remove a training's folder, when its outputs are written and nothing has to be gone on with."""
    shutil.rmtree(folder, ignore_errors=True)


def fingerprint(*parts: object) -> str:
    """Hash all that a result depends on, by its printed form."""
    return hashlib.sha256("\n".join(repr(part) for part in parts).encode()).hexdigest()[:16]


def code_digest() -> str:
    """Hash the source of every module of this package that is loaded."""
    sha256 = hashlib.sha256()
    for name in sorted(sys.modules):
        file = getattr(sys.modules[name], "__file__", None)
        if name.split(".")[0] == "labbook" and file:
            sha256.update(name.encode())
            sha256.update(Path(file).read_bytes())
    return sha256.hexdigest()
