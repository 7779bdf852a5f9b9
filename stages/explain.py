"""Explain stage: filters, activations and attributions of one experiment, and how far the attributions can be trusted."""

import argparse
from pathlib import Path

from labbook.core.files import write_json
from labbook.core.packed import read_packed
from labbook.core.reading import validate
from labbook.core.runtime import configure
from labbook.core.stage import run
from labbook.explain.experiment import explain
from labbook.figures import save, style
from labbook.params.explain import Look
from labbook.trained import load_trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("experiment")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    # The keys of `look` in params.yaml; what is left out has its default there.
    parser.add_argument("--image")
    parser.add_argument("--layer")
    parser.add_argument("--channels", type=int, nargs="+")
    parser.add_argument("--attributions", nargs="+")
    for key in ("correct", "wrong", "steps"):
        parser.add_argument(f"--{key}", type=int)
    parser.add_argument("--region")
    arguments = vars(parser.parse_args())
    name, dataset, seed, device, threads = (
        arguments.pop(key) for key in ("experiment", "dataset", "seed", "device", "threads")
    )
    look = validate(arguments, Look, f"explain.{name}.look")
    place = configure(device, threads, seed)
    packed = read_packed(Path("data/processed") / f"{dataset}.safetensors")
    _, restored = load_trained(name, packed, place)
    with style():
        found = explain(restored, packed, look, place, seed)
        for kind in ("filters", "activations", "attributions"):
            save(getattr(found, kind), Path("plots") / kind / f"{name}.png")
            save(getattr(found, kind), Path("figures") / kind / f"{name}.pdf")
    write_json(Path("metrics/explain") / f"{name}.json", found.metrics)


if __name__ == "__main__":
    run(main)
