"""One kind of output of one teacher: its logits, or the features of one layer."""

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
    empty_shard,
    read_shard,
    stamp_of,
    write_shard,
)

_SHARD_BYTES = 64 << 20
_MOST_ROWS, _LEAST_ROWS = 4096, 64
_NAME = re.compile(r"view(\d+)-(\d+)\.safetensors")

Index = NDArray[np.int64]


def rows_per_shard(codec: AbstractCodec) -> int:
    """Number of examples in a shard: a power of two, small enough that a shard can be rewritten."""
    rows = _MOST_ROWS
    while rows > _LEAST_ROWS and rows * codec.row_bytes > _SHARD_BYTES:
        rows //= 2
    return rows


@dataclass
class Volume:
    """Outputs by example and view, in shards that several processes may read and extend.

    Attributes:
        folder: of the shards; created when the first shard is written.
        owner: digest that identifies teacher, data and views of the outputs.
        codec: encodes and decodes the outputs.
        rows: number of examples in a shard.
        warn: called with a message about each damaged shard; its outputs count as absent.
    """

    folder: Path
    owner: str
    codec: AbstractCodec
    rows: int
    warn: Callable[[str], None]

    def __post_init__(self) -> None:
        self._open: dict[tuple[int, int], Shard] = {}
        self._stamps: dict[tuple[int, int], Stamp | None] = {}

    def absent(self, index_N: Index, view: int) -> NDArray[np.bool_]:
        """Whether each example lacks an output for a view; sees what other processes have added."""
        absent = np.ones(len(index_N), bool)
        for number, where in _groups(index_N // self.rows):
            rows = index_N[where] % self.rows
            absent[where] = self._shard(view, number).place[rows] < 0
            if absent[where].any():
                absent[where] = self._newest(view, number).place[rows] < 0
        return absent

    def look_up(self, index_B: Index, view_B: Index) -> Tensor:
        """Read outputs from the shards.

        Raises:
            KeyError: any of them is absent.
        """
        size = len(index_B)
        found = {n: np.empty((size, *s), kind) for n, (kind, s) in self.codec.fields.items()}
        for key, where in _groups(view_B * (1 << 40) + index_B // self.rows):
            view, number = key >> 40, key & ((1 << 40) - 1)
            shard = self._shard(view, number)
            places = shard.place[index_B[where] % self.rows]
            if (places < 0).any():
                raise KeyError(f"view {view} of shard {number}")
            for name, array in shard.fields.items():
                found[name][where] = array[places]
        return self.codec.decode(found)

    def add(self, index_M: Index, view: int, answers: Tensor) -> None:
        """Store outputs of examples of one shard, beside those already in the shard.

        Raises:
            NumericsError: an output is outside the codec's range; nothing is stored.
            ResourceError: the disk is full or not writable.
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
        kept = self._newest(view, number)
        present = np.zeros(self.rows, bool)
        present[rows_M] = True
        old = (kept.place >= 0) & ~present
        order = np.argsort(np.concatenate([np.flatnonzero(old), rows_M]))
        merged = {
            name: np.concatenate([kept.fields[name][kept.place[old]], array])[order]
            for name, array in fields.items()
        }
        error = max(error, kept.error)
        write_shard(self._path(view, number), self.owner, present | old, merged, error)
        self._newest(view, number)

    def coverage(self) -> dict[int, int]:
        """Number of stored outputs for each view, counting undamaged shards only."""
        counts: dict[int, int] = {}
        for view, number in self.numbers():
            found = int((self._shard(view, number).place >= 0).sum())
            counts[view] = counts.get(view, 0) + found
        return counts

    def sample(self, count: int, among: Index) -> tuple[Index, Index]:
        """Examples and views of up to `count` stored outputs, from shards across the volume."""
        numbers = self.numbers()
        shards = np.unique(_spread(min(count, 8, len(numbers)), len(numbers)))
        found: list[tuple[int, int]] = []
        for view, number in (numbers[at] for at in shards):
            rows = np.flatnonzero(self._shard(view, number).place >= 0)
            index = np.intersect1d(rows + number * self.rows, among)
            each = min(-(-count // len(shards)), len(index))
            found += [(int(index[at]), view) for at in _spread(each, len(index))]
        pairs = np.array(found[:count], np.int64).reshape(-1, 2)
        return pairs[:, 0].copy(), pairs[:, 1].copy()

    def numbers(self) -> list[tuple[int, int]]:
        """View and number of every shard file."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("view*"))
        return sorted((int(name[1]), int(name[2])) for name in names if name)

    def damaged(self) -> list[str]:
        """Path and fault of each damaged shard."""
        wrong = []
        for view, number in self.numbers():
            path = self._path(view, number)
            try:
                read_shard(path, self.owner, self.rows, self.codec)
            except DamagedShardError as problem:
                wrong.append(f"{path}: {problem}")
        return wrong

    def bytes(self) -> int:
        """Size of all shard files."""
        return sum(self._path(*key).stat().st_size for key in self.numbers())

    def error(self) -> float:
        """Largest error of the codec over all undamaged shards."""
        return max((self._shard(*key).error for key in self.numbers()), default=0.0)

    def _path(self, view: int, number: int) -> Path:
        return self.folder / f"view{view:05d}-{number:07d}.safetensors"

    def _shard(self, view: int, number: int) -> Shard:
        """The shard, opened before or now; an empty one where it is absent or damaged."""
        if (view, number) not in self._open:
            path = self._path(view, number)
            self._stamps[view, number] = stamp_of(path)
            try:
                self._open[view, number] = read_shard(path, self.owner, self.rows, self.codec)
            except DamagedShardError as problem:
                self.warn(f"{path} is damaged: {problem}; its outputs are computed again")
                self._open[view, number] = empty_shard(self.rows, self.codec)
        return self._open[view, number]

    def _newest(self, view: int, number: int) -> Shard:
        """The shard, opened again if its file was replaced since."""
        if stamp_of(self._path(view, number)) != self._stamps.get((view, number)):
            self._open.pop((view, number), None)
        return self._shard(view, number)


def _groups(keys: Index) -> Iterator[tuple[int, Index]]:
    """Yield each distinct key and its positions."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    for part in np.split(order, np.flatnonzero(np.diff(ordered)) + 1):
        if len(part):
            yield int(keys[part[0]]), part


def _spread(count: int, length: int) -> Index:
    """`count` evenly spaced positions from 0 to `length` - 1."""
    return np.linspace(0, length - 1, count).astype(np.int64)
