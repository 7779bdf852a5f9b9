"""Choose settings that assignments A and D leave open: train candidates and compare them on validation data only.

    python benchmarks/choose.py [experiment ...]     # needs the prepared dataset; writes results/choices.tsv

A candidate overrides a few keys of the experiment's training block, or the seed. The table has the validation accuracy of the
selected weights. A candidate that is already in the table is not trained again.
"""

import csv
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from labbook.config.merging import SettingsLayer
from labbook.config.reading import look_up, read
from labbook.config.train import read_runtime, resolve
from labbook.data.packed import read_packed
from labbook.io import write_tsv
from labbook.training.experiment import train_experiment

TABLE = Path("results/choices.tsv")
WIDTHS_200 = ([100, 100], [150, 50], [170, 30])
WIDTHS_1000 = ([400, 300, 300], [600, 200, 200])


def adam(lr: float, **others: float) -> dict[str, Any]:
    return {"name": "Adam", "lr": lr} | others


def sgd(lr: float) -> dict[str, Any]:
    return {"name": "SGD", "lr": lr, "momentum": 0.9}


def mlp(hidden: list[int], dropout: float) -> dict[str, Any]:
    return {"name": "mlp", "hidden": hidden, "dropout": dropout}


def cnn(channels: list[int], dropout: float) -> dict[str, Any]:
    return {"name": "cnn", "channels": channels, "pools": 2, "batch_norm": True, "dropout": dropout}


def cnn_of_d(*, double: bool, dropout: float | None) -> dict[str, Any]:
    """Combine changes that assignment D tried one at a time, in addition to flips and batch norm."""
    norm = {"batch_norm": True, "batch_norm_head": True, "init": "kaiming_uniform"}
    blocks: dict[str, Any] = {"convs_per_block": 2 if double else 1, "dropout": dropout}
    return {"name": "cnn", "channels": [32, 64, 128], "pools": 3, "kernel": 5, "hidden": [64]} | blocks | norm


def candidates() -> dict[str, list[dict[str, Any]]]:
    """Return the candidates of each experiment."""
    constant = None
    drop = {"name": "MultiStepLR", "milestones": [7], "gamma": 0.1}  # not tried in the report
    starts: list[dict[str, Any]] = [{"seed": number} for number in range(4)]
    small = [adam(0.001), adam(0.002), sgd(0.02)]
    return {
        "mnist_mlp_100": [
            {"model": mlp([100], dropout), "optimizer": optimizer}
            for dropout, optimizer in itertools.product((0.0, 0.1), small)
        ],
        "mnist_mlp_200": [
            {"model": mlp(hidden, dropout), "optimizer": optimizer}
            for hidden, dropout, optimizer in itertools.product(WIDTHS_200, (0.0, 0.1), small)
        ],
        "mnist_mlp_1000": [
            {"model": mlp(hidden, dropout), "optimizer": adam(0.001)}
            for hidden, dropout in itertools.product(WIDTHS_1000, (0.1, 0.2, 0.3))
        ]
        + [{"model": mlp(WIDTHS_1000[0], dropout), "optimizer": sgd(0.02)} for dropout in (0.1, 0.2)],
        "mnist_cnn": [
            {"model": cnn([16, 32], 0.1), "optimizer": adam(0.001, weight_decay=1e-4)},
            {"model": cnn([16, 32, 64], 0.1), "optimizer": adam(0.001, weight_decay=1e-4)},
            {"model": cnn([32, 64], 0.1), "optimizer": adam(0.001, weight_decay=1e-4)},
        ],
        # The report gives all settings, but early stopping by a noisy validation loss makes results depend on the seed.
        # The report says Kaiming-uniform initialisation without a gain; PyTorch's default has a = √5.
        "cifar10_cnn": starts,
        "cifar10_cnn_bn": [
            *({"model": cnn_of_d(double=False, dropout=None)} | start for start in starts),
            {"model": cnn_of_d(double=False, dropout=None) | {"init": "default"}},
        ],
        "cifar10_cnn_dropout": starts,
        "cifar10_cnn_best": [
            {"model": cnn_of_d(double=double, dropout=dropout), "schedule": schedule}
            for double, dropout, schedule in (
                (True, 0.05, constant),
                (True, 0.1, drop),
                (False, 0.05, constant),
            )
        ],
    }


def main() -> None:
    values, everything = read(), candidates()
    chosen = sys.argv[1:] or list(everything)
    rows = _earlier()
    for experiment in chosen:
        key = f"experiments.{experiment}.train"
        packed = read_packed(Path("data/processed") / f"{look_up(values, f'{key}.inputs.dataset')}.safetensors")
        measured = {row["candidate"] for row in rows if (row["experiment"], row["data"]) == (experiment, packed.source)}
        for number, candidate in enumerate(everything[experiment]):
            if json.dumps(candidate) in measured:
                continue
            others = SettingsLayer("candidate", {name: value for name, value in candidate.items() if name != "seed"})
            settings = resolve(values, f"experiments.{experiment}", packed.source, [others]).settings
            runtime = read_runtime({**values, "seed": candidate.get("seed", values["seed"])})
            outcome = train_experiment(f"choices/{experiment}_{number}", settings, runtime, packed, key=key)
            rows.append(
                {"experiment": experiment, "data": packed.source, "candidate": json.dumps(candidate)}
                | {"parameters": outcome.parameters, "val_accuracy": round(outcome.summary["val_accuracy"], 5)}
            )
            write_tsv(TABLE, list(rows[0]), rows)


def _earlier() -> list[dict[str, Any]]:
    if not TABLE.is_file():
        return []
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


if __name__ == "__main__":
    main()
