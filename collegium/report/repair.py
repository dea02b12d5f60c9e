"""Reads a damaged record without its damaged parts, and adds a problem for each."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from collegium.records.results import MetricsLine, Summary, TeacherRecord
from collegium.records.run_folder import METRICS, Json, Record
from collegium.records.schema import LARGEST, RUN_KINDS, shown, wrong
from collegium.utils.from_json import Range, fits


def sound_run(content: Any, path: Path, problems: list[str]) -> Json:
    """run.json without values of another kind."""
    run = _object(content, path, problems)
    run = _without(run, wrong(run, RUN_KINDS), path, problems)
    for part, name, kind in _INSIDE:
        inner = run.get(part, {})
        if name in inner and not fits(inner[name], kind):
            problems.append(f"{path}: {name} is {shown(inner[name])}")
            run[part] = {key: value for key, value in inner.items() if key != name}
    return run


_INSIDE = (
    ("optimisation", "epochs", Annotated[int, Range(1, LARGEST - 1)]),
    ("options", "temperature", Annotated[float, Range(math.ulp(0.0))]),
    ("storage", "store", str | None),
)
"""The values inside the objects of run.json that a page calculates with."""


def sound_teachers(content: Any, path: Path, problems: list[str]) -> list[TeacherRecord]:
    """teachers.json without values of another kind, and without teachers that have no name."""
    if not isinstance(content, list):
        problems.append(f"{path} is no list of teachers")
        return []
    rows = [_object(row, path, problems) for row in content]
    rows = [_without(row, TeacherRecord.wrong_keys(row), path, problems) for row in rows]
    named = [TeacherRecord.read(row) for row in rows if "name" in row]
    if len(named) < len(rows):
        problems.append(f"{path}: {len(rows) - len(named)} of {len(rows)} teachers have no name")
    return named


def sound_summary(content: Any, path: Path, problems: list[str]) -> Summary:
    """summary.json without values of another kind."""
    summary = _object(content, path, problems)
    return Summary.read(_without(summary, Summary.wrong_keys(summary), path, problems))


def sound_lines(record: Record, problems: list[str]) -> list[MetricsLine]:
    """The lines of metrics.jsonl that belong to an epoch; a problem counts all others."""
    path = record.path(METRICS)
    try:
        found = [line for line in record.metrics() if "epoch" in line]
        text = path.read_text(errors="replace") if path.is_file() else ""
    except (OSError, ValueError) as error:
        problems.append(f"{path} cannot be read: {error}")
        return []
    written = [line for line in text.split("\n") if line.strip()]
    torn = bool(text) and not text.endswith("\n")  # a process may be writing it
    if len(found) < len(written) - torn:
        lost = f"{len(written) - len(found)} of {len(written)} lines"
        problems.append(f"{path}: {lost} make no sense")
    return found


def _object(content: Any, path: Path, problems: list[str]) -> Json:
    if isinstance(content, dict):
        return content
    problems.append(f"{path} is no JSON object")
    return {}


def _without(content: Json, bad: Iterable[str], path: Path, problems: list[str]) -> Json:
    keys = set(bad)
    problems += [f"{path}: {key} is {shown(content[key])}" for key in content if key in keys]
    return {key: value for key, value in content.items() if key not in keys}
