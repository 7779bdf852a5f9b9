"""Evaluate stage: write test metrics, predictions, confusion counts, mistakes, card and ledger entry of one experiment."""

import _here  # noqa: F401

import argparse
from pathlib import Path

import numpy as np

from labbook.data.packed import read_packed
from labbook.evaluation import write_confusion
from labbook.evaluation.evaluate import evaluate_experiment
from labbook.evaluation.provenance import record_experiment
from labbook.evaluation.restore import read_summary
from labbook.io import write_folder, write_json
from labbook.plots import save, style
from labbook.plots.confusion import draw_confusion
from labbook.plots.samples import draw_samples
from labbook.stage import run
from labbook.training.runtime import configure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    name = arguments.experiment
    summary, settings = read_summary(name)
    device = configure(arguments.device, settings.threads, seed=0)
    packed = read_packed(Path("data/processed") / f"{settings.inputs.dataset}.safetensors")
    evaluated = evaluate_experiment(name, summary, settings, packed, device)
    write_json(Path("metrics") / f"{name}.json", evaluated.metrics)
    write_confusion(Path("plots/confusion") / f"{name}.csv", evaluated.first.confusion, packed.classes)
    with write_folder(Path("models/cards") / name) as folder, style():
        write_json(folder / "card.json", evaluated.card)
        np.savez(folder / "predictions.npz", allow_pickle=False, **evaluated.predictions)
        save(draw_confusion(evaluated.first.confusion, packed.classes), folder / "confusion.pdf", name)
        samples = draw_samples(evaluated.first, packed.test.images, packed.classes)
        save(samples, folder / "samples.pdf", name)
        save(samples, Path("plots/samples") / f"{name}.png")
    record_experiment(name, evaluated.card, evaluated.predictions)


if __name__ == "__main__":
    run(main)
