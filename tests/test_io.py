"""Atomic writing of files and folders, and reading with helpful errors."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labbook.data.packed import write_packed
from labbook.errors import DataError, LabbookError
from labbook.io import (
    describe_os_error,
    read_bytes,
    read_json,
    write_atomically,
    write_bytes,
    write_folder,
    write_json,
    write_text,
    write_tsv,
)
from labbook.training.checkpoint import Checkpoint
from labbook.training.experiment import write_weights

# Writers of all kinds of files that stages write, each larger than 1,000 bytes.
WRITERS = {
    "text": lambda path, packed: write_text(path, "new" * 1000),
    "dataset": write_packed,
    "weights": lambda path, packed: write_weights(path, {"weight": torch.zeros(1000)}),
    "checkpoint": lambda path, packed: Checkpoint(path).save({"weight": torch.zeros(1000)}),
}


def failing_writer(number: int):
    """Return a function that writes half of a file, then fails with this error number."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half of it")
        raise OSError(number, os.strerror(number))

    return write


def test_missing_folders_are_created(tmp_path):
    write_text(tmp_path / "a/b/c.txt", "Übung\n")
    assert (tmp_path / "a/b/c.txt").read_bytes() == "Übung\n".encode()
    assert [file.name for file in (tmp_path / "a/b").iterdir()] == ["c.txt"]


def test_new_content_replaces_the_old(tmp_path):
    for content in (b"a longer beginning", b"end"):
        write_bytes(tmp_path / "x", content)
        assert (tmp_path / "x").read_bytes() == content


def test_old_content_is_kept_until_the_new_is_complete(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"old")

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"new")
        assert file.read_bytes() == b"old"
        assert temporary.parent == file.parent  # a rename is atomic only within one file system

    write_atomically(file, write)
    assert file.read_bytes() == b"new"


def test_file_is_renamed_not_copied(tmp_path):
    """Copying would not be atomic."""
    inodes = []

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"new")
        inodes.append(temporary.stat().st_ino)

    write_atomically(tmp_path / "x", write)
    assert [(tmp_path / "x").stat().st_ino] == inodes


def test_file_is_synced_to_disk_before_it_is_renamed(tmp_path, monkeypatch):
    """Otherwise, a power failure could leave an empty file instead of the old one."""
    synced_sizes = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced_sizes.append(os.fstat(descriptor).st_size)
        assert not (tmp_path / "x").exists()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_bytes(tmp_path / "x", b"12345")
    assert synced_sizes == [5]


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_new_folder_replaces_the_old(tmp_path):
    for names in (("a", "b"), ("b", "c/d")):
        with write_folder(tmp_path / "above/x") as folder:
            for name in names:
                write_text(folder / name, name)
            if (tmp_path / "above/x").exists():
                assert set(files_below(tmp_path / "above/x")) == {"a", "b"}, "the old folder is kept until then"
            inode = folder.stat().st_ino
        assert files_below(tmp_path / "above") == {f"x/{name}": name.encode() for name in names}
        assert (tmp_path / "above/x").stat().st_ino == inode, "the folder is renamed, not copied"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("a mistake"), KeyboardInterrupt()])
def test_failed_write_keeps_the_old_folder_and_leaves_nothing_else(tmp_path, error):
    with write_folder(tmp_path / "x") as folder:
        write_text(folder / "a", "old")

    def write() -> None:
        with write_folder(tmp_path / "x") as folder:
            write_text(folder / "a", "new")
            raise error

    with pytest.raises((LabbookError, ValueError, KeyboardInterrupt)):
        write()
    assert files_below(tmp_path) == {"x/a": b"old"}


def test_temporary_folder_of_a_killed_process_is_discarded(tmp_path):
    (tmp_path / f"x.{os.getpid()}.part").mkdir()
    (tmp_path / f"x.{os.getpid()}.part/leftover").touch()
    with write_folder(tmp_path / "x") as folder:
        write_text(folder / "a", "new")
    assert files_below(tmp_path) == {"x/a": b"new"}


def test_existing_file_instead_of_the_written_folder_raises_an_error(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(LabbookError, match="x: "), write_folder(tmp_path / "x") as folder:
        write_text(folder / "a", "new")
    assert files_below(tmp_path) == {"x": b""}


@pytest.mark.parametrize("content", WRITERS)
def test_written_files_respect_the_umask(tmp_path, tiny_packed, content):
    """Teams share a cache, so files must be readable by more users than their owner."""
    umask = os.umask(0o027)
    try:
        WRITERS[content](tmp_path / "x", tiny_packed)
    finally:
        os.umask(umask)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("a mistake"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [b"old", None])
def test_failed_write_keeps_the_old_content_and_leaves_nothing_else(tmp_path, error, old):
    file = tmp_path / "x"
    if old is not None:
        file.write_bytes(old)

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half of it")
        raise error

    with pytest.raises((LabbookError, ValueError, KeyboardInterrupt)):
        write_atomically(file, write)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == ({"x": old} if old is not None else {})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_error_for_a_full_disk_names_the_file_and_the_fix(tmp_path, number):
    with pytest.raises(LabbookError) as caught:
        write_atomically(tmp_path / "x", failing_writer(number))
    assert str(caught.value) == (
        f"{tmp_path / 'x'}: the disk is full. Free some space there and run the same command again; the file was not changed."
    )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_error_for_denied_permission_names_the_file_and_the_fix(tmp_path, number):
    with pytest.raises(LabbookError) as caught:
        write_atomically(tmp_path / "x", failing_writer(number))
    assert str(caught.value) == (
        f"{tmp_path / 'x'}: cannot be read or written: {os.strerror(number)}. Check the permissions of the file and its folder."
    )


def test_other_os_errors_name_the_file(tmp_path):
    with pytest.raises(LabbookError, match=f"x: {os.strerror(errno.EIO)}$"):
        write_atomically(tmp_path / "x", failing_writer(errno.EIO))
    assert describe_os_error(OSError("without a number"), Path("x")) == "x: without a number"


def test_existing_folder_instead_of_the_file_raises_an_error(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(LabbookError, match="x: "):
        write_text(tmp_path / "x", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_existing_file_instead_of_the_folder_raises_an_error(tmp_path):
    (tmp_path / "x").write_bytes(b"a file")
    with pytest.raises(LabbookError, match=r"x/y\.txt: "):
        write_text(tmp_path / "x" / "y.txt", "new")
    assert (tmp_path / "x").read_bytes() == b"a file"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_full_device_raises_an_error(tmp_path):
    def write(temporary: Path) -> None:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"x")

    with pytest.raises(LabbookError, match=r"x: the disk is full\. Free some space"):
        write_atomically(tmp_path / "x", write)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def file_size_limit():
    """Limit the size of files that this process can write to 1,000 bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("content", WRITERS)
def test_interrupted_write_raises_an_error_and_keeps_the_old_content(tmp_path, tiny_packed, file_size_limit, content):
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(LabbookError, match=f"x: {os.strerror(errno.EFBIG)}$"):
        WRITERS[content](tmp_path / "x", tiny_packed)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"x": b"old"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(value=st.dictionaries(st.text(), json_values, max_size=3))
def test_reading_written_json_returns_the_value(value, tmp_path_factory):
    file = tmp_path_factory.mktemp("json") / "x.json"
    write_json(file, value)
    assert read_json(file, value, "") == value


def test_json_keeps_key_order_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "x.json", {"b": 1, "a": [0.1]})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": [\n    0.1\n  ]\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"loss": [float("-inf")]}])
def test_json_rejects_nan_and_infinity(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", value)
    assert not list(tmp_path.iterdir())


@given(rows=st.lists(st.tuples(st.integers(), st.none() | st.floats(allow_nan=False), st.booleans()), max_size=6))
def test_tsv_preserves_every_value_exactly(rows, tmp_path_factory):
    file = tmp_path_factory.mktemp("tsv") / "x.tsv"
    columns = ["step", "loss", "best"]
    write_tsv(file, columns, (dict(zip(columns, row, strict=True)) for row in rows))
    head, *lines, end = file.read_bytes().decode().split("\n")
    assert (head, end) == ("step\tloss\tbest", "")
    cells = [line.split("\t") for line in lines]
    assert [(int(step), float(loss) if loss else None, best == "True") for step, loss, best in cells] == rows


def test_tsv_writes_the_requested_columns_and_requires_all_of_them(tmp_path):
    write_tsv(tmp_path / "x.tsv", ["b", "a"], [{"a": 1, "b": 0.1, "c": 3}])
    assert (tmp_path / "x.tsv").read_text(encoding="utf-8") == "b\ta\n0.1\t1\n"
    with pytest.raises(KeyError, match="d"):
        write_tsv(tmp_path / "x.tsv", ["d"], [{"a": 1}])


@pytest.mark.parametrize("reader", [read_bytes, lambda path, fix: read_json(path, (), fix)])
def test_error_for_a_missing_file_ends_with_the_fix(tmp_path, reader):
    with pytest.raises(DataError) as caught:
        reader(tmp_path / "x", "Run `dvc pull`.")
    assert str(caught.value) == f"{tmp_path / 'x'}: not found. Run `dvc pull`."


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", json.dumps({"a": 1}).encode()[:-1]])
def test_error_for_damaged_json_ends_with_the_fix(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.json: damaged, not JSON \(.*\)\. Run `dvc pull`\.$"):
        read_json(tmp_path / "x.json", (), "Run `dvc pull`.")


@pytest.mark.parametrize("value", [{"loss": 1, "a": 2}, [], "loss accuracy", 3, None])
def test_json_without_required_keys_raises_data_error(tmp_path, value):
    write_json(tmp_path / "x.json", value)
    with pytest.raises(DataError, match=r"x\.json: damaged, lacks accuracy(, loss)?\. Run `dvc pull`\.$"):
        read_json(tmp_path / "x.json", ("loss", "accuracy"), "Run `dvc pull`.")


def test_reading_a_folder_as_a_file_raises_data_error(tmp_path):
    with pytest.raises(DataError, match=f": {os.strerror(errno.EISDIR)}$"):
        read_bytes(tmp_path, "")
