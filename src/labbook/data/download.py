"""Fetch published files from a local data root or from mirrors; downloads resume, and every checksum is verified."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pooch
import requests

from labbook.errors import DataError, DownloadError
from labbook.io import explain, replace

__all__ = ["DATA_ROOT", "FETCH", "FETCH_AGAIN", "PARTIAL", "Remote", "in_data_root", "obtain"]

DATA_ROOT = "LABBOOK_DATA_ROOT"
PARTIAL = Path(".downloads")
# Names no stage, because a dataset is fetched for its own stages and for pretraining.
FETCH = "Run `dvc repro`, which fetches the data that `data.source` in params.yaml names."
FETCH_AGAIN = "Remove it and run `dvc repro`."
TIMEOUT = 30  # seconds without a byte before the next mirror is tried
BLOCK = 1 << 14
MD5_LENGTH = 32  # hexadecimal digits; sha256 has 64


@dataclass(frozen=True)
class Remote:
    """A published file: its name, its checksum (md5 or sha256), and its folder below a torchvision-style data root."""

    name: str
    checksum: str
    folder: str

    @property
    def algorithm(self) -> str:
        """Return the algorithm of the checksum, according to its length."""
        return "md5" if len(self.checksum) == MD5_LENGTH else "sha256"


def obtain(remote: Remote, mirrors: Sequence[str], target: Path, partial: Path = PARTIAL) -> str:
    """Write the file to `target`, from the data root if it is there, otherwise from the first mirror that serves it.

    Args:
        remote: the file.
        mirrors: addresses of folders that hold it, tried in this order.
        target: path of the result.
        partial: folder of unfinished downloads, which the next attempt resumes.

    Returns:
        The path or address of its source.

    Raises:
        DataError: the data root cannot be read, or its file has another checksum.
        DownloadError: no mirror served the file; the message lists the answer of each.
    """
    local = in_data_root(f"{remote.folder}/{remote.name}")
    if local is None:
        return _download(remote, mirrors, target, partial)
    _check_local(local, remote)
    replace(target, lambda part: part.write_bytes(local.read_bytes()))
    return str(local)


def in_data_root(place: str) -> Path | None:
    """Return the path of a file or folder below the data root; `None` if there is none, or no data root is set.

    Raises:
        DataError: the data root cannot be read.
    """
    named = os.environ.get(DATA_ROOT)
    if not named:
        return None
    root = Path(named)
    try:
        if not root.is_dir():
            raise DataError(f"{DATA_ROOT}={root}: no such folder. Correct the variable, or unset it to download.")
        next(root.iterdir(), None)
        return root / place if (root / place).exists() else None
    except OSError as error:
        raise DataError(f"{DATA_ROOT}: {explain(error, root)}") from error


def _check_local(file: Path, remote: Remote) -> None:
    try:
        found = checksum_of(file, remote.algorithm)
    except OSError as error:
        raise DataError(f"{DATA_ROOT}: {explain(error, file)}") from error
    if found != remote.checksum:
        raise DataError(
            f"{file}: has {remote.algorithm} {found}, expected {remote.checksum}: truncated or altered. "
            f"Replace the file, or remove it to download it again."
        )


def _download(remote: Remote, mirrors: Sequence[str], target: Path, partial: Path) -> str:
    pooch.get_logger().setLevel("WARNING")  # the lines printed below say the same
    unfinished = partial / f"{remote.checksum}.part"
    answers = []
    for mirror in mirrors:
        address = f"{mirror.rstrip('/')}/{remote.name}"
        print(f"{remote.name}: from {address}", flush=True)
        # A damaged partial download is no fault of the mirror: try once more from the first byte.
        for _attempt in range(2 if unfinished.is_file() else 1):
            try:
                pooch.retrieve(
                    address,
                    known_hash=f"{remote.algorithm}:{remote.checksum}",
                    fname=target.name,
                    path=target.parent,
                    downloader=Resuming(unfinished),
                )
                target.chmod(0o644)  # pooch makes it readable only for the owner, but teams share it
                unfinished.unlink(missing_ok=True)
                return address
            except requests.RequestException as error:
                answers.append(f"{address}: {_short(error)}")
                break
            except ValueError:
                size = unfinished.stat().st_size
                unfinished.unlink()
                published = f"the published {remote.algorithm} {remote.checksum}"
                answers.append(f"{address}: received {size} bytes, which do not have {published}")
            except OSError as error:
                raise DownloadError(explain(error, target)) from error
    raise DownloadError(
        f"{remote.name}: no mirror served the file.\n  "
        + "\n  ".join(answers)
        + f"\nCheck the connection and run again (received bytes are kept), or put the file at "
        f"{remote.folder}/{remote.name} below a folder that {DATA_ROOT} names."
    )


class Resuming:
    """A downloader for pooch that resumes an interrupted download by an HTTP range request."""

    def __init__(self, unfinished: Path) -> None:
        self.unfinished = unfinished

    def __call__(self, url: str, output_file: str | IO[Any], _pooch: object) -> None:
        """Download `url` to `output_file`, a path, via the unfinished file."""
        self.unfinished.parent.mkdir(parents=True, exist_ok=True)
        have = self.unfinished.stat().st_size if self.unfinished.is_file() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                have = -1  # the file is complete already; the checksum decides
            else:
                response.raise_for_status()
                resumed = response.status_code == requests.codes.partial_content
                with self.unfinished.open("ab" if resumed else "wb") as file:
                    for block in response.iter_content(BLOCK):
                        file.write(block)
                self._check_length(response, have if resumed else 0)
        Path(str(output_file)).write_bytes(self.unfinished.read_bytes())

    def _check_length(self, response: requests.Response, before: int) -> None:
        expected = int(response.headers.get("Content-Length", 0)) + before
        found = self.unfinished.stat().st_size
        if expected > found:
            raise requests.ConnectionError(f"ended after {found} of {expected} bytes")


def checksum_of(file: Path, algorithm: str) -> str:
    """Compute the checksum of a file, by the algorithm that its publisher used."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, algorithm).hexdigest()


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 200 else text[:200] + "…"
