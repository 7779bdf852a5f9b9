"""The doctor's look at the ground, and its command. What it does for damaged objects stands in test_teams.py."""

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from labbook.__main__ import main
from labbook.data.download import DATA_ROOT
from labbook.doctor.environment import check_data_root, check_disk, check_environment, check_params
from labbook.team.repository import open_repository

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of what DVC is built on


@pytest.fixture
def project(workdir, monkeypatch) -> Path:
    """A repository with one output, and valid parameters."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(workdir / ".site"))
    (workdir / ".dvc").mkdir()
    (workdir / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (workdir / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"write": {"cmd": "echo whole > out", "outs": ["out"]}}}))
    (workdir / "requirements.lock").write_text(f"# ours\ntorch=={version('torch')}\n")
    return workdir


@pytest.fixture
def doctor(capsys):
    def run(*arguments: str) -> tuple[str, str | None]:
        """Give what it prints, and what it ends with: `None` when all is well."""
        try:
            main(["doctor", *arguments])
        except SystemExit as end:
            return capsys.readouterr().out, str(end)
        return capsys.readouterr().out, None

    return run


def test_it_ends_with_what_is_left(project, doctor):
    with open_repository() as repo:
        repo.reproduce()
    told, end = doctor()
    assert end is None
    assert "no problems found" in told
    (project / "out").unlink()
    (project / "out").write_text("broken\n")
    told, end = doctor()
    assert end == "problems: 1. `make doctor REPAIR=1` repairs what it can"
    assert "problem: out of write differs from dvc.lock. --repair moves it to .set_aside" in told
    told, end = doctor("--repair")
    assert end is None
    assert "repaired: restored out; moved the previous file to .set_aside/out" in told
    assert (project / "out").read_text() == "whole\n"
    told, end = doctor("--remote", "none")
    assert end == "problems: 1. `make doctor REPAIR=1` repairs what it can"
    assert "remote none" in told


def test_lock_that_was_cut_is_told(project, doctor):
    with open_repository() as repo:
        repo.reproduce()
    for line in (["init", "-q"], ["add", "dvc.lock"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "ran"]):
        subprocess.run(["git", *line], check=True)
    lock = project / "dvc.lock"
    lock.write_text(lock.read_text().splitlines()[0])
    told, end = doctor()
    assert "problem: dvc.lock: lacks 1 stages of the last commit, such as write. Run `git checkout dvc.lock`" in told
    assert end
    for left in (b"stages:\n  write:\n  cm", b"\xff\xfe"):
        lock.write_bytes(left)
        _, end = doctor()
        assert re.search(r"(?s)^error: .*dvc\.lock.* `git diff` shows what has changed\.$", end)


def test_packages_are_compared_with_the_lock(project):
    lock = project / "requirements.lock"
    assert not list(check_environment())
    lock.write_text('torch==1.0\nno-such-package==1\nfor-others==1 ; sys_platform == "none"\n')
    absent, other = check_environment()
    assert str(absent).startswith("not installed: no-such-package. ")
    assert absent.wrong
    assert str(other).startswith(f"other versions than in requirements.lock: torch {version('torch').split('+')[0]}. ")
    assert not other.wrong


def test_parameters_are_compared_with_the_machine(project, edit_params):
    assert not list(check_params())
    edit_params(lambda values: values["experiments"]["mnist_cnn"]["train"].update(threads=1000))
    (finding,) = check_params()
    assert "threads: 1000 on" in str(finding)
    assert "1 experiments such as mnist_cnn" in str(finding)
    assert not finding.wrong
    edit_params(lambda values: values.update(device="cuda:99"))
    assert any("cuda:99 not found" in str(finding) and finding.wrong for finding in check_params())
    edit_params(lambda values: values.update(sed=1))
    assert ["sed" in str(finding) and finding.wrong for finding in check_params()] == [True]


def test_the_data_root_is_looked_into(root, monkeypatch):
    (root / "MNIST/raw").mkdir(parents=True)
    (finding,) = check_data_root()
    assert "contains mnist" in str(finding)
    assert "Not there, to be downloaded: cifar10, tiny_imagenet, resnet18." in str(finding)
    monkeypatch.setenv(DATA_ROOT, str(root / "none"))
    (finding,) = check_data_root()
    assert "no such folder" in str(finding)
    assert finding.wrong


def test_little_space_is_told(tmp_path, monkeypatch):
    assert not list(check_disk({"workspace": tmp_path / "not there"}))
    monkeypatch.setattr("labbook.doctor.environment.LITTLE_SPACE", 1 << 60)
    (finding,) = check_disk({"workspace": tmp_path})
    assert "GB free" in str(finding)
