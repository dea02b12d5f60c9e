"""What comes from outside, read strictly: dataclasses from JSON, files of classes."""

import csv
import dataclasses
import json
import math
import sys
import types
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from collegium.errors import DataError, RequestError

ImageSize = int | tuple[int, ...] | None
"""Rows and columns of images, one number for both, or None for what suits the data."""
LARGEST_SIDE = 4096


def as_size(text: str) -> ImageSize:
    """Rows and columns as they are written: N, or ROWS,COLUMNS.

    Raises:
        RequestError: they are something else, or out of range.

    >>> as_size("32"), as_size("24,96")
    (32, (24, 96))
    """
    if text == "None":
        return None
    words = text.replace("x", ",").split(",")
    if not all(word.isascii() and word.strip().isdecimal() for word in words):
        raise RequestError(f"image size {text!r}: give rows and columns, as in 24,96, or one of 32")
    sides = tuple(map(int, words))
    check_size(sides)
    return sides[0] if len(sides) == 1 else sides


def written(size: ImageSize) -> str:
    """Rows and columns as `as_size` reads them; one number where they are equal.

    >>> written((24, 96)), written((8, 8)), written(None)
    ('24,96', '8', 'None')
    """
    if size is None or isinstance(size, int):
        return str(size)
    return str(size[0]) if len(set(size)) == 1 else ",".join(map(str, size))


def check_size(size: ImageSize) -> None:
    """Refuse a size that no image can have.

    Raises:
        DataError: not one number or two, or out of range.
    """
    sides = size if isinstance(size, tuple) else () if size is None else (size,)
    if len(sides) > 2 or not all(1 <= side <= LARGEST_SIDE for side in sides):
        found = ",".join(map(str, sides))
        raise DataError(f"image_size is {found}; give rows and columns, 1 to {LARGEST_SIDE}")


def strict(kind: Any, content: Any) -> Any:
    """A dataclass from a mapping with exactly its fields, or fewer.

    Raises:
        RequestError: no mapping, a key it does not have, or a value of another kind.
    """
    if not isinstance(content, Mapping):
        raise RequestError(f"{kind.__name__} is a JSON object, found {content!r}")
    known = sorted(item.name for item in dataclasses.fields(kind) if item.init)
    if unknown := ", ".join(sorted(set(content) - set(known))):
        raise RequestError(f"{kind.__name__} has no option {unknown}; known: {', '.join(known)}")
    for name, hint in annotations(kind).items():
        if name in content and not fits(content[name], hint):
            raise RequestError(f"{kind.__name__} cannot have {name} {str(content[name])[:40]!r}")
    try:
        return kind(**content)
    except (TypeError, OverflowError) as error:
        raise RequestError(f"{kind.__name__} cannot be read: {error}") from None


class _FromPython:
    """What JSON cannot hold."""


_NAMES = {
    "nn": types.SimpleNamespace(Module=_FromPython),
    "Splits": _FromPython,
    "Mapping": Mapping,
}
"""What annotations name that would be imported for their sake alone."""


def annotations(kind: Any) -> dict[str, Any]:
    """The annotations of a dataclass by field, as types."""
    return typing.get_type_hints(kind, _NAMES, include_extras=True)


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that a number may have, as a note of an `Annotated` type.

    Attributes:
        low: the smallest.
        high: the largest.
        finite: whether NaN and infinities are refused.
    """

    low: int | float = -math.inf
    high: int | float = math.inf
    finite: bool = True


_Note = TypeVar("_Note")


def note_of(hint: Any, kind: type[_Note]) -> _Note | None:
    """The note of a kind in an `Annotated` type; None where it has none."""
    notes = getattr(hint, "__metadata__", ())
    return next((note for note in notes if isinstance(note, kind)), None)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type, as far as JSON can tell, and within its `Range`.

    >>> fits(1, float), fits(True, int), fits("a", Literal["a", "b"]), fits(None, int | None)
    (True, False, True, True)
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        allowed = note_of(hint, Range)
        if allowed is None:
            return fits(value, inner[0])
        if allowed.finite:
            return fits(value, inner[0]) and allowed.low <= value <= allowed.high
        return isinstance(value, int | float) and not isinstance(value, bool)
    if origin is Literal:
        return isinstance(value, str | int) and value in inner
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if hint in (int, float):
        numbers = int if hint is int else (int, float)
        # Neither NaN nor infinite, nor an integer beyond every float.
        finite = isinstance(value, numbers) and abs(value) <= sys.float_info.max
        return finite and not isinstance(value, bool)
    if origin in (tuple, list):
        return isinstance(value, origin) and all(fits(one, inner[0]) for one in value)
    if origin is not None:  # a mapping
        return isinstance(value, origin) and all(fits(one, inner[1]) for one in value.values())
    return hint is Any or isinstance(value, hint)


def tuples(options: Any) -> Any:
    """A mapping whose lists are tuples, which JSON does not have; anything else as it is."""
    if not isinstance(options, Mapping):
        return options
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}


def as_labels(content: Any) -> Any:
    """What a teacher's classes are: a mapping or a list of names, or the JSON file of either.

    Raises:
        RequestError: the file cannot be read, or it is something else.
    """
    place = ""
    if isinstance(content, str | Path):
        place = f" in {content}"
        try:
            content = json.loads(Path(content).read_text())
        except (OSError, ValueError, RecursionError) as problem:
            raise RequestError(f"label map {content} cannot be read: {problem}") from None
    if isinstance(content, Mapping):
        sound = all(item is None or _is_name_or_names(item) for item in content.values())
    else:
        sound = isinstance(content, list | tuple) and _is_name_or_names(content)
    if not sound or not content:
        mapping = "an object from each class of the teacher to a class of the student, several"
        accepted = f"{mapping} or null, or a list of the teacher's classes"
        raise RequestError(f"a label map is {accepted}; found something else{place}")
    return dict(content) if isinstance(content, Mapping) else list(content)


def as_names(text: str) -> tuple[str, ...]:
    """Comma-separated names; none for an empty text.

    >>> as_names("cat, dog"), as_names("")
    (('cat', 'dog'), ())
    """
    return tuple(name.strip() for name in text.split(",")) if text else ()


BALANCED = "balanced"
"""Weights by which all classes count alike, however many examples they have."""


def as_class_weights(content: Any) -> Any:
    """Weights of classes: `balanced`, a mapping from names, or the file of one; None for none.

    A file is a JSON object, or CSV of two columns, class and weight, with or without that heading.

    Raises:
        RequestError: the file cannot be read, or there is no weight >= 0 for each name.
    """
    place = ""
    if content is None or content == BALANCED:
        return content
    if isinstance(content, str | Path):
        place = f" in {content}"
        content = _weights_in(Path(content))
    if not isinstance(content, Mapping) or not content:
        accepted = f"{BALANCED}, or a weight for the name of each class"
        raise RequestError(f"class weights are {accepted}; found something else{place}")
    content = {name: as_number(weight) for name, weight in content.items()}
    for name, weight in content.items():
        if not fits(weight, float) or weight < 0:
            found = f"{name!r}{place} must be a number >= 0, found {weight!r}"
            raise RequestError(f"the weight of class {found}")
    return {str(name): float(weight) for name, weight in content.items()}


def as_number(value: Any) -> Any:
    """A number of NumPy or torch as Python's; anything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def _weights_in(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            return _once(_read_columns(text, path), path)
        return json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, path))
    except (OSError, ValueError, RecursionError) as problem:
        advice = f"give {BALANCED}, or a JSON or CSV file of a weight for the name of each class"
        raise RequestError(f"class weights {path} cannot be read: {problem}; {advice}") from None


def _read_columns(text: str, path: Path) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for line, cells in enumerate(csv.reader(text.splitlines()), 1):
        cells = [cell.strip() for cell in cells]
        heading = line == 1 and [cell.lower() for cell in cells] == ["class", "weight"]
        if heading or not any(cells):
            continue
        if len(cells) != 2:
            columns = "two columns with a comma between them, class and weight"
            raise RequestError(f"{path} line {line}: give {columns}; found {len(cells)}")
        try:
            pairs.append((cells[0], float(cells[1])))
        except ValueError:
            problem = f"the weight {cells[1]!r} is not a number (a heading is class,weight)"
            raise RequestError(f"{path} line {line}: {problem}") from None
    return pairs


def _once(pairs: Sequence[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """Pairs as a mapping.

    Raises:
        RequestError: a name comes twice.
    """
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise RequestError(f"{path} has a weight for class {name!r} twice")
    return dict(pairs)


def _is_name_or_names(item: Any) -> bool:
    names = [item] if isinstance(item, str) else item
    return isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
