"""The whole pipeline, run with DVC in a copy of the repository, on embedded data with a few small experiments."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from forks import fast_python

from labbook.config.reading import read

pytestmark = pytest.mark.timeout(900)  # the first run takes a minute on two idle cores
ROOT = Path(__file__).parents[1]
EXPERIMENTS = (
    "mnist_mlp_100", "mnist_mlp_2x50_numpy", "mnist_cnn", "cifar10_resnet18_transfer", "scenes_unet", "rings_relu_random",
    "rings_relu_zero",
)  # fmt: skip
EXPLAINED = ("mnist_mlp_100", "scenes_unet")
METRICS = ["test_accuracy", "test_sd", "test_loss", "test_ece", "val_accuracy", "train_accuracy", "test_miou"]
LABBOOK = ("python", "-m", "labbook", "repro")


class Pipeline:
    """A copy of the repository in which the pipeline has run once.

    Its `python` starts fast, and every stage script records the project's modules that it imported.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.imports = folder.parent / "imports"
        self.imports.mkdir(parents=True)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@localhost",
            "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@localhost",
        }  # fmt: skip
        for name in ("LABBOOK_DATA_ROOT", "PYTHONDONTWRITEBYTECODE"):
            self.environment.pop(name, None)
        for name in ("src", "stages", "results", ".dvc/plots"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in ("dvc.yaml", ".gitignore", ".dvcignore", "requirements.lock", ".dvc/config"):
            shutil.copy(ROOT / name, folder / name)
        self.write_params(small_params())
        self.run("git", "init", "-q")
        self.commit()

    def run(self, *command: str, check: bool = True, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=folder or self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=850
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def repro(self, *arguments: str, command: tuple[str, ...] = ("dvc", "repro"), folder: Path | None = None) -> set[str]:
        """Run `dvc repro` and return the names of the stages that were executed."""
        output = self.run(*command, *arguments, folder=folder).stdout
        return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "change")

    def changed(self) -> set[str]:
        """Write new fingerprints and return the names of the changed stages, without the stages that depend on them."""
        self.run("python", "stages/fingerprint.py")  # like the stage `code`
        return json.loads(self.run("dvc", "status", "--json").stdout).keys() - {"code", "report"}

    def params(self) -> dict:
        return read(self.folder / "params.yaml")

    def write_params(self, values: dict) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

    def edit(self, name: str, old: str, new: str) -> None:
        file = self.folder / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    def undo(self) -> None:
        self.run("git", "checkout", "-q", "src", "stages", "params.yaml")
        self.run("python", "stages/fingerprint.py")
        assert self.fingerprints() == self.first_fingerprints

    def fingerprints(self) -> dict[str, str]:
        files = (self.folder / "code").rglob("*.txt")
        return {str(file.relative_to(self.folder)): file.read_text() for file in files}


def small_params() -> dict:
    values = read(ROOT / "params.yaml")
    values["device"] = "cpu"
    values["experiments"] = {name: values["experiments"][name] for name in EXPERIMENTS}
    values["explain"] = {name: values["explain"][name] for name in EXPLAINED}
    values["explain"]["scenes_unet"]["region"] = "background"  # a class that barely trained weights also predict
    for defaults in values["defaults"].values():
        defaults["seeds"] = 1
        defaults["embedded"] = defaults.get("embedded", {}) | {"epochs": 1, "seeds": 1}
    for part in ("model", "optimizer"):  # of networks that these experiments do not use
        del values["defaults"]["D"]["embedded"][part]
    for block in (*values["experiments"].values(), *values["pretrained"].values()):
        block["train"]["embedded"] = block["train"].get("embedded", {}) | {"epochs": 1}
        if block["train"]["model"]["name"] == "resnet18":
            # Otherwise this experiment would take a third of the running time.
            block["train"]["embedded"] |= {"preprocess": {"resize": 16}, "batch_size": 250}
    values["experiments"]["mnist_mlp_100"]["train"]["embedded"] = {"epochs": 2, "seeds": 2}
    values["experiments"]["scenes_unet"]["train"]["embedded"] |= {"model": {"width": 0.0625}, "batch_size": 64}
    (sweep,) = values["sweeps"].values()
    sweep["vary"]["count"] = 2
    sweep["train"]["embedded"] = {"epochs": 1}
    return values


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    project = Pipeline(tmp_path_factory.mktemp("pipeline") / "project")
    with fast_python(project.imports) as folder:
        project.environment["PATH"] = f"{folder}{os.pathsep}{project.environment['PATH']}"
        project.first_run = project.repro(command=LABBOOK)  # as `make repro` does
        project.first_fingerprints = project.fingerprints()
        project.commit()
        yield project


def test_first_run_executes_every_stage_once(pipeline):
    expected = {"code", "no_weights", "gradcheck", "derive@scenes", "sweep@mnist_cnn_dropout", "exercises", "report"}
    datasets = ("mnist", "cifar10", "tiny_imagenet", "rings", "points")
    expected |= {f"{stage}@{name}" for stage in ("fetch", "prepare") for name in datasets}
    expected |= {f"{stage}@resnet18" for stage in ("fetch_pretrained", "pretrain")}
    expected |= {f"{stage}@{name}" for stage in ("train", "evaluate") for name in EXPERIMENTS}
    expected |= {f"explain@{name}" for name in EXPLAINED}
    assert pipeline.first_run == expected


def test_second_run_executes_nothing(pipeline):
    assert pipeline.repro() == set()
    assert pipeline.run("dvc", "status").stdout == "Data and pipelines are up to date.\n"


def test_stages_import_exactly_the_modules_in_their_fingerprints(pipeline):
    """The fingerprint of a stage lists exactly the modules that it imports."""
    loaded = loaded_modules(pipeline)
    assert loaded.keys() == pipeline.first_run - {"code"}
    for stage, modules in loaded.items():
        assert listed_modules(pipeline, stage) == modules, stage


def loaded_modules(pipeline: Pipeline) -> dict[str, set[str]]:
    loaded: dict[str, set[str]] = {}
    for record in pipeline.imports.glob("*.json"):
        values = json.loads(record.read_text())
        script, *arguments = values["argv"]
        stage = Path(script).stem
        if (pipeline.folder / "code" / stage).is_dir():
            stage = f"{stage}@{arguments[0]}"
        modules = {dotted(Path(file).relative_to(pipeline.folder / "src")) for file in values["files"]}
        loaded.setdefault(stage, set()).update(modules)
    loaded.pop("fingerprint", None)
    return loaded


def listed_modules(pipeline: Pipeline, stage: str) -> set[str]:
    lines = (pipeline.folder / "code" / f"{stage.replace('@', '/')}.txt").read_text().splitlines()
    names = {line.split()[0] for line in lines[1 : lines.index("")]}
    # Packages without an __init__.py have no file that Python could load.
    return {name for name in names if "/" not in name}


def dotted(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def test_comments_docstrings_and_formatting_rerun_only_code(pipeline):
    for file, old, new in (
        ("src/labbook/training/engine.py", "def fit(", "# A comment.\ndef fit("),
        ("src/labbook/models/cnn.py", '"""Small', '"""Very small'),
        ("src/labbook/training/history.py", "DECIMALS = 6", "DECIMALS = (\n    6\n)"),
        ("stages/train.py", "def main", "\n\n\ndef main"),
    ):
        pipeline.edit(file, old, new)
    assert pipeline.repro("--dry") >= {"code"}
    assert pipeline.changed() == set()
    pipeline.undo()


def test_changed_module_reruns_only_the_stages_that_use_it(pipeline):
    cnn = {"train@mnist_cnn", "evaluate@mnist_cnn", "sweep@mnist_cnn_dropout"}
    for file, old, new, affected in (
        ("src/labbook/models/cnn.py", "def build(", "UNUSED = 1\n\n\ndef build(", cnn),
        ("src/labbook/explain/layers.py", "def first_layer(", "UNUSED = 1\n\n\ndef first_layer(",
         {f"explain@{name}" for name in EXPLAINED}),
        ("src/labbook/evaluation/tasks/segmentation.py", "SHOWN = 8", "SHOWN = 7", {"evaluate@scenes_unet"}),
        ("src/labbook/data/datasets/rings.py", "SEED = 0", "SEED = 1", {"fetch@rings", "prepare@rings"}),
    ):  # fmt: skip
        pipeline.edit(file, old, new)
        changed = pipeline.changed()
        pipeline.undo()
        if "plots" in file or "tasks" in file:
            changed -= {f"evaluate@{name}" for name in EXPERIMENTS} - affected  # all evaluate stages import the drawing code
        assert changed == affected, file


def test_changed_setting_reruns_only_the_stages_that_read_it(pipeline):
    a = {f"train@{name}" for name in ("mnist_mlp_100", "mnist_cnn")}
    for change, affected in (
        (lambda values: values["explain"]["scenes_unet"].update(image=1), {"explain@scenes_unet"}),
        (lambda values: values["experiments"]["mnist_mlp_100"]["train"].update(batch_size=50), {"train@mnist_mlp_100"}),
        (lambda values: values["defaults"]["A"].update(batch_size=50), a | {"sweep@mnist_cnn_dropout"}),
        (lambda values: values["defaults"]["B"]["optimizer"].update(lr=0.02), {"train@mnist_mlp_2x50_numpy"}),
        (lambda values: values["defaults"]["B"].update(batch_size=50), set()),  # overridden by its `embedded` block
        (lambda values: values["sweeps"]["mnist_cnn_dropout"]["vary"].update(count=3), {"sweep@mnist_cnn_dropout"}),
        (lambda values: values["experiments"]["mnist_mlp_100"].update(title="Another"), set()),
    ):
        values = small_params()
        change(values)
        pipeline.write_params(values)
        assert pipeline.changed() == affected
        pipeline.undo()


def test_forced_stages_leave_dvc_lock_unchanged(pipeline):
    """The first run executed stages in parallel; this one uses plain `dvc repro`."""
    lock = pipeline.folder / "dvc.lock"
    before = lock.read_bytes()
    assert b"&id" not in before
    stages = ("evaluate@mnist_mlp_100", "explain@mnist_mlp_100", "derive@scenes", "sweep@mnist_cnn_dropout")
    ran = pipeline.repro("--force", *stages, "gradcheck", "exercises")
    assert ran >= {*stages, "gradcheck", "exercises", "code", "fetch@mnist", "prepare@mnist", "train@mnist_mlp_100"}
    assert lock.read_bytes() == before
    assert pipeline.run("git", "status", "--porcelain").stdout == ""


def test_fresh_clone_with_a_full_cache_runs_nothing(pipeline, tmp_path):
    clone = tmp_path / "clone"
    pipeline.run("git", "clone", "-q", str(pipeline.folder), str(clone))
    pipeline.run("dvc", "cache", "dir", "--local", str(pipeline.folder / ".dvc/cache"), folder=clone)
    assert pipeline.repro(folder=clone) == set()
    assert pipeline.run("git", "status", "--porcelain", folder=clone).stdout == ""
    weights = "models/trained/mnist_mlp_100/seed-0.safetensors"
    assert (clone / weights).read_bytes() == (pipeline.folder / weights).read_bytes()


def test_outputs_contain_no_times_dates_or_machine_names(pipeline):
    timing = json.loads((pipeline.folder / "timing/mnist_mlp_100.json").read_text())
    assert len(timing["seconds_per_training"]) == 2
    for file in ("models/trained/mnist_mlp_100/summary.json", "models/cards/mnist_mlp_100/card.json"):
        text = (pipeline.folder / file).read_text()
        assert "second" not in text
        assert timing["processor"] not in text
        assert not re.search(r"20\d\d-\d\d-\d\d", text)
    assert "timing" not in (pipeline.folder / "dvc.lock").read_text()


def test_metrics_are_one_row_per_experiment_and_fit_on_a_screen(pipeline):
    shown = pipeline.run("dvc", "metrics", "show").stdout.splitlines()
    assert set(shown[0].split()) == {"Path", *METRICS}
    assert {line.split()[0] for line in shown[1:]} == {f"metrics/{name}.json" for name in EXPERIMENTS}
    assert max(len(line.rstrip()) for line in shown) <= 140
    values = json.loads((pipeline.folder / "metrics/mnist_mlp_100.json").read_text())
    assert list(values) == METRICS
    assert values["test_sd"] > 0
    assert json.loads((pipeline.folder / "metrics/mnist_cnn.json").read_text())["test_sd"] is None
    assert json.loads((pipeline.folder / "metrics/scenes_unet.json").read_text())["test_miou"] > 0


def test_metrics_diff_is_short_and_reverting_a_change_restores_outputs(pipeline):
    name = "mnist_mlp_2x50_numpy"
    weights = pipeline.folder / f"models/trained/{name}/seed-0.safetensors"
    original, values = weights.read_bytes(), pipeline.params()
    values["defaults"]["B"]["optimizer"]["lr"] = 0.05
    pipeline.write_params(values)
    assert pipeline.repro("--jobs", "1", command=LABBOOK) == {"code", f"train@{name}", f"evaluate@{name}", "report"}
    assert weights.read_bytes() != original
    difference = pipeline.run("dvc", "metrics", "diff").stdout.splitlines()
    assert 1 < len(difference) <= 10
    assert all(f"metrics/{name}.json" in line for line in difference[1:])

    pipeline.run("git", "checkout", "-q", "params.yaml")
    assert pipeline.repro("--jobs", "1", command=LABBOOK) == set()
    assert weights.read_bytes() == original
    assert pipeline.run("git", "status", "--porcelain").stdout == ""


def test_plots_open_without_a_network(pipeline):
    pipeline.run("dvc", "plots", "show", "plots/history/mnist_mlp_100.tsv", "plots/samples/mnist_cnn.png", "--out", "shown")
    page = (pipeline.folder / "shown/index.html").read_text()
    shutil.rmtree(pipeline.folder / "shown")
    assert "vegaEmbed" in page
    assert "mnist_cnn.png" in page
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=.?http", page)


def test_pictures_are_not_in_git(pipeline):
    tracked = pipeline.run("git", "ls-files").stdout.splitlines()
    assert not [name for name in tracked if name.endswith((".png", ".pdf")) and not name.startswith(("src/", ".dvc/"))]


def test_every_figure_exists_as_pdf(pipeline):
    names_by_kind = {"samples": EXPERIMENTS, "confusion": EXPERIMENTS, "curves": EXPERIMENTS, "overview": ("assignment_b",)}
    names_by_kind |= dict.fromkeys(("filters", "activations", "attributions"), EXPLAINED)
    names_by_kind |= {"sweeps": ("mnist_cnn_dropout",), "pairs": ("rings_relu",), "comparisons": ()}
    files = {f"{kind}/{name}.pdf" for kind, names in names_by_kind.items() for name in names}
    folder = pipeline.folder / "figures"
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == files
    for file in files:
        content = (folder / file).read_bytes()
        assert content.startswith(b"%PDF-"), file
        assert f"/Title ({Path(file).stem})".encode() in content
        assert b"/FontFile2" in content, file
        assert not re.search(rb"/Type3|Date|20\d\d-\d\d", content), file
    assert (folder / "samples/mnist_cnn.pdf").read_bytes().count(b"/Width 28 /Height 28") >= 1


def test_embedded_run_is_labelled_and_not_compared_with_reported_results(pipeline):
    pages = [file.read_text() for file in (pipeline.folder / "reports").rglob("*.html") if file.name != "exercises.html"]
    table = (pipeline.folder / "reports/tables/embedded.md").read_text()
    assert all("Embedded data, not the real datasets" in page for page in pages)
    assert "Embedded data, not the real datasets" in table
    for text in (*pages, table):
        assert "0.9786" not in text
        assert "reproduced" not in text.lower()


def test_corrupt_prepared_file_is_reported_and_rewritten(pipeline):
    prepared = pipeline.folder / "data/processed/mnist.safetensors"
    intact = prepared.read_bytes()
    prepared.chmod(0o644)
    prepared.write_bytes(intact[:-1])
    message = pipeline.run("python", "stages/train.py", "mnist_mlp_100", check=False)
    assert message.returncode == 1
    assert "data/processed/mnist.safetensors" in message.stderr
    assert "dvc repro prepare@mnist" in message.stderr
    pipeline.repro("prepare@mnist")
    assert prepared.read_bytes() == intact


def test_unknown_key_stops_the_pipeline_before_training(pipeline):
    pipeline.edit("params.yaml", "    optimizer:", "    optimiser:")
    done = pipeline.run("dvc", "repro", check=False)
    pipeline.undo()
    assert done.returncode != 0
    assert "optimiser: unknown key; did you mean 'optimizer'?" in done.stderr
    assert "Running stage 'train" not in done.stdout


def test_different_package_version_is_reported_before_training(pipeline):
    file = pipeline.folder / "code/train/mnist_mlp_100.txt"
    text = file.read_text()
    file.chmod(0o644)
    file.write_text(re.sub(r"torch \S+", "torch 1.0.0", text))
    done = pipeline.run("python", "stages/train.py", "mnist_mlp_100", check=False)
    checked = pipeline.run("python", "-m", "labbook", "check", check=False)
    file.write_text(text)
    assert done.returncode == 1
    assert "torch: 1.0.0 recorded" in done.stderr
    assert "step" not in done.stdout
    assert checked.returncode == 1
    assert "torch" in checked.stdout + checked.stderr
