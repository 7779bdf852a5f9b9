"""`results/<source>.csv` and `.md`: reported beside reproduced, a line an experiment.

Only a run on the official data is compared with what was reported; an embedded one shows chance instead.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from labbook.core.files import write_text
from labbook.report.principles import principles_table
from labbook.report.records import Gathered, PairRecord, Pending, Record, SweepRecord
from labbook.report.verdict import TOLERANCE, judge, judge_seeds, print_reported

__all__ = [
    "comparison", "curve_points", "environment_of", "markdown", "results_table", "seeds_table", "segmentation_table",
    "sweep_table", "write_results",
]  # fmt: skip

COLUMNS = (
    "experiment", "assignment", "reported_test_accuracy", "test_accuracy", "gap", "verdict", "required", "required_reached",
    "chance", "test_loss", "test_mean_iou", "chance_mean_iou", "test_calibration_error", "train_accuracy", "val_accuracy",
    "kept", "best_epoch", "epochs", "parameters", "data", "device", "precision", "threads", "seed", "restart", "torch",
)  # fmt: skip
WHOLE = ("best_epoch", "epochs", "parameters", "threads", "seed", "restart")
NOT_RUN = "not yet run"


def results_table(source: str, entries: Sequence[Record | Pending]) -> pd.DataFrame:
    """Put one row an experiment; the comparing columns are empty for a run on embedded data.

    Args:
        source: of the data, `embedded` or `official`.
        entries: what was run on it, and what was not.
    """
    rows = [_row(entry) if isinstance(entry, Record) else _empty_row(entry, source) for entry in entries]
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(WHOLE, "Int64"))


def _empty_row(pending: Pending, source: str) -> dict[str, object]:
    return {
        "experiment": pending.name,
        "assignment": pending.asked.assignment,
        "reported_test_accuracy": print_reported(pending.asked.reported) if source == "official" else None,
        "verdict": NOT_RUN,
        "data": source,
    }


def _row(record: Record) -> dict[str, object]:
    card, metrics, reported = record.card, record.card["metrics"], record.asked.reported
    official = card["source"] == "official"
    verdict = judge(reported, record.test_accuracy, metrics["chance_accuracy"]) if official else None
    required = reported.required_test_accuracy if official else None
    return {
        "experiment": record.name,
        "assignment": record.asked.assignment,
        "reported_test_accuracy": print_reported(reported) if official else None,
        "test_accuracy": metrics["test_accuracy"],
        "gap": verdict.gap if verdict else None,
        "verdict": verdict.words if verdict else None,
        "required": required,
        "required_reached": None if required is None else record.test_accuracy >= required,
        "chance": metrics["chance_accuracy"],
        "test_loss": metrics["test_loss"],
        "test_mean_iou": metrics.get("test_mean_iou"),
        "chance_mean_iou": metrics.get("chance_mean_iou"),
        "test_calibration_error": metrics.get("test_calibration_error"),
        "train_accuracy": metrics["train_accuracy"],
        "val_accuracy": metrics.get("val_accuracy"),
        "kept": card["kept"],
        "best_epoch": metrics["best_epoch"],
        "epochs": metrics["epochs_trained"],
        "parameters": metrics["parameters"],
        "data": card["source"],
        "device": card["device"],
        "precision": card["settings"]["precision"],
        "threads": card["threads"],
        "seed": card["seed"],
        "restart": card["settings"].get("restart", 0),
        "torch": card["torch"],
    }


def environment_of(records: list[Record]) -> dict[str, str]:
    """Name device, threads, seed and torch of all records; where they differ, each that there is."""
    return {
        key: ", ".join(sorted({str(record.card[key]) for record in records})) or "–"
        for key in ("device", "threads", "seed", "torch")
    }


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Choose and word the columns that a person reads."""
    official = bool((table["data"] == "official").all())
    shown = pd.DataFrame({"experiment": table["experiment"].map(lambda name: f"`{name}`")})
    if official:
        shown["reported"] = table["reported_test_accuracy"]
        shown["reproduced"] = table["test_accuracy"].map(_accuracy)
        shown["gap"] = table["gap"].map(lambda gap: "" if pd.isna(gap) else f"{gap:+.4f}")
        shown["verdict"] = table["verdict"]
        shown["required"] = [
            "" if pd.isna(required) else f"{required:.3f} {'reached' if reached else 'missed'}"
            for required, reached in zip(table["required"], table["required_reached"], strict=True)
        ]
    else:
        shown["test accuracy"] = [
            NOT_RUN if verdict == NOT_RUN else _accuracy(accuracy)
            for accuracy, verdict in zip(table["test_accuracy"], table["verdict"], strict=True)
        ]
        shown["chance"] = table["chance"].map(_accuracy)
    shown["parameters"] = table["parameters"].map(lambda count: "" if pd.isna(count) else f"{int(count):,}")
    shown["epochs"] = table["epochs"].map(lambda count: "" if pd.isna(count) else f"{int(count)}")
    return shown


def _accuracy(accuracy: float) -> str:
    return "" if pd.isna(accuracy) else f"{accuracy:.4f}"


def segmentation_table(table: pd.DataFrame) -> pd.DataFrame:
    """Choose the experiments that have a mean intersection over union, and word what tells of them."""
    rows = table[table["test_mean_iou"].notna()]
    return pd.DataFrame(
        {
            "experiment": rows["experiment"].map("`{}`".format),
            "pixel accuracy": rows["test_accuracy"].map(_accuracy),
            "chance": rows["chance"].map(_accuracy),
            "mean IoU": rows["test_mean_iou"].map(_accuracy),
            "chance IoU": rows["chance_mean_iou"].map(_accuracy),
        }
    )


def sweep_table(sweep: SweepRecord) -> pd.DataFrame:
    """Choose the columns of a sweep that a person reads."""
    rows = sweep.rows
    return pd.DataFrame(
        {
            sweep.asked.vary.key: rows["value"].map("{:.4f}".format),
            "test accuracy": rows["test_accuracy"].map("{:.4f}".format),
            "test loss": rows["test_loss"].map("{:.4f}".format),
            "train accuracy": rows["train_accuracy"].map("{:.4f}".format),
        }
    )


def curve_points(records: Sequence[Record]) -> pd.DataFrame:
    """Put all histories below each other, an experiment's name in each row: one table for DVC's plots."""
    if not records:
        return pd.DataFrame(columns=["epoch", "train_accuracy", "experiment"])
    return pd.concat([record.history.assign(experiment=record.name) for record in records], ignore_index=True)


def seeds_table(gathered: Gathered) -> pd.DataFrame:
    """Put one row an experiment that was trained from several seeds; what was reported stands there on official data alone."""
    asked = {entry.name: entry.asked for entry in gathered.entries}
    rows = []
    for name, figures in gathered.seeded.items():
        accuracies, reported = figures["test_accuracy"], asked[name].reported
        row = {
            "experiment": f"`{name}`",
            "seeds": len(figures["runs"]),
            "mean test accuracy": _accuracy(accuracies["mean"]),
            "standard deviation": _accuracy(accuracies["deviation"]),
            "95 % interval of the mean": f"{accuracies['low']:.4f} to {accuracies['high']:.4f}",
            "of one run": f"{accuracies['run_low']:.4f} to {accuracies['run_high']:.4f}",
        }
        if gathered.source == "official":
            row |= {"reported": print_reported(reported), "which is": judge_seeds(reported, accuracies) or ""}
        rows.append(row)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """Print a table as Markdown, without a further library: text columns left, as they stand."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def write_results(gathered: Gathered, folder: Path = Path("results")) -> None:
    """Write the tables of one data source."""
    source = gathered.source
    table = results_table(source, gathered.entries)
    write_text(folder / f"{source}.csv", table.to_csv(index=False, lineterminator="\n"))
    run = environment_of(gathered.records)
    about = (
        f"Data: {source}. Device: {run['device']}, threads: {run['threads']}; seed {run['seed']}; "
        f"torch {run['torch']}. Seconds, dates and the machine: [{source}-timing.csv]({source}-timing.csv)."
    )
    if source == "official":
        note = (
            f"*matched*: within {TOLERANCE * 100:.1f} percentage points of the reported test accuracy; *better*: above that; "
            "*reached*: above a figure that was reported as a lower bound. Weights were chosen on validation data or "
            "are those after the last step; test data chose nothing."
        )
    else:
        note = "Stand-in data: these figures say that the pipeline works, and are not compared with the reported ones."
    parts = ["# Results", "Written by the report stage.", about, note, markdown(comparison(table))]
    segmentation = segmentation_table(table)
    if not segmentation.empty:
        note = "Mean IoU: intersection over union of the pixels of a class, averaged over the classes; chance: one class alone."
        parts += ["## Segmentation", note, markdown(segmentation)]
    for sweep in gathered.sweeps:
        measured = markdown(sweep_table(sweep)) if isinstance(sweep, SweepRecord) else f"{NOT_RUN.capitalize()} on this data."
        parts += [f"## {sweep.asked.title}", measured]
    started = [pair for pair in gathered.pairs if isinstance(pair, PairRecord)]
    if started:
        note = (
            "Points in a plane, the same on either data source; where the weights begin at zero, only the order is drawn anew."
        )
        parts += ["## Random starts", note, markdown(principles_table(started))]
    if gathered.seeded:
        note = (
            "The same training from each of several seeds, which draw weights, order and dropout; the data stay the same. By "
            "Student's t: the first interval holds the mean of all seeds with a probability of 95 %, the second one more run."
        )
        parts += ["## Several seeds", note, markdown(seeds_table(gathered))]
    write_text(folder / f"{source}.md", "\n\n".join(parts) + "\n")
