"""Provenance of results on official data: the code, packages, data and run of each, as entries of the ledger.

Stages write these entries in addition to their outputs. An entry contains a date and a machine, so it is not an output of a
stage; git tracks it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from labbook.config.reading import read
from labbook.errors import DataError
from labbook.evaluation.ledger import LEDGER, SWEEPS, Entry, write_entry
from labbook.fingerprint import record
from labbook.io import read_bytes, read_json
from labbook.training.timing import TIMING

__all__ = ["data_settings", "experiment_stages", "record_experiment", "record_sweep", "sweep_stages"]


def record_experiment(name: str, card: Mapping[str, Any], predictions: Mapping[str, NDArray[Any]], root: Path = Path()) -> None:
    """Write the entry of an experiment if it was run on official data.

    Args:
        name: name of the experiment.
        card: the card that its evaluation writes.
        predictions: predictions of all its seeds.
        root: root folder of the project.

    Raises:
        DataError: the fingerprint of a stage, or the history, is missing.
        LabbookError: the entry cannot be written.
    """
    if card["source"] != "official":
        return
    params = read(root / "params.yaml")
    stages = experiment_stages(params, name, card["settings"]["inputs"])
    history = root / "plots/history" / f"{name}.tsv"
    values = {**card, **_provenance(name, params, card, stages, root)}
    text = read_bytes(history, f"Run `dvc repro train@{name}`.").decode()
    write_entry(Entry(name, values, predictions, text), root / LEDGER)


def record_sweep(name: str, summary: Mapping[str, Any], settings: Mapping[str, Any], table: Path, root: Path = Path()) -> None:
    """Write the entry of a sweep if it was run on official data.

    Args:
        name: name of the sweep.
        summary: summary of its experiment's training.
        settings: settings of its first training.
        table: path of its rows, relative to `root`.
        root: root folder of the project.

    Raises:
        DataError: the fingerprint of a stage is missing.
        LabbookError: the entry cannot be written.
    """
    if summary["source"] != "official":
        return
    params = read(root / "params.yaml")
    stages = sweep_stages(params, name, settings["inputs"])
    fields = {key: summary[key] for key in ("source", "dataset", "digest", "device", "torch")} | {"settings": settings}
    values = {"sweep": name, **fields, **_provenance(name, params, fields, stages, root)}
    text = read_bytes(root / table, f"Run `dvc repro sweep@{name}`.").decode()
    write_entry(Entry(name, values, {}, text), root / SWEEPS)


def experiment_stages(params: Mapping[str, Any], name: str, inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the fingerprint's key of each stage that affects the result of an experiment, by kind of stage.

    Args:
        params: all of `params.yaml`.
        name: name of the experiment.
        inputs: its dataset and initial weights.
    """
    return _data_stages(params, inputs) | {"train": f"train/{name}", "evaluate": f"evaluate/{name}"}


def sweep_stages(params: Mapping[str, Any], name: str, inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the stages of a sweep like `experiment_stages`; the stage of a sweep both trains and evaluates."""
    return _data_stages(params, inputs) | {"sweep": f"sweep/{name}"}


def data_settings(params: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that the prepared dataset depends on, by their key in `params.yaml`."""
    dataset = inputs["dataset"]
    derived = params["derived"].get(dataset)
    origin = derived["made_from"] if derived else dataset
    settings = {"seed": params["seed"], f"datasets.{origin}": params["datasets"].get(origin)}
    return settings | ({f"derived.{dataset}": derived} if derived else {})


def _data_stages(params: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, str]:
    dataset, weights = inputs["dataset"], inputs["pretrained"]
    derived = params["derived"].get(dataset)
    stages = {"prepare": f"prepare/{derived['made_from'] if derived else dataset}"}
    if derived:
        stages["derive"] = f"derive/{dataset}"
    if weights != "none":
        stages["pretrain"] = f"pretrain/{weights}"
    return stages


def _provenance(
    name: str, params: Mapping[str, Any], card: Mapping[str, Any], stages: Mapping[str, str], root: Path
) -> dict[str, Any]:
    code: dict[str, dict[str, str]] = {}
    packages: dict[str, str] = {}
    for kind, key in stages.items():
        path = root / record.FOLDER / f"{key}.txt"
        fingerprint = record.read(path)
        if fingerprint is None:
            raise DataError(f"{path}: not found, but an entry of the ledger needs this fingerprint. Run `dvc repro code`.")
        code[kind] = fingerprint.code
        packages |= fingerprint.packages
    return {
        "code": code,
        "packages": dict(sorted(packages.items())),
        "data": {"digest": card["digest"], "settings": data_settings(params, card["settings"]["inputs"])},
        "run": _run(name, card, root),
    }


def _run(name: str, card: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return the device and the version of torch; also date, machine and seconds of the training, if they are stored."""
    path = root / TIMING / f"{name}.json"
    timing = read_json(path, ("source",), "Delete it; it holds only timings.") if path.is_file() else {}
    same_source = timing.pop("source", None) == card["source"]
    return {**(timing if same_source else {}), "device": card["device"], "torch": card["torch"]}
