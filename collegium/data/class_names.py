"""Class names: Unicode forms, names that shape alike, and the number of each in train."""

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int64

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


def numbers_of(names: Sequence[str], classes: Sequence[str]) -> list[int]:
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
    _refuse_unknown(unknown, classes, where)
    return numbers


def renumber(
    label_N: Int64[np.ndarray, " N"], names: Sequence[str], classes: Sequence[str], where: str
) -> Int64[np.ndarray, " N"]:
    """Labels of a split that has its own order of names, as numbers of the classes of train.

    Args:
        label_N: numbers of `names`; -1, which is no class, stays.
        names: of the split.
        classes: of train.
        where: which names these are, for the message.

    Raises:
        UnknownNameError: an example has a class that train does not have.
    """
    if tuple(names) == tuple(classes):
        return label_N
    number_C = np.array([*numbers_of(names, classes), -1])
    used = sorted({int(label) for label in label_N if 0 <= label < len(names)})
    unknown = [names[label] for label in used if number_C[label] < 0]
    _refuse_unknown(unknown, classes, where)
    inside = (label_N >= 0) & (label_N < len(names))
    return np.where(inside, number_C[np.where(inside, label_N, -1)], label_N)


def check_numbers(label_N: Int64[np.ndarray, " N"], classes: Sequence[str], where: str) -> None:
    """Refuse numbers that are no class of train.

    Raises:
        DataError: naming the first, and how many there are.
    """
    wrong_N = (label_N < 0) | (label_N >= len(classes))
    if wrong_N.any():
        place = int(wrong_N.argmax())
        raise DataError(
            f"{where}: example {place} has label {int(label_N[place])}, expected 0 to "
            f"{len(classes) - 1}, the classes of train ({int(wrong_N.sum()):,} such examples); "
            "leave out what has no class"
        )


def _refuse_unknown(unknown: Sequence[str], classes: Sequence[str], where: str) -> None:
    if unknown:
        others = f" (and {len(unknown) - 1} more unknown)" if len(unknown) > 1 else ""
        raise UnknownNameError(f"class in {where}{others}", unknown[0], classes)


def alike_note(name: str, classes: Sequence[str]) -> str:
    """A note on classes whose names differ in case or spaces alone; empty if none do."""
    by_shape: dict[str, list[str]] = {}
    for one in classes:
        shape = "".join(unicodedata.normalize("NFKC", one).casefold().split())
        by_shape.setdefault(shape, []).append(one)
    same = [one for group in by_shape.values() if len(group) > 1 for one in group]
    if not same:
        return ""
    spaces = any("".join(one.split()) != one for one in same)
    kind = "case or spaces" if spaces else "case"
    listed = ", ".join(repr(one) if spaces else one for one in same[:_SHOWN])
    return f"{name} has classes that differ in {kind} alone: {listed}"


def forms_note(name: str, found: Sequence[str], classes: Sequence[str]) -> str:
    """A note on names that became one class, since only their Unicode forms differ."""
    forms = {same_form(one) for one in classes}
    merged = [one for one in found if one not in classes and same_form(one) in forms]
    return f"{name}: two names are one class, in two Unicode forms: {merged[0]}" if merged else ""


def without_examples(name: str, classes: Sequence[str], counts: Sequence[int]) -> str:
    """A note on classes without a training example; empty if every one has some."""
    missing = [one for place, one in enumerate(classes) if not any(counts[place : place + 1])]
    if not missing:
        return ""
    return (
        f"{name}: no training example is of {len(missing):,} of the {len(classes):,} classes: "
        f"{some(missing, _SHOWN)}"
    )
