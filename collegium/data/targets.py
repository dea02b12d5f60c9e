"""Targets: one class for each example. Errors for others say what they seem to be."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from collegium.data.class_names import check_numbers, class_numbers, distinct, numbers_of
from collegium.data.readers.array_layout import of_tensor
from collegium.errors import DataError

_WANTED = "expected integers from 0, one class an example, or names of classes"
_MOST_CLASSES_GUESSED = 100_000


@dataclass(frozen=True)
class Targets:
    """One class for each example.

    Attributes:
        label_N: numbers of classes; of `names`, if there are any.
        names: the sorted classes, if labels are names.
    """

    label_N: Int64[np.ndarray, " N"]
    names: tuple[str, ...] = ()


def read_targets(values: Any, name: str) -> Targets:
    """The classes of some examples.

    Integers and booleans are numbers of classes, strings are names; a column (N, 1) becomes (N,).

    Args:
        values: an array, tensor or list, one entry an example.
        name: of the data, in messages.

    Raises:
        DataError: they are anything else: several classes at once, numbers to regress, NaN.
    """
    array = _as_array(values, name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        raise DataError(f"{name}: {_of_rows(array)}")
    if array.ndim != 1:
        raise DataError(f"{name}: labels of the shape {array.shape}, {_WANTED}")
    if array.dtype.kind in "US":
        return _from_names(array.astype(str).tolist(), name)
    if array.dtype.kind == "f":
        raise DataError(f"{name}: {_of_floats(array)}")
    if array.dtype.kind not in "biu":
        raise DataError(f"{name}: labels are {array.dtype}, {_WANTED}")
    if array.dtype.kind == "i" and array.min(initial=0) < 0:
        place = int((array < 0).argmax())
        found = f"label {array[place]}, {_WANTED} ({int((array < 0).sum()):,} such examples)"
        raise DataError(f"{name}: example {place} has {found}; leave out what has none")
    return Targets(array.astype(np.int64))


def _as_array(values: Any, name: str) -> NDArray[Any]:
    if isinstance(values, Tensor):
        return of_tensor(values, f"{name}, labels")
    if isinstance(values, list | tuple):
        values = [_plain(value, name) for value in values]
        _refuse_mixed(values, name)
    try:
        array = np.asarray(values)
    except ValueError:  # rows of several lengths
        raise DataError(f"{name}: labels have several lengths (multi-label?); {_WANTED}") from None
    if array.dtype.kind == "O" and all(isinstance(entry, str) for entry in array.ravel()):
        return array.astype(str)
    return array


def _plain(value: Any, name: str) -> Any:
    """A number without its array; anything else as it is."""
    value = of_tensor(value, name) if isinstance(value, Tensor) else value
    is_one = isinstance(value, np.ndarray | np.generic) and value.size == 1
    return value.item() if is_one else value


def _refuse_mixed(values: Sequence[Any], name: str) -> None:
    """Refuse values of several kinds, since numpy would turn numbers among names into names."""
    for place, value in enumerate(values):
        kind = int if isinstance(values[0], int) else type(values[0])
        if not isinstance(value, kind):
            found = f"example {place} has the label {value!r}, example 0 {values[0]!r}"
            raise DataError(f"{name}: {found}; {_WANTED}")


def _from_names(labels: Sequence[str], name: str) -> Targets:
    if "" in labels:
        raise DataError(f"{name}: example {labels.index('')} has an empty name for its class")
    names = distinct(sorted(set(labels)))
    return Targets(np.array(numbers_of(labels, names), np.int64), names)


def _of_rows(array: NDArray[Any]) -> str:
    """An error for rows of several values: what they seem to be."""
    found = f"labels of the shape {'x'.join(map(str, array.shape))}"
    if array.dtype.kind not in "biuf":
        return f"{found} are {array.dtype}, {_WANTED}"
    remedy = ""
    if not np.isin(array, (0, 1)).all():
        guess = "are rows of numbers (soft labels or a regression)"
    elif not (array.sum(axis=1) == 1).all():
        guess = "have several classes in a row, or none (multi-label)"
    else:
        guess = "are rows of one 1, one-hot classes or multi-label"
        remedy = "; one-hot rows become these by labels.argmax(1)"
    return f"{found} {guess}, which is not supported yet; {_WANTED}{remedy}"


def _of_floats(array: NDArray[Any]) -> str:
    found = f"labels are {array.dtype}, {_WANTED}"
    if np.isnan(array).any():
        return f"{found}; example {int(np.isnan(array).argmax())} has NaN"
    if (array == np.trunc(array)).all():
        return f"{found}; if they are classes, give labels.astype(int)"
    return f"{found}; regression is not supported yet"


def class_names_of(train: Targets, own: Sequence[str], where: str) -> tuple[str, ...]:
    """The class names of a data set: those that come with train, its labels, or numbers.

    Args:
        train: the training labels.
        own: the names that come with them; empty if there are none.
        where: which data these are, for messages.

    Raises:
        DataError: labels are numbers too large for a guess.
    """
    if names := tuple(own) or train.names:
        # Merge Unicode forms of a name; leave exact duplicates to the check that refuses them.
        return distinct(names) if len(set(names)) == len(names) else names
    last = int(train.label_N.max(initial=-1))
    if last >= _MOST_CLASSES_GUESSED:
        raise DataError(f"{where}: a label is {last}; of so many classes give the class names")
    return tuple(map(str, range(last + 1)))


def in_classes(
    targets: Targets, own: Iterable[str], classes: Sequence[str], named: bool, where: str
) -> Int64[np.ndarray, " N"]:
    """The labels of a split as numbers of the classes of train.

    Args:
        targets: of the split.
        own: the class names that come with its numbers; empty if there are none.
        classes: of train.
        named: the labels of train are names.
        where: which split this is, for messages.

    Raises:
        DataError: a number that is no class, or numbers where train has names.
        UnknownNameError: an example has a class that train does not have.
    """
    names = targets.names or tuple(own)
    if named and not names:
        raise DataError(f"{where}: labels are numbers, those of train names; give names")
    names = names or tuple(classes)
    check_numbers(targets.label_N, names, where)
    if names == tuple(classes):
        return targets.label_N
    used = np.unique(targets.label_N)
    number_C = np.zeros(len(names), np.int64)
    number_C[used] = class_numbers([names[label] for label in used], classes, where)
    return number_C[targets.label_N]
