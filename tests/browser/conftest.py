"""A small site, a Chromium that is cut off from the network, and pages that fail a test when they complain.

The browser is that of the distribution: `apt-get install chromium`. Without it these tests are skipped, or fail where the
environment variable LABBOOK_BROWSER is `required`. The variable may also hold the path of another Chromium.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import small_site
from filelock import FileLock
from playwright.sync_api import Browser, Page, Request, sync_playwright

LABBOOK_BROWSER = "LABBOOK_BROWSER"
REQUIRED = "required"


class Visits:
    """Pages, opened as by a reader who has the files and no network.

    Attributes:
        loaded: the addresses of the page that was opened last and of all that it asked for.
        complaints: what went wrong on any page.
    """

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.shown: Path | None = None
        self.loaded: set[str] = set()
        self.complaints: list[str] = []

    def __call__(self, file: Path, **options: Any) -> Page:
        """Open a file in a window of its own; the options are those of Playwright's `new_context`, such as `color_scheme`."""
        context = self.browser.new_context(offline=True, **options)
        context.on("console", lambda said: said.type in ("error", "warning") and self._complain(said.type, said.text))
        context.on("weberror", lambda thrown: self._complain("exception", thrown.error))
        context.on("request", self._note)
        context.on("requestfailed", lambda request: self._complain(request.failure, request.url))
        page = context.new_page()
        page.set_default_timeout(10_000)
        self.open(file, page)
        return page

    def open(self, file: Path, page: Page) -> None:
        """Open another file in the same window."""
        self.shown, self.loaded = file, set()
        page.goto(file.as_uri())

    def _note(self, request: Request) -> None:
        self.loaded.add(request.url)
        if not request.url.startswith("file:"):
            self._complain("asks for more than files", request.url)

    def _complain(self, kind: object, what: object) -> None:
        self.complaints.append(f"{self.shown}: {kind}: {what}")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser."""
    asked = os.environ.get(LABBOOK_BROWSER, "")
    name = "chromium" if asked in ("", REQUIRED) else asked
    path = shutil.which(name)
    if path is None:
        stop = pytest.fail if asked else pytest.skip
        stop(f"{name}: no such browser. Install it (`apt-get install chromium`), or set {LABBOOK_BROWSER} to the path of one.")
    return path


@pytest.fixture(scope="module")  # no longer: Playwright's event loop would be in the way of tests with one of their own
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium) as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visits]:
    """Open pages; at its end the test fails if one wrote an error, threw one, missed a file or asked for more than files."""
    visits = Visits(browser)
    yield visits
    for context in browser.contexts:
        context.close()
    assert not visits.complaints, "\n".join(visits.complaints)


@pytest.fixture(scope="session")
def built_once(chromium: str, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., Path]:
    """Build a folder once for all workers of pytest-xdist, and only where there is a browser to look at it."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def built(build: Callable[..., None], name: str, *arguments: Any) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what another worker failed to build
                folder.mkdir()
                build(folder, *arguments)
                done.touch()
        return folder

    return built


@pytest.fixture(scope="session")
def project(built_once: Callable[..., Path]) -> Path:
    """A project whose stages were run on embedded data."""
    return built_once(small_site.build, "embedded")


@pytest.fixture(scope="session")
def site(project: Path) -> Path:
    """The folder of its pages."""
    return project / "reports"


@pytest.fixture(scope="session")
def official_site(built_once: Callable[..., Path], project: Path) -> Path:
    """The folder of the pages of an official run, with reported figures, gaps and verdicts."""
    return built_once(small_site.build_official, "official", project) / "reports"


@pytest.fixture
def pages(site: Path, official_site: Path) -> list[Path]:
    """Every page of the embedded run; of the official one those of the top folder, and one of each folder below it."""
    one_a_folder = {file.parent: file for file in sorted(official_site.glob("*/*.html"))}
    return [*sorted(site.rglob("*.html")), *sorted(official_site.glob("*.html")), *one_a_folder.values()]


@pytest.fixture
def on_every_page(pages: list[Path], visit: Visits) -> Callable[..., None]:
    """Fail with what is wrong, page by page, when a look at each gives anything at all."""

    def check(look: Callable[[Page], list[str]], **options: Any) -> None:
        wrong = []
        page = visit(pages[0], **options)
        for file in pages:
            visit.open(file, page)
            wrong += [f"{file}: {what}" for what in look(page)]
        assert not wrong, "\n" + "\n".join(wrong)

    return check
