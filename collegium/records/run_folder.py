"""The run folder: every file that a run leaves is written and read here.

run.json              everything that decides the result
teachers.json         for each teacher: name, spec, SHA-256, classes, normalisation, accuracy
metrics.jsonl         one JSON object a line: epoch, split, accuracy, losses, weights, ...
summary.json          the results
weights.npz           index (N,), teachers (T,), weights (N, T) of the last epoch
predictions.npz       evaluation split: index (M,), labels (M,), student (M,), teachers (T, M), ...
examples.npz          the few examples a report shows
student.safetensors   the student alone
manifest.json         SHA-256 of the files of a finished run
checkpoint/           what `resume` needs
report.html           one file, no network
tensorboard/          the lines of metrics.jsonl as events, only with --tensorboard
previous/             the replaced run, until the new one has its first checkpoint
"""

import contextlib
import hashlib
import io
import itertools
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.errors import FolderError
from collegium.plots.drawing import AbstractDrawing
from collegium.records.results import MetricsLine, Summary, TeacherRecord
from collegium.records.schema import FlatRecord, parse, read_json, shown, wrong_arrays
from collegium.utils.files import (
    MANIFEST,
    file_digest,
    flush_folder,
    reporting_writes,
    write_through,
    write_whole,
    zip_bomb_reason,
)

Json = dict[str, Any]
Arrays = dict[str, NDArray[Any]]

RUN, TEACHERS, METRICS, SUMMARY = "run.json", "teachers.json", "metrics.jsonl", "summary.json"
WEIGHTS, PREDICTIONS, EXAMPLES = "weights.npz", "predictions.npz", "examples.npz"
STUDENT, CHECKPOINT, REPORT = "student.safetensors", "checkpoint", "report.html"
PREVIOUS, EVENTS = "previous", "tensorboard"
WATCHED = "watched"
"""The split of lines of metrics.jsonl that measure the test split after an epoch."""
_UNREADABLE = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
PARTS = (RUN, TEACHERS, METRICS, SUMMARY, WEIGHTS, PREDICTIONS, EXAMPLES, STUDENT, REPORT, MANIFEST)


class Record(AbstractDrawing):
    """A run folder; a notebook shows its result, its teachers and its main curves.

    Args:
        folder: where it is; `create` makes one, `Record(folder)` opens one.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.doubts: tuple[str, ...] = ()
        """Problems that were found on opening it; the report shows them."""

    def __repr__(self) -> str:
        return f"Record({str(self.folder)!r})"

    @classmethod
    def create(cls, folder: Path, *, overwrite: bool = False) -> "Record":
        """A new, empty run folder.

        Args:
            folder: may exist, if it holds no run.
            overwrite: put the run it holds aside first (its files, nothing else in the folder);
                `drop_previous` removes it.

        Raises:
            FolderError: it holds a run, is a file, or cannot be written.
        """
        record = cls(folder)
        if record.holds_run() and not overwrite:
            advice = f"choose another --out, give --overwrite, or: collegium resume {folder}"
            raise FolderError(f"{folder} holds a run already; {advice}")
        with reporting_writes(f"to {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            if overwrite and record.holds_run():
                record._put_aside()
            (folder / CHECKPOINT).mkdir(exist_ok=True)
        return record

    @classmethod
    def open(cls, folder: Path | str) -> "Record":
        """Open an existing run folder.

        Raises:
            FolderError: it is not one.
        """
        record = cls(folder)
        if not record.holds_run():
            raise FolderError(f"{folder} is no run folder: it has no {RUN}")
        return record

    def holds_run(self) -> bool:
        """Whether a part of a run is in the folder, other than teachers.json, which comes first."""
        return any((self.folder / part).exists() for part in PARTS if part != TEACHERS)

    def _put_aside(self) -> None:
        """Move the run into `previous`, unless it came less far than what is there already."""
        moving, aside = self.folder / f".{PREVIOUS}.tmp", self.folder / PREVIOUS
        if aside.exists() and not any(self.path(CHECKPOINT).glob("epoch-*")):
            self._remove()
            return
        self.drop_previous()
        moving.mkdir(exist_ok=True)
        for part in (*PARTS, CHECKPOINT, EVENTS):
            if self.path(part).exists() and not (moving / part).exists():
                self.path(part).rename(moving / part)
        moving.rename(aside)
        flush_folder(self.folder)

    def _remove(self) -> None:
        for part in PARTS:
            self.path(part).unlink(missing_ok=True)
        for part in (CHECKPOINT, EVENTS):
            shutil.rmtree(self.path(part), ignore_errors=True)

    def drop_previous(self) -> None:
        """Remove the run that was put aside, if there is one."""
        shutil.rmtree(self.path(PREVIOUS), ignore_errors=True)

    def sweep(self) -> None:
        """Remove half-written files that a killed process has left."""
        for part in PARTS:
            for left in self.folder.glob(f".{part}.*"):
                left.unlink(missing_ok=True)
        for left in self.path(CHECKPOINT).glob(".*.tmp"):
            shutil.rmtree(left, ignore_errors=True)

    def path(self, part: str) -> Path:
        """Where a part of the run is or will be."""
        return self.folder / part

    def write_json(self, part: str, content: Any) -> None:
        """Write run.json, teachers.json or summary.json, whole or not at all."""
        write_whole(self.path(part), _as_bytes(content))

    def write_manifest(self, summary: Json) -> None:
        """Write the SHA-256 of the files of a finished run; its summary is written after it."""
        parts = (part for part in PARTS if part not in (RUN, SUMMARY, REPORT, MANIFEST))
        files = {part: file_digest(self.path(part)) for part in parts if self.path(part).is_file()}
        files[SUMMARY] = hashlib.sha256(_as_bytes(summary)).hexdigest()
        self.write_json(MANIFEST, {"run": self.run.get("id"), "files": files})

    def read_json(self, part: str) -> Any:
        """Read a JSON part.

        Raises:
            FolderError: it is missing or no JSON, or has a key twice.
        """
        missing = f"{self.folder} has no {part}: the run did not get there"
        return read_json(self.path(part), missing=missing)

    def _object(self, part: str) -> Json:
        content = self.read_json(part)
        if not isinstance(content, dict):
            raise FolderError(f"{self.path(part)} is no JSON object")
        return content

    def append_metrics(self, line: Json) -> None:
        """Add one line to metrics.jsonl; it is on the disk when this returns."""
        write_through(self.path(METRICS), _as_line(line), "ab")

    def metrics(self, split: str | None = None) -> list[MetricsLine]:
        """The lines of metrics.jsonl, of one split or all; damaged lines are left out."""
        if not self.path(METRICS).is_file():
            return []
        text = self.path(METRICS).read_text(errors="replace")
        lines = [_parse(line) for line in text.split("\n")]
        return [line for line in lines if line and split in (None, line.get("split"))]

    def keep_metrics(self, epochs: int) -> None:
        """Remove the lines of epochs that will run again, and of the test split."""
        lines = (line for line in self.metrics() if line.get("split") != "test")
        done = (line for line in lines if line.get("epoch") in range(epochs))
        write_whole(self.path(METRICS), b"".join(map(_as_line, done)))

    def write_arrays(self, part: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write weights.npz, predictions.npz or examples.npz, whole or not at all."""
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
        write_whole(self.path(part), content.getvalue())

    def read_arrays(self, part: str) -> Arrays:
        """Read an array part, never unpickling; empty where the run has none.

        Raises:
            FolderError: it is damaged.
        """
        if not self.path(part).is_file():
            return {}
        try:
            if reason := zip_bomb_reason(self.path(part)):
                raise ValueError(reason)
            with np.load(self.path(part), allow_pickle=False) as file:
                found = {key: file[key] for key in file.files}
            if reason := wrong_arrays(part, found):
                raise ValueError(f"it is not what a run writes: {reason}")
            return found
        except (*_UNREADABLE, MemoryError) as error:
            raise FolderError(f"{self.path(part)} cannot be read: {error}") from None

    @property
    def run(self) -> Json:
        """run.json."""
        return self._object(RUN)

    @property
    def teachers(self) -> list[TeacherRecord]:
        """teachers.json: the teachers, in order; empty for a network trained alone.

        Raises:
            FolderError: it is damaged.
        """
        if not self.path(TEACHERS).is_file():
            return []
        rows = self.read_json(TEACHERS)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise FolderError(f"{self.path(TEACHERS)} is no list of teachers")
        for row in rows:
            self._check(TeacherRecord, row, TEACHERS, "a teacher has ")
            self._check_needed(TeacherRecord, row, TEACHERS, "a teacher")
        return [TeacherRecord.read(row) for row in rows]

    @property
    def summary(self) -> Summary:
        """summary.json: the results.

        Raises:
            FolderError: it is missing, or a value in it is of another kind than a run writes.
        """
        content = self._object(SUMMARY)
        self._check(Summary, content, SUMMARY)
        return Summary.read(content)

    def answer(self) -> Summary:
        """summary.json, with all keys that a finished run needs.

        Raises:
            FolderError: as `summary`, or one of these keys is missing.
        """
        self._check_needed(Summary, found := self.summary, SUMMARY, "it")
        return found

    def _check(self, kind: type[FlatRecord], content: Json, part: str, whose: str = "") -> None:
        for key in kind.wrong_keys(content):
            value = f"{' ' if whose else ' is '}{shown(content[key])}"
            raise FolderError(f"{self.path(part)} is damaged: {whose}{key}{value}")

    def _check_needed(self, kind: type[FlatRecord], content: Json, part: str, whose: str) -> None:
        if missing := ", ".join(key for key in kind.needed if key not in content):
            raise FolderError(f"{self.path(part)} is damaged: {whose} has no {missing}")

    @property
    def weights(self) -> Arrays:
        """weights.npz: the weight of each teacher for each example in the last epoch."""
        return self.read_arrays(WEIGHTS)

    @property
    def predictions(self) -> Arrays:
        """predictions.npz: the predicted classes of student and teachers, evaluation split."""
        return self.read_arrays(PREDICTIONS)

    def found(self) -> Summary:
        """summary.json; empty while the run is not finished."""
        return self.summary if self.path(SUMMARY).is_file() else Summary.read({})


def _as_bytes(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _as_line(line: Json) -> bytes:
    return (json.dumps(line) + "\n").encode()


def _parse(line: str) -> MetricsLine:
    """A line of metrics.jsonl; an empty one where it is damaged."""
    parsed: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        parsed = parse(line)
    whole = isinstance(parsed, dict) and not MetricsLine.wrong_keys(parsed)
    return MetricsLine.read(parsed if whole else {})


def next_free(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, ... that holds no run."""
    others = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    candidates = itertools.chain([folder], others)
    return next(path for path in candidates if not Record(path).holds_run())
