"""Estimates the disk space and time a store takes, and the time it saves, before a run starts."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from collegium.errors import FolderError
from collegium.store.source import Volumes
from collegium.store.volume import Index
from collegium.teachers.ensemble import TeacherEnsemble


@dataclass(frozen=True)
class Row:
    """The estimate for one teacher.

    Attributes:
        name: of the teacher.
        kept: the kinds of output and their codecs.
        wanted: number of views the store must hold.
        stored: number of these views that are already stored.
        row_bytes: bytes of the outputs for one view.
        rate: views per second, measured on a few views.
        live: number of views the teacher would process without a store.
    """

    name: str
    kept: str
    wanted: int
    stored: int
    row_bytes: int
    rate: float
    live: int

    @property
    def missing_bytes(self) -> int:
        """Bytes still to be written."""
        return (self.wanted - self.stored) * self.row_bytes

    @property
    def seconds(self) -> float:
        """Time this teacher takes with the store, in seconds."""
        return (self.wanted - self.stored) / self.rate

    @property
    def live_seconds(self) -> float:
        """Time this teacher takes without a store, in seconds."""
        return self.live / self.rate


@dataclass(frozen=True)
class Plan:
    """The estimate for all teachers of a run.

    Attributes:
        folder: of the store.
        rows: one for each teacher.
        views: number of views of each example.
        examples: number of examples.
        free: free bytes on the disk.
    """

    folder: Path
    rows: Sequence[Row]
    views: int
    examples: int
    free: int

    def table(self) -> str:
        """The plan as a text table."""
        head = f"store {self.folder}: {self.views} views of {self.examples:,} examples"
        columns = ["teacher", "kept", "wanted", "stored", "to write", "images/s", "time", "live"]
        body = [
            [
                row.name,
                row.kept,
                f"{row.wanted:,}",
                f"{row.stored:,}",
                human_bytes(row.missing_bytes),
                f"{row.rate:,.0f}",
                clock(row.seconds),
                clock(row.live_seconds),
            ]
            for row in self.rows
        ]
        seconds = clock(sum(row.seconds for row in self.rows))
        without = clock(sum(row.live_seconds for row in self.rows))
        need, free = human_bytes(self.missing_bytes), human_bytes(self.free)
        foot = f"to write {need} of {free} free; teachers take {seconds}, without a store {without}"
        return "\n".join([head, *_aligned([columns, *body]), foot])

    @property
    def missing_bytes(self) -> int:
        """Bytes still to be written for all teachers."""
        return sum(row.missing_bytes for row in self.rows)

    def check(self) -> None:
        """Check that the disk has enough free space.

        Raises:
            FolderError: it has too little; the message gives the bytes needed and the bytes free.
        """
        if self.missing_bytes > self.free:
            raise FolderError(
                f"store {self.folder} would take {human_bytes(self.missing_bytes)} more and "
                f"{human_bytes(self.free)} are free: fewer --views, --store-hints int8 or none, or "
                "another --store"
            )


def make_plan(
    folder: Path,
    volumes: Mapping[str, Volumes],
    ensemble: TeacherEnsemble,
    index_N: Index,
    views: Sequence[int],
    epochs: int,
) -> Plan:
    """Estimate the cost of a run of `epochs` epochs over these views."""
    rows = []
    for name, kinds in volumes.items():
        absent = [
            np.logical_or.reduce([volume.absent(index_N, view) for volume in kinds.values()])
            for view in views
        ]
        rows.append(
            Row(
                name,
                ", ".join(f"{kind} {volume.codec.name}" for kind, volume in kinds.items()),
                len(index_N) * len(views),
                len(index_N) * len(views) - int(np.sum(absent)),
                sum(volume.codec.row_bytes for volume in kinds.values()),
                ensemble.infos[name].images_per_s,
                len(index_N) * epochs,
            )
        )
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return Plan(folder, rows, len(views), len(index_N), shutil.disk_usage(there).free)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]


def human_bytes(count: int | float) -> str:
    """A number of bytes as readable text.

    >>> human_bytes(21_600_000)
    '21.6 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def clock(seconds: int | float) -> str:
    """A duration in seconds as readable text.

    >>> clock(75.2), clock(5000)
    ('1:15', '1:23:20')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
