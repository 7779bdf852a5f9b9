"""Every page of the site, also on a phone, in print and without JavaScript: files, links and contents."""

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import pytest
from playwright.sync_api import Page

MAX_BYTES = 3_000_000
PHONE = {"width": 360, "height": 740}
LOAD_IMAGES = """() => Promise.all([...document.images].map(image => {
    image.loading = 'eager';
    return image.decode().then(() => [], () => [`no image: ${image.outerHTML.slice(0, 200)}`]);
})).then(missing => missing.flat())"""
TOO_WIDE = """() => {
    document.querySelectorAll('details').forEach(folded => { folded.open = true });
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const scrolls = element => element && (getComputedStyle(element).overflowX !== 'visible' || scrolls(element.parentElement));
    const wide = [...document.body.querySelectorAll('*')]
        .filter(element => element.getBoundingClientRect().right > clientWidth && !scrolls(element.parentElement))
        .map(element => element.outerHTML.slice(0, 100));
    return [`${scrollWidth} px on a screen of ${clientWidth}, by ${wide.slice(0, 5).join(' ')}`];
}"""
SHOWN = """() => [...document.querySelectorAll('h1, main :is(h2, h3, table, figure, img)')]
    .filter(element => element.checkVisibility()).map(element => element.outerHTML.slice(0, 100))"""
CELLS = "() => [...document.querySelectorAll('main td')].filter(cell => cell.checkVisibility()).map(cell => cell.innerText)"
LINKS = "() => [...document.querySelectorAll('a[href]')].map(link => new URL(link.getAttribute('href'), location).href)"
IDS = "() => [...document.querySelectorAll('[id]')].map(element => element.id)"


def test_every_page_shows_its_images_and_stays_small(on_every_page, visit):
    def check(page: Page) -> list[str]:
        problems = page.evaluate(LOAD_IMAGES)
        loaded = sum(file.stat().st_size for file in map(path_of, visit.loaded) if file.is_file())
        return (
            problems
            if loaded <= MAX_BYTES
            else [*problems, f"{loaded:,} bytes including everything that it loads, more than {MAX_BYTES:,}"]
        )

    on_every_page(check)


@pytest.mark.parametrize("run", ["site", "official_site"])
def test_every_link_has_a_target(request, visit, run):
    pages = sorted(request.getfixturevalue(run).rglob("*.html"))
    page, ids, links = visit(pages[0]), {}, {}
    for file in pages:
        visit.open(file, page)
        ids[file] = {"", *page.evaluate(IDS)}
        links[file] = [link for link in page.evaluate(LINKS) if link.startswith("file:")]
    dead = [
        f"{file}: {link}"
        for file, found in links.items()
        for link in found
        if not has_target(link, ids.get(path_of(link), set()))
    ]
    assert not dead, "\n" + "\n".join(dead)
    reached = {path_of(link) for found in links.values() for link in found}
    assert not set(pages) - reached, "pages without a link"


def test_no_page_is_wider_than_a_phone(on_every_page):
    on_every_page(lambda page: page.evaluate(TOO_WIDE), viewport=PHONE)


def test_print_shows_the_same_elements_as_the_screen(on_every_page):
    def check(page: Page) -> list[str]:
        page.emulate_media(media="screen")
        screen = Counter(page.evaluate(SHOWN))
        page.emulate_media(media="print")
        missing = screen - Counter(page.evaluate(SHOWN))
        assert page.pdf().startswith(b"%PDF")
        return [f"not printed: {element}" for element in missing]

    on_every_page(check)


def test_metrics_are_shown_without_javascript(pages, visit):
    page, plain = visit(pages[0]), visit(pages[0], java_script_enabled=False)
    for file in pages:
        if file.name == "compare.html":  # it links to the front page instead
            visit.open(file, plain)
            assert plain.get_by_text("This page needs JavaScript").is_visible()
            continue
        visit.open(file, page)
        visit.open(file, plain)
        metrics = metrics_of(page)
        missing = metrics - metrics_of(plain)
        assert not missing, f"{file}: not shown without JavaScript: {', '.join(missing)}"
        assert metrics or file.name != "index.html"


def test_errors_on_a_page_are_recorded(visit, tmp_path):
    page = tmp_path / "page.html"
    external, missing = "https://example.org/a.png", f"{tmp_path.as_uri()}/b.png"
    page.write_text(f'<img src="{external}"><img src="{missing}"><script>console.error("said"); throw "thrown"</script>')
    visit(page)
    recorded, visit.errors = "\n".join(visit.errors), []
    for error in (f"not a file: {external}", f"NOT_FOUND: {missing}", "error: said", "exception: thrown"):
        assert error in recorded


def has_target(link: str, ids: set[str]) -> bool:
    """Return whether a link leads to an element of its page, to a picture or to a comparison."""
    file, fragment = path_of(link), unquote(urlsplit(link).fragment)
    if file.suffix == ".png" or (file.name == "compare.html" and fragment.startswith("first=")):
        return file.is_file()
    return fragment in ids


def path_of(address: str) -> Path:
    return Path(url2pathname(urlsplit(address).path))


def metrics_of(page: Page) -> Counter[str]:
    """Count the numbers with four decimals in the tables of a page."""
    return Counter(re.findall(r"\d\.\d{4}\b", "\n".join(page.evaluate(CELLS))))
