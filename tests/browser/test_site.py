"""Interaction with the site: sorting, filtering, hovering, comparing, choosing a theme."""

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

NAMES = "[...document.querySelectorAll('table.results tbody tr')].filter(row => !row.hidden).map(row => row.cells[0].innerText)"
TIP = "[aria-label=tip] text"


@pytest.fixture
def front(visit, site) -> Page:
    return visit(site / "index.html")


@pytest.fixture
def official_front(visit, official_site) -> Page:
    return visit(official_site / "index.html")


def column(page: Page, name: str) -> list[str]:
    """Return a column of the visible rows of the results."""
    headings = [text.strip() for text in page.locator("table.results thead th").all_inner_texts()]
    (position,) = [index for index, heading in enumerate(headings) if heading.startswith(name)]
    rows = page.locator("table.results tbody tr:visible")
    return [row.locator("th, td").nth(position).inner_text().strip() for row in rows.all()]


def sort_by(page: Page, name: str) -> str | None:
    heading = page.locator("table.results thead th", has_text=name)
    heading.get_by_role("button").click()
    return heading.get_attribute("aria-sort")


def test_sort_ascending_then_descending_with_missing_values_last(front):
    assert sort_by(front, "Test accuracy") == "ascending"
    rising = column(front, "Test accuracy")
    assert rising[-1] == "not yet run"
    assert rising[:-1] == sorted(rising[:-1])
    assert sort_by(front, "Test accuracy") == "descending"
    assert column(front, "Test accuracy") == [*reversed(rising[:-1]), "not yet run"]
    sort_by(front, "Parameters")
    counts = [int(text.replace(",", "")) for text in column(front, "Parameters") if text]
    assert counts == sorted(counts), "1,000 is greater than 9"
    assert front.locator("[aria-sort]").count() == 1


def test_seconds_are_sorted_as_numbers(front):
    sort_by(front, "Seconds")
    seconds = [float(text) for text in column(front, "Seconds") if text]
    assert len(seconds) > 2
    assert seconds == sorted(seconds)


def test_seconds_per_training_and_in_total_are_filled_in(visit, site):
    page = visit(site / "experiments/mnist_mlp_100.html")
    one, total = (float(page.locator(f"[data-{name}]").first.inner_text()) for name in ("seconds", "total"))
    assert total == pytest.approx(3 * one, abs=1)
    assert "n = 3" in page.locator(".facts").inner_text()


def test_pages_work_without_timing(visit, site, tmp_path):
    """A site that was pulled from a remote has no timing.js."""
    folder = shutil.copytree(site, tmp_path / "reports")
    (folder / "timing.js").unlink()
    page = visit(folder / "experiments/mnist_mlp_100.html")
    expect(page.locator("[data-chart=lines] svg")).to_have_count(2)
    assert set(page.locator("[data-seconds], [data-total]").all_inner_texts()) == {"–"}
    visit.open(folder / "compare.html", page)
    expect(page.locator("#comparison h2").first).to_have_text("Metrics")
    expected = ("reports/timing.js", "Failed to load resource")
    assert all(any(words in error for words in expected) for error in visit.errors)
    visit.errors = []


def test_columns_can_be_sorted_by_keyboard(front):
    front.locator("table.results thead th", has_text="Epochs").get_by_role("button").focus()
    front.keyboard.press("Enter")
    epochs = [int(text) for text in column(front, "Epochs") if text]
    assert epochs == sorted(epochs)


def test_search_and_assignment_filter_the_table(front):
    everything = front.evaluate(NAMES)
    front.get_by_label("Search").fill("cnn elu")
    assert [name.split("\n")[0] for name in front.evaluate(NAMES)] == ["cifar10_cnn_plus_elu"]
    expect(front.locator("#count")).to_have_text(f"1 of {len(everything)} experiments")
    front.get_by_label("Search").fill("")
    front.locator("#assignment").select_option("E")
    assert set(column(front, "Assignment")) == {"E"}
    front.get_by_label("Search").fill("no such experiment")
    expect(front.locator("#count")).to_have_text(f"0 of {len(everything)} experiments")


def test_filter_by_verdict(official_front):
    verdicts = official_front.get_by_label("Verdict")
    offered = [text for text in verdicts.locator("option").all_inner_texts() if text != "all"]
    assert {"consistent", "one run only", "missed", "one run, earlier version", "not yet run"} <= set(offered)
    for verdict in offered:
        verdicts.select_option(verdict)
        shown = column(official_front, "Verdict")
        assert shown
        assert all(text.startswith(verdict) for text in shown)


def test_hovering_over_a_curve_shows_its_values(visit, site):
    page = visit(site / "experiments/mnist_cnn.html")
    curve = page.locator("[data-chart=lines] svg").nth(1)
    expect(curve.locator(TIP)).to_have_count(0)
    box = curve.bounding_box()
    curve.hover(position={"x": box["width"] - 25, "y": box["height"] / 2})
    expect(curve.locator(TIP)).to_contain_text("epoch 2")
    values = re.findall(r"(train|validation): ([\d.]+)", curve.locator(TIP).text_content())
    page.locator("summary", has_text="As a table").click()
    last = page.locator("details[open] tbody tr").last.locator("td").all_inner_texts()
    assert [name for name, _ in values] == ["train", "validation"]
    assert all(any(float(value) == pytest.approx(float(cell), rel=1e-4) for cell in last if cell) for _, value in values)


def test_hovering_over_the_confusion_matrix_shows_a_cell(visit, site):
    page = visit(site / "experiments/mnist_mlp_100.html")
    matrix = page.locator("[data-chart=confusion] svg").first
    matrix.locator("[aria-label=cell] rect").nth(1).hover(force=True)  # its count covers it
    expect(matrix.locator(TIP)).to_contain_text("0 taken for 1")
    expect(matrix.locator(TIP)).to_contain_text("of the class")


def test_hovering_over_the_reliability_diagram_shows_a_bin(visit, site):
    page = visit(site / "experiments/mnist_mlp_100.html")
    chart = page.locator("[data-chart=reliability] svg").first
    chart.locator("[aria-label=rect] rect").last.hover()
    expect(chart.locator(TIP)).to_contain_text("mean confidence")


def test_charts_resize_with_the_window(visit, site):
    page = visit(site / "experiments/mnist_cnn.html")
    chart = page.locator("[data-chart=lines] svg").first
    wide = chart.bounding_box()["width"]
    page.set_viewport_size({"width": 360, "height": 700})
    expect(chart).not_to_have_attribute("width", str(round(wide)))
    assert page.locator("[data-chart=lines] svg").first.bounding_box()["width"] <= 360


def test_compare_page_updates_tables_charts_and_url(visit, site):
    page = visit(site / "compare.html")
    page.get_by_label("First").select_option("cifar10_cnn")
    page.get_by_label("Second").select_option("cifar10_cnn_plus_elu")
    comparison = page.locator("#comparison")
    activation = comparison.get_by_role("row").filter(has=page.get_by_role("rowheader", name="model.activation", exact=True))
    assert activation.get_by_role("cell").all_inner_texts()[1:] == ["elu"]
    accuracies = comparison.get_by_role("row").filter(has_text="Test accuracy").first.get_by_role("cell").all_inner_texts()
    first, second, gap = (float(text.replace("−", "-") or 0) for text in accuracies)
    assert second - first == pytest.approx(gap, abs=1e-4)
    legend = comparison.locator(".legend").first.locator("li").all_inner_texts()
    assert "cifar10_cnn, train" in legend
    assert "cifar10_cnn_plus_elu, validation" in legend
    assert comparison.locator("svg").count() == 2

    address = page.url
    page.get_by_role("button", name="Swap").click()
    assert page.get_by_label("First").input_value() == "cifar10_cnn_plus_elu"
    page.goto(address)
    expect(page.get_by_label("First")).to_have_value("cifar10_cnn")
    expect(page.get_by_label("Second")).to_have_value("cifar10_cnn_plus_elu")


def test_statistical_tests_in_either_order(visit, site):
    """The expected numbers are read from the page's script; test_compare.py compares those with the predictions."""
    page = visit(site / "compare.html")
    tested = page.evaluate("window.labbookPairs.rings_relu_random.rings_relu_zero")
    first, second = (f"{tested['mcnemar'][key]:,}" for key in ("first", "second"))
    low, high = (f"{abs(100 * tested['difference'][bound]):.2f}" for bound in ("low", "high"))
    assert first != second
    for names, counts in (((0, 1), (first, second)), ((1, 0), (second, first))):
        pair = [("rings_relu_random", "rings_relu_zero")[index] for index in names]
        page.get_by_label("First").select_option(pair[0])
        page.get_by_label("Second").select_option(pair[1])
        difference, mcnemar = page.locator("#tests p").all_inner_texts()
        assert f"{counts[0]} samples are classified correctly by the first model only and {counts[1]} by the second" in mcnemar
        bounds = re.search(r"95% interval [+−]([\d.]+) to [+−]([\d.]+), paired by seed", difference).groups()
        assert bounds == ((low, high) if names == (0, 1) else (high, low))
    page.get_by_label("First").select_option("scenes_unet")
    expect(page.locator("#tests")).to_have_count(0)


def test_experiment_page_links_to_its_comparison(visit, site):
    page = visit(site / "experiments/scenes_unet.html")
    page.get_by_label("On this page").get_by_role("link", name="Compare").click()
    expect(page.get_by_label("First")).to_have_value("scenes_unet")
    expect(page.locator("#comparison h2").first).to_have_text("Metrics")


def test_theme_persists_across_pages(visit, site):
    page = visit(site / "index.html", color_scheme="light")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    theme = page.get_by_role("button", name="Theme")
    theme.click()
    expect(theme).to_have_text("Theme: light")
    theme.click()
    expect(theme).to_have_text("Theme: dark")
    dark = page.evaluate(colour)
    assert dark != light
    for name in ("assignments/A.html", "experiments/mnist_cnn.html", "exercises.html"):
        visit.open(site / name, page)
        assert page.evaluate(colour) == dark, name
    page.get_by_role("button", name="Theme").click()
    expect(page.get_by_role("button", name="Theme")).to_have_text("Theme: automatic")
    assert page.evaluate(colour) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colour) == dark


def test_only_explained_experiments_have_explanation_pictures(visit, site):
    page = visit(site / "experiments/mnist_cnn.html")
    expect(page.get_by_role("heading", name="Quality of the attributions")).to_be_visible()
    assert page.locator("#inside ~ figure img").count() == 3
    visit.open(site / "experiments/mnist_mlp_100.html", page)
    assert page.locator("#inside").count() == 0


def test_experiment_that_was_not_run_is_marked_and_has_no_page(front, site):
    row = front.locator("table.results tr", has_text="tiny_wide")
    expect(row).to_contain_text("not yet run")
    assert row.get_by_role("link").count() == 0
    assert not Path(site / "experiments/tiny_wide.html").exists()
