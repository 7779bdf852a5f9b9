"""Sweep stage: one experiment trained again for each of several values of one setting, and what each gives on test."""

import argparse
from pathlib import Path

from labbook.core.files import write_json, write_tsv
from labbook.core.packed import read_packed
from labbook.core.stage import run
from labbook.params.sweep import read_sweep
from labbook.sweep import run_sweep
from labbook.training.checkpoint import CHECKPOINTS, discard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep")
    name = parser.parse_args().sweep
    variants, runtime = read_sweep(name)
    packed = read_packed(Path("data/processed") / f"{variants[0][1].dataset}.safetensors")
    rows, timing = run_sweep(name, variants, runtime, packed)
    write_tsv(Path("plots/sweeps") / f"{name}.tsv", list(rows[0]), rows)
    write_json(Path("metrics/sweeps") / f"{name}.json", {f"{row['value']:.6g}": row for row in rows})
    write_json(Path("metrics/timing") / f"{name}.json", timing)
    discard(CHECKPOINTS / name)


if __name__ == "__main__":
    run(main)
