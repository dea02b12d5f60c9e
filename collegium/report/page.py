"""One self-contained page about one run or several."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from collegium.errors import FolderError
from collegium.records.run_folder import RUN, Json, Record
from collegium.report import comparison, sections
from collegium.report.cards import RULES, cards, temperature
from collegium.report.frame import render
from collegium.report.load import RunData, groups, read
from collegium.utils.files import reporting_writes, write_whole

_Part = TypeVar("_Part")

FULL = 6
"""Runs shown in full on a page of several."""
NAMES = {
    "teachers": "Teachers",
    "curves": "Curves",
    "weights": "Teacher weights",
    "examples": "Examples",
    "against": "Student against teachers",
    "cost": "Cost",
    "settings": "Settings",
}
"""The sections of a run, by the end of their id."""


def write_page(
    records: Sequence[Record],
    path: Path,
    *,
    names: Sequence[str] | None = None,
    reload: int | None = None,
) -> list[str]:
    """Write a page, whole or not at all.

    Args:
        records: the runs.
        path: of the page; only pages written by collegium are replaced.
        names: of the runs; runs that share a name count as seeds of one kind.
        reload: seconds after which a browser reads the file again; None for never.

    Returns:
        The problems of the records, a line each, as the page shows them.

    Raises:
        FolderError: another file is there, or the page cannot be written.
    """
    if path.exists() and not is_ours(path) and not Record(path.parent).path(RUN).is_file():
        raise FolderError(f"{path} exists and is not a collegium report; choose another --out")
    with reporting_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        content, problems = page(records, names=names, reload=reload)
        # Half a pair of surrogates, which JSON can name, is no character.
        write_whole(path, content.encode("utf-8", "xmlcharrefreplace"))
    return problems


def is_ours(path: Path) -> bool:
    """Whether a file is a page that collegium wrote."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b'name="generator" content="collegium"' in file.read(1000)


def page(
    records: Sequence[Record], *, names: Sequence[str] | None = None, reload: int | None = None
) -> tuple[str, list[str]]:
    """The page as HTML, and the problems on it.

    Args:
        records: one run or several.
        names: of the runs.
        reload: seconds after which a browser reads the file again; None for never.
    """
    unnamed = [read(record) for record in records]
    called = names or comparison.kinds([r.run for r in unnamed], [r.name for r in unnamed])
    readings = [replace(one, name=name) for one, name in zip(unnamed, called, strict=True)]
    found = groups(readings)
    shown = [group.first for group in found[:FULL]]
    runs = [_run(f"run-{place}", run_data) for place, run_data in enumerate(shown)]
    several = len(found) > 1
    costs = sections.cost_charts([group.first for group in found]) if several else []
    overview = [*comparison.charts(found), *costs] if several else []
    charts = {f"all-{chart.key}": chart for chart in overview}
    for run in runs:
        drawn = (*run["curves"], *run["weight_charts"])
        charts |= {f"{run['key']}-{chart.key}": chart for chart in drawn}
    lines = [*(run["problems"] for run in runs), *(one.problems for one in unnamed)]
    problems = list(dict.fromkeys(itertools.chain(*lines)))
    text = render(
        "page.html",
        charts.items(),
        kind="report",
        title=_title(readings),
        reload=reload,
        answer=runs[0]["answer"] if len(readings) == 1 else comparison.answer(found),
        problems=problems,
        comparison=comparison.table(found) if len(readings) > 1 else None,
        overview=overview,
        runs=runs,
        left_out=len(readings) - len(shown),
        names=NAMES,
        rules=RULES,
    )
    return text, problems


def _title(readings: Sequence[RunData]) -> str:
    data = dict.fromkeys(str(run_data.run.get("data", "unknown data")) for run_data in readings)
    what = readings[0].method if len(readings) == 1 else f"{len(readings)} runs"
    return f"{what} on {', '.join(data)}"


def _run(key: str, run_data: RunData) -> Json:
    problems = list(run_data.problems)

    def part(make: Callable[[RunData], _Part]) -> _Part | None:
        """A part; where the record is damaged or of another version, a problem instead of it."""
        try:
            return make(run_data)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            what = make.__name__.strip("_<>").replace("_", " ")
            reason = f"({type(error).__name__}: {' '.join(str(error).split())[:120]})"
            why = f"no {what}: its record is not as expected {reason}"
            problems.append(f"{run_data.folder}: {why}")
            return None

    shown = part(cards) or []
    end = "the run wrote none" if run_data.finished else "the run is not finished"
    return {
        "key": key,
        "name": run_data.name,
        "answer": part(comparison.single) or "This run has no summary.",
        "teachers": part(sections.teachers_table),
        "curves": part(sections.curves) or [],
        "weight_charts": part(sections.weight_charts) or [],
        "class_heat": part(sections.class_heat),
        "cards": shown,
        "temperature": round(temperature(run_data), 3) if any(c.target for c in shown) else None,
        "agreement": part(sections.agreement),
        "confusions": part(sections.confusions) or [],
        "cost": part(sections.cost_table),
        "cost_charts": part(lambda one: sections.cost_charts([one])) or [],
        "settings": part(sections.settings) or [],
        "why_no_weights": _why_no_weights(run_data),
        "why_no_classes": "With one teacher, its weight is 1 for every example."
        if len(run_data.weighted) == 1
        else f"No weights by class: weights.npz with labels is missing, since {end}.",
        "why_no_examples": f"Nothing to show: {end}.",
        "problems": problems,
    }


def _why_no_weights(run_data: RunData) -> str:
    if not run_data.teachers:
        return "The student was trained alone."
    return "No teacher has a weight." if run_data.metrics else "No weights: no epoch is done."
