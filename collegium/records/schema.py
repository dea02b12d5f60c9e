"""How the files of a run are declared, written and checked.

A `FlatRecord` is a dataclass that declares a JSON object: its keys, their kinds and what they mean.
`wrong`, `wrong_keys` and `wrong_arrays` name the values that are of another kind than declared; the
caller decides whether that is an error or a note.
"""

import functools
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from collegium.errors import FolderError
from collegium.utils.from_json import Range, fits, note_of

Json = dict[str, Any]
LARGEST = 1_000_000
"""No number of epochs or classes is larger; a file with a larger one is damaged."""


Share = Annotated[float, Range(0, 1)]
"""A part, 0 to 1."""
Number = Annotated[float, Range(finite=False)]
"""A number that may be NaN or infinite, as a loss may."""


@dataclass(frozen=True)
class ByName:
    """Marks a mapping that is written as one key for each name.

    Attributes:
        by: what its names are, for documentation: TEACHER, TERM.
        prefix: the part of these keys before the dot; by default the field's name.
    """

    by: str
    prefix: str = ""


_Record = TypeVar("_Record", bound="FlatRecord")


class FlatRecord(dict[str, Any]):
    """A dataclass that is also the JSON object it is written as.

    Subclasses are frozen dataclasses. A `ByName` mapping is written as one key for each name:
    `weights={"wide": 0.5}` as `"weights.wide": 0.5`. A field that has its default is not written.
    What was read keeps the keys that no field declares.

    Attributes:
        needed: keys without which a file is damaged; files of older versions may lack others.
    """

    needed: ClassVar[Sequence[str]] = ()

    def __post_init__(self) -> None:
        for item in declared(type(self)):
            value = getattr(self, item.name)
            if item.start:
                self.update({f"{item.start}{name}": one for name, one in value.items()})
            elif item.default is MISSING or value != item.default:
                self[item.name] = value

    @classmethod
    def read(cls: type[_Record], content: Mapping[str, Any]) -> _Record:
        """From a JSON object; a field that it lacks has its default, or is no attribute."""
        found = cls.__new__(cls)
        found.update(content)
        for item in declared(cls):
            if (value := item.pick(content)) is not MISSING:
                object.__setattr__(found, item.name, value)
        return found

    @classmethod
    def wrong_keys(cls, content: Mapping[str, Any]) -> list[str]:
        """Keys whose values are of another kind than declared; unknown keys are ignored."""
        kinds = {item.start or item.name: item.kind for item in declared(cls)}
        unwritten = {item.name for item in declared(cls) if item.default is None}
        found = []
        for key, value in content.items():
            start, dot, _ = key.partition(".")
            kind = kinds.get(start + dot, Any)
            if not fits(value, kind) or (value is None and key in unwritten):
                found.append(key)
        return found


@dataclass(frozen=True)
class Declared:
    """A field of a `FlatRecord`.

    Attributes:
        name: of the field.
        kind: of the value, or of the values of a mapping by name.
        default: of the value; MISSING where it has none.
        start: what the keys of a mapping by name begin with; empty for a field with one key.
        by: what the names of that mapping are.
    """

    name: str
    kind: Any
    default: Any
    start: str = ""
    by: str = ""

    def pick(self, content: Mapping[str, Any]) -> Any:
        """The value in a JSON object, else the default."""
        if not self.start:
            return content.get(self.name, self.default)
        cut = len(self.start)
        return {key[cut:]: value for key, value in content.items() if key.startswith(self.start)}


@functools.cache
def declared(cls: type[FlatRecord]) -> tuple[Declared, ...]:
    """The fields of a record, in order."""
    hints, found = typing.get_type_hints(cls, include_extras=True), []
    for item in fields(cls):  # type: ignore[arg-type]
        hint = hints[item.name]
        if mapping := note_of(hint, ByName):
            kind, start = typing.get_args(hint.__origin__)[1], mapping.prefix or item.name
            found.append(Declared(item.name, kind, MISSING, f"{start}.", mapping.by))
        else:
            found.append(Declared(item.name, hint, item.default))
    return tuple(found)


RUN_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("data", "student", "method", "id"), str),
    **dict.fromkeys(("teachers", "environment", "identity"), dict[str, str]),
    **dict.fromkeys(("options", "optimisation", "machine", "storage"), dict[str, Any]),
    "seed": int,
    "validation": float,
    "augment": str | None,
    "views": int | None,
    "changes": list[dict[str, Any]],
}
"""The kinds of the keys of run.json that a report reads."""


_AXES = {
    "weights.npz": "index:iN labels:iN teachers:UT weights:fNT",
    "predictions.npz": "index:iM labels:iM student:iM teachers:iTM classes:UC heard:UH weights:fMH",
    "examples.npz": "index:iK images:uKDXY labels:iK teachers:fKTC student:fKC weights:fKH rule:UK",
}
AXES = {part: dict(re.findall(r"(\w+):(\w+)", text)) for part, text in _AXES.items()}
"""The kind of each array (i integers, u pixels, f floats, U texts), then its axes."""


def parse(text: str) -> Any:
    """Parse JSON in which no object has a key twice.

    Raises:
        ValueError: it is no JSON, or a key comes twice.
    """
    return json.loads(text, object_pairs_hook=_once)


def read_json(path: Path, *, missing: str = "", advice: str = "") -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        missing: the message where there is no such file.
        advice: the end of the message where it cannot be read.

    Raises:
        FolderError: it cannot be read, is no JSON, or has a key twice.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        absent = missing if isinstance(error, FileNotFoundError) else ""
        raise FolderError(absent or f"{path} cannot be read: {error}{advice}") from None


def _once(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"it has {twice[:40]!r} twice")
    return found


def wrong(content: Mapping[str, Any], kinds: Mapping[str, Any]) -> Iterator[str]:
    """Keys whose values are of another kind than a table declares; unknown keys are ignored."""
    return (key for key, value in content.items() if not fits(value, kinds.get(key, Any)))


def shown(value: Any) -> str:
    """A wrong value as a message shows it, at most 40 characters."""
    text = " ".join(str(value).split())
    return repr(text if len(text) <= 40 else text[:37] + "...")


def wrong_arrays(part: str, arrays: Mapping[str, Any]) -> str | None:
    """The reason why arrays are not those of a part of a run; None where they are."""
    sizes: dict[str, int] = {}
    for name, axes in AXES.get(part, {}).items():
        if name not in arrays:
            continue
        array, kind, letters = arrays[name], axes[0], axes[1:]
        if not isinstance(array, np.ndarray):  # bytes, of a member that is no .npy
            return f"{name} is no array"
        if array.ndim != len(letters) or not _is_of(array, kind):
            return f"{name} is {array.dtype} of shape {array.shape}"
        for letter, size in zip(letters, array.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                return f"{name} has shape {array.shape} and others are of another size"
    return None


def _is_of(array: NDArray[Any], kind: str) -> bool:
    if kind == "U":
        return array.dtype.kind == "U"
    if kind == "u":
        return array.dtype == np.uint8 and array.shape[1] in (1, 3)
    if kind == "f":
        return array.dtype.kind == "f" and bool(np.isfinite(array).all())
    if array.dtype.kind not in "iu":
        return False
    return not array.size or (int(array.min()) >= -1 and int(array.max()) < 1 << 40)
