"""A part of a data set that is too large to fetch: a few rows are streamed."""

from collections.abc import Iterator, Mapping
from typing import Any

from collegium.errors import DataError

_SHUFFLED_AT_ONCE = 1000
"""Rows among which a stream is shuffled; its files are shuffled too."""


def rows_to_take(text: str) -> int:
    """The number of rows of each split in `?stream=`.

    Raises:
        DataError: it is no number from 1.
    """
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise DataError(f"?stream={text}: give the number of rows to take of each split, from 1")
    return int(text)


def take_parts(streams: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The first rows of each split of a shuffled stream, as tables in the library's cache.

    The order is drawn from a fixed seed, since many data sets are sorted by class. The same request
    finds its table again and streams nothing.

    Args:
        streams: an `IterableDataset` for each split.
        rows: of each, at most.
    """
    return {name: _table(stream, rows) for name, stream in streams.items()}


def _table(stream: Any, rows: int) -> Any:
    import datasets

    for column, kind in (stream.features or {}).items():
        if isinstance(kind, datasets.Image):
            stream = stream.cast_column(column, datasets.Image(decode=False))
    part = stream.shuffle(seed=0, buffer_size=_SHUFFLED_AT_ONCE).take(rows)
    return datasets.Dataset.from_generator(
        _rows_of, gen_kwargs={"stream": part}, features=part.features
    )


def _rows_of(stream: Any) -> Iterator[dict[str, Any]]:
    yield from stream
