"""Accessibility of every page: screen readers, keyboard and contrast."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

AXE = Axe()
AXE_OPTIONS = {
    "preload": False,  # axe would fetch the style sheet, which a page opened from disk cannot do
    "resultTypes": ["violations"],  # skip descriptions of rules that pass
}
UNFOLD = "() => document.querySelectorAll('details').forEach(folded => { folded.open = true })"
PICTURES_WITHOUT_ALT_TEXT = """() => {
    const text = id => document.getElementById(id)?.textContent.trim();
    const named = picture => picture.getAttribute('alt')?.trim() || picture.getAttribute('aria-label')?.trim()
        || picture.querySelector(':scope > title')?.textContent.trim()
        || picture.getAttribute('aria-labelledby')?.split(' ').some(text);
    return [...document.querySelectorAll('img, [role=img], svg:not(svg svg)')]
        .filter(picture => !named(picture) && !picture.closest('svg[aria-hidden=true], [role=img] *'))
        .map(picture => `no alternative text: ${picture.outerHTML.slice(0, 200)}`);
}"""
OUTLINE = """() => {
    const wrong = [], headings = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')];
    if (!document.documentElement.lang) wrong.push('<html> has no lang');
    if (!document.title.trim()) wrong.push('no title');
    if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');
    headings.reduce((above, heading) => {
        const level = Number(heading.tagName[1]);
        if (level > above + 1) wrong.push(`h${level} “${heading.textContent.trim()}” below h${above}`);
        return level;
    }, 0);
    const ids = [...document.querySelectorAll('[id]:not(svg *)')].map(element => element.id);
    return [...wrong, ...ids.filter((id, place) => ids.indexOf(id) < place).map(id => `id="${id}" twice`)];
}"""
FOCUSED = """() => {
    const link = document.activeElement, box = link.getBoundingClientRect();
    if (!link.hash || !document.querySelector(link.hash)) return [`Tab first reaches ${link.outerHTML.slice(0, 200)}`];
    return box.left < 0 || box.top < 0 ? ['the link is not shown when it has the focus'] : [];
}"""


def test_axe_finds_nothing_serious(on_every_page):
    def check(page: Page) -> list[str]:
        page.evaluate(UNFOLD)
        return serious_violations(page)

    on_every_page(check)


@pytest.mark.parametrize("name", ["index", "compare", "exercises", "assignments/A", "experiments/mnist_cnn"])
def test_axe_finds_nothing_serious_in_dark_mode_on_a_phone(visit, site, name):
    """One page of each kind, with dark colours and scrolling tables."""
    page = visit(site / f"{name}.html", color_scheme="dark", viewport={"width": 360, "height": 800})
    page.evaluate(UNFOLD)
    assert not serious_violations(page)


def test_every_picture_has_alternative_text(on_every_page):
    on_every_page(lambda page: page.evaluate(PICTURES_WITHOUT_ALT_TEXT))


def test_every_page_has_a_language_a_title_and_an_outline(on_every_page):
    on_every_page(lambda page: page.evaluate(OUTLINE))


def test_the_first_tab_reaches_a_link_past_the_header(on_every_page):
    def check(page: Page) -> list[str]:
        page.keyboard.press("Tab")
        return page.evaluate(FOCUSED)

    on_every_page(check)


def serious_violations(page: Page) -> list[str]:
    """Return the serious violations that axe finds: rule, element and how to fix it."""
    return [
        f"{violation['id']} ({violation['impact']}) at {' '.join(map(str, node['target']))}\n"
        f"    {node['html'][:200]}\n    {node['failureSummary']}"
        for violation in AXE.run(page, options=AXE_OPTIONS).response["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
