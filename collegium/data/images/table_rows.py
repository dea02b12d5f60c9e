"""The image column of a table of the `datasets` library, read through its memory map."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from collegium.data.images.decode import Picture
from collegium.data.images.files import AbstractShelf
from collegium.errors import DataError

_ROWS = 4096


class RowShelf(AbstractShelf):
    """Pictures in the rows of a table: bytes, or paths of files.

    Args:
        table: a `datasets.Dataset`.
        column: of images; what it holds is not decoded here.
        name: what messages call the table.
    """

    def __init__(self, table: Any, column: str, name: str) -> None:
        import datasets

        images = table.select_columns([column])
        self._table = images.cast_column(column, datasets.Image(decode=False))
        self._column, self._name = column, name

    def __len__(self) -> int:
        return len(self._table)

    def picture(self, place: int) -> Picture:
        """The bytes of a row, or the file it names."""
        cell = self._table[place][self._column] or {}
        content = cell.get("bytes") or (Path(cell["path"]) if cell.get("path") else b"")
        where = f" ({content})" if isinstance(content, Path) else ""
        return Picture(f"{self._name}[{place}]{where}", content)

    def label(self, place: int) -> bytes:
        """Nothing: a row has no name."""
        return b""

    def sizes(self) -> Int64[np.ndarray, " N"]:
        """Stored bytes of each row, by the table's offsets alone where it holds the bytes."""
        parts = [self._some(start) for start in range(0, len(self), _ROWS)]
        return np.concatenate(parts).astype(np.int64)

    def _some(self, start: int) -> NDArray[Any]:
        import pyarrow.compute as pc

        cells = self._table.with_format("arrow")[start : start + _ROWS][self._column]
        stored = pc.binary_length(pc.struct_field(cells, "bytes"))
        if not stored.null_count:
            return np.asarray(stored)
        return np.array([_bytes_of(self.picture(start + row)) for row in range(len(cells))])


def _bytes_of(picture: Picture) -> int:
    content = picture.content
    try:
        return len(content) if isinstance(content, bytes) else content.stat().st_size
    except OSError as error:
        raise DataError(f"{picture.name} cannot be read: {error.strerror}") from error
