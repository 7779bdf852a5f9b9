"""Evaluate stage: an experiment's test figures, confusion counts, mistakes, and its card."""

import argparse
from pathlib import Path

import torch

from labbook.architecture import list_layers
from labbook.core.files import write_json
from labbook.core.packed import read_packed
from labbook.core.parts import find
from labbook.core.runtime import configure
from labbook.core.stage import run
from labbook.examine import examine
from labbook.trained import load_trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    parser.add_argument("--task", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    name = arguments.experiment
    device = configure(arguments.device, arguments.threads, seed=0)
    packed = read_packed(Path("data/processed") / f"{arguments.dataset}.safetensors")
    summary, restored = load_trained(name, packed, device)
    task = find("task", arguments.task, f"experiments.{name}.task")
    evaluation = examine(task, restored, packed, device)
    files = task.write(name, evaluation, packed.test.images, packed.classes)
    trained = {key: summary[key] for key in ("best_epoch", "epochs_trained", "parameters")}
    metrics = evaluation.metrics | summary["best"] | trained | files
    write_json(Path("metrics") / f"{name}.json", metrics)
    image = restored.convert(torch.from_numpy(packed.test.images[:1]).to(device))
    seen = {"mistakes": evaluation.mistakes, "reliability": evaluation.reliability}
    card = summary | {"metrics": metrics, **seen, "layers": list_layers(restored.model, image)}
    write_json(Path("models/cards") / f"{name}.json", card)


if __name__ == "__main__":
    run(main)
