"""One page about runs: whole, safe, and of whatever a folder has."""

import importlib.util
import itertools
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from collegium.cli.main import main
from collegium.plots.chart import CROWD, Axis, Line, draw
from collegium.records.run_folder import (
    EXAMPLES,
    METRICS,
    PREDICTIONS,
    RUN,
    SUMMARY,
    TEACHERS,
    WEIGHTS,
    Record,
)
from collegium.report.page import NAMES, page

Folder = Callable[..., Record]
HOSTILE = "<script>alert(1)</script>\"'&"


def helper() -> ModuleType:
    """The functions beside the fixtures."""
    path = Path(__file__).parent / "conftest.py"
    spec = importlib.util.spec_from_file_location("report_folders", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


folders = helper()


def html(records: Sequence[Record], **how: Any) -> str:
    """The page without the list of its problems."""
    return page(records, **how)[0]


def problems(text: str) -> list[str]:
    return re.findall(r'<p class="problem"[^>]*>([^<]*)', text)


def sections(text: str) -> set[str]:
    return {key for key in NAMES if re.search(rf'<section id="run-0-{key}"', text)}


def test_a_distilled_run_has_every_section_and_nothing_is_missing(folder: Folder) -> None:
    text = html([folder()])
    assert sections(text) == set(NAMES)
    assert 'class="empty"' not in text
    assert problems(text) == []
    assert text.count("<figure") == 8
    assert "reaches 50.00 % on the test split" in text
    assert text.count("data:image/png;base64,") == 3


def test_a_page_needs_nothing_but_itself(folder: Folder) -> None:
    text = html([folder()])
    assert "http" not in text
    targets = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', text)
    assert targets
    assert all("".join(target).startswith(("#", "data:")) for target in targets)


def test_names_are_escaped_wherever_they_stand(folder: Folder) -> None:
    text = html([folder(teachers=(HOSTILE, "b"), classes=(HOSTILE, "dog"))])
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert text.count("<script") == text.count("</script>") == 2
    names = [line["name"] for line in folders.numbers(text)["run-0-weights"]["lines"]]
    assert names == [HOSTILE, "b"]


@pytest.mark.parametrize(
    "case", ["alone", "killed", "no epoch", "one epoch", "one teacher", "no weights", "older"]
)
def test_what_a_run_lacks_is_left_out_and_named(folder: Folder, case: str) -> None:
    shapes = {"alone": {"teachers": (), "method": "vanilla"}, "one epoch": {"epochs": 1}}
    shapes |= {"one teacher": {"teachers": ("wide",)}}
    record = folder(**shapes.get(case, {}))
    lost = {"killed": [SUMMARY, WEIGHTS, PREDICTIONS, EXAMPLES], "no weights": [WEIGHTS]}
    lost["no epoch"] = [*lost["killed"], METRICS]
    for part in lost.get(case, []):
        record.path(part).unlink()
    if case == "older":
        folders.drop(record, WEIGHTS, "labels")
        folders.drop(record, PREDICTIONS, "classes", "heard", "weights")
    text = html([record])
    assert sections(text) == set(NAMES)
    assert ('class="empty"' in text) == (case != "one epoch")
    assert problems(text) == []
    assert ("No answer yet" in text) == (case in ("killed", "no epoch"))


@pytest.mark.parametrize("part", [RUN, SUMMARY, TEACHERS, METRICS, WEIGHTS, PREDICTIONS, EXAMPLES])
@pytest.mark.parametrize("content", [b"", b'{"epoch": 0, "loss": {}}\n'])
def test_a_damaged_part_never_costs_the_page(folder: Folder, part: str, content: bytes) -> None:
    record = folder()
    record.path(part).write_bytes(content)
    assert sections(html([record])) == set(NAMES)


@pytest.mark.parametrize("key", ["labels", "student", "teachers"])
def test_arrays_that_lack_a_key_never_cost_the_page(folder: Folder, key: str) -> None:
    record = folder()
    folders.drop(record, PREDICTIONS, key)
    folders.drop(record, EXAMPLES, key)
    folders.drop(record, WEIGHTS, key)
    assert sections(html([record])) == set(NAMES)


def test_a_thousand_classes_are_a_short_page(folder: Folder) -> None:
    text = html([folder(classes=tuple(f"class {n}" for n in range(1000)))])
    assert len(text) < 200_000
    assert "20 of" in text
    assert "commonest" in text


def test_a_hundred_runs_are_a_page_and_hostile_names_stay_text(folder: Folder) -> None:
    records = [folder(f"run-{n}", accuracy=n / 100, seed=n % 2) for n in range(100)]
    names = [f"{HOSTILE}{n // 2}" for n in range(100)]
    text = html(records, names=names)
    assert len(text) < 1_500_000
    assert text.count('<article id="run-') == 6
    assert "The other 94 have reports of their own" in text
    assert "the most of 50 kinds of run" in text
    assert "<script>alert" not in text


def test_a_logarithmic_axis_has_no_numbers_that_touch() -> None:
    axis = Axis("", 6e4, 3.2e5, log=True)
    places = [axis.part(value) for value, _ in axis.ticks()]
    assert len(places) > 2
    assert all(after - before > 0.1 for before, after in itertools.pairwise(places))


def test_no_two_lines_of_a_chart_look_alike() -> None:
    lines = [Line(f"line {n}", [1.0, 2.0], [0.0, 1.0]) for n in range(CROWD)]
    look = r'class="line"( stroke="[^"]*"(?: stroke-dasharray="[^"]*")?)'
    looks = re.findall(look, draw("a", "A", lines).svg())
    assert len(looks) == 2 * CROWD  # in the legend, too
    assert len(set(looks)) == CROWD


def test_runs_are_compared_seed_by_seed(folder: Folder, tmp_path: Path, capsys) -> None:
    for seed in range(3):
        folder(f"c/runs/kd_soft/seed-{seed}", seed=seed, accuracy=0.6 + seed / 100)
        alone = {"method": "vanilla", "teachers": ()}
        folder(f"c/runs/vanilla/seed-{seed}", seed=seed, accuracy=0.5 + seed / 100, **alone)
    rows = {"rows": [{"method": "vanilla"}, {"method": "kd:soft"}]}
    (tmp_path / "c/compare.json").write_text(json.dumps(rows))
    assert main(["report", str(tmp_path / "c"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["runs"]) == 6
    text = Path(result["report"]).read_text()
    assert "kd:soft 61.00 %, alone 51.00 %: +10.00 points" in text
    assert text.index(">vanilla (student alone)<") < text.index('<th scope="row">kd:soft')


def test_runs_of_a_kind_are_one_row(folder: Folder, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        folder(f"run-{seed}", seed=seed)
    assert main(["report", "run-0", "run-1"]) == 0
    assert "50.00 % (0.00)" in Path("report.html").read_text()


@pytest.mark.parametrize("words", ["nothing", "", "empty", "run --out note.txt", "run --out empty"])
def test_what_cannot_be_reported_is_refused(
    folder: Folder, tmp_path: Path, words: str, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    folder()
    Path("empty").mkdir()
    Path("note.txt").write_text("mine")
    assert main(["report", *words.split()]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert Path("note.txt").read_text() == "mine"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.5, 1.5), (-3e-5, 2e-5), (97.2, 99.9)])
@pytest.mark.parametrize("log", [False, True])
def test_ticks_lie_within_the_axis_and_are_distinct(low: float, high: float, log: bool) -> None:
    low, high = (low + 1, high + 1.5) if log else (low, high)
    ticks = Axis("", low, high, log=log).ticks()
    if not log or high / low > 2:
        assert len(ticks) >= 2
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)


@pytest.mark.parametrize("values", [[], [0.0], [0.3, 0.1 + 0.2], [float("nan")], [1e-300]])
def test_an_axis_has_room_for_what_does_not_vary(values: list[float]) -> None:
    for axis in (Axis.around("", values, 0.05), Axis.around("", [1.0, *values], 0.05)):
        assert axis.low < axis.high
        assert all(len(text) < 14 for _, text in axis.ticks())


def test_numbers_that_are_not_finite_leave_a_gap() -> None:
    chart = draw(
        "a", "A", [Line("b", [1.0, 2.0, 3.0, 4.0], [1.0, float("nan"), float("inf"), 2.0])]
    )
    assert "nan" not in chart.svg()
    assert "inf" not in chart.svg()
    assert chart.numbers()["lines"][0]["y"] == [1.0, None, None, 2.0]


@pytest.mark.browser
def test_a_browser_shows_it_and_asks_nobody(folder: Folder, tmp_path: Path) -> None:
    sync = pytest.importorskip("playwright.sync_api").sync_playwright
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium on the path")
    path = tmp_path / "page.html"
    path.write_text(html([folder(teachers=(HOSTILE, "b"))]))
    messages: list[str] = []
    with (
        sync() as play,
        play.chromium.launch(executable_path=program, args=["--no-sandbox"]) as browser,
    ):
        for width, scheme in ((1280, "light"), (390, "dark")):
            tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            tab.on("console", lambda message: messages.append(message.text))
            tab.on("pageerror", lambda error: messages.append(str(error)))
            tab.on("dialog", lambda dialog: messages.append(dialog.message))
            tab.on("request", lambda request: messages.append(request.url))
            tab.goto(path.as_uri())
            requested, messages[:] = [url for url in messages if not url.startswith("data:")], []
            assert requested == [path.as_uri()]
            assert all(tab.locator(f"#run-0-{key}").is_visible() for key in NAMES)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            tab.select_option("select[data-filter=rule]", "worst")
            assert tab.locator(".cards > li:visible").count() == 1
            assert tab.locator("form output").inner_text() == "1 of 3 shown"
            tab.locator("figure").first.focus()
            tab.keyboard.press("ArrowLeft")
            assert "train: 42.00 %" in tab.locator("#tip").inner_text()
            tab.keyboard.press("ArrowLeft")
            assert "train: 41.00 %" in tab.locator("#tip").inner_text()
            tab.screenshot(path=tmp_path / f"page-{width}.png", full_page=True)
        assert messages == []
