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
from labbook.io import describe_os_error, write_atomically

__all__ = [
    "DATA_ROOT", "FIX_DAMAGED", "FIX_MISSING", "PARTIAL_DOWNLOADS", "RemoteFile", "fetch_file", "find_in_data_root",
]  # fmt: skip

DATA_ROOT = "LABBOOK_DATA_ROOT"
PARTIAL_DOWNLOADS = Path(".downloads")
# How to fix a problem with a raw file. The messages name no stage: pretraining fetches datasets, too.
FIX_MISSING = "Run `dvc repro`, which fetches the data that `data.source` in params.yaml names."
FIX_DAMAGED = "Remove it and run `dvc repro`."
TIMEOUT = 30  # seconds without a byte before the next mirror is tried
CHUNK_SIZE = 1 << 14  # bytes
MD5_LENGTH = 32  # hexadecimal digits; sha256 has 64


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: its file name.
        checksum: its published md5 or sha256.
        folder: its folder below a data root with torchvision's layout.
    """

    name: str
    checksum: str
    folder: str

    @property
    def algorithm(self) -> str:
        """Return the algorithm of the checksum, inferred from its length."""
        return "md5" if len(self.checksum) == MD5_LENGTH else "sha256"


def fetch_file(remote: RemoteFile, mirrors: Sequence[str], target: Path, partial: Path = PARTIAL_DOWNLOADS) -> str:
    """Copy the file from the data root to `target`; download it if there is no data root, or the data root lacks it.

    Args:
        remote: the file.
        mirrors: URLs of folders that contain the file, in the order in which they are tried.
        target: path of the result.
        partial: folder of partial downloads, which the next attempt resumes.

    Returns:
        The path or URL of the source.

    Raises:
        DataError: the data root cannot be read, or its file has another checksum.
        DownloadError: no mirror served the file; the message lists the error of each.
    """
    local = find_in_data_root(f"{remote.folder}/{remote.name}")
    if local is None:
        return _download(remote, mirrors, target, partial)
    _verify_checksum(local, remote)
    write_atomically(target, lambda temporary: temporary.write_bytes(local.read_bytes()))
    return str(local)


def find_in_data_root(path: str) -> Path | None:
    """Return the location of a file or folder of the data root; `None` if it is missing, or no data root is set.

    Raises:
        DataError: the data root cannot be read.
    """
    value = os.environ.get(DATA_ROOT)
    if not value:
        return None
    root = Path(value)
    try:
        if not root.is_dir():
            raise DataError(f"{DATA_ROOT}={root}: no such folder. Correct the variable, or unset it to download.")
        next(root.iterdir(), None)
        return root / path if (root / path).exists() else None
    except OSError as error:
        raise DataError(f"{DATA_ROOT}: {describe_os_error(error, root)}") from error


def _verify_checksum(file: Path, remote: RemoteFile) -> None:
    try:
        actual = checksum_of(file, remote.algorithm)
    except OSError as error:
        raise DataError(f"{DATA_ROOT}: {describe_os_error(error, file)}") from error
    if actual != remote.checksum:
        raise DataError(
            f"{file}: has {remote.algorithm} {actual}, expected {remote.checksum}: truncated or altered. "
            f"Replace the file, or remove it to download it again."
        )


def _download(remote: RemoteFile, mirrors: Sequence[str], target: Path, partial: Path) -> str:
    pooch.get_logger().setLevel("WARNING")  # instead of pooch's log, the lines printed below show the progress
    partial_file = partial / f"{remote.checksum}.part"
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{remote.name}"
        print(f"{remote.name}: downloading from {url}", flush=True)
        # If a partial file turns out to be damaged, the mirror is not to blame: retry from the first byte.
        for _attempt in range(2 if partial_file.is_file() else 1):
            try:
                pooch.retrieve(
                    url,
                    known_hash=f"{remote.algorithm}:{remote.checksum}",
                    fname=target.name,
                    path=target.parent,
                    downloader=ResumingDownloader(partial_file),
                )
                target.chmod(0o644)  # pooch makes it readable only for the owner, but teams share it
                partial_file.unlink(missing_ok=True)
                return url
            except requests.RequestException as error:
                failures.append(f"{url}: {_shorten(error)}")
                break
            except ValueError:
                size = partial_file.stat().st_size
                partial_file.unlink()
                failures.append(
                    f"{url}: received {size} bytes, which do not have the published {remote.algorithm} {remote.checksum}"
                )
            except OSError as error:
                raise DownloadError(describe_os_error(error, target)) from error
    raise DownloadError(
        f"{remote.name}: no mirror served the file.\n  "
        + "\n  ".join(failures)
        + f"\nCheck the connection and run the command again, which resumes partial downloads; or set {DATA_ROOT} to a folder "
        f"that contains {remote.folder}/{remote.name}."
    )


class ResumingDownloader:
    """A downloader for pooch that resumes an interrupted download with an HTTP range request."""

    def __init__(self, partial_file: Path) -> None:
        self.partial_file = partial_file

    def __call__(self, url: str, output_file: str | IO[Any], _pooch: object) -> None:
        """Download `url` to the partial file, then copy that to `output_file`, a path."""
        self.partial_file.parent.mkdir(parents=True, exist_ok=True)
        offset = self.partial_file.stat().st_size if self.partial_file.is_file() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            # 416: there are no bytes after the offset, so the file is complete; its checksum is verified afterwards.
            if response.status_code != requests.codes.requested_range_not_satisfiable:
                response.raise_for_status()
                is_resumed = response.status_code == requests.codes.partial_content
                with self.partial_file.open("ab" if is_resumed else "wb") as file:
                    for chunk in response.iter_content(CHUNK_SIZE):
                        file.write(chunk)
                self._check_length(response, offset if is_resumed else 0)
        Path(str(output_file)).write_bytes(self.partial_file.read_bytes())

    def _check_length(self, response: requests.Response, offset: int) -> None:
        expected = int(response.headers.get("Content-Length", 0)) + offset
        actual = self.partial_file.stat().st_size
        if expected > actual:
            raise requests.ConnectionError(f"connection closed after {actual} of {expected} bytes")


def checksum_of(file: Path, algorithm: str) -> str:
    """Compute the checksum of a file with the algorithm that its publisher used."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _shorten(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 200 else text[:200] + "…"
