"""Experiments on 2D points: measurements of each seed, and the descriptions and counts derived from them."""

import html
import re

import pandas as pd
import pytest
from sample_records import make_project, make_record, svg, write_pictures
from toolbox import CPU, toy_settings

from labbook.config.project import Experiment
from labbook.config.train import Runtime
from labbook.evaluation.evaluate import evaluate_model
from labbook.evaluation.restore import restore
from labbook.evaluation.tasks import toy2d
from labbook.plots.curves import draw_pair
from labbook.report.assignments import CLAIMS, PAIRS
from labbook.report.principles import (
    OUTCOMES,
    count_outcomes,
    describe_boundary,
    describe_pair,
    measure_seeds,
    principles_table,
)
from labbook.report.records import Gathered, Pending, Record
from labbook.report.site import write_site
from labbook.report.tables import write_results
from labbook.training.experiment import train_seeds
from labbook.training.history import rounded

NO_BOUNDARY = {"boundary_pieces": 0, "boundary_turning": None, "boundary_corners": None}
LINE = {"boundary_pieces": 1, "boundary_turning": 3.0, "boundary_corners": 0.3}
POLYGON = {"boundary_pieces": 1, "boundary_turning": 360.0, "boundary_corners": 0.7}
SMOOTH = {"boundary_pieces": 1, "boundary_turning": 360.0, "boundary_corners": 0.2}
LEARNED = {"test_accuracy": 0.99, "steps_to_90_percent": 50, "largest_hidden_gradient": 0.5, "dead_units": None}
STUCK = {"test_accuracy": 0.5, "steps_to_90_percent": None, "largest_hidden_gradient": 0.0, "dead_units": None}

# Measurements with the outcome that the assignment claims, and changes that prevent the outcome.
EXAMPLES = {
    "rings_relu_random": (LEARNED | POLYGON, [SMOOTH, NO_BOUNDARY, LINE, {"test_accuracy": 0.8}]),
    "rings_relu_zero": (
        STUCK | NO_BOUNDARY,
        [LINE, {"largest_hidden_gradient": 1e-6}, {"largest_hidden_gradient": None}, {"test_accuracy": 0.6}],
    ),
    "rings_sigmoid_random": (
        LEARNED | SMOOTH | {"steps_to_90_percent": 400},
        [{"steps_to_90_percent": 50}, {"steps_to_90_percent": None}, POLYGON, LINE, {"test_accuracy": 0.93}],
    ),
    "rings_sigmoid_zero": (
        STUCK | LINE | {"test_accuracy": 0.612, "largest_hidden_gradient": 0.1},
        [NO_BOUNDARY, SMOOTH, {"boundary_pieces": 2}, {"test_accuracy": 0.5}, {"test_accuracy": 0.7}],
    ),
    "dying_relu_sorted": (
        STUCK | NO_BOUNDARY | {"dead_units": 0.9},
        [{"dead_units": 0.4}, {"dead_units": None}, {"test_accuracy": 0.8}],
    ),
    "dying_relu_shuffled": (
        LEARNED | LINE | {"dead_units": 0.3},
        [{"dead_units": 0.95}, {"dead_units": None}, {"test_accuracy": 0.8}],
    ),
}


def make_member(name: str, seeds: int = 2, **first: object) -> Record:
    """Make a record in which every seed has the outcome; `first` overrides measurements of the first seed."""
    record = make_record(name, [0.3, 0.4], seeds=seeds)
    for seed in record.seeds:
        measured = EXAMPLES[name][0] | (first if seed["seed"] == 0 else {})
        seed["test"] |= {key: measured[key] for key in ("test_accuracy", *NO_BOUNDARY)}
        seed["test"]["test_accuracy_per_class"] = {"disc": 0.8, "ring": 1.0}
        step = measured["steps_to_90_percent"]
        rows = record.histories[seed["seed"]]
        rows.loc[1, ["step", "train_accuracy"]] = [step, 0.9] if step else [777, 0.899]
        seed["watched"] = [_watched(measured, share) for share in (0.25, 1)]
    return record


def _watched(measured: dict, share: float) -> dict[str, dict[str, float]]:
    """Return a row of recorded values; the largest values are in the last row (`share` 1), in the second layer."""
    row = {}
    gradient, dead = measured["largest_hidden_gradient"], measured["dead_units"]
    if gradient is not None:
        row["gradient_norms"] = {"1": gradient * share / 2, "3": gradient * share, "5": 8.0}
    if dead is not None:
        row["dead_units"] = {"2": dead * share / 2, "4": dead * share}
    return row


def make_members(seeds: int = 2, **changes: dict) -> list[Record]:
    return [make_member(name, seeds, **changes.get(name, {})) for name in EXAMPLES]


def test_every_experiment_of_a_pair_has_a_claim_with_an_outcome():
    members = {member for pair in PAIRS for member in (pair.first, pair.second)}
    assert members == set(CLAIMS) == set(EXAMPLES)
    assert {claim.outcome for claim in CLAIMS.values()} == set(OUTCOMES)
    assert {claim.reference for claim in CLAIMS.values()} - {None} <= members


def test_measurements_of_a_seed_come_from_its_history_and_summary():
    measured = measure_seeds(make_member("rings_relu_random", test_accuracy=0.7, steps_to_90_percent=30, **SMOOTH))
    assert measured == {0: LEARNED | SMOOTH | {"test_accuracy": 0.7, "steps_to_90_percent": 30}, 1: LEARNED | POLYGON}
    assert measure_seeds(make_member("dying_relu_sorted"))[1] == STUCK | NO_BOUNDARY | {"dead_units": 0.9}
    plain = make_member("rings_relu_random", seeds=1)
    del plain.seeds[0]["watched"]
    unwatched = measure_seeds(plain)[0]
    assert (unwatched["largest_hidden_gradient"], unwatched["dead_units"]) == (None, None)


@pytest.mark.parametrize(("name", "change"), [(name, change) for name, (_, changes) in EXAMPLES.items() for change in changes])
def test_outcome_is_counted_only_if_all_its_conditions_hold(name, change):
    assert all((seen.count, seen.seeds) == (2, 2) for seen in count_outcomes(make_members()).values())
    counted = count_outcomes(make_members(**{name: change}))
    assert (counted[name].count, counted[name].seeds) == (1, 2)


def test_experiment_is_not_counted_without_the_seeds_of_its_reference():
    members = make_members()
    assert set(count_outcomes(members)) == set(EXAMPLES)
    without = [member for member in members if member.name != "rings_relu_random"]
    assert "rings_sigmoid_random" not in count_outcomes(without)
    fewer = [*without, make_member("rings_relu_random", seeds=1)]
    assert "rings_sigmoid_random" not in count_outcomes(fewer)
    assert count_outcomes(fewer)["rings_relu_random"].seeds == 1


def test_experiment_with_another_task_is_not_counted():
    member = make_member("rings_relu_random")
    member.settings["task"] = "classification"
    assert count_outcomes([member]) == {}
    assert principles_table([member]).empty


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (NO_BOUNDARY, "no boundary"),
        (LINE, "one straight line as the boundary"),
        (POLYGON, "a boundary with corners"),
        (SMOOTH, "a smooth boundary"),
        (LINE | {"boundary_pieces": 2}, "a smooth boundary"),
        (LINE | {"boundary_pieces": 2, "boundary_turning": 0.0, "boundary_corners": None}, "a smooth boundary"),
    ],
)
def test_describe_boundary(measured, words):
    assert describe_boundary(measured) == words


def test_describe_pair_describes_the_first_seeds():
    relu = [make_member(name) for name in ("rings_relu_random", "rings_relu_zero")]
    assert describe_pair(relu) == (
        "ReLU from small random weights: 90% of the points are classified correctly after 50 steps, a boundary with corners, "
        "test error 0.010; "
        "ReLU from zero weights: no gradient reaches a hidden layer, 90% of the points are never classified "
        "correctly, no boundary, test error 0.500."
    )
    dying = [make_member(name) for name in ("dying_relu_sorted", "dying_relu_shuffled")]
    assert "up to 90% of the units of a layer are dead at the end, no boundary, test error 0.500; " in describe_pair(dying)
    moved = [relu[0], make_member("rings_relu_zero", **(LEARNED | SMOOTH))]
    assert "no gradient" not in describe_pair(moved)
    assert describe_pair(moved).endswith("classified correctly after 50 steps, a smooth boundary, test error 0.010.")


def test_table_has_the_error_of_every_seed():
    table = principles_table(make_members(dying_relu_sorted={"test_accuracy": 0.9})).set_index("experiment")
    assert list(table.loc["`dying_relu_sorted`"])[::2] == ["0.100, 0.500", "1 of 2"]
    assert table.loc["`rings_relu_zero`", "observed in"] == "2 of 2"


def test_draw_pair_labels_each_layer_and_shows_a_gradient_of_zero():
    members = [make_member(name) for name in ("dying_relu_sorted", "dying_relu_shuffled")]
    drawn = svg(draw_pair, *[member.curves for member in members])
    assert drawn == svg(draw_pair, *[member.curves for member in members])
    titles = ("dying_relu_sorted", "dying_relu_shuffled", "gradient norm", "dead units", "accuracy", "loss")
    for text in (*titles, "hidden 1", "hidden 2", "output"):
        assert f">{text}</text>" in drawn
    assert re.search(r">0</t(ext|span)>", drawn), "the logarithmic scale has a zero"
    plain = [make_member(member.name) for member in members]
    for member in plain:
        del member.seeds[0]["watched"]
        member.history[["test_loss", "test_accuracy"]] = float("nan")
    unwatched = svg(draw_pair, *[member.curves for member in plain])
    assert "gradient norm" not in unwatched
    assert "accuracy" not in unwatched
    one_watched = svg(draw_pair, members[0].curves, plain[1].curves)
    assert "gradient norm" not in one_watched, "metrics of only one of the two are omitted"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def written(entries, source="official") -> str:
        for entry in entries:
            if isinstance(entry, Record):
                write_pictures(entry, tmp_path)
                counts = "actual,predicted,count\ndisc,disc,4\ndisc,ring,1\nring,disc,0\nring,ring,5\n"
                (tmp_path / f"plots/confusion/{entry.name}.csv").write_text(counts)
        write_site(Gathered(source, entries), tmp_path / "reports")
        return html.unescape((tmp_path / "reports/assignments/A.html").read_text())

    return written


def pending(name: str) -> Pending:
    experiment: Experiment = make_project().experiments[name]
    return Pending(name, experiment)


def test_page_shows_pairs_side_by_side_with_outcome_counts(write, tmp_path):
    members = make_members(seeds=5, rings_relu_random=SMOOTH)
    page = write(members)
    by_name = {member.name: member for member in members}
    for pair in PAIRS:
        words = describe_pair([by_name[pair.first], by_name[pair.second]])
        assert f"<h3>{pair.title}</h3>\n<p>{words}</p>" in page
        assert f'"label": "Gradient norm of {pair.first} by step and layer: hidden 1 from' in page
    for member in members:
        assert page.count(f'<img src="../pictures/samples/{member.name}.png"') == 1
    assert 'alt="Regions of both classes by rings_sigmoid_zero, with the test points: one straight line' in page
    assert "Observed in 4 of 5 seeds: a boundary with corners and an error of at most 0.1." in page
    assert "Reported: “never moves: error about 0.5, no boundary”. Observed in 5 of 5 seeds: no gradient" in page
    assert "test accuracy 0.6120." in page, "the accuracy of the first seed, as in the picture"
    write_results(Gathered("official", members), tmp_path)
    assert "## Principles" in (tmp_path / "official.md").read_text()


def test_page_marks_experiments_that_were_not_run(write, tmp_path):
    first, *rest = EXAMPLES
    entries = [make_member(first), *map(pending, rest)]
    page = write(entries)
    assert page.count('<p class="pending">Not yet run on this data.</p>') == len(PAIRS)
    assert page.count('<img src="../pictures/samples/rings_relu_random.png"') == 1
    assert "Reported" in page
    assert "Reported: “" not in write([make_member(first)], "embedded")
    assert not any(pair.title in write([make_member(first)]) for pair in PAIRS), "a pair needs both experiments"
    write_results(Gathered("official", [pending(first)]), tmp_path)
    assert "Principles" not in (tmp_path / "official.md").read_text()


@pytest.fixture(scope="module")
def train_record(rings_packed):
    """Return a function that trains an experiment on the rings for a few steps and returns its record."""

    def train(name: str, model: dict, seeds: int = 1, **changes) -> Record:
        settings = toy_settings(
            inputs={"dataset": "rings", "pretrained": "none"}, task="toy2d", validation=False, model={"name": "mlp"} | model,
            preprocess={"mean": 0.5, "std": 0.25}, batch_size=300, epochs=40, optimizer={"name": "SGD", "lr": 1.0},
            watch=["gradient_norms", "dead_units"], seeds=seeds, **changes,
        )  # fmt: skip
        outcomes = train_seeds(name, settings, Runtime(seed=3, device="cpu"), rings_packed, key="x")
        evaluations = [
            evaluate_model(toy2d, restore(settings, rings_packed, one.weights, CPU), rings_packed, CPU) for one in outcomes
        ]
        summaries = [one.summary | {"test": found.metrics} for one, found in zip(outcomes, evaluations, strict=True)]
        histories = {one.summary["seed"]: pd.DataFrame([rounded(row) for row in one.rows]) for one in outcomes}
        card = {"settings": settings.model_dump(), "seeds": summaries}
        return Record(name, make_project().experiments[name], {}, {}, card, histories)

    return train


@pytest.mark.usefixtures("workdir")
def test_seeds_of_a_real_training_are_measured_separately(train_record):
    record = train_record("rings_relu_random", {"hidden": [16]}, seeds=2)
    first, second = measure_seeds(record).values()
    assert list(record.histories) == [3, 4]
    assert (first["test_accuracy"], first["boundary_turning"]) != (second["test_accuracy"], second["boundary_turning"])
    watched = record.seeds[1]["watched"]
    assert second["dead_units"] == watched[-1]["dead_units"]["2"]
    assert second["largest_hidden_gradient"] == max(row["gradient_norms"]["1"] for row in watched)
    accuracies, reached = list(record.histories[4]["train_accuracy"]), second["steps_to_90_percent"]
    assert accuracies[reached - 1] >= 0.9 > max(accuracies[: reached - 1]), "the history has one row per step"


@pytest.mark.usefixtures("workdir")
def test_zero_weights_have_no_gradient_with_relu_but_one_with_sigmoid(train_record):
    relu = measure_seeds(train_record("rings_relu_zero", {"hidden": [16], "init": "zeros"}))[3]
    assert (relu["largest_hidden_gradient"], relu["boundary_pieces"], relu["test_accuracy"]) == (0, 0, 0.5)
    assert (relu["steps_to_90_percent"], relu["dead_units"]) == (None, 1)
    sigmoid = train_record("rings_sigmoid_zero", {"hidden": [16], "init": "zeros", "activation": "sigmoid"})
    assert measure_seeds(sigmoid)[3]["largest_hidden_gradient"] > 1e-4
