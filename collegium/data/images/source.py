"""Where encoded images are stored, and which of them belong to a split.

A million images take a few arrays: a list of objects would be copied into every process that
decodes, as soon as the process reads it.
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
from numpy.typing import NDArray

from collegium.data.images.decode import EncodedImage
from collegium.errors import DataError

_ROWS = 4096  # of a table, read at a time


class AbstractImageSource(ABC):
    """Encoded images in a fixed order, numbered from 0."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def image(self, place: int) -> EncodedImage:
        """The image of that number."""

    def label(self, place: int) -> bytes:
        """Its name, which stays the same wherever the source is moved to; empty if it has none."""
        return b""

    @cached_property
    def sizes(self) -> Int64[np.ndarray, " N"]:
        """Stored bytes of each image, without reading them.

        Raises:
            DataError: an image is gone.
        """
        try:
            return self._read_sizes()
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    @abstractmethod
    def _read_sizes(self) -> Int64[np.ndarray, " N"]: ...


@dataclass(frozen=True, eq=False)
class ImageSubset(Sequence[EncodedImage]):
    """Some images of a source.

    Attributes:
        source: where they are stored.
        place_N: their numbers in the source.
    """

    source: AbstractImageSource
    place_N: Int64[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.place_N)

    def __getitem__(self, position: int) -> EncodedImage:  # type: ignore[override]
        return self.source.image(int(self.place_N[position]))

    def subset(self, positions: Any) -> "ImageSubset":
        """Those at these positions (integers, or N truth values), in this order."""
        return ImageSubset(self.source, self.place_N[np.asarray(positions)])

    def identity(self) -> bytes:
        """Every name and size, as bytes."""
        names = b"\0".join(map(self.source.label, self.place_N.tolist()))
        return names + b"\0" + self.source.sizes[self.place_N].tobytes()


class ImageFiles(AbstractImageSource):
    """Files in folders, folder by folder.

    Args:
        root: the folder that contains the folders.
        files: names by folder; folders are relative to the root.
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

    def image(self, place: int) -> EncodedImage:
        """A file, by its path."""
        path = self._root / self._inside(place)
        return EncodedImage(str(path), path)

    def label(self, place: int) -> bytes:
        """Folder and name."""
        return os.fsencode(self._inside(place))

    def _read_sizes(self) -> Int64[np.ndarray, " N"]:
        paths = (f"{self._root}/{self._inside(place)}" for place in range(len(self)))
        # Making a Path takes longer than the call.
        return np.fromiter((os.stat(path).st_size for path in paths), np.int64)  # noqa: PTH116

    def _inside(self, place: int) -> str:
        """The path of a file in the root."""
        name = os.fsdecode(self._names[self._bounds[place] : self._bounds[place + 1]])
        return f"{self._folders[self._folder_N[place]]}/{name}"


class TableImages(AbstractImageSource):
    """Images in the rows of a table (bytes, or paths of files), read through its memory map.

    Args:
        table: a `datasets.Dataset`.
        column: of images; its cells are not decoded here.
        name: of the table, in messages.
    """

    def __init__(self, table: Any, column: str, name: str) -> None:
        import datasets

        images = table.select_columns([column])
        self._table = images.cast_column(column, datasets.Image(decode=False))
        self._column, self._name = column, name

    def __len__(self) -> int:
        return len(self._table)

    def image(self, place: int) -> EncodedImage:
        """The bytes of a row, or the file it names."""
        cell = self._table[place][self._column] or {}
        content = cell.get("bytes") or (Path(cell["path"]) if cell.get("path") else b"")
        where = f" ({content})" if isinstance(content, Path) else ""
        return EncodedImage(f"{self._name}[{place}]{where}", content)

    def _read_sizes(self) -> Int64[np.ndarray, " N"]:
        """If the table holds the bytes, its offsets give their number."""
        parts = [self._sizes_from(start) for start in range(0, len(self), _ROWS)]
        return np.concatenate(parts).astype(np.int64)

    def _sizes_from(self, start: int) -> NDArray[Any]:
        import pyarrow.compute as pc

        cells = self._table.with_format("arrow")[start : start + _ROWS][self._column]
        stored = pc.binary_length(pc.struct_field(cells, "bytes"))
        if not stored.null_count:
            return np.asarray(stored)
        return np.array([self.image(start + row).size() for row in range(len(cells))])
