"""What the report says of experiments on points: words and counts that follow the figures."""

import html
import re
from pathlib import Path

import pytest
from PIL import Image
from test_report import make_record, svg

from labbook.core.errors import DataError
from labbook.core.files import write_json
from labbook.figures.curves import draw_pair
from labbook.params.project import Project, read_project
from labbook.report.principles import OUTCOMES, count_seen, principles_table, tell_boundary, tell_pair
from labbook.report.records import Gathered, PairRecord, PendingPair, Record, gather_pairs
from labbook.report.site import write_site
from labbook.report.tables import write_results

ROOT = Path(__file__).parents[1]
NOTHING = {"boundary_pieces": 0, "boundary_turning": None, "boundary_corners": None}
LINE = {"boundary_pieces": 1, "boundary_turning": 3.0, "boundary_corners": 0.3}
POLYGON = {"boundary_pieces": 1, "boundary_turning": 360.0, "boundary_corners": 0.7}
SMOOTH = {"boundary_pieces": 1, "boundary_turning": 360.0, "boundary_corners": 0.2}
LEARNT = {"test_accuracy": 0.99, "steps_to_90_percent": 50, "largest_hidden_gradient": 0.5, "dead_units": None}
STUCK = {"test_accuracy": 0.5, "steps_to_90_percent": None, "largest_hidden_gradient": 0.0, "dead_units": None}

# Figures in which the assignment's outcome is seen, and what spoils it.
EXAMPLES = {
    "rings_relu_random": (LEARNT | POLYGON, [SMOOTH, NOTHING, LINE, {"test_accuracy": 0.8}]),
    "rings_relu_zero": (STUCK | NOTHING, [LINE, {"largest_hidden_gradient": 1e-6}, {"test_accuracy": 0.6}]),
    "rings_sigmoid_random": (
        LEARNT | SMOOTH | {"steps_to_90_percent": 400},
        [{"steps_to_90_percent": 50}, {"steps_to_90_percent": None}, POLYGON, LINE, {"test_accuracy": 0.93}],
    ),
    "rings_sigmoid_zero": (
        STUCK | LINE | {"test_accuracy": 0.612, "largest_hidden_gradient": 0.1},
        [NOTHING, SMOOTH, {"boundary_pieces": 2}, {"test_accuracy": 0.5}, {"test_accuracy": 0.7}],
    ),
    "dying_relu_sorted": (STUCK | NOTHING | {"dead_units": 0.9}, [{"dead_units": 0.4}, {"test_accuracy": 0.8}]),
    "dying_relu_shuffled": (LEARNT | LINE | {"dead_units": 0.3}, [{"dead_units": 0.95}, {"test_accuracy": 0.8}]),
}


@pytest.fixture(scope="module")
def project() -> Project:
    return read_project(ROOT / "params.yaml")


def make_pairs(project: Project, starts: int = 2, **changes) -> list[PairRecord]:
    """Let every outcome be seen in every start, but for `changes` in the first start of an experiment."""
    pairs = []
    for name, pair in project.pairs.items():
        figures = {
            member: {str(start): EXAMPLES[member][0] | ({} if start else changes.get(member, {})) for start in range(starts)}
            for member in (pair.first, pair.second)
        }
        pairs.append(PairRecord(name, pair, {member: project.experiments[member].title for member in figures}, figures))
    return pairs


def test_every_experiment_of_a_pair_has_an_outcome(project):
    members = {member for pair in project.pairs.values() for member in (pair.first, pair.second)}
    assert members == set(OUTCOMES) == set(EXAMPLES)


@pytest.mark.parametrize(
    ("name", "spoilt"), [(name, spoilt) for name, (_, all_spoilt) in EXAMPLES.items() for spoilt in all_spoilt]
)
def test_outcome_is_seen_only_where_the_figures_say_so(project, name, spoilt):
    assert all((seen.count, seen.starts) == (2, 2) for seen in count_seen(make_pairs(project)).values())
    counted = count_seen(make_pairs(project, **{name: spoilt}))
    assert (counted[name].count, counted[name].starts) == (1, 2)


def test_what_is_compared_with_an_experiment_that_was_not_run_is_not_counted(project):
    relu, sigmoid, _ = make_pairs(project)
    assert "rings_sigmoid_random" in count_seen([relu, sigmoid])
    assert set(count_seen([sigmoid])) == {"rings_sigmoid_zero"}


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (NOTHING, "no boundary"),
        (LINE, "one straight line as the boundary"),
        (POLYGON, "a boundary with corners"),
        (SMOOTH, "a smooth boundary"),
        (LINE | {"boundary_pieces": 2}, "a smooth boundary"),
    ],
)
def test_boundary_is_told_by_its_figures(figures, words):
    assert tell_boundary(figures) == words


def test_sentence_follows_the_figures(project):
    relu, _, dying = make_pairs(project)
    assert tell_pair(relu) == (
        "ReLU from small random weights: 90% of the points are right after 50 steps, a boundary with corners, "
        "test error 0.010; "
        "ReLU from weights that are all zero: no gradient ever reaches a hidden layer, 90% of the points are never right, "
        "no boundary, test error 0.500."
    )
    assert "up to 90% of a layer's units are dead at the end, no boundary, test error 0.500; " in tell_pair(dying)
    (moved, *_) = make_pairs(project, rings_relu_zero=LEARNT | SMOOTH)
    assert "no gradient" not in tell_pair(moved)
    assert tell_pair(moved).endswith("90% of the points are right after 50 steps, a smooth boundary, test error 0.010.")


def test_table_has_the_errors_of_every_start(project):
    table = principles_table(make_pairs(project, dying_relu_sorted={"test_accuracy": 0.9})).set_index("experiment")
    assert list(table.loc["`dying_relu_sorted`"])[::2] == ["0.100, 0.500", "1 of 2"]
    assert table.loc["`rings_relu_zero`", "seen in"] == "2 of 2"


def test_pairs_are_read_for_their_own_source_alone(project, tmp_path):
    pairs = make_pairs(project)
    assert gather_pairs(project, tmp_path) == [PendingPair(pair.name, pair.asked) for pair in pairs]
    for pair in pairs:
        write_json(tmp_path / f"metrics/pairs/{pair.name}.json", {"source": "embedded"} | pair.starts)
    embedded = project.model_copy(update={"data": project.data.model_copy(update={"source": "embedded"})})
    official = project.model_copy(update={"data": project.data.model_copy(update={"source": "official"})})
    assert gather_pairs(embedded, tmp_path) == pairs
    assert all(isinstance(pair, PendingPair) for pair in gather_pairs(official, tmp_path))
    write_json(tmp_path / "metrics/pairs/rings_relu.json", {"source": "embedded"})
    with pytest.raises(
        DataError, match=r"rings_relu\.json: damaged, it holds no rings_relu_random.* `dvc repro pair@rings_relu`"
    ):
        gather_pairs(embedded, tmp_path)


def make_member(project: Project, name: str) -> Record:
    """Make a record of an experiment on points, with what was watched at three rows."""
    record = make_record(project, name, [0.5, 0.7, 0.9])
    watched = [{"gradient_norms": {"1": 0.0, "3": 10.0**-row}, "dead_units": {"2": row / 4}} for row in range(3)]
    record.card["watched"] = watched
    record.card["metrics"] |= EXAMPLES[name][0] | {"test_accuracy": 0.9, "test_accuracy_per_class": {"disc": 0.8, "ring": 1.0}}
    return record


def test_curves_name_each_layer_and_show_a_gradient_of_zero(project):
    members = [make_member(project, name) for name in ("dying_relu_sorted", "dying_relu_shuffled")]
    drawn = svg(draw_pair, members)
    assert drawn == svg(draw_pair, members)
    titles = ("dying_relu_sorted", "dying_relu_shuffled", "gradient norm", "dead units", "accuracy", "loss")
    for text in (*titles, "hidden 1", "output"):
        assert f">{text}</text>" in drawn
    assert re.search(r">0</t(ext|span)>", drawn), "the scale by powers of ten has a zero"
    for member in members:
        del member.card["watched"]
        member.history["test_loss"] = member.history["test_accuracy"] = float("nan")
    plain = svg(draw_pair, members)
    assert "gradient norm" not in plain
    assert "accuracy" not in plain


@pytest.fixture
def write(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "confusion.csv").write_text("actual,predicted,count\ndisc,disc,4\ndisc,ring,1\nring,disc,0\nring,ring,5\n")
    Image.new("RGB", (7, 5)).save(tmp_path / "mistakes.png")

    def written(entries, pairs, source="official") -> str:
        write_site(Gathered(source, entries, (), pairs), tmp_path / "reports")
        return html.unescape((tmp_path / "reports/assignments/A.html").read_text())

    return written


def test_page_shows_pairs_side_by_side_and_in_how_many_starts_their_outcome_is_seen(project, write, tmp_path):
    pairs = make_pairs(project, starts=5, rings_relu_random=SMOOTH)
    members = [make_member(project, name) for name in EXAMPLES]
    page = write(members, pairs)
    for pair in pairs:
        assert f"<h3>{pair.asked.title}</h3>\n<p>{tell_pair(pair)}</p>" in page
        assert f'"label": "Gradient norm of {pair.asked.first} by step and layer: hidden 1 from' in page
    for member in members:
        assert page.count(f'<img src="../pictures/samples/{member.name}.png"') == 1
    assert 'alt="Regions of both classes by rings_sigmoid_zero, with the test points: one straight line' in page
    assert "Seen in 4 of 5 random starts: a boundary with corners and an error of at most 0.1." in page
    assert "Reported: “never moves: error about 0.5, no boundary”. Seen in 5 of 5" in page
    write_results(Gathered("official", members, (), pairs), tmp_path)
    assert "## Random starts" in (tmp_path / "official.md").read_text()


def test_page_says_what_was_not_run(project, write, tmp_path):
    (first, *_) = members = [make_member(project, name) for name in EXAMPLES]
    pending = [PendingPair(name, pair) for name, pair in project.pairs.items()]
    page = write(members, pending, "embedded")
    assert page.count("Random starts not yet run on this data.") == len(members)
    assert "Reported" not in page
    page = write([first], pending)
    assert page.count('<p class="pending">Not yet run on this data.</p>') == len(pending)
    assert page.count('<img src="../pictures/samples/rings_relu_random.png"') == 1
    write_results(Gathered("official", [first], (), pending), tmp_path)
    assert "Random starts" not in (tmp_path / "official.md").read_text()
