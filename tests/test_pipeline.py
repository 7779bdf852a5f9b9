"""The pipeline as its users run it: DVC, in a repository of its own, on embedded data with two small experiments."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from preloaded import another_python

from labbook.core.reading import read

pytestmark = pytest.mark.timeout(900)  # the first run takes two minutes on two cores, longer where other work runs
ROOT = Path(__file__).parents[1]
EXPERIMENTS = (
    "mnist_mlp_100", "mnist_mlp_2x50_numpy", "mnist_cnn", "cifar10_resnet18_transfer", "scenes_unet", "rings_relu_random",
    "rings_relu_zero",
)  # fmt: skip
EXPLAINED = ("mnist_mlp_100", "scenes_unet")
OF_A_BLOCK = (
    "fetch", "prepare", "compose", "fetch_pretrained", "pretrain", "train", "evaluate", "sweep", "pair", "explain", "seeds",
)  # fmt: skip
TIMING_STAGES = {"timing"}
LABBOOK = ("python", "-m", "labbook.repro")


class Pipeline:
    """A copy of the repository in which the pipeline has run once.

    Its `python` is one that starts fast; every stage script writes down at its end which modules of ours it had imported.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.imports = folder / ".imports"
        self.imports.mkdir(parents=True)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
            "DVC_NO_ANALYTICS": "1",
        }
        for name in ("LABBOOK_DATA_ROOT", "PYTHONDONTWRITEBYTECODE"):
            self.environment.pop(name, None)
        for name in ("src", "stages", "data/pretrained"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, folder / name)
        (folder / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
        shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
        self.write_params(small_params())
        for command in ("git init -q", "git add -A", "git -c user.name=test -c user.email=test@localhost commit -qm start"):
            self.run(*command.split())

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=850
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def repro(self, *arguments: str, command: tuple[str, ...] = ("dvc", "repro")) -> set[str]:
        """Run `dvc repro` and name the stages that really ran."""
        output = self.run(*command, *arguments).stdout
        return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}

    def params(self) -> dict:
        return read(self.folder / "params.yaml")

    def write_params(self, values: dict) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

    def lock(self) -> dict:
        return read(self.folder / "dvc.lock")["stages"]


def small_params() -> dict:
    values = read(ROOT / "params.yaml")
    values["device"] = "cpu"
    values["experiments"] = {name: values["experiments"][name] for name in EXPERIMENTS}
    values["pairs"] = {"rings_relu": values["pairs"]["rings_relu"] | {"starts": 2}}
    values["explain"] = {name: values["explain"][name] for name in EXPLAINED}
    values["explain"]["scenes_unet"]["look"]["region"] = "background"  # which hardly trained weights predict too
    for block in (*values["experiments"].values(), *values["pretrained"].values()):
        block["train"]["embedded"] = block["train"].get("embedded", {}) | {"epochs": 1}
        if block["train"]["model"]["name"] == "resnet18":
            block["train"]["embedded"] |= {"augmentation": {"resize": 16}, "batch_size": 250}  # else a third of the run
    values["experiments"]["mnist_mlp_100"]["train"]["embedded"]["epochs"] = 2
    values["experiments"]["scenes_unet"]["train"]["embedded"] |= {"model": {"width": 0.0625}, "batch_size": 64}
    values["seeds"] = {"mnist_mlp_100": values["seeds"]["mnist_mlp_100"] | {"seeds": [0, 1]}}
    (sweep,) = values["sweeps"].values()
    sweep["vary"]["count"] = 2
    sweep["train"]["embedded"] = {"epochs": 1}
    return values


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    made = Pipeline(tmp_path_factory.mktemp("pipeline"))
    with another_python(made.imports, made.environment) as folder:
        made.environment["PATH"] = f"{folder}{os.pathsep}{made.environment['PATH']}"
        made.first_run = made.repro(command=LABBOOK)  # as `make repro` does
        yield made


def without_timing(lock: dict) -> dict:
    """Take out what holds seconds: the files under metrics/timing, and the stage that reads them."""
    return {
        name: {
            key: [entry for entry in value if "metrics/timing" not in entry["path"]] if key in ("deps", "outs") else value
            for key, value in stage.items()
        }
        for name, stage in lock.items()
        if name not in TIMING_STAGES
    }


def test_everything_runs_once(pipeline):
    expected = {"check", "gradcheck", "compose@scenes", "sweep@mnist_cnn_dropout", "pair@rings_relu", "seeds@mnist_mlp_100"}
    expected |= {"exercises", "figures", "report", "timing"}
    datasets = ("mnist", "cifar10", "tiny_imagenet", "rings", "points")
    expected |= {f"{stage}@{name}" for stage in ("fetch", "prepare") for name in datasets}
    expected |= {f"{stage}@resnet18" for stage in ("fetch_pretrained", "pretrain")}
    expected |= {f"{stage}@{name}" for stage in ("train", "evaluate") for name in EXPERIMENTS}
    expected |= {f"explain@{name}" for name in EXPLAINED}
    assert pipeline.first_run == expected


def test_a_second_run_does_nothing(pipeline):
    assert pipeline.repro() == set()


def test_plots_open_without_a_network(pipeline):
    pipeline.run("dvc", "plots", "show", "plots/history/mnist_mlp_100.tsv", "--out", "shown")
    page = (pipeline.folder / "shown/index.html").read_text()
    assert "vegaEmbed" in page
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=.?http", page)


def test_every_figure_is_there_for_print(pipeline):
    of_each = {"samples": EXPERIMENTS, "confusion": EXPERIMENTS, "curves": EXPERIMENTS, "overview": ("assignment_b",)}
    of_each |= dict.fromkeys(("filters", "activations", "attributions"), EXPLAINED)
    of_each |= {"sweeps": ("mnist_cnn_dropout",), "pairs": ("rings_relu",), "comparisons": ()}
    files = {f"{kind}/{name}.pdf" for kind, names in of_each.items() for name in names}
    folder = pipeline.folder / "figures"
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == files
    for file in files:
        content = (folder / file).read_bytes()
        assert content.startswith(b"%PDF-"), file
        assert f"/Title ({Path(file).stem})".encode() in content
        assert b"/FontFile2" in content, file
        assert not re.search(rb"/Type3|Date|20\d\d-\d\d", content), file
    assert (folder / "samples/mnist_cnn.pdf").read_bytes().count(b"/Width 28 /Height 28") >= 1
    assert pipeline.run("git", "status", "--porcelain", "figures").stdout == ""


def test_metrics_hold_what_was_measured(pipeline):
    metrics = json.loads((pipeline.folder / "metrics/mnist_mlp_100.json").read_text())
    assert 0.5 < metrics["test_accuracy"] < 1
    assert metrics["parameters"] == 784 * 100 + 100 + 100 * 10 + 10
    assert set(metrics["test_accuracy_per_class"]) == set("0123456789")
    assert (pipeline.folder / metrics["confusion"]).is_file()
    assert "seconds" in json.loads((pipeline.folder / "metrics/timing/mnist_mlp_100.json").read_text())
    assert "seeds@mnist_mlp_100" in (pipeline.folder / "results/embedded-timing.csv").read_text()


def test_an_embedded_run_is_labelled_and_compared_with_no_reported_figure(pipeline):
    pages = [file.read_text() for file in (pipeline.folder / "reports").rglob("*.html") if file.name != "exercises.html"]
    table = (pipeline.folder / "results/embedded.md").read_text()
    assert all("Embedded stand-in data" in page for page in pages)
    assert "Stand-in data" in table
    for text in (*pages, table):
        assert "0.9786" not in text
        assert "reproduced" not in text.lower()


def test_declared_code_dependencies_are_the_imported_ones(pipeline):
    """What a stage imports is what DVC watches for it: no file more, no file less."""
    declared = declared_code(pipeline)
    imported = imported_code(pipeline)
    assert set(declared) == set(imported) == pipeline.first_run
    for stage, files in declared.items():
        assert files - imported[stage] == set(), f"{stage} declares what it does not import"
        assert imported[stage] - files == set(), f"{stage} imports what it does not declare"


def declared_code(pipeline: Pipeline) -> dict[str, set[str]]:
    declared = {}
    for stage, entry in pipeline.lock().items():
        files = set()
        for dependency in entry["deps"]:
            path = pipeline.folder / dependency["path"]
            if dependency["path"].startswith(("src/", "stages/")):
                files |= set(path.rglob("*.py")) if path.is_dir() else {path}
        declared[stage] = {str(file.relative_to(pipeline.folder)) for file in files if file.suffix == ".py"}
    return declared


def imported_code(pipeline: Pipeline) -> dict[str, set[str]]:
    imported = {}
    for note in pipeline.imports.glob("*.json"):
        values = json.loads(note.read_text())
        script, *arguments = values["argv"]
        stage = Path(script).stem
        if stage in OF_A_BLOCK:
            stage = f"{stage}@{arguments[0]}"
        files = {str(Path(file).relative_to(pipeline.folder)) for file in values["files"]}
        imported.setdefault(stage, set()).update(files | {script})
    return imported


def test_forcing_most_kinds_of_stages_one_after_the_other_changes_timing_alone(pipeline):
    """The first run was side by side."""
    before = pipeline.lock()
    of_each = ("evaluate@mnist_mlp_100", "explain@mnist_mlp_100", "compose@scenes")
    of_each += ("sweep@mnist_cnn_dropout", "seeds@mnist_mlp_100", "gradcheck", "exercises")
    ran = pipeline.repro("--force", *of_each)
    assert ran >= {*of_each, "check", "fetch@mnist", "prepare@mnist", "train@mnist_mlp_100"}
    after = pipeline.lock()
    assert without_timing(after) == without_timing(before)
    assert list(after) == list(before)
    assert after != before, "seconds are measured anew"


def test_changing_one_value_reruns_that_experiment_alone_and_undoing_it_restores(pipeline):
    name = "mnist_mlp_2x50_numpy"
    weights = pipeline.folder / f"models/weights/{name}.safetensors"
    original, values = weights.read_bytes(), pipeline.params()
    values["experiments"][name]["train"]["optimizer"]["lr"] = 0.05
    pipeline.write_params(values)
    expected = {"check", f"train@{name}", f"evaluate@{name}", "figures", "report", "timing"}
    assert pipeline.repro("--jobs", "1", command=LABBOOK) == expected
    assert weights.read_bytes() != original

    pipeline.write_params(small_params())
    assert pipeline.repro("--jobs", "1", f"evaluate@{name}", command=LABBOOK) == set()
    assert weights.read_bytes() == original


def test_changing_what_several_stages_read_concerns_them_alone(pipeline):
    readers = {"check", "figures", "report", "timing"}
    for change, concerned in (
        (lambda values: values["seeds"]["mnist_mlp_100"].update(seeds=[0, 2]), {"seeds@mnist_mlp_100"}),
        (lambda values: values["explain"]["scenes_unet"]["look"].update(image=1), {"explain@scenes_unet"}),
        (
            lambda values: values["experiments"]["mnist_mlp_100"]["train"].update(batch_size=50),
            {"train@mnist_mlp_100", "seeds@mnist_mlp_100"},
        ),
    ):
        values = small_params()
        change(values)
        pipeline.write_params(values)
        changed = json.loads(pipeline.run("dvc", "status", "--json").stdout)
        assert changed.keys() - readers == concerned
    pipeline.write_params(small_params())


def test_a_corrupt_prepared_file_is_made_again(pipeline):
    prepared = pipeline.folder / "data/processed/mnist.safetensors"
    good = prepared.read_bytes()
    prepared.chmod(0o644)
    prepared.write_bytes(good[:-1])
    message = pipeline.run("python", "stages/train.py", "mnist_mlp_100", check=False)
    assert message.returncode == 1
    assert "data/processed/mnist.safetensors" in message.stderr
    assert "dvc repro prepare@mnist" in message.stderr
    pipeline.repro("prepare@mnist")
    assert prepared.read_bytes() == good


def test_a_wrong_key_stops_the_pipeline_before_anything_trains(pipeline):
    values = pipeline.params()
    values["experiments"]["mnist_mlp_100"]["train"]["optimiser"] = {"name": "sgd", "lr": 0.1}
    pipeline.write_params(values)
    done = pipeline.run("dvc", "repro", check=False)
    pipeline.write_params(small_params())
    assert done.returncode != 0
    assert "experiments.mnist_mlp_100.train.optimiser: unknown key; did you mean 'optimizer'?" in done.stderr
    assert "Running stage 'train" not in done.stdout
