"""Fixtures: a small site, an offline Chromium, and pages whose errors fail the test.

Install the browser with `apt-get install chromium`. Without a browser, these tests are skipped, or fail if the environment
variable LABBOOK_BROWSER is `required`. The variable can also be set to the path of another Chromium.
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


class Visitor:
    """Opens pages from disk, without a network.

    Attributes:
        loaded: URLs of the last opened page and of everything that it loaded.
        errors: errors and warnings of all pages.
    """

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.current: Path | None = None
        self.loaded: set[str] = set()
        self.errors: list[str] = []

    def __call__(self, file: Path, **options: Any) -> Page:
        """Open a file in a new window; `options` are those of Playwright's `new_context`, such as `color_scheme`."""
        context = self.browser.new_context(offline=True, **options)
        context.on(
            "console", lambda message: message.type in ("error", "warning") and self._record_error(message.type, message.text)
        )
        context.on("weberror", lambda error: self._record_error("exception", error.error))
        context.on("request", self._record_request)
        context.on("requestfailed", lambda request: self._record_error(request.failure, request.url))
        page = context.new_page()
        page.set_default_timeout(10_000)
        self.open(file, page)
        return page

    def open(self, file: Path, page: Page) -> None:
        """Open another file in the same window."""
        self.current, self.loaded = file, set()
        page.goto(file.as_uri())

    def _record_request(self, request: Request) -> None:
        self.loaded.add(request.url)
        if not request.url.startswith("file:"):
            self._record_error("requests a URL that is not a file", request.url)

    def _record_error(self, kind: object, message: object) -> None:
        self.errors.append(f"{self.current}: {kind}: {message}")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of the browser."""
    setting = os.environ.get(LABBOOK_BROWSER, "")
    name = "chromium" if setting in ("", REQUIRED) else setting
    path = shutil.which(name)
    if path is None:
        stop = pytest.fail if setting else pytest.skip
        stop(f"{name}: no such browser. Install it (`apt-get install chromium`), or set {LABBOOK_BROWSER} to its path.")
    return path


@pytest.fixture(scope="module")  # not `session`: Playwright's event loop would conflict with tests that start another one
def browser(chromium: str) -> Iterator[Browser]:
    """Start a headless Chromium."""
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium) as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visitor]:
    """Yield a visitor; fail the test if a page logs an error, throws one, misses a file or requests anything but files."""
    visitor = Visitor(browser)
    yield visitor
    for context in browser.contexts:
        context.close()
    assert not visitor.errors, "\n".join(visitor.errors)


@pytest.fixture(scope="session")
def built_once(chromium: str, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., Path]:
    """Return a function that builds a folder once for all workers of pytest-xdist, if there is a browser."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def built(build: Callable[..., None], name: str, *arguments: Any) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # incomplete, from a worker that failed
                folder.mkdir()
                build(folder, *arguments)
                done.touch()
        return folder

    return built


@pytest.fixture(scope="session")
def project(built_once: Callable[..., Path]) -> Path:
    """Build a project whose stages were run on embedded data."""
    return built_once(small_site.build, "embedded")


@pytest.fixture(scope="session")
def site(project: Path) -> Path:
    """Return the folder of its pages."""
    return project / "reports"


@pytest.fixture(scope="session")
def official_site(built_once: Callable[..., Path], project: Path) -> Path:
    """Build the pages of an official run, with reported results, gaps and verdicts."""
    return built_once(small_site.build_official, "official", project) / "reports"


@pytest.fixture
def pages(site: Path, official_site: Path) -> list[Path]:
    """Return every page of the embedded run, and of the official run those in the top folder and one of each subfolder."""
    one_per_folder = {file.parent: file for file in sorted(official_site.glob("*/*.html"))}
    return [*sorted(site.rglob("*.html")), *sorted(official_site.glob("*.html")), *one_per_folder.values()]


@pytest.fixture
def on_every_page(pages: list[Path], visit: Visitor) -> Callable[..., None]:
    """Return a function that runs `check` on every page and fails with all problems that it returns."""

    def run(check: Callable[[Page], list[str]], **options: Any) -> None:
        problems = []
        page = visit(pages[0], **options)
        for file in pages:
            visit.open(file, page)
            problems += [f"{file}: {problem}" for problem in check(page)]
        assert not problems, "\n" + "\n".join(problems)

    return run
