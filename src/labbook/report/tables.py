"""Tables of results as CSV and Markdown: reported and reproduced accuracy, one row per experiment.

Results on official data are compared with the reported ones, results on embedded data with chance. The files contain no
training times, so two runs write the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from labbook.io import write_text
from labbook.report.answers import format_accuracy
from labbook.report.principles import principles_table
from labbook.report.records import Earlier, Gathered, Pending, Record, SweepRecord, assignment_letter
from labbook.report.verdict import EARLIER, NOT_RUN, comparable, format_reported, judge_record
from labbook.statistics import summarize_seeds

__all__ = [
    "COLUMNS", "comparison", "curve_points", "describe_environment", "markdown", "results_csv", "results_markdown",
    "results_table", "seeds_table", "segmentation_table", "sweep_table", "write_results",
]  # fmt: skip

COLUMNS = (
    "experiment", "assignment", "reported_test_accuracy", "test_accuracy", "test_sd", "seeds", "gap", "verdict", "required",
    "required_reached", "chance", "test_loss", "test_miou", "chance_miou", "test_ece", "train_accuracy", "val_accuracy",
    "select", "epochs", "parameters", "data", "device", "precision", "threads", "first_seed", "torch",
)  # fmt: skip
INTEGERS = ("seeds", "parameters", "threads", "first_seed")


def results_table(source: str, entries: Sequence[Record | Pending]) -> pd.DataFrame:
    """Return one row per experiment with means over its seeds; columns that compare with a report are empty on embedded data.

    Args:
        source: data source, `embedded` or `official`.
        entries: all experiments, whether run or pending.
    """
    rows = [_row(entry) if isinstance(entry, Record) else _empty_row(entry, source) for entry in entries]
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(INTEGERS, "Int64"))


def _empty_row(pending: Pending, source: str) -> dict[str, object]:
    """Return the row of an experiment without a result; a run by an earlier version is shown but not compared."""
    row: dict[str, object] = {
        "experiment": pending.name,
        "assignment": assignment_letter(pending.spec.assignment),
        "reported_test_accuracy": format_reported(pending.spec.reported) if source == "official" else None,
        "verdict": NOT_RUN,
        "data": source,
    }
    if isinstance(pending, Earlier):
        row |= {"test_accuracy": pending.test_accuracy, "seeds": 1, "verdict": EARLIER}
    return row


def _row(record: Record) -> dict[str, object]:
    card, metrics, reported = record.card, record.card["metrics"], comparable(record)
    official = card["source"] == "official"
    verdict = judge_record(record) if official else None
    required = reported.required if official else None
    means = ("test_loss", "test_miou", "test_ece", "train_accuracy", "val_accuracy")
    return {
        "experiment": record.name,
        "assignment": assignment_letter(record.spec.assignment),
        "reported_test_accuracy": format_reported(reported) if official else None,
        "test_accuracy": record.test_accuracy,
        "test_sd": record.deviation("test_accuracy"),
        "seeds": len(record.seeds),
        "gap": verdict.gap if verdict else None,
        "verdict": verdict.label if verdict else None,
        "required": required,
        "required_reached": None if required is None else record.test_accuracy >= required,
        "chance": metrics["chance_accuracy"],
        "chance_miou": metrics.get("chance_miou"),
        **{metric: record.mean(metric) for metric in means},
        "select": record.settings["select"],
        "epochs": record.mean("epochs_trained"),
        "parameters": card["parameters"],
        "data": card["source"],
        "device": card["device"],
        "precision": record.settings["precision"],
        "threads": record.settings["threads"],
        "first_seed": record.seeds[0]["seed"],
        "torch": card["torch"],
    }


def describe_environment(records: Sequence[Record]) -> dict[str, str]:
    """Return device, threads, first seed and torch version of the records; if they differ, all values."""
    values_by_key = {
        "device": {str(record.card["device"]) for record in records},
        "threads": {str(record.settings["threads"]) for record in records},
        "seed": {str(record.seeds[0]["seed"]) for record in records},
        "torch": {str(record.card["torch"]) for record in records},
    }
    return {key: ", ".join(sorted(values)) or "–" for key, values in values_by_key.items()}


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Return the main columns of the table of results, formatted for reading."""
    official = bool((table["data"] == "official").all())
    accuracies = [
        _accuracy(mean) if pd.isna(deviation) else f"{mean:.4f} ± {deviation:.4f} (n = {int(seeds)})"
        for mean, deviation, seeds in zip(table["test_accuracy"], table["test_sd"], table["seeds"], strict=True)
    ]
    formatted = pd.DataFrame({"experiment": table["experiment"].map(lambda name: f"`{name}`")})
    if official:
        formatted["reported"] = table["reported_test_accuracy"]
        formatted["reproduced"] = accuracies
        formatted["gap"] = table["gap"].map(lambda gap: "" if pd.isna(gap) else f"{gap:+.4f}")
        formatted["verdict"] = table["verdict"]
        formatted["required"] = [
            "" if pd.isna(required) else f"{required:.3f} {'reached' if reached else 'missed'}"
            for required, reached in zip(table["required"], table["required_reached"], strict=True)
        ]
    else:
        verdicts = zip(accuracies, table["verdict"], strict=True)
        formatted["test accuracy"] = [NOT_RUN if verdict == NOT_RUN else accuracy for accuracy, verdict in verdicts]
        formatted["chance"] = table["chance"].map(_accuracy)
    formatted["parameters"] = table["parameters"].map(lambda count: "" if pd.isna(count) else f"{int(count):,}")
    formatted["epochs"] = table["epochs"].map(lambda count: "" if pd.isna(count) else f"{count:g}")
    return formatted


def _accuracy(accuracy: float) -> str:
    return "" if pd.isna(accuracy) else f"{accuracy:.4f}"


def segmentation_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the formatted metrics of the segmentation experiments."""
    rows = table[table["test_miou"].notna()]
    return pd.DataFrame(
        {
            "experiment": rows["experiment"].map("`{}`".format),
            "pixel accuracy": rows["test_accuracy"].map(_accuracy),
            "chance": rows["chance"].map(_accuracy),
            "mean IoU": rows["test_miou"].map(_accuracy),
            "chance IoU": rows["chance_miou"].map(_accuracy),
        }
    )


def sweep_table(sweep: SweepRecord) -> pd.DataFrame:
    """Return the main columns of a sweep, formatted for reading."""
    rows = sweep.rows
    return pd.DataFrame(
        {
            sweep.spec.vary.key: rows["value"].map("{:.4f}".format),
            "test accuracy": rows["test_accuracy"].map("{:.4f}".format),
            "test loss": rows["test_loss"].map("{:.4f}".format),
            "train accuracy": rows["train_accuracy"].map("{:.4f}".format),
        }
    )


def curve_points(records: Sequence[Record]) -> pd.DataFrame:
    """Return the histories of all experiments and seeds in one table, for DVC's plots."""
    if not records:
        return pd.DataFrame(columns=["seed", "epoch", "train_accuracy", "experiment"])
    histories = [rows.assign(experiment=record.name) for record in records for rows in record.histories.values()]
    return pd.concat(histories, ignore_index=True)


def seeds_table(gathered: Gathered) -> pd.DataFrame:
    """Return one row per experiment with several seeds; the reported accuracy is included on official data only."""
    rows = []
    for record in gathered.records:
        if len(record.seeds) < 2:
            continue
        accuracies = summarize_seeds(record.values("test_accuracy"))
        row = {
            "experiment": f"`{record.name}`",
            "seeds": len(record.seeds),
            "test accuracy": format_accuracy(record),
            "95% confidence interval of the mean": f"{accuracies['low']:.4f} to {accuracies['high']:.4f}",
            "95% prediction interval of one run": f"{accuracies['run_low']:.4f} to {accuracies['run_high']:.4f}",
        }
        if gathered.source == "official":
            row["reported"] = format_reported(comparable(record))
        rows.append(row)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def results_csv(gathered: Gathered) -> str:
    """Return the table of results with all columns."""
    table = results_table(gathered.source, gathered.entries)
    return str(table.to_csv(index=False, lineterminator="\n", float_format="%.10g"))


def results_markdown(gathered: Gathered) -> str:
    """Return all tables as Markdown: results, segmentation, sweeps, principles, and intervals over seeds."""
    table = results_table(gathered.source, gathered.entries)
    parts = ["# Results", *_introduction(gathered), markdown(comparison(table))]
    segmentation = segmentation_table(table)
    if not segmentation.empty:
        note = "Mean IoU: intersection over union, averaged over classes. Chance: always predicting the most frequent class."
        parts += ["## Segmentation", note, markdown(segmentation)]
    for sweep in gathered.sweeps:
        measured = markdown(sweep_table(sweep)) if isinstance(sweep, SweepRecord) else f"{NOT_RUN.capitalize()} on this data."
        parts += [f"## {sweep.spec.title}", measured]
    principles = principles_table(gathered.records)
    if not principles.empty:
        note = (
            "Experiments on 2D points, which are the same for both data sources. A seed determines initial weights and order "
            "of the points, or only the order if the weights start at zero."
        )
        parts += ["## Principles", note, markdown(principles)]
    seeds = seeds_table(gathered)
    if not seeds.empty:
        note = (
            "Mean ± standard deviation (n - 1) over the seeds. A seed determines initial weights, order, augmentation and "
            "dropout; the data are the same. Intervals by Student's t: a 95% confidence interval of the mean, and a 95% "
            "prediction interval of one more run."
        )
        parts += ["## Several seeds", note, markdown(seeds)]
    return "\n\n".join(parts) + "\n"


def write_results(gathered: Gathered, folder: Path = Path("reports/tables")) -> None:
    """Write the tables of one data source."""
    write_text(folder / f"{gathered.source}.csv", results_csv(gathered))
    write_text(folder / f"{gathered.source}.md", results_markdown(gathered))


def _introduction(gathered: Gathered) -> list[str]:
    source, run = gathered.source, describe_environment(gathered.records)
    official = source == "official"
    written = "Generated from the ledger, `results/official/`." if official else "Written by the report stage."
    seconds = "`results/official-timing.csv`" if official else f"`timing/{source}.csv` on the machine that trained"
    summary = (
        f"Data: {source}. Device: {run['device']}, threads: {run['threads']}; first seed {run['seed']}; torch {run['torch']}. "
        "Test accuracies are means ± standard deviations over n seeds where there are several. Training times, dates and "
        f"machines are in {seconds}."
    )
    if not official:
        note = (
            "Embedded data, not the real datasets: these results show that the pipeline works. They are compared with chance, "
            "not with the reported results."
        )
        return [written, summary, note]
    note = (
        "*consistent*: the reported test accuracy lies inside the 95% prediction interval of one more run of ours; *ours is "
        "higher*, *ours is lower*: it lies outside; *one run only*: a single run has no interval; *reached*, *missed*: our "
        "mean is above a reported lower bound, or not. The weights of each run were selected on validation data, or are those "
        "after the last step."
    )
    if any(isinstance(entry, Earlier) for entry in gathered.entries):
        note += (
            f" *{EARLIER}*: not run again since. These rows, from `results/earlier.csv`, are not compared with the reported "
            "results; some of them are biased by choices made when test results were known (`docs/choices.md`)."
        )
    return [written, summary, note]
