"""What an example's target may be: one class. Anything else is named for what it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from collegium.data.class_names import distinct, numbers_of, refuse_strangers
from collegium.data.readers.array_layout import of_tensor
from collegium.errors import DataError

_WANTED = "expected integers from 0, one class an example, or names of classes"


@dataclass(frozen=True)
class Targets:
    """One class for each example.

    Attributes:
        label_N: numbers of classes; of `words`, if there are any.
        words: the classes, where examples name them: sorted.
    """

    label_N: Int64[np.ndarray, " N"]
    words: tuple[str, ...] = ()


def read_targets(values: Any, name: str) -> Targets:
    """The classes of some examples.

    Whole numbers and truth values are numbers of classes, strings are names, a column (N, 1) is
    its entries.

    Args:
        values: an array, tensor or list, one entry an example.
        name: what the data are called.

    Raises:
        DataError: they are something else: several classes at once, numbers to regress, NaN.
    """
    array = _as_array(values, name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        raise DataError(f"{name}: {_of_rows(array)}")
    if array.ndim != 1:
        raise DataError(f"{name}: labels of the shape {array.shape}, {_WANTED}")
    if array.dtype.kind in "US":
        return _words(array.astype(str).tolist(), name)
    if array.dtype.kind == "f":
        raise DataError(f"{name}: {_of_floats(array)}")
    if array.dtype.kind not in "biu":
        raise DataError(f"{name}: labels are {array.dtype}, {_WANTED}")
    if array.dtype.kind == "i" and array.min(initial=0) < 0:
        place = int((array < 0).argmax())
        raise DataError(
            f"{name}: example {place} has label {array[place]}, {_WANTED}; leave out what has none"
        )
    return Targets(array.astype(np.int64))


def _as_array(values: Any, name: str) -> NDArray[Any]:
    if isinstance(values, Tensor):
        return of_tensor(values, f"{name}, labels")
    if isinstance(values, list | tuple):
        _refuse_mixed(values, name)
    try:
        array = np.asarray(values)
    except ValueError:  # rows of several lengths
        raise DataError(f"{name}: labels have several lengths (multi-label?); {_WANTED}") from None
    if array.dtype.kind == "O" and all(isinstance(entry, str) for entry in array.ravel()):
        return array.astype(str)
    return array


def _refuse_mixed(values: Sequence[Any], name: str) -> None:
    """Numpy makes words of numbers that stand among words."""
    words = [isinstance(value, str) for value in values]
    if any(words) and not all(words):
        one, other = values[words.index(True)], values[words.index(False)]
        raise DataError(f"{name}: labels are of two kinds, like {one!r} and {other!r}; {_WANTED}")


def _words(words: Sequence[str], name: str) -> Targets:
    if "" in words:
        raise DataError(f"{name}: example {words.index('')} has an empty name for its class")
    names = distinct(sorted(set(words)))
    return Targets(np.array(numbers_of(words, names), np.int64), names)


def _of_rows(array: NDArray[Any]) -> str:
    """What rows of several values are, in words."""
    said = f"labels of the shape {'x'.join(map(str, array.shape))}"
    if array.dtype.kind not in "biuf":
        return f"{said} are {array.dtype}, {_WANTED}"
    if not np.isin(array, (0, 1)).all():
        return (
            f"{said} are rows of numbers (soft labels or a regression), which nothing here learns "
            f"yet; {_WANTED}"
        )
    if not (array.sum(axis=1) == 1).all():
        return (
            f"{said} have several classes in a row, or none (multi-label), which nothing here "
            f"learns yet; {_WANTED}"
        )
    return (
        f"{said} are rows of one 1, one-hot classes or multi-label, which nothing here learns yet; "
        f"{_WANTED}; one-hot rows become these by labels.argmax(1)"
    )


def _of_floats(array: NDArray[Any]) -> str:
    said = f"labels are {array.dtype}, {_WANTED}"
    if np.isnan(array).any():
        return f"{said}; example {int(np.isnan(array).argmax())} has NaN"
    if (array == np.trunc(array)).all():
        return f"{said}; if they are classes, give labels.astype(int)"
    return f"{said}; a regression is nothing that is learned here yet"


def in_classes(targets: Targets, classes: Sequence[str], name: str) -> Int64[np.ndarray, " N"]:
    """The labels as numbers of these classes; those that are numbers already stay.

    Raises:
        UnknownNameError: a word is none of the classes.
    """
    if not targets.words:
        return targets.label_N
    number_C = numbers_of(targets.words, classes)
    strange = [word for word, place in zip(targets.words, number_C, strict=True) if place < 0]
    refuse_strangers(strange, classes, name)
    return np.array(number_C, np.int64)[targets.label_N]
