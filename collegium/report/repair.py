"""A damaged record without what is damaged in it, each part of which is told."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from collegium.records.run_folder import METRICS, Json, Record
from collegium.records.schema import (
    LARGEST,
    RUN_KINDS,
    TEACHER_KINDS,
    shown,
    wrong,
    wrong_in_summary,
)
from collegium.utils.from_json import fits


def sound_run(content: Any, path: Path, problems: list[str]) -> Json:
    """run.json without values of another kind."""
    run = _without(_object(content, path, problems), RUN_KINDS, path, problems)
    for part, name, kind in _INSIDE:
        inner = run.get(part, {})
        if name in inner and not _is(inner[name], kind):
            problems.append(f"{path}: {name} is {shown(inner[name])}")
            run[part] = {key: value for key, value in inner.items() if key != name}
    return run


_INSIDE = (
    ("optimisation", "epochs", range(1, LARGEST)),
    ("options", "temperature", float),
    ("storage", "store", str | None),
)
"""What of the objects in run.json a page calculates with."""


def _is(value: Any, kind: Any) -> bool:
    if isinstance(kind, range):
        return fits(value, int) and value in kind
    return fits(value, kind) and (kind is not float or value > 0)


def sound_teachers(content: Any, path: Path, problems: list[str]) -> list[Json]:
    """teachers.json without values of another kind, and without rows that name nobody."""
    if not isinstance(content, list):
        problems.append(f"{path} is no list of teachers")
        return []
    rows = [
        _without(_object(row, path, problems), TEACHER_KINDS, path, problems) for row in content
    ]
    named = [row for row in rows if "name" in row]
    if len(named) < len(rows):
        problems.append(f"{path}: {len(rows) - len(named)} of {len(rows)} teachers have no name")
    return named


def sound_summary(content: Any, path: Path, problems: list[str]) -> Json:
    """summary.json without values of another kind."""
    summary = _object(content, path, problems)
    return _dropped(summary, wrong_in_summary(summary), path, problems)


def sound_lines(record: Record, problems: list[str]) -> list[Json]:
    """The lines of metrics.jsonl that belong to an epoch; how many others there are is told."""
    path = record.path(METRICS)
    try:
        found = [line for line in record.metrics() if "epoch" in line]
        text = path.read_text(errors="replace") if path.is_file() else ""
    except (OSError, ValueError) as error:
        problems.append(f"{path} cannot be read: {error}")
        return []
    written = [line for line in text.split("\n") if line.strip()]
    torn = bool(text) and not text.endswith("\n")  # somebody may be writing it
    if len(found) < len(written) - torn:
        problems.append(
            f"{path}: {len(written) - len(found)} of {len(written)} lines make no sense"
        )
    return found


def _object(content: Any, path: Path, problems: list[str]) -> Json:
    if isinstance(content, dict):
        return content
    problems.append(f"{path} is no JSON object")
    return {}


def _without(content: Json, kinds: Mapping[str, Any], path: Path, problems: list[str]) -> Json:
    return _dropped(content, wrong(content, kinds), path, problems)


def _dropped(content: Json, bad: Iterable[str], path: Path, problems: list[str]) -> Json:
    keys = set(bad)
    problems += [f"{path}: {key} is {shown(content[key])}" for key in content if key in keys]
    return {key: value for key, value in content.items() if key not in keys}
