"""Charts of a run's measurements: plain numbers in, a chart out; None without numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.plots.chart import CROWD, Axis, Chart, Line, Mark, draw
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
    lines = [
        Line(split, *_column(metrics, "accuracy", split))
        for split in ("train", "validation", "test")
    ]
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return None
    levels = {}
    if teachers:
        best, worst = max(teachers, key=teachers.__getitem__), min(teachers.values())
        levels["best teacher"] = teachers[best]
        if len(teachers) > 1 and worst < teachers[best]:
            levels["worst teacher"] = worst
    note = "Training accuracy is measured on the augmented views."
    title = "Accuracy"
    return draw("accuracy", title, lines, y="accuracy, %", note=note, percent=True, levels=levels)


def loss_chart(metrics: Lines) -> Chart | None:
    """Every term of the loss by epoch, and the total; all hint losses are one line."""
    train = _of_split(metrics, "train")
    terms = _names(train, "loss.")
    plain = [name for name in terms if not name.startswith("hint.")]
    lines = [Line("sum", *_column(train, "loss"))] if len(terms) > 1 else []
    lines += [Line(name, *_column(train, f"loss.{name}")) for name in plain]
    hints = [name for name in terms if name.startswith("hint.")]
    if hints:
        keys = [f"loss.{name}" for name in hints]
        rows = [line for line in train if any(key in line for key in keys)]
        total = [sum(line.get(key, 0.0) for key in keys) for line in rows]
        lines.append(Line("hints", [line["epoch"] + 1.0 for line in rows], total))
    note = "Terms include their weights in the loss: they add up to the sum."
    return _curves("loss", "Loss, by term", lines, "mean over examples", note)


def hint_chart(metrics: Lines) -> Chart | None:
    """The hint losses by pair of teacher and layer."""
    lines, left = _lines(metrics, "loss.hint.")
    note = "Distance of the student's features, through a regressor, from each teacher's."
    return _curves("hints", "Hint losses, by pair", lines, "scaled loss", note + left)


def gradient_chart(metrics: Lines) -> Chart | None:
    """Each term's share of the student's gradient."""
    lines, left = _lines(metrics, "gradient_share.")
    note = "By norm, on a few examples at each epoch's end: how much each term moves the student."
    note += left
    if len(lines) < 2:
        return None
    return draw(
        "gradients", "Gradient shares, by term", lines, y="share, %", note=note, percent=True
    )


def weights_chart(metrics: Lines) -> Chart | None:
    """Mean weight of each teacher by epoch."""
    lines, left = _lines(metrics, "weights.")
    note = "The mean over all training examples." + left
    return _curves("weights", "Mean weight of each teacher", lines, "mean weight", note)


def entropy_chart(metrics: Lines) -> Chart | None:
    """Entropy of the weights, and their spread between examples."""
    train = [line for line in _of_split(metrics, "train") if "weights_variance" in line]
    lines = [Line("entropy", *_column(train, "weights_entropy"))]
    x, variance = _column(train, "weights_variance")
    lines.append(Line("spread between examples", x, [value**0.5 for value in variance]))
    note = (
        "Entropy 1: equal weights; 0: one teacher has all the weight. A spread (standard "
        "deviation) of 0: the weights do not depend on the example."
    )
    kept = [line for line in lines if len(line.x)]
    return _curves("entropy", "Entropy and spread of the weights", kept, "0 to 1", note)


def distribution_chart(weights_NT: NDArray[Any], names: Sequence[str]) -> Chart | None:
    """Histogram of each teacher's weights over the examples.

    Args:
        weights_NT: weight of each teacher for each example.
        names: of the teachers.
    """
    if len(names) < 2 or not len(weights_NT):
        return None
    edges = np.linspace(0, 1, BINS + 1)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    lines = []
    for place, name in enumerate(names[:CROWD]):
        counts = np.histogram(weights_NT[:, place].clip(0, 1), edges)[0]
        lines.append(Line(name, middles, (counts / len(weights_NT)).tolist()))
    title = "Weights over the examples"
    note = f"Share of the examples whose weight lies in each of {BINS} equal bins."
    x, y = "weight of the example", "examples, %"
    return draw("distribution", title, lines, x=x, y=y, note=note, percent=True, steps=True)


def correctness_chart(
    weights_NT: NDArray[Any],
    right_NT: NDArray[Any],
    known_NT: NDArray[Any],
    names: Sequence[str],
) -> Chart | None:
    """Mean weight of each teacher where it is right, and where it is wrong.

    Args:
        weights_NT: weight that each teacher would have for each example.
        right_NT: whether each teacher is right about it.
        known_NT: whether each teacher knows its class; it is left out where not.
        names: of the teachers.
    """
    if len(names) < 2 or not len(weights_NT):
        return None
    shown, marks = tuple(names[:CROWD]), []
    for place, name in enumerate(shown):
        right, known = right_NT[:, place], known_NT[:, place]
        for kind, rows in (("right", right & known), ("wrong", ~right & known)):
            if not rows.any():
                continue
            mean = float(weights_NT[rows, place].mean())
            tip = f"{name}, {kind} about {rows.sum():,} examples: mean weight {mean:.3f}"
            wrong = kind == "wrong"
            marks.append(Mark(kind, mean, float(place), tip, series=int(wrong), cross=wrong))
    note = "On the evaluation split. A good weighting has the circle to the right of the cross."
    title = "Weight where right, where wrong"
    return rows_chart("correctness", title, "mean weight", shown, marks, note=note)


def correctness_of(kept: Mapping[str, NDArray[Any]], teachers: Sequence[str]) -> Chart | None:
    """The same from predictions.npz; None where it has no weights.

    Args:
        kept: its arrays.
        teachers: names of all teachers, with or without weights.
    """
    if not {"weights", "heard", "teachers", "labels"} <= kept.keys():
        return None
    active = [str(name) for name in kept["heard"]]
    classes_NT = kept["teachers"][[teachers.index(name) for name in active]].T
    right_NT, known_NT = classes_NT == kept["labels"][:, None], classes_NT >= 0
    return correctness_chart(kept["weights"], right_NT, known_NT, active)


def cost_chart(
    points: Sequence[tuple[str, str, float, float]], key: str, x: str, title: str
) -> Chart | None:
    """Accuracy against a cost, on a logarithmic axis.

    Args:
        points: kind ("student" or "teacher"), name, cost, accuracy 0..1.
        key: of the chart.
        x: what the cost is.
        title: what the chart shows.
    """
    if not points:
        return None
    marks = []
    for kind, name, cost, accuracy in points:
        tip = f"{name}: {percent(accuracy)}, {cost:,.0f} {x}"
        series = 0 if kind == "student" else 4
        marks.append(Mark(kind, float(cost), 100.0 * accuracy, tip, series, name=name))
    across = Axis.around(x, [mark.x for mark in marks], 0.18, log=True)
    up = Axis.around("accuracy, %", [mark.y for mark in marks], 0.15)
    return Chart(key, title, across, up, marks=tuple(marks))


def differences_chart(gaps: Mapping[str, tuple[float, float | None]]) -> Chart | None:
    """Differences from the student alone in points, with their intervals; the best first.

    Args:
        gaps: mean and half of the 95 % interval by name; None for the half where there is one seed.
    """
    names = sorted(gaps, key=lambda name: -gaps[name][0])[:SHOWN_GAPS]
    marks = [
        mark for place, name in enumerate(names) for mark in _interval(place, name, gaps[name])
    ]
    if not marks:
        return None
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
    return Chart(key, title, across, up, marks=tuple(marks), note=note)


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
    lines = [Line(n, *_column(c, "accuracy", split)) for n, c in curves.items()]
    kept = [line for line in lines if len(line.x)]
    note = f"On the {split} split; the mean over seeds."
    if len(kept) > CROWD:
        kept = sorted(kept, key=lambda line: -line.y[-1])[:CROWD]
        note += f" The best {CROWD} of {len(curves)} are drawn."
    if not kept:
        return None
    return draw("runs", f"Accuracy on {split}", kept, y="accuracy, %", note=note, percent=True)


def _curves(key: str, title: str, lines: Sequence[Line], y: str, note: str) -> Chart | None:
    return draw(key, title, lines, y=y, note=note) if lines else None


def _of_split(metrics: Lines, split: str) -> list[Mapping[str, Any]]:
    return [line for line in metrics if line.get("split") == split]


def _lines(metrics: Lines, prefix: str) -> tuple[list[Line], str]:
    """A line for each training metric with a prefix, and a remark if some are left out."""
    train = _of_split(metrics, "train")
    names = _names(train, prefix)
    left = f" The first {CROWD} of {len(names)} are drawn." if len(names) > CROWD else ""
    return [Line(name, *_column(train, f"{prefix}{name}")) for name in names[:CROWD]], left


def _names(lines: Lines, prefix: str) -> list[str]:
    found = {key[len(prefix) :]: None for line in lines for key in line if key.startswith(prefix)}
    return list(found)


def _column(lines: Lines, key: str, split: str | None = None) -> tuple[list[float], list[float]]:
    rows = [line for line in lines if key in line and split in (None, line.get("split"))]
    return [line["epoch"] + 1.0 for line in rows], [float(line[key]) for line in rows]
