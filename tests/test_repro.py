import shutil
from pathlib import Path

import pytest
from dvc.utils.serialize import _yaml, modify_yaml

from labbook.repro import read_locks_quickly

ROOT = Path(__file__).parents[1]


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(_yaml, "parse_yaml_for_update", _yaml.parse_yaml_for_update)  # put back at the end
    return read_locks_quickly


def rewritten(source: Path, folder: Path) -> bytes:
    """Let DVC change a key, as it does for a stage that has run."""
    copy = Path(shutil.copy(source, folder))
    with modify_yaml(str(copy)) as values:
        values["stages"]["check"]["desc"] = "changed"
    return copy.read_bytes()


@pytest.mark.parametrize("name", ["dvc.lock", "dvc.yaml"])
def test_files_are_written_to_the_same_bytes_as_without(quickly, tmp_path, name):
    usual = rewritten(ROOT / name, tmp_path)
    assert b"desc: changed" in usual
    quickly()
    assert rewritten(ROOT / name, tmp_path) == usual


def test_comments_of_what_people_write_are_kept(quickly, tmp_path):
    quickly()
    assert b"# fetch" in rewritten(ROOT / "dvc.yaml", tmp_path)


def test_lock_that_is_no_yaml_is_told(quickly, tmp_path):
    quickly()
    (tmp_path / "dvc.lock").write_text("stages: [")
    with pytest.raises(_yaml.YAMLFileCorruptedError), modify_yaml(str(tmp_path / "dvc.lock")):
        pass
