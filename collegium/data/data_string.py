"""Data strings taken apart: KIND:PLACE?key=value&key=value."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from collegium.errors import DataError


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


def with_option(text: str, key: str, value: str | None) -> str:
    """The data string with one more option; without a value as it is.

    >>> with_option("folder:pets", "corrupt", "skip")
    'folder:pets?corrupt=skip'
    """
    if value is None:
        return text
    return f"{text}{'&' if parse_spec(text).options else '?'}{key}={value}"
