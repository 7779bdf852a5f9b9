"""A small project with ten experiments, nine of them trained for a few epochs, and its site."""

import json
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import yaml
from dvc.repo import Repo

from labbook.evaluation.ledger import LEDGER, SWEEPS, Entry, read_arrays, write_entry

ROOT = Path(__file__).parents[2]
PROVENANCE: dict[str, Any] = {"code": {}, "packages": {}, "data": {}, "run": {}}
SUBSET = {
    "datasets": ("mnist", "cifar10", "tiny_imagenet", "rings"),
    "experiments": (
        "mnist_mlp_100", "mnist_cnn", "rings_relu_random", "rings_relu_zero", "mnist_mlp_2x50", "mnist_mlp_2x50_numpy",
        "tiny_wide", "cifar10_cnn", "cifar10_cnn_plus_elu", "scenes_unet",
    ),
    "explain": ("mnist_cnn", "scenes_unet"),
}  # fmt: skip
SMALLER = {
    "cifar10_cnn": {"channels": [8, 8, 8]},
    "cifar10_cnn_plus_elu": {"channels": [8, 8, 8]},
    "scenes_unet": {"width": 0.0625},
}
SEEDS = {"mnist_mlp_100": 3, "rings_relu_random": 2, "rings_relu_zero": 2}  # the others have one
EPOCHS = {"mnist": 2, "cifar10": 1, "tiny_imagenet": 1, "rings": 250, "scenes": 1}
# Stages that are not run: those of one experiment that is pending, and those whose outputs no page shows.
NOT_RUN = {
    "code", "gradcheck", "fetch@tiny_imagenet", "prepare@tiny_imagenet", "fetch_pretrained@resnet18", "pretrain@resnet18",
    "train@tiny_wide", "evaluate@tiny_wide",
}  # fmt: skip
ACCURACIES = {"mnist_mlp_100": (0.978, 0.979, 0.98)}  # test accuracies by seed on official data, close to the reported result
EARLIER = "cifar10_cnn_plus_elu"  # on official data, run only by an earlier version


def build(folder: Path) -> None:
    """Run the stages on embedded data."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["device"] = "cpu"
    for group, names in SUBSET.items():
        values[group] = {name: values[group][name] for name in names}
    values["explain"]["scenes_unet"]["region"] = "background"  # a class that barely trained weights also predict
    for name, block in values["experiments"].items():
        train = block["train"]
        changes = {"seeds": SEEDS.get(name, 1), "epochs": EPOCHS[train["inputs"]["dataset"]]}
        if name in SMALLER:
            changes |= {"model": SMALLER[name], "batch_size": 64}
            train.pop("constraint", None)  # on the number of parameters in the report
        train["embedded"] = train.get("embedded", {}) | changes
    sweep = values["sweeps"]["mnist_cnn_dropout"]
    sweep["train"]["embedded"] = {"epochs": 1}
    sweep["vary"]["count"] = 2
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".dvc").mkdir(parents=True)
    shutil.copy(ROOT / "dvc.yaml", folder / "dvc.yaml")
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n", encoding="utf-8")
    _write_params(folder, values)
    _python(folder, __file__)


def build_official(folder: Path, embedded: Path) -> None:
    """Copy a built project, change its data source to official, and write its site again."""
    shutil.copytree(embedded, folder, dirs_exist_ok=True)
    values = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    _write_params(folder, values | {"data": {"source": "official"}})
    texts = [file for part in ("models", "plots", "timing") for file in (folder / part).rglob("*")]
    for file in (file for file in texts if file.suffix in {".json", ".tsv"}):
        file.write_text(file.read_text(encoding="utf-8").replace("embedded", "official"), encoding="utf-8")
    for file in (folder / "models/cards").glob("*/card.json"):
        if file.parent.name != EARLIER:
            _write_entry(folder, file.parent.name, json.loads(file.read_text(encoding="utf-8")))
    rows = (folder / "plots/sweeps/mnist_cnn_dropout.tsv").read_text(encoding="utf-8")
    write_entry(Entry("mnist_cnn_dropout", {"settings": {}} | PROVENANCE, {}, rows), folder / SWEEPS)
    (folder / "results/earlier.csv").write_text(f"experiment,test_accuracy\n{EARLIER},0.71\n", encoding="utf-8")
    _python(folder, "stages/report.py")


def _write_entry(folder: Path, name: str, card: dict[str, Any]) -> None:
    for seed, accuracy in zip(card["seeds"], ACCURACIES.get(name, ()), strict=False):
        seed["test"]["test_accuracy"] = accuracy
    run = json.loads((folder / f"timing/{name}.json").read_text(encoding="utf-8"))
    predictions = read_arrays(folder / f"models/cards/{name}/predictions.npz", "")
    history = (folder / f"plots/history/{name}.tsv").read_text(encoding="utf-8")
    write_entry(Entry(name, card | PROVENANCE | {"run": run}, predictions, history), folder / LEDGER)


def _write_params(folder: Path, values: dict[str, object]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _python(folder: Path, script: str) -> None:
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _run_stages() -> None:
    """Run the stages of `dvc.yaml` in this process, which imports torch once."""
    sys.path.append(str(Path("stages").resolve()))  # for stages that import `_here`
    with Repo() as repo:
        stages = [(stage.name, shlex.split(stage.cmd)) for stage in nx.dfs_postorder_nodes(repo.index.graph)]
    assert {name for name, _ in stages} >= NOT_RUN
    for name, (_, *arguments) in stages:
        if name in NOT_RUN:
            continue
        print(name, flush=True)
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    _run_stages()
