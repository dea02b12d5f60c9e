"""A run folder as a report reads it: whatever is there, and what is missing or damaged said."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from collegium.config.same_run import doubts
from collegium.errors import FolderError
from collegium.records.comparison import BASELINE
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

_Part = TypeVar("_Part")


@dataclass(frozen=True)
class RunData:
    """What one run has left so far.

    Attributes:
        folder: where it is.
        name: what it is called among others.
        run: run.json, or nothing.
        teachers: teachers.json.
        metrics: the lines of metrics.jsonl.
        summary: summary.json; nothing while the run is not finished.
        weights: weights.npz.
        predictions: predictions.npz.
        examples: examples.npz.
        problems: what could not be read, a line each.
        going: whether a process is writing it.
    """

    folder: Path
    name: str
    run: Json
    teachers: Sequence[Json]
    metrics: Sequence[Json]
    summary: Json
    weights: Arrays
    predictions: Arrays
    examples: Arrays
    problems: tuple[str, ...] = ()
    going: bool = False

    @property
    def state(self) -> str:
        """How the run is, in words."""
        if self.finished:
            return "is finished"
        return "is still going" if self.going else "was stopped"

    @property
    def finished(self) -> bool:
        """Whether the run got to its end."""
        return bool(self.summary)

    @property
    def alone(self) -> bool:
        """Whether the student heard nobody."""
        return bool(self.method == BASELINE)

    @property
    def method(self) -> str:
        """Slug of the method."""
        return str(self.run.get("method", "unknown"))

    @property
    def epochs(self) -> tuple[int, int]:
        """How many are done, and how many there are to be."""
        done = max((line["epoch"] + 1 for line in self.metrics), default=0)
        return done, int(self.run.get("optimisation", {}).get("epochs", done))

    @property
    def last_line(self) -> Json:
        """What training said of the last epoch; nothing before the first."""
        train = [line for line in self.metrics if line.get("split") == "train"]
        return train[-1] if train else {}

    @property
    def heard(self) -> list[str]:
        """Names of the teachers that got weights."""
        if "teachers" in self.weights:
            return [str(name) for name in self.weights["teachers"]]
        keys = {k: None for line in self.metrics for k in line if k.startswith("weights.")}
        return [key[8:] for key in keys]

    @property
    def classes(self) -> list[str]:
        """Names of the classes; their numbers where nothing names them."""
        if "classes" in self.predictions:
            return [str(name) for name in self.predictions["classes"]]
        for row in self.teachers:
            if row.get("classes") and "labels" not in row:
                return [str(name) for name in row["classes"]]
        labels = self.predictions.get("labels")
        return [str(label) for label in range(int(labels.max()) + 1 if labels is not None else 0)]

    def teacher_accuracy(self) -> dict[str, float]:
        """Of each teacher: on the evaluation split, or before the end on validation."""
        names = [row["name"] for row in self.teachers]
        found = {name: self.summary.get(f"accuracy.{name}") for name in names}
        if not self.finished:
            found = {row["name"]: row.get("accuracy") for row in self.teachers}
        return {name: value for name, value in found.items() if value is not None}

    def comparable(self) -> Any:
        """What must be equal for two accuracies to be compared."""
        parts = ("data", "student", "validation", "image_size")
        return [*(self.run.get(part) for part in parts), self.epochs[1], self.summary.get("split")]


def read(record: Record) -> RunData:
    """Read a run folder; what is damaged becomes a problem that is told, not an error."""
    problems: list[str] = []

    def part(get: Callable[[], _Part], empty: _Part) -> _Part:
        try:
            return get()
        except (FolderError, TypeError, ValueError) as error:
            problems.append(str(error))
            return empty

    def arrays(file: str) -> Arrays:
        return part(lambda: record.read_arrays(file), {})

    run: Any = part(lambda: record.read_json(RUN), {}) if record.path(RUN).is_file() else {}
    finished = record.path(SUMMARY).is_file()
    if isinstance(run, dict):
        problems += doubts(record.folder, run) if finished else []
    teachers: Any = (
        part(lambda: record.read_json(TEACHERS), []) if record.path(TEACHERS).is_file() else []
    )
    summary: Any = part(lambda: record.read_json(SUMMARY), {}) if finished else {}
    return RunData(
        record.folder,
        record.folder.resolve().name,
        sound_run(run, record.path(RUN), problems),
        sound_teachers(teachers, record.path(TEACHERS), problems),
        sound_lines(record, problems),
        sound_summary(summary, record.path(SUMMARY), problems),
        arrays(WEIGHTS),
        arrays(PREDICTIONS),
        arrays(EXAMPLES),
        tuple(dict.fromkeys((*record.doubts, *problems))),
        is_taken(record.folder),
    )


def last_written(run_data: RunData) -> str:
    """When the run last wrote a line of metrics, in words."""
    path = run_data.folder / METRICS
    if not path.is_file():
        return "no epoch is done yet"
    when = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return f"last heard of on {when:%Y-%m-%d at %H:%M:%S} UTC"


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

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
        """Whether its students heard nobody."""
        return self.first.alone

    def of(self, key: str) -> dict[int, float]:
        """One number of each summary that has it, by seed."""
        found = {seed: run.summary.get(key) for seed, run in self.readings.items()}
        return {seed: float(value) for seed, value in found.items() if value is not None}


def groups(readings: Sequence[RunData]) -> list[Group]:
    """Runs that differ in their seed alone, together; two of one seed are apart."""
    kinds: dict[str, dict[int, RunData]] = {}
    for run_data in readings:
        seed, key = int(run_data.run.get("seed", 0)), run_data.name
        while seed in kinds.get(key, {}):
            key += "'"
        kinds.setdefault(key, {})[seed] = run_data
    return [Group(name, runs) for name, runs in kinds.items()]
