"""Class names: Unicode forms, names that shape alike, and the number of each in train."""

import unicodedata
from collections.abc import Container, Iterable, Sequence
from typing import Any

from collegium.errors import DataError, UnknownNameError
from collegium.utils.text import some

_SHOWN = 5


def same_form(name: str) -> str:
    r"""One form for all Unicode spellings of a name, since file systems differ in theirs.

    >>> same_form("e\u0301") == "\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Names without repetition, in order, each in the form of its first occurrence."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(same_form(name), name)
    return tuple(first.values())


def numbers_of(names: Iterable[str], classes: Sequence[str]) -> list[int]:
    """The number of each name among the classes; -1 for an unknown class."""
    number = {same_form(name): place for place, name in enumerate(classes)}
    return [number.get(same_form(name), -1) for name in names]


def class_numbers(names: Sequence[str], classes: Sequence[str], where: str) -> list[int]:
    """The number of each name among the classes of train.

    Raises:
        UnknownNameError: train has no such class; `where` says which names these are.
    """
    numbers = numbers_of(names, classes)
    unknown = [name for name, number in zip(names, numbers, strict=True) if number < 0]
    if unknown:
        others = f" (and {len(unknown) - 1} more unknown)" if len(unknown) > 1 else ""
        raise UnknownNameError(f"class in {where}{others}", unknown[0], classes)
    return numbers


def check_numbers(label_N: Any, classes: Sequence[str], where: str) -> None:
    """Refuse labels, an array or a tensor, that are no number of a class.

    Raises:
        DataError: naming the first, and how many there are.
    """
    wrong_N = (label_N < 0) | (label_N >= len(classes))
    if wrong_N.any():
        place = int(wrong_N.nonzero()[0][0])
        count = f"{int(wrong_N.sum()):,} such examples"
        raise DataError(
            f"{where}: example {place} has label {int(label_N[place])}, expected 0 to "
            f"{len(classes) - 1} ({count}); leave out what has no class"
        )


def name_notes(name: str, found: Iterable[str], classes: Sequence[str]) -> list[str]:
    """Notes on names that differ little.

    Args:
        name: of the data.
        found: the names in the data; those that differ only in their Unicode form became one class.
        classes: the classes they became.
    """
    by_shape: dict[str, list[str]] = {}
    for one in classes:
        shape = "".join(unicodedata.normalize("NFKC", one).casefold().split())
        by_shape.setdefault(shape, []).append(one)
    same = [one for group in by_shape.values() if len(group) > 1 for one in group]
    notes = []
    if same:
        spaces = any("".join(one.split()) != one for one in same)
        kind = "case or spaces" if spaces else "case"
        listed = ", ".join(repr(one) if spaces else one for one in same[:_SHOWN])
        notes.append(f"{name} has classes that differ in {kind} alone: {listed}")
    forms = {same_form(one) for one in classes}
    merged = [one for one in found if one not in classes and same_form(one) in forms]
    if merged:
        notes.append(f"{name}: two names are one class, in two Unicode forms: {merged[0]}")
    return notes


def missing_note(start: str, classes: Sequence[str], present: Container[int]) -> str:
    """A note on classes without an example; empty if every one has some.

    Args:
        start: of the note, before how many there are.
        classes: their names.
        present: the numbers of those that have examples.
    """
    missing = [name for place, name in enumerate(classes) if place not in present]
    listed = f"{len(missing):,} of the {len(classes):,} classes: {some(missing, _SHOWN)}"
    return f"{start} {listed}" if missing else ""
