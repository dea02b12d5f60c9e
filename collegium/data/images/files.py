"""Where stored pictures lie, and which of them are meant: a million take a few numbers each.

Lists of objects would be copied into every process that decodes, as soon as it looks at them.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from collegium.data.images.decode import Picture
from collegium.errors import DataError


class AbstractShelf(ABC):
    """Pictures in an order of their own, which is that of their places from 0."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def picture(self, place: int) -> Picture:
        """The one at that place."""

    @abstractmethod
    def label(self, place: int) -> bytes:
        """What it is called wherever the shelf is moved to; empty where it has no name."""

    @abstractmethod
    def sizes(self) -> Int64[np.ndarray, " N"]:
        """Stored bytes of each, without reading them.

        Raises:
            DataError: one is not there any more.
        """

    @cached_property
    def known_sizes(self) -> Int64[np.ndarray, " N"]:
        """The sizes, asked for once."""
        return self.sizes()


@dataclass(frozen=True, eq=False)
class Pictures:
    """Some pictures of a shelf.

    Attributes:
        shelf: where they lie.
        place_N: where on it.
    """

    shelf: AbstractShelf
    place_N: Int64[np.ndarray, " N"]

    @classmethod
    def all_of(cls, shelf: AbstractShelf) -> "Pictures":
        """Every picture of a shelf."""
        return cls(shelf, np.arange(len(shelf)))

    def __len__(self) -> int:
        return len(self.place_N)

    def __getitem__(self, position: int) -> Picture:
        return self.shelf.picture(int(self.place_N[position]))

    def subset(self, positions: Any) -> "Pictures":
        """Those at these positions (integers, or N truth values), in this order."""
        return Pictures(self.shelf, self.place_N[np.asarray(positions)])

    def identity(self) -> bytes:
        """Every name and size, as bytes."""
        names = b"\0".join(map(self.shelf.label, self.place_N.tolist()))
        return names + b"\0" + self.shelf.known_sizes[self.place_N].tobytes()


class FileShelf(AbstractShelf):
    """Files in folders, folder by folder.

    Args:
        root: what the folders lie in.
        files: names by folder, which is relative to the root.
    """

    def __init__(self, root: Path, files: Mapping[str, Sequence[str]]) -> None:
        encoded = [os.fsencode(name) for names in files.values() for name in names]
        self._root, self._folders = root, tuple(files)
        self._folder_N = np.repeat(np.arange(len(files)), [len(names) for names in files.values()])
        self._names = b"".join(encoded)
        self._bounds = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._folder_N)

    def by_folder(self, values: Sequence[int]) -> Int64[np.ndarray, " N"]:
        """For each file the value of its folder."""
        return np.asarray(values, np.int64)[self._folder_N]

    def picture(self, place: int) -> Picture:
        """A file, by its path."""
        path = self._root / self._folders[self._folder_N[place]] / self._name(place)
        return Picture(str(path), path)

    def label(self, place: int) -> bytes:
        """Folder and name."""
        return os.fsencode(f"{self._folders[self._folder_N[place]]}/{self._name(place)}")

    def sizes(self) -> Int64[np.ndarray, " N"]:
        """Bytes of each file, by the file system's word."""
        stored = map(self._stored, range(len(self)))
        try:
            return np.fromiter(stored, np.int64, len(self))
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    def _stored(self, place: int) -> int:
        folder = self._folders[self._folder_N[place]]
        path = f"{self._root}/{folder}/{self._name(place)}"
        return os.stat(path).st_size  # noqa: PTH116 - a Path would take longer than the system

    def _name(self, place: int) -> str:
        return os.fsdecode(self._names[self._bounds[place] : self._bounds[place + 1]])
