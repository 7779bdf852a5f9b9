"""`labbook repro --cluster` with real workers: processes that share nothing but the remote."""

import copy
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import yaml
from dvc.repo import Repo
from forks import Fork
from toolbox import toy_settings

from labbook.cluster.settings import KINDS, read_cluster
from labbook.cluster.workers import open_workers
from labbook.errors import LabbookError, ParamsError

ROOT = Path(__file__).parents[1]
# LABBOOK_EXECUTOR=slurm pytest tests/test_cluster.py, where there is Slurm
EXECUTOR = os.environ.get("LABBOOK_EXECUTOR", "local")
SAY_WHERE = 'echo "$PWD $DVC_STAGE" >> "$DIARY"'
SAY_CODE = 'find code -type f > "$DIARY.$DVC_STAGE"'
EVALUATED = "code/evaluate.txt drawn/one trained-left lines-right.json"
PIPELINE = {
    "code": {
        "cmd": "mkdir -p code/train && for name in train/left train/right evaluate; do echo $name > code/$name.txt; done",
        "outs": ["code"],
    },
    "draw": {
        "cmd": f"{SAY_WHERE} && mkdir -p drawn && seq $(cat size) > drawn/all && echo a > drawn/one",
        "deps": ["size"],
        "outs": ["drawn"],
    },
    "train": {
        "foreach": ["left", "right"],
        "do": {
            "cmd": SAY_WHERE
            + " && "
            + SAY_CODE
            + " && ${way} && cat drawn/* new > trained-${item} && wc -l < new > lines-${item}.json",
            "deps": ["code/train/${item}.txt", "drawn", "new"],
            "params": ["way"],
            "outs": ["trained-${item}"],
            "metrics": [{"lines-${item}.json": {"cache": False}}],
        },
    },
    "evaluate": {
        "cmd": f"{SAY_WHERE} && mkdir -p judged && cat {EVALUATED} > judged/both && touch judged/done",
        "deps": EVALUATED.split(),
        "outs": ["judged"],
    },
    "explain": {
        "cmd": f"{SAY_WHERE} && cat trained-left drawn/one > explained",  # reads what the model was trained on
        "deps": ["trained-left"],
        "outs": ["explained"],
    },
    "report": {
        "cmd": f"{SAY_WHERE} && wc judged/* trained-right > report",
        "deps": ["judged", "trained-right"],
        "outs": ["report"],
    },
}
OUTPUTS = (
    "drawn/all",
    "drawn/one",
    "trained-left",
    "trained-right",
    "lines-left.json",
    "judged/both",
    "judged/done",
    "explained",
    "report",
)


class Project:
    """A clone; its stages write into a diary where they ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.diary = folder.parent / f"{folder.name}.diary"
        self.environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "DIARY": str(self.diary)}

    def line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "labbook", "repro", "--jobs", "3", *arguments]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.line("--cluster", "cluster.yaml", *arguments),
            cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread here holds a lock
        )  # fmt: skip

    def on_cluster(self, *arguments: str, fails: bool = False) -> str:
        return self.run("--cluster", "cluster.yaml", *arguments, fails=fails)

    def run(self, *arguments: str, fails: bool = False) -> str:
        ended = Fork(*self.line(*arguments)[2:], folder=self.folder, environment=self.environment).wait(120)
        assert (ended.returncode != 0) == fails, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def where(self) -> dict[str, str]:
        """By stage, the folder in which it ran last."""
        lines = self.diary.read_text().splitlines() if self.diary.exists() else []
        return {stage: place for place, stage in (line.rsplit(maxsplit=1) for line in lines)}

    def set(self, **values: object) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values))

    def outputs(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in (*OUTPUTS, "dvc.lock")}

    def await_stage(self, stage: str) -> psutil.Process:
        """Wait until a stage runs, and give the process that submitit started for it."""
        deadline = time.monotonic() + 60
        while stage not in self.where():
            assert time.monotonic() < deadline, f"{stage} did not begin"
            time.sleep(0.05)
        ours = [process for process in self.processes() if process.name().startswith("python")]  # Slurm's have its name too
        return next(process for process in ours if "submitit.core._submit" in process.cmdline())

    def processes(self) -> list[psutil.Process]:
        """Name those that know the diary."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get("DIARY") == str(self.diary):
                    found.append(process)
            except psutil.Error:
                pass
        return found

    def damage(self, store: Path, output: str) -> str:
        """Change a byte of what a cache or a remote holds of an output, and give its hash."""
        oid = hashlib.md5((self.folder / output).read_bytes()).hexdigest()
        theirs = store / "files/md5" / oid[:2] / oid[2:]
        theirs.chmod(0o644)
        theirs.write_bytes(theirs.read_bytes()[:-1] + b"!")
        theirs.chmod(0o444)  # as DVC leaves it, and believes it
        return oid

    def copy(self, name: str) -> "Project":
        """What git knows and what lies beside it uncommitted, and nothing of DVC's."""
        folder = self.folder.with_name(name)
        kept = shutil.ignore_patterns("cache", "tmp", *{path.split("/")[0] for path in OUTPUTS}, "lines-*", "dvc.lock")
        shutil.copytree(self.folder, folder, ignore=kept)
        return Project(folder)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    folder = tmp_path / "ours"
    (folder / ".dvc").mkdir(parents=True)
    (tmp_path / "remote").mkdir()
    (folder / ".dvc/config").write_text(f"[core]\n    remote = team\n['remote \"team\"']\n    url = {tmp_path / 'remote'}\n")
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": PIPELINE}, sort_keys=False))
    (folder / "cluster.yaml").write_text(f"executor: {EXECUTOR}\nfolder: {tmp_path / 'workers'}\n")
    (folder / "size").write_text("100\n")
    made = Project(folder)
    made.set(way="true")
    for line in (("init", "-q"), ("add", "-A"), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")):
        subprocess.run(["git", *line], cwd=folder, check=True)
    (folder / "new").write_text("no commit has this\n")
    return made


def test_workers_make_what_one_machine_makes(project):
    alone = project.copy("alone")
    alone.run()
    project.on_cluster()
    assert project.outputs() == alone.outputs()
    trained = {stage: place for stage, place in project.where().items() if Path(place) != project.folder}
    assert trained.keys() == {"train@left", "train@right", "evaluate", "explain"}
    assert project.where().keys() - trained.keys() == {"draw", "report"}
    # They worked at once, each in a clone of its own, and left nothing behind.
    assert trained["train@left"] != trained["train@right"]
    assert not project.processes()
    assert not list((project.folder / ".git/refs/labbook").glob("*"))

    # Of a folder, each had the file that its stage depends on.
    for name in ("left", "right"):
        assert Path(f"{project.diary}.train@{name}").read_text() == f"code/train/{name}.txt\n"

    # Whoever asks for the same later gets it from the remote.
    other = project.copy("other")
    other.on_cluster()
    assert other.where().keys() == {"draw", "report"}
    assert other.outputs() == alone.outputs()

    # What is changed runs again, from metrics that lie in git, with files that clones have from before.
    for changed in (project, alone):
        changed.set(way="sleep 0")
        (changed.folder / "size").write_text("50\n")
    alone.run()
    project.on_cluster()
    assert project.outputs() == alone.outputs()

    # The code may come by way of a server.
    bare = project.folder.with_name("server.git")
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    with (other.folder / "cluster.yaml").open("a") as settings:
        settings.write(f"repository: {bare}\n")
    other.set(way="sleep 0.1")
    other.on_cluster("train@left")
    assert Path(other.where()["train@left"]) != other.folder
    assert not [path for path in (bare / "refs").rglob("*") if path.is_file()]


def test_one_that_fails_says_why_and_the_others_go_on(project):
    project.set(way='test "$DVC_STAGE" = train@right || { echo no data today; exit 3; }; true')
    told = project.on_cluster("--keep-going", fails=True)
    assert "[train@left] no data today" in told
    assert "failed to reproduce" in told
    assert "Traceback" not in told
    assert (project.folder / "trained-right").exists()
    assert not (project.folder / "trained-left").exists()


def test_a_worker_that_is_lost_is_told_of(project):
    project.set(way="sleep 60")
    with project.start("train@left") as process:
        project.await_stage("train@left").kill()
        told, _ = process.communicate(timeout=200)
    assert process.returncode
    assert "was lost" in told
    assert "Traceback" not in told
    project.set(way="true")
    project.on_cluster("train@left")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_run(project, end):
    project.set(way="sleep 60")
    with project.start("train@left") as process:
        project.await_stage("train@left")
        process.send_signal(end)
        process.communicate(timeout=60)
    assert process.returncode
    deadline = time.monotonic() + 20
    while project.processes():
        assert time.monotonic() < deadline, [other.cmdline() for other in project.processes()]
        time.sleep(0.1)
    project.set(way="true")
    project.on_cluster("train@left")
    assert not list((project.folder / ".git/refs/labbook").glob("*"))


def test_a_job_whose_time_is_up_goes_back_into_the_queue(project):
    waits = 'touch .checkpoints/epoch; echo "$PWD checkpoint" >> "$DIARY"; sleep 60'
    project.set(way=f"mkdir -p .checkpoints && {{ test -f .checkpoints/epoch || {{ {waits}; }}; }}; true")
    with project.start("train@left") as process:
        project.await_stage("checkpoint").send_signal(signal.SIGUSR2)  # as Slurm does, some time before the end
        told, _ = process.communicate(timeout=200)  # Slurm lets two minutes pass
    assert process.returncode == 0, told
    assert len(project.diary.read_text().splitlines()) == 4  # draw, train@left, its checkpoint, and train@left again


def test_what_came_damaged_is_not_used(project):
    project.on_cluster("train@left")
    oid = project.damage(project.folder.parent / "remote", "trained-left")
    other = project.copy("other")
    told = other.on_cluster("train@left", fails=True)
    assert f"{oid} arrived damaged" in told
    assert "Traceback" not in told
    assert not (other.folder / "trained-left").exists()


def test_what_lies_damaged_in_a_cache_is_fetched_anew(project):
    project.on_cluster("train@left")
    made = (project.folder / "trained-left").read_bytes()
    project.damage(project.folder / ".dvc/cache", "trained-left")
    shutil.rmtree(project.folder / ".dvc/cache/runs")
    for name in ("trained-left", "dvc.lock"):
        (project.folder / name).unlink()
    project.on_cluster("train@left")  # what the remote has, in the place of the damaged one
    assert (project.folder / "trained-left").read_bytes() == made

    (caches,) = project.folder.parent.glob("workers/*/cache")
    project.damage(caches, "drawn/all")
    for drawn in project.folder.parent.glob("workers/*/0/drawn"):
        shutil.rmtree(drawn)
        drawn.write_text("a file, of another pipeline")
    project.set(way="sleep 0")
    project.on_cluster("train@left")
    assert (project.folder / "trained-left").read_bytes() == made


def test_what_a_killed_worker_leaves_stops_nobody(tmp_path, project):
    """In a folder with other letters than those of ASCII."""
    workers = tmp_path / "für alle"
    (project.folder / "cluster.yaml").write_text(f"executor: local\nfolder: {workers}\n")
    (project.folder / ".dvc/config.local").write_text("['remote \"team\"']\n    url = ../../remöte\n")
    (tmp_path / "remöte").mkdir()
    project.set(way="touch .checkpoints/left; false")
    project.on_cluster("train@left", fails=True)
    project.set(way="test ! -e .checkpoints/left")  # of other settings
    project.on_cluster("train@left")
    (clone,) = workers.glob("*/0")
    for left in (".git/index.lock", ".git/shallow.lock", ".dvc/tmp/rwlock"):
        (clone / left).write_text("{")
    project.set(way="true")
    project.on_cluster("train@left")
    assert not (clone / ".dvc/config.local").exists()
    assert project.where()["train@left"] == str(clone)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("executor: slum", "executor: invalid value 'slum'"),
        ("excutor: local", "unknown key; did you mean 'executor'?"),
        ("executor: local\nexecutor: slurm", 'cluster.yaml, line 2: duplicate key "executor"'),
        ("executor: local\nparameters: {partition: gpu}", "parameters of"),
        ("executor: local\nremote: elsewhere", "elsewhere"),
        ("executor: local\nstages: {trian: {}}", "did you mean 'train'?"),
        ("executor: local\nrepository: /not/there.git", "git push"),
        ("executor: local\nlogs: /proc/nowhere", "logs: /proc/nowhere"),
        ("executor: slurm", "srun"),
    ],
)
def test_settings_that_cannot_be_used_are_named(project, tmp_path, monkeypatch, text, says):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # a machine without Slurm
    monkeypatch.chdir(project.folder)
    Path("cluster.yaml").write_text(text)
    with (
        pytest.raises(LabbookError, match=re.escape(says)),
        closing(Repo(".")) as repo,
        open_workers(read_cluster(Path("cluster.yaml")), repo),
    ):
        pass
    assert not list(Path(".git/refs/labbook").glob("*"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("executor: local\nremote: elsewhere", "ERROR: remote elsewhere: "),
        ("executor: local\nfolder: /proc/not", "cannot run train@left: [Errno 2]"),
    ],
)
def test_what_cannot_be_used_ends_the_run_without_a_traceback(project, text, says):
    (project.folder / "cluster.yaml").write_text(text)
    told = project.on_cluster("train@left", fails=True)
    assert says in told
    assert "Traceback" not in told
    assert "unexpected" not in told
    assert "train@left" not in project.where()


def test_slurm_is_asked_for_a_core_for_each_thread_of_each_process(project):
    asked = project.folder.parent / "asked"
    for name, does in {"srun": "true", "sbatch": f'grep cpus-per-task "$1" >> {asked}; exit 1'}.items():
        command = project.folder.parent / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/sh\n{does}\n")
        command.chmod(0o755)
    project.environment["PATH"] = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    blocks = {
        name: {"train": toy_settings(threads=2, world_size=count).model_dump()} for name, count in (("left", 4), ("right", 1))
    }
    project.set(way="true", seed=0, device="cpu", data={"source": "official"}, experiments=blocks)
    stages = copy.deepcopy(PIPELINE)
    stages["train"]["do"]["params"] += ["experiments.${item}.train"]
    (project.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (project.folder / "cluster.yaml").write_text(f"executor: slurm\nfolder: {project.folder.parent / 'workers'}\n")
    told = project.on_cluster("train", "--keep-going", fails=True)
    assert sorted(re.findall(r"=(\d+)", asked.read_text())) == ["2", "8"], told


def test_workers_run_the_kinds_that_the_pipeline_has():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(KINDS) <= stages.keys()
    missing = Path("nowhere.yaml")
    with pytest.raises(ParamsError, match=r"nowhere\.yaml: not found\. docs/cluster\.md lists its keys"):
        read_cluster(missing)
