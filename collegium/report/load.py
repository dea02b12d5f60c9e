"""A run folder as the report reads it; damaged or missing parts become a list of problems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collegium.config.same_run import doubts
from collegium.errors import FolderError
from collegium.records.comparison import BASELINE
from collegium.records.results import MetricsLine, Summary, TeacherRecord
from collegium.records.run_folder import (
    EXAMPLES,
    METRICS,
    PREDICTIONS,
    RUN,
    SUMMARY,
    TEACHERS,
    WEIGHTS,
    Arrays,
    Json,
    Record,
)
from collegium.report.repair import sound_lines, sound_run, sound_summary, sound_teachers
from collegium.utils.lock import is_taken


@dataclass(frozen=True)
class RunData:
    """The content of a run folder.

    Attributes:
        folder: where it is.
        name: of the run in the report.
        run: run.json; empty where there is none.
        teachers: teachers.json.
        metrics: the lines of metrics.jsonl.
        summary: summary.json; empty while the run is not finished.
        weights: weights.npz.
        predictions: predictions.npz.
        examples: examples.npz.
        problems: the parts that could not be read, a line each.
        going: whether a process is writing it.
    """

    folder: Path
    name: str
    run: Json
    teachers: Sequence[TeacherRecord]
    metrics: Sequence[MetricsLine]
    summary: Summary
    weights: Arrays
    predictions: Arrays
    examples: Arrays
    problems: tuple[str, ...] = ()
    going: bool = False

    @property
    def state(self) -> str:
        """The state of the run, in words."""
        if self.finished:
            return "is finished"
        return "is still going" if self.going else "was stopped"

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return bool(self.summary)

    @property
    def alone(self) -> bool:
        """Whether the student was trained without teachers."""
        return bool(self.method == BASELINE)

    @property
    def method(self) -> str:
        """Slug of the method."""
        return str(self.run.get("method", "unknown"))

    @property
    def epochs(self) -> tuple[int, int]:
        """The epochs that are done, and those that the run asks for."""
        done = max((line["epoch"] + 1 for line in self.metrics), default=0)
        return done, int(self.run.get("optimisation", {}).get("epochs", done))

    @property
    def last_line(self) -> MetricsLine:
        """The training line of the last epoch; empty before the first."""
        train = [line for line in self.metrics if line.get("split") == "train"]
        return train[-1] if train else MetricsLine.read({})

    @property
    def heard(self) -> list[str]:
        """Names of the teachers that have weights."""
        if "teachers" in self.weights:
            return [str(name) for name in self.weights["teachers"]]
        return list(dict.fromkeys(name for line in self.metrics for name in line.weights))

    @property
    def classes(self) -> list[str]:
        """Names of the classes; their numbers where no file names them."""
        if "classes" in self.predictions:
            return [str(name) for name in self.predictions["classes"]]
        for row in self.teachers:
            if row.get("classes") and "labels" not in row:
                return [str(name) for name in row["classes"]]
        labels = self.predictions.get("labels")
        return [str(label) for label in range(int(labels.max()) + 1 if labels is not None else 0)]

    def teacher_accuracy(self) -> dict[str, float]:
        """Of each teacher: on the evaluation split, or before the end on validation."""
        found = {row.name: row.accuracy for row in self.teachers}
        if self.finished:
            found = {name: self.summary.accuracy.get(name) for name in found}
        return {name: value for name, value in found.items() if value is not None}

    def comparable(self) -> Any:
        """What must be equal for two accuracies to be compared."""
        parts = ("data", "student", "validation", "image_size")
        return [*(self.run.get(part) for part in parts), self.epochs[1], self.summary.get("split")]


def read(record: Record) -> RunData:
    """Read a run folder; a damaged part becomes a problem, not an error."""
    problems: list[str] = []
    finished, path = record.path(SUMMARY).is_file(), record.path
    run = _content(record, RUN, {}, problems)
    if finished and isinstance(run, dict):
        problems += doubts(record.folder, run)
    teachers = _content(record, TEACHERS, [], problems)
    summary = _content(record, SUMMARY, {}, problems)
    return RunData(
        record.folder,
        record.folder.resolve().name,
        sound_run(run, path(RUN), problems),
        sound_teachers(teachers, path(TEACHERS), problems),
        sound_lines(record, problems),
        sound_summary(summary, path(SUMMARY), problems),
        _arrays(record, WEIGHTS, problems),
        _arrays(record, PREDICTIONS, problems),
        _arrays(record, EXAMPLES, problems),
        tuple(dict.fromkeys((*record.doubts, *problems))),
        is_taken(record.folder),
    )


def _content(record: Record, part: str, missing: Any, problems: list[str]) -> Any:
    """A JSON part; `missing` where it is not there or cannot be read."""
    try:
        return record.read_json(part) if record.path(part).is_file() else missing
    except (FolderError, TypeError, ValueError) as error:
        problems.append(str(error))
        return missing


def _arrays(record: Record, part: str, problems: list[str]) -> Arrays:
    try:
        return record.read_arrays(part)
    except (FolderError, TypeError, ValueError) as error:
        problems.append(str(error))
        return {}


def last_written(run_data: RunData) -> str:
    """The time at which the run last wrote a line of metrics, in words."""
    path = run_data.folder / METRICS
    if not path.is_file():
        return "no epoch is done yet"
    when = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return f"last written on {when:%Y-%m-%d at %H:%M:%S} UTC"


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        name: of the row in a comparison.
        readings: the runs, by seed.
    """

    name: str
    readings: Mapping[int, RunData]

    @property
    def first(self) -> RunData:
        """The run that is shown in full: the first finished one, else the first."""
        runs = list(self.readings.values())
        return next((run for run in runs if run.finished), runs[0])

    @property
    def alone(self) -> bool:
        """Whether its students were trained without teachers."""
        return self.first.alone

    def of(self, key: str) -> dict[int, float]:
        """One number of each summary that has it, by seed."""
        found = {seed: run.summary.get(key) for seed, run in self.readings.items()}
        return {seed: float(value) for seed, value in found.items() if value is not None}


def groups(readings: Sequence[RunData]) -> list[Group]:
    """Put runs that differ in their seed only into groups; each group has a seed once."""
    kinds: dict[str, dict[int, RunData]] = {}
    for run_data in readings:
        seed, key = int(run_data.run.get("seed", 0)), run_data.name
        while seed in kinds.get(key, {}):
            key += "'"
        kinds.setdefault(key, {})[seed] = run_data
    return [Group(name, runs) for name, runs in kinds.items()]
