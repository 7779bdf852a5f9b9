"""Sweep stage: train one experiment for each value of one setting, and write the test metrics."""

import _here  # noqa: F401

import argparse
from pathlib import Path

from labbook.config.sweep import flat_sweep_settings, read_sweep
from labbook.data.packed import read_packed
from labbook.evaluation.provenance import record_sweep
from labbook.evaluation.restore import read_summary
from labbook.fingerprint.check import check_settings
from labbook.io import write_tsv
from labbook.stage import run
from labbook.training.checkpoint import CHECKPOINTS, discard
from labbook.training.sweep import run_sweep
from labbook.training.timing import write_timing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep")
    parser.add_argument("experiment")
    arguments = parser.parse_args()
    name = arguments.sweep
    summary, _ = read_summary(arguments.experiment)
    variants, runtime = read_sweep(name, summary["source"])
    check_settings(flat_sweep_settings(variants, runtime))
    packed = read_packed(Path("data/processed") / f"{variants[0][1].inputs.dataset}.safetensors")
    rows, timings = run_sweep(name, variants, runtime, packed)
    table = Path("plots/sweeps") / f"{name}.tsv"
    write_tsv(table, list(rows[0]), rows)
    write_timing(name, packed.source, timings)
    record_sweep(name, summary, variants[0][1].model_dump(exclude_none=True), table)
    discard(CHECKPOINTS / name)


if __name__ == "__main__":
    run(main)
