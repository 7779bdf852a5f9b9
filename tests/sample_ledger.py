"""A project with a synthetic ledger: predictions are drawn at random, and metrics are computed from them."""

import copy
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from labbook.config.chosen import chosen_modules, settings_of_stages
from labbook.config.reading import read
from labbook.config.sweep import read_sweep
from labbook.config.train import resolve
from labbook.evaluation import encode_predictions, stack_predictions
from labbook.evaluation.predictions import recompute_diagnostics, recompute_metrics
from labbook.evaluation.provenance import record_experiment, record_sweep
from labbook.fingerprint.write import write_fingerprints
from labbook.io import write_json, write_tsv

ROOT = Path(__file__).parents[1]
DIGITS = tuple("0123456789")
SWEEP = "mnist_cnn_dropout"
EXPERIMENTS = ("mnist_mlp_100", "mnist_mlp_200", "mnist_cnn", "rings_relu_zero", "scenes_unet")


def make_project(folder: Path) -> None:
    """Copy everything that the ledger is compared with: code, packages, README, earlier results, settings of `EXPERIMENTS`."""
    for name in ("src/labbook", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.lock", "README.md", "results/earlier.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    values = read(ROOT / "params.yaml")
    values["experiments"] = {name: values["experiments"][name] for name in EXPERIMENTS}
    values["explain"] = {name: block for name, block in values["explain"].items() if name in EXPERIMENTS}
    for defaults in values["defaults"].values():
        defaults.pop("embedded", None)  # for components that these experiments do not have
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def fill_ledger(experiments: Sequence[str], samples: int = 200, sweeps: Sequence[str] = (SWEEP,)) -> None:
    """Write an entry for each experiment and sweep to the ledger of the current folder, as the stages do."""
    write_fingerprints(chosen_modules(), settings_of_stages())
    for number, name in enumerate(experiments):
        run_experiment(name, samples, np.random.default_rng(number))
    for name in sweeps:
        run_sweep(name)


def run_experiment(name: str, samples: int, generator: np.random.Generator) -> None:
    """Write history, timing and ledger entry of an experiment."""
    settings = resolve(read(Path("params.yaml")), f"experiments.{name}", "official").settings
    classes = ("inside", "outside") if settings.task == "toy2d" else DIGITS
    draw = draw_confusion if settings.task == "segmentation" else draw_predictions
    predictions = stack_predictions([draw(len(classes), samples, generator) for _ in range(settings.seeds)])
    seeds, rows = [], []
    for seed in range(settings.seeds):
        history = draw_history(seed, settings.validation, generator)
        best = {"best_val_loss": history["val_loss"].idxmin, "best_val_accuracy": history["val_accuracy"].idxmax}
        selected = int(best.get(settings.select, history["epoch"].idxmax)())
        row = history.loc[selected]
        test = {"test_loss": 0.25 + 0.01 * seed, **recompute_metrics(predictions, seed, classes)}
        if settings.task == "toy2d":
            test |= {"boundary_pieces": 0, "boundary_turning": None, "boundary_corners": None}
        seeds.append(
            {
                "seed": seed, "steps": 300, "epochs_trained": 3, "stopped_early": False,
                "kept": {"row": selected, "epoch": int(row["epoch"]), "step": int(row["step"])},
                "train_loss": 0.125, "train_accuracy": round(0.97 - 0.001 * seed, 6),
                "val_loss": float(row["val_loss"]) if settings.validation else None,
                "val_accuracy": float(row["val_accuracy"]) if settings.validation else None,
                "test": test,
            }
        )  # fmt: skip
        rows.append(history)
    card = {
        "experiment": name, "dataset": settings.inputs.dataset, "source": "official", "digest": "0" * 64,
        "classes": list(classes), "image_shape": [1, 28, 28], "samples": {"train": 300, "val": 0, "test": samples},
        "device": "cpu", "torch": "2.14.1", "parameters": 79510, "settings": settings.model_dump(exclude_none=True),
        "seeds": seeds, "weights": ["0" * 64] * settings.seeds, "metrics": seeds[0]["test"],
        **recompute_diagnostics(predictions, settings.task, classes), "layers": [],
    }  # fmt: skip
    table = pd.concat(rows).astype(object)
    records = table.where(table.notna(), None).to_dict("records")
    write_tsv(Path(f"plots/history/{name}.tsv"), list(table), records)
    write_timing(name, settings.seeds)
    record_experiment(name, copy.deepcopy(card), predictions)


def run_sweep(name: str) -> None:
    """Write rows, timing and ledger entry of a sweep."""
    trainings, _ = read_sweep(name, "official")
    measured = {"train_accuracy": 0.9, "test_loss": 0.5, "test_accuracy": 0.875}
    rows = [{"source": "official", "value": value, **measured} for value, _ in trainings]
    table = Path(f"plots/sweeps/{name}.tsv")
    write_tsv(table, list(rows[0]), rows)
    write_timing(name, len(rows))
    summary = {"source": "official", "dataset": "mnist", "digest": "0" * 64, "device": "cpu", "torch": "2.14.1"}
    record_sweep(name, summary, trainings[0][1].model_dump(exclude_none=True), table)


def write_timing(name: str, trainings: int) -> None:
    timing: Mapping[str, Any] = {
        "source": "official", "seconds": 2.5 * trainings, "seconds_per_training": [2.5] * trainings,
        "seconds_per_epoch": 0.25, "finished": "2026-11-30T12:00:00Z", "processor": "a CPU", "cores": 2, "python": "3.11.7",
    }  # fmt: skip
    write_json(Path(f"timing/{name}.json"), timing)


def draw_predictions(classes: int, samples: int, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Draw logits that are mostly correct, for labels that are the same for every seed."""
    labels = np.arange(samples, dtype=np.int64) % classes
    logits = 4 * np.eye(classes)[labels] + generator.normal(size=(samples, classes)) * 1.5
    return encode_predictions(logits.astype(np.float32), labels)


def draw_confusion(classes: int, samples: int, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    counts = generator.integers(0, 9, (samples, classes, classes)) + 40 * np.eye(classes, dtype=np.int64)
    return {"confusion": counts.astype(np.uint16)}


def draw_history(seed: int, validation: bool, generator: np.random.Generator) -> pd.DataFrame:
    def draw() -> list[float]:
        return [round(float(value), 6) for value in generator.uniform(0.5, 0.9, 3)]

    columns: dict[str, Any] = {"seed": seed, "epoch": [1, 2, 3], "step": [100, 200, 300], "lr": 0.05}
    measured = {"train": True, "val": validation, "test": not validation}
    for split, known in measured.items():
        columns |= {f"{split}_{metric}": draw() if known else float("nan") for metric in ("loss", "accuracy")}
    return pd.DataFrame(columns)
