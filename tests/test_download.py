import functools
import hashlib
import os

import numpy as np
import pytest
from toolbox import Mirror, first_byte

from labbook.data import download
from labbook.data.download import DATA_ROOT, RemoteFile, checksum_of, fetch_file
from labbook.errors import DataError, DownloadError

CONTENT = np.random.default_rng(0).bytes(1_500_000)
REMOTE = RemoteFile("digits.gz", hashlib.md5(CONTENT).hexdigest(), "DIGITS/raw")


@pytest.fixture
def serve(serve):
    """Start a mirror of the file."""
    return functools.partial(serve, REMOTE.name, content=CONTENT)


@pytest.fixture
def get(tmp_path):
    """Return a function that fetches the file from mirrors or URLs and returns its content."""

    def run(*mirrors: Mirror | str) -> bytes:
        urls = [mirror if isinstance(mirror, str) else mirror.address for mirror in mirrors]
        fetch_file(REMOTE, urls, tmp_path / "raw" / REMOTE.name, tmp_path / "partial")
        return (tmp_path / "raw" / REMOTE.name).read_bytes()

    return run


def write_partial_file(tmp_path, data: bytes) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / f"{REMOTE.checksum}.part").write_bytes(data)


def assert_no_files(tmp_path) -> None:
    """Check that the target folder contains neither the file nor a temporary one."""
    folder = tmp_path / "raw"
    assert not folder.exists() or not list(folder.iterdir())


def test_file_is_downloaded_from_the_first_mirror_without_leftovers(serve, get, tmp_path):
    first, second = serve(), serve()
    assert get(first, second) == CONTENT
    assert (first.range_headers, second.range_headers) == ([None], [])
    assert [file.name for file in (tmp_path / "raw").iterdir()] == [REMOTE.name]
    assert not list((tmp_path / "partial").iterdir())


def test_mirror_url_may_end_in_a_slash(serve, get):
    assert get(serve().address + "/") == CONTENT


def test_url_of_the_source_is_returned(serve, tmp_path):
    mirror = serve()
    url = fetch_file(REMOTE, [mirror.address], tmp_path / REMOTE.name, tmp_path / "partial")
    assert url == f"{mirror.address}/{REMOTE.name}"


def test_interrupted_download_resumes_in_the_next_run(serve, get, tmp_path):
    mirror = serve(breaks_after=[800_000])
    with pytest.raises(DownloadError):
        get(mirror)
    assert_no_files(tmp_path)
    kept = next((tmp_path / "partial").iterdir()).stat().st_size
    assert 0 < kept <= 800_000
    assert get(mirror) == CONTENT
    assert mirror.range_headers == [None, f"bytes={kept}-"]


def test_interrupted_download_resumes_from_the_next_mirror(serve, get):
    broken, working = serve(breaks_after=[700_000]), serve()
    assert get(broken, working) == CONTENT
    assert broken.range_headers == [None]
    (header,) = working.range_headers
    assert 0 < first_byte(header) <= 700_000


def test_repeatedly_interrupted_download_completes(serve, get):
    mirror = serve(breaks_after=[400_000, 400_000, 400_000])
    for _ in range(3):
        with pytest.raises(DownloadError, match="digits"):
            get(mirror)
    assert get(mirror) == CONTENT
    starts = [first_byte(header) for header in mirror.range_headers[1:]]
    assert starts == sorted(set(starts))


def test_download_restarts_if_the_server_ignores_ranges(serve, get):
    mirror = serve(breaks_after=[500_000], ranges=False)
    with pytest.raises(DownloadError):
        get(mirror)
    assert get(mirror) == CONTENT
    assert [header is None for header in mirror.range_headers] == [True, False]


def test_complete_partial_file_is_used(serve, get, tmp_path):
    write_partial_file(tmp_path, CONTENT)
    mirror = serve()
    assert get(mirror) == CONTENT
    assert mirror.range_headers == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("damaged", [b"\x00" * 40_000, b"\x00" * len(CONTENT), b"\x00" * (len(CONTENT) + 5)])
def test_damaged_partial_file_is_downloaded_again_from_the_first_byte(serve, get, tmp_path, damaged):
    write_partial_file(tmp_path, damaged)
    mirror = serve()
    assert get(mirror) == CONTENT
    assert mirror.range_headers == [f"bytes={len(damaged)}-", None]
    assert not list((tmp_path / "partial").iterdir())


def test_empty_partial_file_requests_the_whole_file(serve, get, tmp_path):
    write_partial_file(tmp_path, b"")
    mirror = serve()
    assert get(mirror) == CONTENT
    assert mirror.range_headers == [None]


@pytest.mark.parametrize("altered", [CONTENT[:-1] + b"?", CONTENT[:-1], CONTENT + b"more", b"<html>moved</html>", b""])
def test_altered_content_is_discarded_and_the_next_mirror_is_tried(serve, get, altered):
    failing, working = serve(content=altered), serve()
    assert get(failing, working) == CONTENT
    assert (failing.range_headers, working.range_headers) == ([None], [None])


@pytest.mark.parametrize("failure", [{"status": 404}, {"status": 503}, {"content": b"altered"}, {"breaks_after": [100]}])
def test_next_mirror_is_tried_if_one_fails(serve, get, failure):
    failing, working = serve(**failure), serve()
    assert get(failing, working) == CONTENT
    assert len(failing.range_headers) == 1


def test_next_mirror_is_tried_if_one_stalls(serve, get, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    stalling, working = serve(stalls=0.6), serve()
    assert get(stalling, working) == CONTENT


def test_error_lists_every_failed_mirror_and_the_fixes(serve, get, tmp_path):
    missing, altered, broken = serve(status=404), serve(content=b"altered"), serve(breaks_after=[10])
    unreachable = "http://127.0.0.1:9/files"
    with pytest.raises(DownloadError) as caught:
        get(missing, altered, unreachable, broken)
    lines = str(caught.value).splitlines()
    assert lines[0] == "digits.gz: no mirror served the file."
    mirrors = [missing.address, altered.address, unreachable, broken.address]
    for line, mirror in zip(lines[1:5], mirrors, strict=True):
        assert line.startswith(f"  {mirror}/digits.gz: ")
    assert "404" in lines[1]
    assert f"received 7 bytes, which do not have the published md5 {REMOTE.checksum}" in lines[2]
    assert "run the command again, which resumes partial downloads" in lines[5]
    assert f"set {DATA_ROOT} to a folder that contains DIGITS/raw/digits.gz." in lines[5]
    assert_no_files(tmp_path)


def test_failed_download_keeps_an_existing_file(serve, get, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / REMOTE.name).write_bytes(b"older")
    with pytest.raises(DownloadError):
        get(serve(content=b"altered"))
    assert (tmp_path / "raw" / REMOTE.name).read_bytes() == b"older"
    assert len(list((tmp_path / "raw").iterdir())) == 1


def test_existing_file_with_another_checksum_is_replaced(serve, get, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / REMOTE.name).write_bytes(b"older")
    assert get(serve()) == CONTENT


@pytest.fixture
def root(root):
    """A data root that holds the file."""
    (root / REMOTE.folder).mkdir(parents=True)
    (root / REMOTE.folder / REMOTE.name).write_bytes(CONTENT)
    return root


def test_file_in_the_data_root_is_copied_without_a_request(serve, root, tmp_path):
    mirror = serve()
    target = tmp_path / "raw" / REMOTE.name
    source = fetch_file(REMOTE, [mirror.address], target, tmp_path / "partial")
    assert target.read_bytes() == CONTENT
    assert source == str(root / REMOTE.folder / REMOTE.name)
    assert mirror.range_headers == []


def test_file_missing_from_the_data_root_is_downloaded(serve, get, root):
    (root / REMOTE.folder / REMOTE.name).unlink()
    mirror = serve()
    assert get(mirror) == CONTENT
    assert mirror.range_headers == [None]
    assert not list((root / REMOTE.folder).iterdir())


@pytest.mark.parametrize("altered", [b"", CONTENT[:-1], CONTENT + b"x"])
def test_altered_file_in_the_data_root_raises_data_error(serve, get, root, tmp_path, altered):
    file = root / REMOTE.folder / REMOTE.name
    file.write_bytes(altered)
    mirror = serve()
    with pytest.raises(DataError) as caught:
        get(mirror)
    assert str(caught.value) == (
        f"{file}: has md5 {hashlib.md5(altered).hexdigest()}, expected {REMOTE.checksum}: truncated or altered. "
        "Replace the file, or remove it to download it again."
    )
    assert mirror.range_headers == []
    assert_no_files(tmp_path)


def test_nonexistent_data_root_raises_data_error(serve, get, tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "nowhere"))
    mirror = serve()
    with pytest.raises(DataError, match=rf"{DATA_ROOT}=.*nowhere: no such folder\. Correct the variable, or unset it"):
        get(mirror)
    assert mirror.range_headers == []


def test_empty_data_root_variable_is_ignored(serve, get, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, "")
    assert get(serve()) == CONTENT


def test_unreadable_data_root_raises_data_error(serve, get, root):
    root.chmod(0)
    if os.access(root, os.R_OK):  # root can read every folder: replace it by a file
        root.chmod(0o755)
        root.rename(root.with_name("moved"))
        root.write_bytes(b"")
    mirror = serve()
    try:
        with pytest.raises(DataError, match=f"^{DATA_ROOT}.*root"):
            get(mirror)
    finally:
        root.chmod(0o755)
    assert mirror.range_headers == []


def test_checksums_match_published_examples(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "abc").write_bytes(b"abc")
    assert checksum_of(tmp_path / "empty", "md5") == "d41d8cd98f00b204e9800998ecf8427e"
    assert checksum_of(tmp_path / "abc", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    assert checksum_of(tmp_path / "abc", "sha256") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_sha256_checksum_is_verified(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "root"))
    (tmp_path / "root").mkdir()
    (tmp_path / "root/abc").write_bytes(b"abc")
    remote = RemoteFile("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", ".")
    fetch_file(remote, (), tmp_path / "abc")
    assert (tmp_path / "abc").read_bytes() == b"abc"
    with pytest.raises(DataError, match=r"has sha256 ba7816bf8f01\w*, expected 0{64}: truncated or altered"):
        fetch_file(RemoteFile("abc", "0" * 64, "."), (), tmp_path / "other")
