"""Explain stage: draw filters, activations and attributions of one experiment, and measure the attributions' quality."""

import _here  # noqa: F401

import argparse
from hashlib import sha256
from pathlib import Path

from labbook.config.explain import Explain
from labbook.config.reading import validate
from labbook.data.packed import read_packed
from labbook.errors import DataError
from labbook.evaluation.restore import read_summary, restore_seed, weights_path
from labbook.explain.experiment import explain
from labbook.io import read_bytes, read_json, write_folder, write_json
from labbook.plots import save, style
from labbook.stage import run
from labbook.training.runtime import configure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument("experiment")
    parser.add_argument("--seed", type=int, default=0, help="seed of the quality metrics")
    parser.add_argument("--device", default="auto")
    keys = parser.add_argument_group("keys of a block under explain in params.yaml")
    for key in ("image", "layer", "region"):
        keys.add_argument(f"--{key}")
    for key in ("correct", "wrong", "steps"):
        keys.add_argument(f"--{key}", type=_number)
    keys.add_argument("--channels", type=_number, nargs="+")
    keys.add_argument("--attributions", nargs="+")
    arguments, unknown = parser.parse_known_args()
    values = vars(arguments)
    name, seed, device_name = (values.pop(key) for key in ("experiment", "seed", "device"))
    values |= {text.removeprefix("--"): None for text in unknown[:1]}  # the schema rejects it and suggests the nearest key
    explain_settings = validate(values, Explain, f"explain.{name}")
    summary, settings = read_summary(name)
    device = configure(device_name, settings.threads, seed)
    packed = read_packed(Path("data/processed") / f"{settings.inputs.dataset}.safetensors")
    explained_seed = summary["seeds"][0]["seed"]
    _check_card(name, packed.digest, weights_path(name, explained_seed))
    restored = restore_seed(name, explained_seed, settings, packed, device)
    plots_folder = write_folder(Path("plots/explained") / name)
    with style(), write_folder(Path("models/explained") / name) as folder, plots_folder as plots:
        explanation = explain(restored, packed, explain_settings, device, seed)
        write_json(folder / "explained.json", explanation.summary)
        for kind in ("filters", "activations", "attributions"):
            figure = getattr(explanation, kind)
            save(figure, folder / f"{kind}.pdf", name)
            save(figure, plots / f"{kind}.png", name)


def _number(text: str) -> int | str:
    """Convert text to an integer if possible; the schema rejects any other text."""
    try:
        return int(text)
    except ValueError:
        return text


def _check_card(name: str, digest: str, weights: Path) -> None:
    """Check that data and weights are those of the card, which is the file that DVC tracks for this stage.

    Raises:
        DataError: the card was written for other data or weights.
    """
    path, fix = Path("models/cards") / name / "card.json", f"Run `dvc repro evaluate@{name}`."
    card = read_json(path, ("dataset", "digest", "weights"), fix)
    if card["digest"] != digest:
        raise DataError(f"{path}: {name} was evaluated on a different version of {card['dataset']}. {fix}")
    if card["weights"][0] != sha256(read_bytes(weights, f"Run `dvc repro train@{name}`.")).hexdigest():
        raise DataError(f"{path}: {name} was evaluated with different weights from {weights}. {fix}")


if __name__ == "__main__":
    run(main)
