"""One self-contained page about one run or several: no network, every name escaped."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from collegium.errors import FolderError
from collegium.plots.chart import Chart, script_json
from collegium.plots.figure import variables
from collegium.plots.tables import colours
from collegium.records.run_folder import RUN, Json, Record
from collegium.report import comparison, sections
from collegium.report.cards import RULES, cards, temperature
from collegium.report.load import Group, RunData, groups, read
from collegium.utils.files import write_whole

_Part = TypeVar("_Part")

FULL = 6
"""Runs shown in full on a page of several."""
NAMES = {
    "teachers": "Teachers",
    "curves": "Curves",
    "heard": "Who was heard",
    "examples": "Examples",
    "against": "Student against teachers",
    "cost": "Cost",
    "settings": "How it was made",
}
"""The sections of a run, by the end of their id."""


def write_page(
    records: Sequence[Record],
    path: Path,
    *,
    names: Sequence[str] | None = None,
    reload: int | None = None,
) -> list[str]:
    """Write a page, whole or not at all; gives what is wrong with the records, as it says there.

    Args:
        records: the runs.
        path: of the page; only a page of ours is replaced.
        names: what the runs are called; those that share a name are taken for seeds of one kind.
        reload: seconds after which a browser reads the file again; None for never.

    Raises:
        FolderError: another file is there, or it cannot be written.
    """
    if path.exists() and not is_ours(path) and not Record(path.parent).path(RUN).is_file():
        raise FolderError(f"{path} is there and is no report of collegium's; choose another --out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content, problems = _page(records, names, reload)
        # Half a pair of surrogates, which JSON can name, is no character.
        write_whole(path, content.encode("utf-8", "xmlcharrefreplace"))
    except OSError as error:
        raise FolderError(f"cannot write {path}: {error.strerror}") from None
    return problems


def is_ours(path: Path) -> bool:
    """Whether a file is a page that was written here."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b'name="generator" content="collegium"' in file.read(1000)


def page(
    records: Sequence[Record], *, names: Sequence[str] | None = None, reload: int | None = None
) -> str:
    """The page as HTML.

    Args:
        records: one run or several.
        names: what the runs are called.
        reload: seconds after which a browser reads the file again; None for never.
    """
    return _page(records, names, reload)[0]


def _page(
    records: Sequence[Record], names: Sequence[str] | None, reload: int | None
) -> tuple[str, list[str]]:
    """The page, and the problems it tells."""
    plain = [read(record) for record in records]
    called = names or comparison.kinds([r.run for r in plain], [r.name for r in plain])
    readings = [replace(one, name=name) for one, name in zip(plain, called, strict=True)]
    found = groups(readings)
    shown = [group.first for group in found[:FULL]]
    runs = [_run(f"run-{place}", run_data) for place, run_data in enumerate(shown)]
    overview = _overview(found)
    told = {problem: None for run in runs for problem in run["problems"]}
    problems = [*told, *(p for one in plain for p in one.problems if p not in told)]
    content = {
        "title": _title(readings),
        "reload": reload,
        "answer": runs[0]["answer"] if len(readings) == 1 else comparison.answer(found),
        "problems": problems,
        "comparison": comparison.table(found) if len(readings) > 1 else None,
        "overview": overview,
        "runs": runs,
        "left_out": len(readings) - len(shown),
        "names": NAMES,
        "rules": RULES,
        "numbers": script_json(_numbers(overview, runs)),
        "style": _colours() + _file("style.css") + _heat_style(),
        "script": _file("page.js"),
    }
    return str(_environment().get_template("page.html").render(content)), problems


def _title(readings: Sequence[RunData]) -> str:
    data = dict.fromkeys(str(run_data.run.get("data", "unknown data")) for run_data in readings)
    what = readings[0].method if len(readings) == 1 else f"{len(readings)} runs"
    return f"{what} on {', '.join(data)}"


def _overview(found: Sequence[Group]) -> list[Chart]:
    if len(found) == 1:
        return []
    return [*comparison.charts(found), *sections.cost_charts([group.first for group in found])]


def _run(key: str, run_data: RunData) -> Json:
    part = _Parts(run_data)
    shown = part(cards) or []
    end = "the run has not got to its end" if not run_data.finished else "the run left none"
    return {
        "key": key,
        "name": run_data.name,
        "answer": part(comparison.single) or "This run cannot be summed up.",
        "teachers": part(sections.teachers_table),
        "curves": part(sections.curves) or [],
        "hearing": part(sections.hearing) or [],
        "class_heat": part(sections.class_heat),
        "cards": shown,
        "truths": sorted({card.truth for card in shown}),
        "temperature": round(temperature(run_data), 3) if any(c.target for c in shown) else None,
        "agreement": part(sections.agreement),
        "confusions": part(sections.confusions) or [],
        "confusion_note": "Percent of each row; the number of examples is shown when pointed at.",
        "cost": part(sections.cost_table),
        "cost_charts": part(lambda one: sections.cost_charts([one])) or [],
        "settings": part(sections.settings) or [],
        "why_not_heard": _why_not_heard(run_data),
        "why_no_classes": _why_no_classes(run_data, end),
        "why_no_examples": f"Nothing to show: {end}.",
        "problems": part.problems,
    }


class _Parts:
    """Makes the parts of a page; one that cannot be made is left out and told.

    A record may be damaged, or written by another version: the rest of it is worth a page.
    """

    def __init__(self, run_data: RunData) -> None:
        self.run_data = run_data
        self.problems = list(run_data.problems)

    def __call__(self, make: Callable[[RunData], _Part]) -> _Part | None:
        try:
            return make(self.run_data)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            what = make.__name__.strip("_<>").replace("_", " ")
            self.problems.append(
                f"{self.run_data.folder}: no {what}, for its record is not as expected "
                f"({type(error).__name__}: {' '.join(str(error).split())[:120]})"
            )
            return None


def _why_not_heard(run_data: RunData) -> str:
    if not run_data.teachers:
        return "Nobody: the student was trained alone."
    return "No weights yet: no epoch is done." if not run_data.metrics else "Nobody got weights."


def _why_no_classes(run_data: RunData, end: str) -> str:
    if len(run_data.heard) == 1:
        return "One teacher alone gets all of every example."
    return f"No weights by class: {end} with weights.npz and its labels."


def _numbers(overview: Sequence[Chart], runs: Sequence[Mapping[str, Any]]) -> Json:
    """What is read off the charts, once, by the chart's key."""
    drawn = [("all-", chart) for chart in overview]
    for run in runs:
        drawn += [(f"{run['key']}-", chart) for chart in (*run["curves"], *run["hearing"])]
    return {f"{prefix}{chart.key}": chart.numbers() for prefix, chart in drawn if chart.lines}


@functools.cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("collegium.report", "templates")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


@functools.cache
def _file(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text()


def _colours() -> str:
    light, dark = variables("light"), variables("dark")
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


@functools.cache
def _heat_style() -> str:
    rules = [
        f".h{step}{{background:{back};color:{ink}}}" for step, (back, ink) in enumerate(colours())
    ]
    return "".join(rules)
