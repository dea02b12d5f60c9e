"""A run folder as the report reads it; damaged or missing parts become a list of problems."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collegium.config.same_run import doubts
from collegium.errors import FolderError
from collegium.plots import words
from collegium.plots.matrices import names_in
from collegium.plots.tables import accuracy_of_teachers
from collegium.records import run_folder
from collegium.records.comparison import BASELINE
from collegium.records.results import MetricsLine, Summary, TeacherRecord
from collegium.records.run_folder import METRICS, Arrays, Json, Record
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
        return self.method == BASELINE

    @property
    def method(self) -> str:
        """Slug of the method."""
        return str(self.run.get("method", "unknown"))

    @property
    def epochs(self) -> tuple[int, int]:
        """The epochs that are done, and those that were requested."""
        return words.epochs_of(self.run, self.metrics)

    @property
    def last_line(self) -> MetricsLine:
        """The training line of the last epoch; empty before the first."""
        train = [line for line in self.metrics if line.get("split") == "train"]
        return train[-1] if train else MetricsLine.read({})

    @property
    def weighted(self) -> list[str]:
        """Names of the teachers that have weights."""
        seen = list(dict.fromkeys(name for line in self.metrics for name in line.weights))
        return list(names_in(self.weights, "teachers")) or seen

    @property
    def classes(self) -> list[str]:
        """Names of the classes; their numbers where no file names them."""
        labels = self.predictions.get("labels")
        names = self.predictions.get("classes", range(0 if labels is None else labels.max() + 1))
        if "classes" not in self.predictions:
            ours = (r["classes"] for r in self.teachers if r.get("classes") and "labels" not in r)
            names = next(ours, names)
        return [str(name) for name in names]

    def teacher_accuracy(self) -> dict[str, float]:
        """Of each teacher: on the evaluation split, or before the end on validation."""
        return accuracy_of_teachers(self.teachers, self.summary)

    def comparable(self) -> Any:
        """What must be equal for two accuracies to be compared."""
        parts = ("data", "student", "validation", "image_size")
        return [*(self.run.get(part) for part in parts), self.epochs[1], self.summary.get("split")]


def read(record: Record) -> RunData:
    """Read a run folder; a damaged part becomes a problem, not an error."""
    problems: list[str] = []
    finished, path = record.path(run_folder.SUMMARY).is_file(), record.path

    def part(read_it: Callable[[str], Any], name: str, missing: Any) -> Any:
        """A part of the folder; `missing` where it is not there or cannot be read."""
        try:
            return read_it(name) if path(name).is_file() else missing
        except (FolderError, TypeError, ValueError) as error:
            problems.append(str(error))
            return missing

    run = part(record.read_json, run_folder.RUN, {})
    if finished and isinstance(run, dict):
        problems += doubts(record.folder, run)
    teachers = part(record.read_json, run_folder.TEACHERS, [])
    summary = part(record.read_json, run_folder.SUMMARY, {})
    return RunData(
        record.folder,
        record.folder.resolve().name,
        sound_run(run, path(run_folder.RUN), problems),
        sound_teachers(teachers, path(run_folder.TEACHERS), problems),
        sound_lines(record, problems),
        sound_summary(summary, path(run_folder.SUMMARY), problems),
        part(record.read_arrays, run_folder.WEIGHTS, {}),
        part(record.read_arrays, run_folder.PREDICTIONS, {}),
        part(record.read_arrays, run_folder.EXAMPLES, {}),
        tuple(dict.fromkeys((*record.doubts, *problems))),
        is_taken(record.folder),
    )


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
