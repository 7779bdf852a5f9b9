"""Write the page of the exercises. It is part of the site, but self-contained, because a later stage writes the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from labbook.exercises.exercise import Exercise, Result
from labbook.exercises.gates import INPUTS, Network, decide, output
from labbook.exercises.steps import Grid, format_number, make_grid
from labbook.io import write_text
from labbook.report.assignments import ASSIGNMENTS

__all__ = ["metrics", "write_page"]

LOW, HIGH, CELLS = -0.5, 1.5, 20  # range of both inputs in the plot, and cells per side


def metrics(exercises: Sequence[Exercise]) -> dict[str, object]:
    """Return every result beside its reported value, as JSON.

    Results are a list, so that the tables of DVC show only whether each exercise agrees.
    """
    return {
        exercise.name: {
            "assignment": exercise.assignment,
            "agrees": exercise.agrees,
            "results": [
                {
                    "quantity": result.quantity,
                    "computed": np.asarray(result.computed).tolist(),
                    "reported": result.reported,
                    "agrees": result.agrees,
                }
                for result in exercise.results
            ],
        }
        for exercise in exercises
    }


def write_page(exercises: Sequence[Exercise], path: Path) -> None:
    """Write the page."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("labbook.exercises"),
                jinja2.PackageLoader("labbook.report"),
                jinja2.PackageLoader("labbook.report", "static"),
            ]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    results = [result for exercise in exercises for result in exercise.results]
    html = environment.get_template("exercises.html").render(
        root="",
        page="exercises.html",
        assignments=ASSIGNMENTS,
        exercises=exercises,
        letters=sorted({exercise.assignment for exercise in exercises}),
        count=len(results),
        agreeing=sum(result.agrees for result in results),
        values=_values,
        output_plot=_output_plot,
    )
    write_text(path, html)


def _values(result: Result) -> list[str | list[Grid]]:
    """Format the computed and the reported value: numbers in a row, or matrices whose differing cells are marked."""
    ours, theirs = np.asarray(result.computed), np.asarray(result.reported)
    styles = np.where(ours == theirs, "", "marked") if ours.shape == theirs.shape else None
    return [_printed(side, styles) for side in (ours, theirs)]


def _printed(values: NDArray[Any], styles: NDArray[Any] | None) -> str | list[Grid]:
    if values.ndim < 2:
        return ", ".join(format_number(value) for value in np.atleast_1d(values))
    matrices = values.reshape(-1, *values.shape[-2:])
    marks = [None] * len(matrices) if styles is None else styles.reshape(matrices.shape)
    return [make_grid("", matrix, mark) for matrix, mark in zip(matrices, marks, strict=True)]


def _output_plot(network: Network) -> dict[str, Any]:
    """Return what the template draws of a network: shaded cells, the boundary of each unit, and the four inputs."""
    side = (HIGH - LOW) / CELLS
    middles = LOW + side * (np.arange(CELLS) + 0.5)
    places = np.stack([axis.ravel() for axis in np.meshgrid(middles, middles)], axis=1)
    levels = np.clip(output(network, places), 0, 1)
    outputs = output(network, INPUTS)
    return {
        "low": LOW,
        "extent": HIGH - LOW,
        "side": side,
        "cells": [(x - side / 2, y - side / 2, level) for (x, y), level in zip(places, levels, strict=True) if level > 0],
        "boundaries": [_boundary(weights, bias) for weights, bias in zip(network.weights, network.bias, strict=True)],
        "points": [
            (x, y, format_number(value), bool(true))
            for (x, y), value, true in zip(INPUTS, outputs, decide(outputs), strict=True)
        ],
    }  # fmt: skip


def _boundary(weights: tuple[float, float], bias: float) -> tuple[float, float, float, float]:
    """Return two points, outside the picture, of the boundary of a unit: weights · x + bias = 0."""
    across = np.array(weights)
    foot = -bias * across / (across @ across)
    along = 4 * np.array([-across[1], across[0]]) / np.hypot(*across)
    return (*(foot - along), *(foot + along))
