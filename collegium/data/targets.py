"""Targets: one class for each example. Errors for others say what they seem to be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from collegium.data.class_names import class_numbers, distinct, numbers_of
from collegium.data.readers.array_layout import of_tensor
from collegium.errors import DataError

_WANTED = "expected integers from 0, one class an example, or names of classes"


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
    """Refuse numbers among names, since numpy would turn them into names."""
    is_name = [isinstance(value, str) for value in values]
    if any(is_name) and not all(is_name):
        one, other = values[is_name.index(True)], values[is_name.index(False)]
        raise DataError(f"{name}: labels are of two kinds, like {one!r} and {other!r}; {_WANTED}")


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
    if not np.isin(array, (0, 1)).all():
        return (
            f"{found} are rows of numbers (soft labels or a regression), which is not "
            f"supported yet; {_WANTED}"
        )
    if not (array.sum(axis=1) == 1).all():
        return (
            f"{found} have several classes in a row, or none (multi-label), which is not "
            f"supported yet; {_WANTED}"
        )
    return (
        f"{found} are rows of one 1, one-hot classes or multi-label, which is not supported yet; "
        f"{_WANTED}; one-hot rows become these by labels.argmax(1)"
    )


def _of_floats(array: NDArray[Any]) -> str:
    found = f"labels are {array.dtype}, {_WANTED}"
    if np.isnan(array).any():
        return f"{found}; example {int(np.isnan(array).argmax())} has NaN"
    if (array == np.trunc(array)).all():
        return f"{found}; if they are classes, give labels.astype(int)"
    return f"{found}; regression is not supported yet"


def in_classes(targets: Targets, classes: Sequence[str], name: str) -> Int64[np.ndarray, " N"]:
    """The labels as numbers of these classes; numbers stay as they are.

    Raises:
        UnknownNameError: a label is none of the classes.
    """
    if not targets.names:
        return targets.label_N
    number_C = class_numbers(targets.names, classes, name)
    return np.array(number_C, np.int64)[targets.label_N]
