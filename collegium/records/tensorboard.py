"""Writes the lines of metrics.jsonl as TensorBoard events, too."""

import shutil
import time
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

from collegium.records.run_folder import EVENTS, Json, Record
from collegium.utils.extras import import_extra

_PLACES = ("epoch", "step", "split")


class EventRecord(Record):
    """A run folder whose lines of metrics are written as events too, into `tensorboard/`.

    The first line of a session rewrites all events from metrics.jsonl. So a resumed run has every
    step once, even if events of an unfinished epoch had been written.
    """

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder)
        self._writer: Any = None

    def append_metrics(self, line: Json) -> None:
        """Add one line to metrics.jsonl and to the events, and flush both."""
        super().append_metrics(line)
        if self._writer is None:
            self._begin()
        else:
            self._write(line, time.time())
        self._writer.flush()

    def close(self) -> None:
        """Close the events of this session."""
        if self._writer is not None:
            self._writer.close()

    def _begin(self) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        shutil.rmtree(self.path(EVENTS), ignore_errors=True)
        # Makes an open viewer discard what it has read, from step 0 on.
        self._writer = SummaryWriter(str(self.path(EVENTS)), purge_step=0)
        settings = _flat(self.run)
        table = "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in settings.items())])
        self._writer.add_text("run", table)
        results = dict.fromkeys(("accuracy/validation", "accuracy/test"), 0.0)
        for summary in hparams(settings, results):
            self._writer.file_writer.add_summary(summary)
        lines = self.metrics()
        at = time.time() - sum(line.get("seconds", 0.0) for line in lines)
        for line in lines:
            at += line.get("seconds", 0.0)
            self._write(line, at)

    def _write(self, line: Json, at: float) -> None:
        for key, value in line.items():
            if key in _PLACES:
                continue
            if isinstance(value, str):
                self._writer.add_text(key, value, line["step"], walltime=at)
            else:
                self._writer.add_scalar(tag(key, line["split"]), value, line["step"], walltime=at)


def tag(key: str, split: str) -> str:
    """The name of a key of metrics.jsonl in TensorBoard.

    >>> tag("accuracy", "validation"), tag("loss.kd", "train"), tag("loss.hint.a.layer1", "train")
    ('accuracy/validation', 'loss/kd', 'loss/hint.a.layer1')
    """
    group, dot, part = key.partition(".")
    return f"{group}/{part if dot else split}"


def _flat(run: Json) -> dict[str, Any]:
    """The settings of run.json as one flat table of numbers and texts."""
    nested = {key: run.get(key, {}) for key in ("options", "optimisation")}
    plain = {key: run[key] for key in ("data", "student", "method", "seed", "views") if key in run}
    found = plain | {key: value for part in nested.values() for key, value in part.items()}
    found["teachers"] = ", ".join(run.get("teachers", {}))
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in found.items()}


def written_to(folder: Path, events: bool) -> AbstractContextManager[Record]:
    """The record that a session writes to.

    Args:
        folder: of the run.
        events: whether TensorBoard events are written, too.
    """
    return closing(EventRecord(folder)) if events else nullcontext(Record(folder))


def wants_events(folder: Path, requested: bool, resume: bool) -> bool:
    """Whether a session writes events: on request, or if the run that it resumes has some.

    Raises:
        RequestError: it writes them, and TensorBoard is not installed.
    """
    wanted = requested or (resume and (folder / EVENTS).is_dir())
    if wanted:
        import_extra("tensorboard")
    return wanted
