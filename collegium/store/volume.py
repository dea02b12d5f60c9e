"""One kind of answer of one teacher: its logits, or one hidden layer."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from collegium.errors import NumericsError
from collegium.store.codecs import AbstractCodec
from collegium.store.shard import (
    DamagedShardError,
    Shard,
    Stamp,
    read_shard,
    stamp_of,
    write_shard,
)

_SHARD_BYTES = 64 << 20
_MOST_ROWS, _LEAST_ROWS = 4096, 64
_NAME = re.compile(r"view(\d+)-(\d+)\.safetensors")

Index = NDArray[np.int64]


def rows_per_shard(codec: AbstractCodec) -> int:
    """Examples of one shard: a power of two, so that a shard stays small enough to rewrite."""
    rows = _MOST_ROWS
    while rows > _LEAST_ROWS and rows * codec.row_bytes > _SHARD_BYTES:
        rows //= 2
    return rows


@dataclass
class Volume:
    """Answers by example and view, in shards that several processes may read and add to.

    Attributes:
        folder: where the shards are; made when the first is written.
        owner: whose answers these are: teacher, data and views, as one word.
        codec: how they are kept.
        rows: examples of a shard.
        warn: told of damaged shards, which count as absent.
    """

    folder: Path
    owner: str
    codec: AbstractCodec
    rows: int
    warn: Callable[[str], None]

    def __post_init__(self) -> None:
        self._open: dict[tuple[int, int], Shard | None] = {}
        self._stamps: dict[tuple[int, int], Stamp | None] = {}

    def absent(self, index_N: Index, view: int) -> NDArray[np.bool_]:
        """Which of these examples have no answer for a view; looks for what others have added."""
        absent = np.ones(len(index_N), bool)
        for number, where in _groups(index_N // self.rows):
            shard = self._shard(view, number)
            if shard is not None:
                absent[where] = shard.place[index_N[where] % self.rows] < 0
            if absent[where].any() and (newer := self._reopened(view, number)) is not None:
                absent[where] = newer.place[index_N[where] % self.rows] < 0
        return absent

    def look_up(self, index_B: Index, view_B: Index) -> Tensor:
        """Answers, all of which must be there."""
        size = len(index_B)
        found = {n: np.empty((size, *s), kind) for n, (kind, s) in self.codec.fields.items()}
        for key, where in _groups(view_B * (1 << 40) + index_B // self.rows):
            view, number = key >> 40, key & ((1 << 40) - 1)
            shard = self._shard(view, number)
            places = None if shard is None else shard.place[index_B[where] % self.rows]
            if shard is None or places is None or (places < 0).any():
                raise KeyError(f"view {view} of shard {number}")
            for name, array in shard.fields.items():
                found[name][where] = array[places]
        return self.codec.decode(found)

    def add(self, index_M: Index, view: int, answers: Tensor) -> None:
        """Keep answers of examples of one shard, with those that are there.

        Raises:
            NumericsError: one does not fit the codec; nothing is kept.
            ResourceError: the disk is full or cannot be written.
        """
        order = np.argsort(index_M)
        fields = self.codec.encode(answers[order])
        error = self.codec.error(answers[order], fields)
        if not np.isfinite(error):
            raise NumericsError(
                f"an answer of {answers.abs().max().item():.3g} does not fit {self.codec.name}; "
                "store fp32"
            )
        number = int(index_M[0]) // self.rows
        self._write(view, number, index_M[order] % self.rows, fields, error)

    def _write(
        self,
        view: int,
        number: int,
        rows_M: Index,
        fields: Mapping[str, NDArray[np.generic]],
        error: float,
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = self._reopened(view, number) or self._shard(view, number)
        present = np.zeros(self.rows, bool)
        present[rows_M] = True
        merged = dict(fields)
        if kept is not None:
            old = (kept.place >= 0) & ~present
            error = max(error, kept.error)
            order = np.argsort(np.concatenate([np.flatnonzero(old), rows_M]))
            for name, array in fields.items():
                both = np.concatenate([kept.fields[name][kept.place[old]], array])
                merged[name] = both[order]
            present |= old
        write_shard(self._path(view, number), self.owner, present, merged, error)
        self._open[view, number] = self._read(view, number)

    def coverage(self) -> dict[int, int]:
        """Number of answers by view, of the shards that are sound."""
        counts: dict[int, int] = {}
        for view, number in self.numbers():
            shard = self._shard(view, number)
            found = 0 if shard is None else int((shard.place >= 0).sum())
            counts[view] = counts.get(view, 0) + found
        return counts

    def sample(self, count: int, among: Index) -> tuple[Index, Index]:
        """Examples and views of up to `count` stored answers, from shards all over the volume."""
        numbers = self.numbers()
        shards = np.unique(_spread(min(count, 8, len(numbers)), len(numbers)))
        found: list[tuple[int, int]] = []
        for view, number in (numbers[at] for at in shards):
            shard = self._shard(view, number)
            rows = np.empty(0, int) if shard is None else np.flatnonzero(shard.place >= 0)
            index = np.intersect1d(rows + number * self.rows, among)
            each = min(-(-count // len(shards)), len(index))
            found += [(int(index[at]), view) for at in _spread(each, len(index))]
        pairs = np.array(found[:count], np.int64).reshape(-1, 2)
        return pairs[:, 0].copy(), pairs[:, 1].copy()

    def numbers(self) -> list[tuple[int, int]]:
        """View and number of every shard there is a file for."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("view*"))
        return sorted((int(name[1]), int(name[2])) for name in names if name)

    def damaged(self) -> list[str]:
        """What is wrong with each shard that is not what was written."""
        wrong = []
        for view, number in self.numbers():
            path = self._path(view, number)
            try:
                read_shard(path, self.owner, self.rows, self.codec)
            except DamagedShardError as problem:
                wrong.append(f"{path}: {problem}")
        return wrong

    def bytes(self) -> int:
        """Size of all files."""
        return sum(self._path(*key).stat().st_size for key in self.numbers())

    def error(self) -> float:
        """What the codec lost at most, over all sound shards."""
        shards = (self._shard(*key) for key in self.numbers())
        return max((shard.error for shard in shards if shard is not None), default=0.0)

    def _path(self, view: int, number: int) -> Path:
        return self.folder / f"view{view:05d}-{number:07d}.safetensors"

    def _shard(self, view: int, number: int) -> Shard | None:
        if (view, number) not in self._open:
            self._open[view, number] = self._read(view, number)
        return self._open[view, number]

    def _reopened(self, view: int, number: int) -> Shard | None:
        """The shard if its file is another than when it was opened."""
        if stamp_of(self._path(view, number)) == self._stamps.get((view, number)):
            return None
        self._open[view, number] = self._read(view, number)
        return self._open[view, number]

    def _read(self, view: int, number: int) -> Shard | None:
        path = self._path(view, number)
        self._stamps[view, number] = stamp_of(path)
        try:
            return read_shard(path, self.owner, self.rows, self.codec)
        except DamagedShardError as problem:
            self.warn(f"{path} is damaged: {problem}; its answers are computed again")
            return None


def _groups(keys: Index) -> Iterator[tuple[int, Index]]:
    """Each distinct key and where it stands."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    for part in np.split(order, np.flatnonzero(np.diff(ordered)) + 1):
        if len(part):
            yield int(keys[part[0]]), part


def _spread(count: int, length: int) -> Index:
    """`count` places from 0 to `length` - 1, evenly."""
    return np.linspace(0, length - 1, count).astype(np.int64)
