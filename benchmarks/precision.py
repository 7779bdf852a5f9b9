"""What bf16 costs in accuracy: train experiments in float32 and in bf16, and measure each on the test set.

    python benchmarks/precision.py experiment ...     # needs the prepared dataset; writes benchmarks/precision.md

Nothing is chosen by it. All but the precision is as the experiment's block says, and both train all epochs and keep the last
weights: early stopping, by a noisy loss, may end the one long before the other and tell of chance alone.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from turns import write_page

from labbook.core.inference import measure, place
from labbook.core.packed import read_packed
from labbook.core.parts import Part
from labbook.core.settings import read_training
from labbook.trained import restore
from labbook.training.experiment import train_experiment

ALL_EPOCHS: dict[str, Any] = {"stopping": Part(name="never"), "keep": "last"}


def main() -> None:
    rows = []
    for experiment in sys.argv[1:]:
        settings, runtime = read_training(f"experiments.{experiment}")
        packed = read_packed(Path("data/processed") / f"{settings.dataset}.safetensors")
        figures = {}
        for precision in ("float32", "bf16"):
            asked = settings.on(packed.source).model_copy(update=ALL_EPOCHS | {"precision": precision})
            key = f"experiments.{experiment}.train"
            outcome = train_experiment(f"precision/{experiment}_{precision}", asked, runtime, packed, key=key)
            device = torch.device(outcome.summary["device"])
            restored = restore(asked, packed, outcome.weights, device)
            _, figures[precision] = measure(restored.model, restored.loss, place(packed.test, restored.convert, device))
        row = {"experiment": f"`{experiment}`", "data": packed.source}
        row |= {f"test accuracy in {precision}": f"{accuracy:.4f}" for precision, accuracy in figures.items()}
        rows.append(row | {"bf16 minus float32, points": f"{100 * (figures['bf16'] - figures['float32']):+.2f}"})
        print(*rows[-1].values(), flush=True)
        command = f"python benchmarks/precision.py {' '.join(sys.argv[1:])}"
        write_page(Path("benchmarks/precision.md"), "Accuracy in float32 and in bf16", command, "one run each.", rows)


if __name__ == "__main__":
    main()
