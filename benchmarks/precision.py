"""Measure the effect of bf16 on accuracy: train experiments in float32 and bf16, and evaluate both on the test set.

    python benchmarks/precision.py experiment ...     # needs the prepared dataset; writes benchmarks/precision.md

The results select nothing. Except for the precision, settings are those of the experiment's block, but both runs train for all
epochs and use the last weights: early stopping by a noisy loss could stop one run much earlier by chance.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from turns import write_page

from labbook.config.reading import look_up, read
from labbook.config.train import read_training
from labbook.data.packed import read_packed
from labbook.evaluation.restore import restore
from labbook.training.experiment import train_experiment
from labbook.training.inference import evaluate, to_device

ALL_EPOCHS: dict[str, Any] = {"early_stopping": None, "select": "last"}


def main() -> None:
    rows = []
    for experiment in sys.argv[1:]:
        key = f"experiments.{experiment}.train"
        packed = read_packed(Path("data/processed") / f"{look_up(read(), f'{key}.inputs.dataset')}.safetensors")
        settings, runtime = read_training(experiment, packed.source)
        figures = {}
        for precision in ("float32", "bf16"):
            asked = settings.model_copy(update=ALL_EPOCHS | {"precision": precision})
            outcome = train_experiment(f"precision/{experiment}_{precision}", asked, runtime, packed, key=key)
            device = torch.device(outcome.device)
            restored = restore(asked, packed, outcome.weights, device)
            _, figures[precision] = evaluate(restored.model, restored.loss, to_device(packed.test, restored.convert, device))
        row = {"experiment": f"`{experiment}`", "data": packed.source}
        row |= {f"test accuracy in {precision}": f"{accuracy:.4f}" for precision, accuracy in figures.items()}
        rows.append(row | {"bf16 minus float32, points": f"{100 * (figures['bf16'] - figures['float32']):+.2f}"})
        print(*rows[-1].values(), flush=True)
        command = f"python benchmarks/precision.py {' '.join(sys.argv[1:])}"
        write_page(Path("benchmarks/precision.md"), "Accuracy in float32 and in bf16", command, "one run each.", rows)


if __name__ == "__main__":
    main()
