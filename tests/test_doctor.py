"""The doctor's checks of the environment, and its command. Repairs of damaged objects are tested in test_teams.py."""

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

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # raised by a dependency of DVC


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
        """Run the doctor; return its output and its exit message, which is `None` if there is no problem."""
        try:
            main(["doctor", *arguments])
        except SystemExit as message:
            return capsys.readouterr().out, str(message)
        return capsys.readouterr().out, None

    return run


def test_doctor_reports_and_repairs_and_exits_with_remaining_problems(project, doctor):
    with open_repository() as repo:
        repo.reproduce()
    output, message = doctor()
    assert message is None
    assert "no problems found" in output
    (project / "out").unlink()
    (project / "out").write_text("broken\n")
    output, message = doctor()
    assert message == "problems: 1. `make doctor REPAIR=1` repairs what it can"
    assert "problem: out of write differs from dvc.lock. --repair moves it to .set_aside" in output
    output, message = doctor("--repair")
    assert message is None
    assert "repaired: restored out; moved the previous file to .set_aside/out" in output
    assert (project / "out").read_text() == "whole\n"
    output, message = doctor("--remote", "none")
    assert message == "problems: 1. `make doctor REPAIR=1` repairs what it can"
    assert "remote none" in output


def test_truncated_lock_file_is_reported(project, doctor):
    with open_repository() as repo:
        repo.reproduce()
    for line in (["init", "-q"], ["add", "dvc.lock"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "ran"]):
        subprocess.run(["git", *line], check=True)
    lock = project / "dvc.lock"
    lock.write_text(lock.read_text().splitlines()[0])
    output, message = doctor()
    assert "problem: dvc.lock: lacks 1 stages of the last commit, such as write. Run `git checkout dvc.lock`" in output
    assert message
    for content in (b"stages:\n  write:\n  cm", b"\xff\xfe"):
        lock.write_bytes(content)
        _, message = doctor()
        assert re.search(r"(?s)^error: .*dvc\.lock.* `git diff` shows what has changed\.$", message)


def test_installed_packages_are_compared_with_requirements_lock(project):
    lock = project / "requirements.lock"
    assert not list(check_environment())
    lock.write_text('torch==1.0\nno-such-package==1\nfor-others==1 ; sys_platform == "none"\n')
    missing, different = check_environment()
    assert str(missing).startswith("not installed: no-such-package. ")
    assert missing.is_problem
    assert str(different).startswith(f"versions differ from requirements.lock: torch {version('torch').split('+')[0]}. ")
    assert not different.is_problem


def test_params_are_compared_with_device_and_cores(project, edit_params):
    assert not list(check_params())
    edit_params(lambda values: values["experiments"]["mnist_cnn"]["train"].update(threads=1000))
    (finding,) = check_params()
    assert "threads: 1000 on" in str(finding)
    assert "1 experiments such as mnist_cnn" in str(finding)
    assert not finding.is_problem
    edit_params(lambda values: values.update(device="cuda:99"))
    assert any("cuda:99 not found" in str(finding) and finding.is_problem for finding in check_params())
    edit_params(lambda values: values.update(sed=1))
    assert ["sed" in str(finding) and finding.is_problem for finding in check_params()] == [True]


def test_datasets_in_the_data_root_are_listed(root, monkeypatch):
    (root / "MNIST/raw").mkdir(parents=True)
    (finding,) = check_data_root()
    assert "contains mnist" in str(finding)
    assert "Missing, will be downloaded: cifar10, tiny_imagenet, resnet18." in str(finding)
    monkeypatch.setenv(DATA_ROOT, str(root / "none"))
    (finding,) = check_data_root()
    assert "no such folder" in str(finding)
    assert finding.is_problem


def test_low_disk_space_is_reported(tmp_path, monkeypatch):
    assert not list(check_disk({"workspace": tmp_path / "not there"}))
    monkeypatch.setattr("labbook.doctor.environment.MIN_FREE_SPACE", 1 << 60)
    (finding,) = check_disk({"workspace": tmp_path})
    assert "GB free" in str(finding)
