import functools
import hashlib
import os

import numpy as np
import pytest
from toolbox import Mirror, first_byte

from labbook.data import download
from labbook.data.download import DATA_ROOT, Remote, checksum_of, obtain
from labbook.errors import DataError, DownloadError

CONTENT = np.random.default_rng(0).bytes(1_500_000)
REMOTE = Remote("digits.gz", hashlib.md5(CONTENT).hexdigest(), "DIGITS/raw")


@pytest.fixture
def serve(serve):
    """Start a mirror of the file."""
    return functools.partial(serve, REMOTE.name, content=CONTENT)


@pytest.fixture
def get(tmp_path):
    """Obtain the file from mirrors or addresses, and give what lies at its place."""

    def run(*mirrors: Mirror | str) -> bytes:
        addresses = [mirror if isinstance(mirror, str) else mirror.address for mirror in mirrors]
        obtain(REMOTE, addresses, tmp_path / "raw" / REMOTE.name, tmp_path / "partial")
        return (tmp_path / "raw" / REMOTE.name).read_bytes()

    return run


def leave_partial(tmp_path, data: bytes) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / f"{REMOTE.checksum}.part").write_bytes(data)


def assert_nothing_left(tmp_path) -> None:
    """Neither at the target nor beside it."""
    raw = tmp_path / "raw"
    assert not raw.exists() or not list(raw.iterdir())


def test_file_comes_from_the_first_mirror_whole_and_leaves_nothing_else(serve, get, tmp_path):
    first, second = serve(), serve()
    assert get(first, second) == CONTENT
    assert (first.asked, second.asked) == ([None], [])
    assert [file.name for file in (tmp_path / "raw").iterdir()] == [REMOTE.name]
    assert not list((tmp_path / "partial").iterdir())


def test_mirror_may_end_in_a_slash(serve, get):
    assert get(serve().address + "/") == CONTENT


def test_the_address_that_served_is_told(serve, tmp_path):
    mirror = serve()
    found = obtain(REMOTE, [mirror.address], tmp_path / REMOTE.name, tmp_path / "partial")
    assert found == f"{mirror.address}/{REMOTE.name}"


def test_broken_download_goes_on_in_the_next_run_with_the_rest_alone(serve, get, tmp_path):
    mirror = serve(breaks_after=[800_000])
    with pytest.raises(DownloadError):
        get(mirror)
    assert_nothing_left(tmp_path)
    kept = next((tmp_path / "partial").iterdir()).stat().st_size
    assert 0 < kept <= 800_000
    assert get(mirror) == CONTENT
    assert mirror.asked == [None, f"bytes={kept}-"]


def test_broken_download_goes_on_at_the_next_mirror_with_the_rest_alone(serve, get):
    broken, good = serve(breaks_after=[700_000]), serve()
    assert get(broken, good) == CONTENT
    assert broken.asked == [None]
    (asked,) = good.asked
    assert 0 < first_byte(asked) <= 700_000


def test_download_that_breaks_again_and_again_gets_there(serve, get):
    mirror = serve(breaks_after=[400_000, 400_000, 400_000])
    for _ in range(3):
        with pytest.raises(DownloadError, match="digits"):
            get(mirror)
    assert get(mirror) == CONTENT
    starts = [first_byte(asked) for asked in mirror.asked[1:]]
    assert starts == sorted(set(starts))


def test_server_that_ignores_ranges_starts_again(serve, get):
    mirror = serve(breaks_after=[500_000], ranges=False)
    with pytest.raises(DownloadError):
        get(mirror)
    assert get(mirror) == CONTENT
    assert [asked is None for asked in mirror.asked] == [True, False]


def test_partial_file_that_is_already_whole_is_taken(serve, get, tmp_path):
    leave_partial(tmp_path, CONTENT)
    mirror = serve()
    assert get(mirror) == CONTENT
    assert mirror.asked == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("damaged", [b"\x00" * 40_000, b"\x00" * len(CONTENT), b"\x00" * (len(CONTENT) + 5)])
def test_damaged_partial_file_costs_one_more_try_from_the_first_byte(serve, get, tmp_path, damaged):
    leave_partial(tmp_path, damaged)
    mirror = serve()
    assert get(mirror) == CONTENT
    assert mirror.asked == [f"bytes={len(damaged)}-", None]
    assert not list((tmp_path / "partial").iterdir())


def test_empty_partial_file_asks_for_all(serve, get, tmp_path):
    leave_partial(tmp_path, b"")
    mirror = serve()
    assert get(mirror) == CONTENT
    assert mirror.asked == [None]


@pytest.mark.parametrize("altered", [CONTENT[:-1] + b"?", CONTENT[:-1], CONTENT + b"more", b"<html>moved</html>", b""])
def test_altered_content_is_dropped_and_the_next_mirror_asked_for_all(serve, get, altered):
    bad, good = serve(content=altered), serve()
    assert get(bad, good) == CONTENT
    assert (bad.asked, good.asked) == ([None], [None])


@pytest.mark.parametrize("trouble", [{"status": 404}, {"status": 503}, {"content": b"altered"}, {"breaks_after": [100]}])
def test_mirror_in_trouble_is_followed_by_the_next(serve, get, trouble):
    bad, good = serve(**trouble), serve()
    assert get(bad, good) == CONTENT
    assert len(bad.asked) == 1


def test_mirror_that_stalls_is_followed_by_the_next(serve, get, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    slow, good = serve(stalls=0.6), serve()
    assert get(slow, good) == CONTENT


def test_when_every_mirror_fails_each_is_listed_with_what_to_do(serve, get, tmp_path):
    missing, altered, broken = serve(status=404), serve(content=b"altered"), serve(breaks_after=[10])
    nobody = "http://127.0.0.1:9/files"
    with pytest.raises(DownloadError) as caught:
        get(missing, altered, nobody, broken)
    lines = str(caught.value).splitlines()
    assert lines[0] == "digits.gz: no mirror served the file."
    listed = [missing.address, altered.address, nobody, broken.address]
    for line, address in zip(lines[1:5], listed, strict=True):
        assert line.startswith(f"  {address}/digits.gz: ")
    assert "404" in lines[1]
    assert f"received 7 bytes, which do not have the published md5 {REMOTE.checksum}" in lines[2]
    assert "run again (received bytes are kept)" in lines[5]
    assert f"put the file at DIGITS/raw/digits.gz below a folder that {DATA_ROOT} names" in lines[5]
    assert_nothing_left(tmp_path)


def test_failed_download_leaves_an_older_file_as_it_was(serve, get, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / REMOTE.name).write_bytes(b"older")
    with pytest.raises(DownloadError):
        get(serve(content=b"altered"))
    assert (tmp_path / "raw" / REMOTE.name).read_bytes() == b"older"
    assert len(list((tmp_path / "raw").iterdir())) == 1


def test_older_file_with_another_checksum_is_replaced(serve, get, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / REMOTE.name).write_bytes(b"older")
    assert get(serve()) == CONTENT


@pytest.fixture
def root(root):
    """A data root that holds the file."""
    (root / REMOTE.folder).mkdir(parents=True)
    (root / REMOTE.folder / REMOTE.name).write_bytes(CONTENT)
    return root


def test_file_in_the_data_root_is_taken_without_any_request(serve, root, tmp_path):
    mirror = serve()
    target = tmp_path / "raw" / REMOTE.name
    found = obtain(REMOTE, [mirror.address], target, tmp_path / "partial")
    assert target.read_bytes() == CONTENT
    assert found == str(root / REMOTE.folder / REMOTE.name)
    assert mirror.asked == []


def test_file_that_the_data_root_lacks_is_downloaded(serve, get, root):
    (root / REMOTE.folder / REMOTE.name).unlink()
    mirror = serve()
    assert get(mirror) == CONTENT
    assert mirror.asked == [None]
    assert not list((root / REMOTE.folder).iterdir())


@pytest.mark.parametrize("altered", [b"", CONTENT[:-1], CONTENT + b"x"])
def test_altered_file_in_the_data_root_is_refused_and_not_replaced_in_silence(serve, get, root, tmp_path, altered):
    file = root / REMOTE.folder / REMOTE.name
    file.write_bytes(altered)
    mirror = serve()
    with pytest.raises(DataError) as caught:
        get(mirror)
    assert str(caught.value) == (
        f"{file}: has md5 {hashlib.md5(altered).hexdigest()}, expected {REMOTE.checksum}: truncated or altered. "
        "Replace the file, or remove it to download it again."
    )
    assert mirror.asked == []
    assert_nothing_left(tmp_path)


def test_data_root_that_is_not_there_is_refused(serve, get, tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "nowhere"))
    mirror = serve()
    with pytest.raises(DataError, match=rf"{DATA_ROOT}=.*nowhere: no such folder\. Correct the variable, or unset it"):
        get(mirror)
    assert mirror.asked == []


def test_empty_data_root_is_as_good_as_none(serve, get, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, "")
    assert get(serve()) == CONTENT


def test_data_root_that_cannot_be_read_is_refused(serve, get, root):
    root.chmod(0)
    if os.access(root, os.R_OK):  # who may read everything finds a file where the folder was
        root.chmod(0o755)
        root.rename(root.with_name("moved"))
        root.write_bytes(b"")
    mirror = serve()
    try:
        with pytest.raises(DataError, match=f"^{DATA_ROOT}.*root"):
            get(mirror)
    finally:
        root.chmod(0o755)
    assert mirror.asked == []


def test_md5_is_that_of_the_content(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "abc").write_bytes(b"abc")
    assert checksum_of(tmp_path / "empty", "md5") == "d41d8cd98f00b204e9800998ecf8427e"
    assert checksum_of(tmp_path / "abc", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    assert checksum_of(tmp_path / "abc", "sha256") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_file_published_with_a_sha256_is_checked_by_it(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "root"))
    (tmp_path / "root").mkdir()
    (tmp_path / "root/abc").write_bytes(b"abc")
    good = Remote("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", ".")
    obtain(good, (), tmp_path / "abc")
    assert (tmp_path / "abc").read_bytes() == b"abc"
    with pytest.raises(DataError, match=r"has sha256 ba7816bf8f01\w*, expected 0{64}: truncated or altered"):
        obtain(Remote("abc", "0" * 64, "."), (), tmp_path / "other")
