"""Write the page of the exercises: part of the site, but self-contained, because another stage writes the rest."""

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
    """Return all results and their reported values, as JSON.

    Results are lists, which DVC omits from its tables: these show only whether each exercise agrees.
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
        values=_format_result,
        output_plot=_output_plot,
    )
    write_text(path, html)


def _format_result(result: Result) -> list[str | list[Grid]]:
    """Format the computed and the reported value: as numbers in a row, or as matrices with differing cells marked."""
    computed, reported = np.asarray(result.computed), np.asarray(result.reported)
    styles = np.where(computed == reported, "", "marked") if computed.shape == reported.shape else None
    return [_format_value(value, styles) for value in (computed, reported)]


def _format_value(value: NDArray[Any], styles: NDArray[Any] | None) -> str | list[Grid]:
    if value.ndim < 2:
        return ", ".join(format_number(number) for number in np.atleast_1d(value))
    matrices = value.reshape(-1, *value.shape[-2:])
    matrix_styles = [None] * len(matrices) if styles is None else styles.reshape(matrices.shape)
    return [make_grid("", matrix, style) for matrix, style in zip(matrices, matrix_styles, strict=True)]


def _output_plot(network: Network) -> dict[str, Any]:
    """Return the parts of the plot of a network: shaded cells, the boundary of each hidden unit, and the four inputs."""
    side = (HIGH - LOW) / CELLS
    centres = LOW + side * (np.arange(CELLS) + 0.5)
    points = np.stack([axis.ravel() for axis in np.meshgrid(centres, centres)], axis=1)
    levels = np.clip(output(network, points), 0, 1)
    outputs = output(network, INPUTS)
    return {
        "low": LOW,
        "extent": HIGH - LOW,
        "side": side,
        "cells": [(x - side / 2, y - side / 2, level) for (x, y), level in zip(points, levels, strict=True) if level > 0],
        "boundaries": [_boundary(weights, bias) for weights, bias in zip(network.weights, network.bias, strict=True)],
        "points": [
            (x, y, format_number(value), bool(decision))
            for (x, y), value, decision in zip(INPUTS, outputs, decide(outputs), strict=True)
        ],
    }  # fmt: skip


def _boundary(weights: tuple[float, float], bias: float) -> tuple[float, float, float, float]:
    """Return two points outside the plot on the boundary of a unit, weights · x + bias = 0."""
    normal = np.array(weights)
    nearest = -bias * normal / (normal @ normal)  # to the origin
    direction = 4 * np.array([-normal[1], normal[0]]) / np.hypot(*normal)
    return (*(nearest - direction), *(nearest + direction))
