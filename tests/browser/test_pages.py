"""Every page of the site, on a phone, on paper and without scripts too: what it loads, where it leads, what it shows."""

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import pytest
from playwright.sync_api import Page

MOST_BYTES = 3_000_000
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
PLACES = "() => [...document.querySelectorAll('[id]')].map(element => element.id)"


def test_every_page_shows_its_images_and_stays_small(on_every_page, visit):
    def look(page: Page) -> list[str]:
        wrong = page.evaluate(LOAD_IMAGES)
        loaded = sum(file.stat().st_size for file in map(path_of, visit.loaded) if file.is_file())
        return wrong if loaded <= MOST_BYTES else [*wrong, f"{loaded:,} bytes with what it loads, more than {MOST_BYTES:,}"]

    on_every_page(look)


@pytest.mark.parametrize("run", ["site", "official_site"])
def test_every_link_leads_to_a_page_and_a_place_of_the_site(request, visit, run):
    pages = sorted(request.getfixturevalue(run).rglob("*.html"))
    page, places, links = visit(pages[0]), {}, {}
    for file in pages:
        visit.open(file, page)
        places[file] = {"", *page.evaluate(PLACES)}
        links[file] = [link for link in page.evaluate(LINKS) if link.startswith("file:")]
    dead = [
        f"{file}: {link}"
        for file, found in links.items()
        for link in found
        if not leads(link, places.get(path_of(link), set()))
    ]
    assert not dead, "\n" + "\n".join(dead)
    reached = {path_of(link) for found in links.values() for link in found}
    assert not set(pages) - reached, "no link leads here"


def test_no_page_is_wider_than_a_phone(on_every_page):
    on_every_page(lambda page: page.evaluate(TOO_WIDE), viewport=PHONE)


def test_paper_shows_what_the_screen_does(on_every_page):
    def look(page: Page) -> list[str]:
        page.emulate_media(media="screen")
        screen = Counter(page.evaluate(SHOWN))
        page.emulate_media(media="print")
        missing = screen - Counter(page.evaluate(SHOWN))
        assert page.pdf().startswith(b"%PDF")
        return [f"not printed: {element}" for element in missing]

    on_every_page(look)


def test_figures_are_read_without_scripts(pages, visit):
    page, plain = visit(pages[0]), visit(pages[0], java_script_enabled=False)
    for file in pages:
        if file.name == "compare.html":  # which has a link to the front page instead
            visit.open(file, plain)
            assert plain.get_by_text("This page needs JavaScript").is_visible()
            continue
        visit.open(file, page)
        visit.open(file, plain)
        figures = figures_of(page)
        missing = figures - figures_of(plain)
        assert not missing, f"{file}: not shown without JavaScript: {', '.join(missing)}"
        assert figures or file.name != "index.html"


def test_what_is_wrong_on_a_page_is_noticed(visit, tmp_path):
    page = tmp_path / "page.html"
    away, missing = "https://example.org/a.png", f"{tmp_path.as_uri()}/b.png"
    page.write_text(f'<img src="{away}"><img src="{missing}"><script>console.error("said"); throw "thrown"</script>')
    visit(page)
    noticed, visit.complaints = "\n".join(visit.complaints), []
    for complaint in (f"more than files: {away}", f"NOT_FOUND: {missing}", "error: said", "exception: thrown"):
        assert complaint in noticed


def leads(link: str, places: set[str]) -> bool:
    """Tell whether a link leads to a place of its page, to a picture, or names an experiment to compare."""
    file, fragment = path_of(link), unquote(urlsplit(link).fragment)
    if file.suffix == ".png" or (file.name == "compare.html" and fragment.startswith("first=")):
        return file.is_file()
    return fragment in places


def path_of(address: str) -> Path:
    return Path(url2pathname(urlsplit(address).path))


def figures_of(page: Page) -> Counter[str]:
    """Count the figures of four decimals that stand in the page's tables."""
    return Counter(re.findall(r"\d\.\d{4}\b", "\n".join(page.evaluate(CELLS))))
