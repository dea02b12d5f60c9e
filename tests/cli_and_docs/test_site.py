"""The documentation site is complete, has no broken link, and loads nothing from the network."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import collegium as cg
from collegium import losses, weighting
from tests.cli_and_docs.pages import DOCS, ROOT

NEEDED = ("zensical", "mkdocstrings_handlers")


def in_order(nav: list[dict[str, object]]) -> Iterator[str]:
    """The pages of a nav, section by section."""
    for entry in nav:
        for inside in entry.values():
            yield from in_order(inside) if isinstance(inside, list) else [str(inside)]


def copy_sources(to: Path) -> Path:
    """Copy all sources of the site; the builder writes beside them."""
    shutil.copy(ROOT / "zensical.toml", to)
    hidden = shutil.ignore_patterns("__pycache__")
    for folder in ("docs", "collegium", "scripts"):
        shutil.copytree(ROOT / folder, to / folder, ignore=hidden)
    return to


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as scripts/site does."""
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs the extra docs: {name}")
    words = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    folder = copy_sources(tmp_path_factory.mktemp("site"))
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr
    return folder / "site"


def test_every_page_is_in_the_navigation() -> None:
    nav = list(in_order(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(nav) == sorted(pages)


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    pages = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    for module in (cg, losses, weighting):
        for name in module.__all__:
            assert f'id="{module.__name__}.{name}"' in pages, f"{module.__name__}.{name}"


def test_docstrings_are_rendered_correctly(site: Path) -> None:
    pages = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    assert '<span class="gp">&gt;&gt;&gt; </span>' in pages  # a doctest is code
    assert "&gt; 0, of the student's side" in pages
    assert "<blockquote>" not in pages


class Fetched(HTMLParser):
    """Collects the addresses that a browser loads for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect all addresses except those of links."""
        if tag != "a":
            found = [value for name, value in attrs if name in ("src", "srcset", "href")]
            self.addresses += [value for value in found if value]


def test_nothing_is_loaded_from_the_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for path in pages:
        fetched = Fetched()
        fetched.feed(path.read_text())
        assert fetched.addresses
        for address in fetched.addresses:
            assert not re.match(r"(?:https?:)?//", address), (path.name, address)


def test_a_broken_link_ends_the_build(site: Path, tmp_path: Path) -> None:
    page = copy_sources(tmp_path) / "docs" / "questions.md"
    page.write_text(page.read_text() + "\n[nowhere](quickstart.md#nowhere)\n")
    assert build(tmp_path).returncode != 0


@pytest.mark.browser
def test_a_browser_shows_the_site_from_disk_and_searches_it(site: Path, tmp_path: Path) -> None:
    sync = pytest.importorskip("playwright.sync_api").sync_playwright
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium on the path")
    events: list[str] = []
    with (
        sync() as play,
        play.chromium.launch(executable_path=program, args=["--no-sandbox"]) as browser,
    ):
        for width, scheme in ((1280, "light"), (390, "dark")):
            tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            tab.on("console", lambda message: events.append(message.text))
            tab.on("pageerror", lambda error: events.append(str(error)))
            tab.on("request", lambda request: events.append(request.url))
            for path in sorted(site.rglob("*.html")):
                if path.name == "404.html":  # for servers: its links start at their root
                    continue
                tab.goto(path.as_uri())
                wide = tab.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{path.name} is {wide} wide on {width}"
                assert [line for line in events if not line.startswith("file:")] == [], path.name
                events.clear()
            tab.goto((site / "concepts.html").as_uri())
            tab.screenshot(path=tmp_path / f"concepts-{width}.png", full_page=True)
            tab.keyboard.press("Control+k")
            tab.get_by_role("combobox").fill("latent vectors")
            tab.get_by_text(re.compile(r"^\s*\d+ results?\s*$")).first.wait_for()
