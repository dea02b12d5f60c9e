"""Class names: which are the same, which only look alike, and which number each has in train."""

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int64

from collegium.errors import DataError, UnknownNameError

_SHOWN = 5


def same_form(name: str) -> str:
    r"""One form for all ways in which Unicode writes a name: systems of files differ in theirs.

    >>> same_form("e\u0301") == "\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Names in their order, each in the form it first has."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(same_form(name), name)
    return tuple(first.values())


def numbers_of(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The number of each name among the classes; -1 where there is no such class."""
    number = {same_form(name): place for place, name in enumerate(classes)}
    return [number.get(same_form(name), -1) for name in names]


def renumber(
    label_N: Int64[np.ndarray, " N"], names: Sequence[str], classes: Sequence[str], where: str
) -> Int64[np.ndarray, " N"]:
    """Labels of a split that has its own order of names, as numbers of the classes of train.

    Args:
        label_N: numbers of `names`; -1 for none stays.
        names: of the split.
        classes: of train.
        where: whose names these are, for the message.

    Raises:
        UnknownNameError: an example has a class that train has not.
    """
    if tuple(names) == tuple(classes):
        return label_N
    number_C = np.array([*numbers_of(names, classes), -1])
    used = sorted({int(label) for label in label_N if 0 <= label < len(names)})
    strange = [names[label] for label in used if number_C[label] < 0]
    refuse_strangers(strange, classes, where)
    inside = (label_N >= 0) & (label_N < len(names))
    return np.where(inside, number_C[np.where(inside, label_N, -1)], label_N)


def check_numbers(label_N: Int64[np.ndarray, " N"], classes: Sequence[str], where: str) -> None:
    """Refuse numbers that are none of the classes of train.

    Raises:
        DataError: the first of them, and how many there are.
    """
    wrong_N = (label_N < 0) | (label_N >= len(classes))
    if wrong_N.any():
        place = int(wrong_N.argmax())
        raise DataError(
            f"{where}: example {place} has label {int(label_N[place])}, expected 0 to "
            f"{len(classes) - 1}, the classes of train ({int(wrong_N.sum()):,} such examples); "
            "leave out what has no class"
        )


def refuse_strangers(strange: Sequence[str], classes: Sequence[str], where: str) -> None:
    """Refuse classes that train has not.

    Raises:
        UnknownNameError: there are some.
    """
    if strange:
        others = f" (and {len(strange) - 1} more unknown)" if len(strange) > 1 else ""
        raise UnknownNameError(f"class in {where}{others}", strange[0], classes)


def alike(name: str, classes: Sequence[str]) -> str:
    """A line on classes whose names differ in nothing but case or spaces; empty if none do."""
    by_look: dict[str, list[str]] = {}
    for one in classes:
        look = "".join(unicodedata.normalize("NFKC", one).casefold().split())
        by_look.setdefault(look, []).append(one)
    same = [one for group in by_look.values() if len(group) > 1 for one in group]
    if not same:
        return ""
    spaces = any("".join(one.split()) != one for one in same)
    kind = "case or spaces" if spaces else "case"
    listed = ", ".join(repr(one) if spaces else one for one in same[:_SHOWN])
    return f"{name} has classes that differ in {kind} alone: {listed}"


def forms_told(name: str, found: Sequence[str], classes: Sequence[str]) -> str:
    """A line on names that became one class, since they differ in their Unicode form alone."""
    twice = [
        one for one in found if one not in classes and same_form(one) in map(same_form, classes)
    ]
    if not twice:
        return ""
    return f"{name}: two names are one class, in two Unicode forms: {twice[0]}"


def without_examples(name: str, classes: Sequence[str], counts: Sequence[int]) -> str:
    """A line on classes that no training example has; empty if every one has some."""
    missing = [one for place, one in enumerate(classes) if not any(counts[place : place + 1])]
    if not missing:
        return ""
    more = ", ..." if len(missing) > _SHOWN else ""
    return (
        f"{name}: no training example is of {len(missing):,} of the {len(classes):,} classes: "
        f"{', '.join(missing[:_SHOWN])}{more}"
    )
