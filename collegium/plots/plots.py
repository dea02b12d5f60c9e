"""Charts of a run's measurements: plain numbers in, a chart out; None without numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.plots.chart import CROWD, Axis, Chart, Line, Mark, draw
from collegium.plots.matrices import names_in
from collegium.plots.words import interval, percent

Lines = Sequence[Mapping[str, Any]]
"""Lines of metrics.jsonl."""
BINS, SHOWN_GAPS = 20, 12


def accuracy_chart(metrics: Lines, teachers: Mapping[str, float]) -> Chart | None:
    """Accuracy by epoch and split, between the worst and the best teacher.

    Args:
        metrics: lines of any split.
        teachers: accuracy of each, 0..1.
    """
    splits = ("train", "validation", "test")
    lines = [Line(split, *_column(metrics, "accuracy", split)) for split in splits]
    best, worst = max(teachers.values(), default=0.0), min(teachers.values(), default=0.0)
    levels = {"best teacher": best} if teachers else {}
    levels |= {"worst teacher": worst} if worst < best else {}
    note = "Training accuracy is measured on the augmented views."
    return draw("accuracy", "Accuracy", lines, y="accuracy, %", levels=levels, about=note)


def loss_chart(metrics: Lines) -> Chart | None:
    """Every term of the loss by epoch, and the total; all hint losses are one line."""
    train = _of_split(metrics, "train")
    terms = _names(train, "loss.")
    lines = [Line("sum", *_column(train, "loss"))] if len(terms) > 1 else []
    plain = (name for name in terms if not name.startswith("hint."))
    lines += [Line(name, *_column(train, f"loss.{name}")) for name in plain]
    hints = [f"loss.{name}" for name in terms if name.startswith("hint.")]
    rows = [line for line in train if any(key in line for key in hints)]
    total = [sum(line.get(key, 0.0) for key in hints) for line in rows]
    lines.append(Line("hints", _epochs(rows), total))
    note = "Terms include their weights in the loss: they add up to the sum."
    return draw("loss", "Loss, by term", lines, y="mean over examples", about=note)


def hint_chart(metrics: Lines) -> Chart | None:
    """The hint losses by pair of teacher and layer."""
    lines, left = _lines(metrics, "loss.hint.")
    note = "Distance of the student's features, through a regressor, from each teacher's." + left
    return draw("hints", "Hint losses, by pair", lines, y="scaled loss", about=note)


def gradient_chart(metrics: Lines) -> Chart | None:
    """Each term's share of the student's gradient; None where there is one term."""
    lines, left = _lines(metrics, "gradient_share.")
    note = "By norm, on a few examples at each epoch's end: how much each term moves the student."
    lines, note = lines if len(lines) > 1 else [], note + left
    return draw("gradients", "Gradient shares, by term", lines, y="share, %", about=note)


def weights_chart(metrics: Lines) -> Chart | None:
    """Mean weight of each teacher by epoch."""
    lines, left = _lines(metrics, "weights.")
    note = "The mean over all training examples." + left
    return draw("weights", "Mean weight of each teacher", lines, y="mean weight", about=note)


def entropy_chart(metrics: Lines) -> Chart | None:
    """Entropy of the weights, and their spread between examples."""
    train = [line for line in _of_split(metrics, "train") if "weights_variance" in line]
    x, variance = _column(train, "weights_variance")
    lines = [
        Line("entropy", *_column(train, "weights_entropy")),
        Line("spread between examples", x, [value**0.5 for value in variance]),
    ]
    note = (
        "Entropy 1: equal weights; 0: one teacher has all the weight. A spread (standard "
        "deviation) of 0: the weights do not depend on the example."
    )
    return draw("entropy", "Entropy and spread of the weights", lines, y="0 to 1", about=note)


def distribution_chart(arrays: Mapping[str, NDArray[Any]]) -> Chart | None:
    """Histogram of each teacher's weights over the examples.

    Args:
        arrays: those of weights.npz.
    """
    names, weights_NT = names_in(arrays, "teachers"), arrays.get("weights", np.empty(0))
    if len(names) < 2 or not len(weights_NT):
        return None
    edges = np.linspace(0, 1, BINS + 1)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    lines = []
    for place, name in enumerate(names[:CROWD]):
        counts = np.histogram(weights_NT[:, place].clip(0, 1), edges)[0]
        lines.append(Line(name, middles, (counts / len(weights_NT)).tolist()))
    note = f"Share of the examples whose weight lies in each of {BINS} equal bins."
    axes: Any = {"x": "weight of the example", "y": "examples, %"}
    return draw("distribution", "Weights over the examples", lines, **axes, steps=True, about=note)


def correctness_chart(
    predictions: Mapping[str, NDArray[Any]], teachers: Sequence[str]
) -> Chart | None:
    """Mean weight of each teacher where it is right, and where it is wrong.

    A teacher's examples whose class it does not know are left out.

    Args:
        predictions: arrays of predictions.npz; the chart is None where it has no weights.
        teachers: names of all teachers, with or without weights.
    """
    if not {"weights", "heard", "teachers", "labels"} <= predictions.keys():
        return None
    names = names_in(predictions, "heard")
    weights_NT, labels_N = predictions["weights"], predictions["labels"]
    if len(names) < 2 or not len(weights_NT):
        return None
    classes_TN, marks = predictions["teachers"][[teachers.index(name) for name in names]], []
    for place, name in enumerate(names[:CROWD]):
        known, right = classes_TN[place] >= 0, classes_TN[place] == labels_N
        for kind, rows in (("right", right & known), ("wrong", ~right & known)):
            if not rows.any():
                continue
            mean = float(weights_NT[rows, place].mean())
            tip = f"{name}, {kind} about {rows.sum():,} examples: mean weight {mean:.3f}"
            wrong = kind == "wrong"
            marks.append(Mark(kind, mean, float(place), tip, series=int(wrong), cross=wrong))
    note = "On the evaluation split. A good weighting has the circle to the right of the cross."
    title = "Weight where right, where wrong"
    return rows_chart("correctness", title, "mean weight", names[:CROWD], marks, note=note)


def cost_chart(
    points: Mapping[tuple[str, str], tuple[float, float | None]], x: str
) -> Chart | None:
    """Accuracy against a cost, on a logarithmic axis; None for fewer than two points.

    Args:
        points: by kind ("student" or "teacher") and name: a cost, and the accuracy, 0..1, where it
            is known; points without either are left out.
        x: what the cost is.
    """
    marks = []
    for (kind, name), (cost, accuracy) in points.items():
        if not cost or not accuracy:
            continue
        tip = f"{name}: {percent(accuracy)}, {cost:,.0f} {x}"
        series = 0 if kind == "student" else 4
        marks.append(Mark(kind, float(cost), 100.0 * accuracy, tip, series, name=name))
    if len(marks) < 2:
        return None
    across = Axis.around(x, [mark.x for mark in marks], 0.18, log=True)
    up = Axis.around("accuracy, %", [mark.y for mark in marks], 0.15)
    key = f"cost-{x.replace('/', '-')}"
    return Chart(key, f"Accuracy against {x}", across, up, marks=tuple(marks))


def differences_chart(gaps: Mapping[str, tuple[float, float | None]]) -> Chart | None:
    """Differences from the student alone in points, with their intervals; the best first.

    Args:
        gaps: mean and half of the 95 % interval by name; None for the half where there is one seed.
    """
    names = sorted(gaps, key=lambda name: -gaps[name][0])[:SHOWN_GAPS]
    if not names:
        return None
    marks = [mark for n, name in enumerate(names) for mark in _interval(n, name, gaps[name])]
    left = f" The best {SHOWN_GAPS} of {len(gaps)} are shown." if len(gaps) > SHOWN_GAPS else ""
    note = f"Thin lines: 95 % intervals; one that crosses 0 shows no clear difference.{left}"
    title = "Difference from the student alone"
    return rows_chart("differences", title, "points", names, marks, note=note, include=[0.0])


def rows_chart(
    key: str,
    title: str,
    x: str,
    names: Sequence[str],
    marks: Sequence[Mark],
    *,
    note: str = "",
    include: Sequence[float] = (),
) -> Chart:
    """Points in rows that have names, the first row on top.

    Args:
        key: of the chart.
        title: above it.
        x: label of the horizontal axis.
        names: of the rows.
        marks: the points; y is the number of the row, from 0.
        note: how to read it.
        include: further values that the horizontal axis must contain.
    """
    across = Axis.around(x, [*include, *(mark.x for mark in marks)], 0.08)
    up = Axis("", len(names) - 0.5, -0.5, names=tuple(names))
    return Chart(key, title, across, up, marks=tuple(marks), about=note)


def _interval(place: int, name: str, gap: tuple[float, float | None]) -> list[Mark]:
    """The mean between the ends of its interval."""
    mean, half = gap
    spread = "one seed" if half is None else interval(mean, half)
    tip, at = f"{name}: {mean:+.2f} points, {spread}", float(place)
    ends = [] if half is None else [mean - half, mean + half]
    whiskers = [Mark("mean of the seeds", end, at, tip, size=1.5) for end in ends]
    return [*whiskers[:1], Mark("mean of the seeds", mean, at, tip), *whiskers[1:]]


def runs_chart(curves: Mapping[str, Lines]) -> Chart | None:
    """Accuracy on validation by epoch, one line for each run or kind of run.

    Args:
        curves: lines of metrics by name; where none has a validation split, training's are drawn.
    """
    split = "validation" if any(_of_split(c, "validation") for c in curves.values()) else "train"
    every = (Line(name, *_column(curve, "accuracy", split)) for name, curve in curves.items())
    lines = [line for line in every if len(line.x)]
    note = f"On the {split} split; the mean over seeds."
    if len(lines) > CROWD:
        lines = sorted(lines, key=lambda line: -line.y[-1])[:CROWD]
        note += f" The best {CROWD} of {len(curves)} are drawn."
    return draw("runs", f"Accuracy on {split}", lines, y="accuracy, %", about=note)


def _of_split(metrics: Lines, split: str) -> list[Mapping[str, Any]]:
    return [line for line in metrics if line.get("split") == split]


def _lines(metrics: Lines, prefix: str) -> tuple[list[Line], str]:
    """A line for each training metric with a prefix, and a remark if some are left out."""
    train = _of_split(metrics, "train")
    names = _names(train, prefix)
    left = f" The first {CROWD} of {len(names)} are drawn." if len(names) > CROWD else ""
    return [Line(name, *_column(train, f"{prefix}{name}")) for name in names[:CROWD]], left


def _names(lines: Lines, prefix: str) -> list[str]:
    keys = dict.fromkeys(key for line in lines for key in line if key.startswith(prefix))
    return [key.removeprefix(prefix) for key in keys]


def _column(lines: Lines, key: str, split: str | None = None) -> tuple[list[float], list[float]]:
    rows = [line for line in lines if key in line and split in (None, line.get("split"))]
    return _epochs(rows), [float(line[key]) for line in rows]


def _epochs(rows: Lines) -> list[float]:
    """The epochs as a reader counts them, from 1."""
    return [row["epoch"] + 1.0 for row in rows]
