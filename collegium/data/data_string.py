"""Data strings taken apart: KIND:PLACE?key=value&key=value.

Nothing here imports torch, so that the command line refuses an unknown kind at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collegium.errors import DataError, UnknownNameError
from collegium.utils.registry import Registry

READERS: Registry[Any] = Registry(
    "data",
    "collegium.readers",
    "collegium.data.readers.base:AbstractReader",
    "collegium.data.readers",
)
"""Every reader by the kind of data string."""


@dataclass(frozen=True)
class DataSpec:
    """A data string, taken apart.

    Attributes:
        kind: what comes before the colon.
        place: a folder, file or name; empty if there is none.
        options: what comes after the question mark.
    """

    kind: str
    place: str
    options: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The place as a path."""
        return Path(self.place).expanduser()


def parse_spec(text: str) -> DataSpec:
    """Takes a data string apart.

    Raises:
        DataError: options that are not key=value, or one that comes twice.

    >>> parse_spec("hf:pets.parquet?image=img&label=breed").options
    {'image': 'img', 'label': 'breed'}
    """
    kind, _, place = text.partition(":")
    if "?" not in text or (place and Path(place).exists()):
        return DataSpec(kind, place, {})
    start, _, query = text.rpartition("?")
    kind, _, place = start.partition(":")
    options: dict[str, str] = {}
    for part in query.split("&"):
        key, separator, value = part.partition("=")
        if not (key and separator and value):
            raise DataError(f"{text}: options are written ?key=value&key=value, found {part!r}")
        if key in options:
            raise DataError(f"{text}: the option {key} comes twice")
        options[key] = value
    return DataSpec(kind, place, options)


def check_kind(text: str) -> None:
    """Refuse a data string of a kind that no reader has.

    Raises:
        DataError: it is only the path of a folder.
        UnknownNameError: there is no such kind; the message names the closest.
    """
    kind, known = parse_spec(text).kind, READERS.names()
    if kind in known:
        return
    if Path(text).is_dir():
        raise DataError(f"{text} is a folder; say what is in it: folder:{text} or cifar10:{text}")
    raise UnknownNameError(READERS.kind, kind, known)


def with_option(text: str, key: str, value: str | None) -> str:
    """The data string with one more option; without a value as it is.

    >>> with_option("folder:pets", "corrupt", "skip")
    'folder:pets?corrupt=skip'
    """
    if value is None:
        return text
    return f"{text}{'&' if parse_spec(text).options else '?'}{key}={value}"
