"""Matrices of predictions and weights: plain arrays in, tables of coloured cells out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.plots.tables import Columns, Table, heat, number

SHOWN_CLASSES = 20
"""Most classes that a matrix shows; of more, a rule chooses."""
SHOWN_CONFUSIONS = 20


def class_matrix(arrays: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> Table | None:
    """Mean weight of each teacher by class; None for fewer than two teachers.

    Args:
        arrays: those of weights.npz.
        classes: names of the classes.
    """
    names = names_in(arrays, "teachers")
    if len(names) < 2 or not len(arrays.get("labels", ())):
        return None
    present, place = np.unique(arrays["labels"], return_inverse=True)
    counts = np.bincount(place)
    sums = [np.bincount(place, weights_N) for weights_N in arrays["weights"].T]
    means = np.stack(sums, axis=1) / counts[:, None]
    chosen, note = _varied(means)
    rows = [class_name(classes, int(present[row])) for row in chosen]
    note = f"Over the training examples of the last epoch.{note}"
    scale = 0.0, float(max(means.max(), 1e-9))
    look: Any = {"axes": "class / teacher", "note": note, "scale": scale}
    return heat("Mean weight by class", means[chosen], rows, names, **look)


def _varied(means: NDArray[Any]) -> tuple[NDArray[Any], str]:
    if len(means) <= SHOWN_CLASSES:
        return np.arange(len(means)), ""
    distance = np.abs(means - means.mean(axis=0)).sum(axis=1)
    chosen = np.sort(np.argsort(-distance, kind="stable")[:SHOWN_CLASSES])
    return chosen, f" The {SHOWN_CLASSES} of {len(means)} classes that are furthest from the mean."


def names_in(arrays: Mapping[str, NDArray[Any]], key: str) -> Sequence[str]:
    """The names in an array of this key; none where it is missing."""
    return [str(name) for name in arrays.get(key, ())]


def class_name(classes: Sequence[str], label: int) -> str:
    """The name of a class, or its number."""
    return classes[label] if 0 <= label < len(classes) else str(label)


def confusion_matrix(
    name: str, other_N: NDArray[Any], student_N: NDArray[Any], classes: Sequence[str]
) -> Table:
    """Predictions of the student against other labels, in percent of each row.

    Args:
        name: of the teacher whose predictions the rows are, or of the truth.
        other_N: these classes, -1 where the teacher does not know the example's class.
        student_N: predictions of the student.
        classes: their names.
    """
    known_N = other_N >= 0
    size = max(len(classes), 1 + int(max(other_N.max(), student_N.max())))
    counts = np.zeros((size, size), dtype=int)
    np.add.at(counts, (other_N[known_N], student_N[known_N]), 1)
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [class_name(classes, label) for label in range(size)]
    percent, axes = np.where(counts > 0, 100 * parts, np.nan), f"rows: {name}; columns: the student"
    look: Any = {"axes": axes, "form": "{:.0f}", "scale": (0.0, 100.0), "counts": counts}
    return heat(f"Student against {name}", percent, names, names, **look)


def commonest_confusions(
    others: Sequence[tuple[str, NDArray[Any]]], student_N: NDArray[Any], classes: Sequence[str]
) -> Table:
    """The most frequent differences between the student's and other predictions, for many classes.

    Args:
        others: names and predictions, -1 where one does not know the example's class.
        student_N: predictions of the student.
        classes: their names.
    """
    rows = []
    for name, other_N in others:
        apart = (other_N != student_N) & (other_N >= 0)
        pairs = np.stack([other_N[apart], student_N[apart]], axis=1)
        kinds, counts = np.unique(pairs, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:SHOWN_CONFUSIONS]
        pairs_counts = zip(kinds[order].tolist(), counts[order].tolist(), strict=True)
        rows += [(name, other, student, count) for (other, student), count in pairs_counts]
    columns: Columns = {
        "compared with": lambda row: row[0],
        "its class": lambda row: class_name(classes, row[1]),
        "class of the student": lambda row: class_name(classes, row[2]),
        "examples": lambda row: number(row[3]),
    }
    note = f"With {len(classes)} classes: the {SHOWN_CONFUSIONS} commonest of each."
    return Table.of(rows, columns, "Where the student differs", note)


def agreement_matrix(teachers: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Table:
    """How often each pair of truth, student and teachers agrees, where both know the class.

    Args:
        teachers: their names.
        arrays: those of predictions.npz.
    """
    names = ["truth", "student", *teachers]
    classes_WN = np.stack([arrays["labels"], arrays["student"], *arrays["teachers"]])
    known = (classes_WN[:, None] >= 0) & (classes_WN[None] >= 0)
    equal = (classes_WN[:, None] == classes_WN[None]) & known
    same = 100 * equal.sum(axis=2) / np.maximum(known.sum(axis=2), 1)
    apart = same[~np.eye(len(same), dtype=bool)]
    axes, scale = "same class, % of the evaluation split", (float(apart.min()), 100.0)
    return heat("Agreement", same, names, names, axes=axes, form="{:.1f}", scale=scale)
