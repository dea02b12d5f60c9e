"""Charts of what a run has measured: plain numbers in, a chart out, None where there are none."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.plots.chart import CROWD, Axis, Chart, Line, Mark, draw

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
    note = "Training accuracy is of the augmented views, as training saw them."
    title = "Accuracy"
    return draw("accuracy", title, lines, y="accuracy, %", note=note, percent=True, levels=levels)


def loss_chart(metrics: Lines) -> Chart | None:
    """Every term of the loss by epoch, and their sum; hints, of which there may be many, added."""
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
    return _curves(
        "loss",
        "Loss, by term",
        lines,
        "mean over examples",
        "Terms as scaled: they add up to the sum.",
    )


def hint_chart(metrics: Lines) -> Chart | None:
    """The hint losses by pair of teacher and layer."""
    train = _of_split(metrics, "train")
    names = [name for name in _names(train, "loss.") if name.startswith("hint.")]
    lines = [Line(name[5:], *_column(train, f"loss.{name}")) for name in names[:CROWD]]
    left = f" The first {CROWD} of {len(names)} are drawn." if len(names) > CROWD else ""
    note = "How far the student's layers are from what each teacher hints at, through a regressor."
    return _curves("hints", "Hint losses, by pair", lines, "scaled loss", note + left)


def gradient_chart(metrics: Lines) -> Chart | None:
    """Each term's share of the student's gradient."""
    train = _of_split(metrics, "train")
    names = _names(train, "gradient_share.")
    lines = [Line(n, *_column(train, f"gradient_share.{n}")) for n in names[:CROWD]]
    note = "By norm, on a few examples at each epoch's end: what really pulls at the student."
    if len(names) < 2:
        return None
    return draw("gradients", "Whose gradient it is", lines, y="share, %", note=note, percent=True)


def weights_chart(metrics: Lines) -> Chart | None:
    """Mean weight of each teacher by epoch."""
    train = _of_split(metrics, "train")
    names = _names(train, "weights.")
    lines = [Line(name, *_column(train, f"weights.{name}")) for name in names[:CROWD]]
    left = f" The first {CROWD} of {len(names)} are drawn." if len(names) > CROWD else ""
    note = "The mean over all training examples." + left
    return _curves("weights", "Mean weight of each teacher", lines, "mean weight", note)


def entropy_chart(metrics: Lines) -> Chart | None:
    """How decided the weights are, and how much they depend on the example."""
    train = [line for line in _of_split(metrics, "train") if "weights_variance" in line]
    lines = [Line("entropy", *_column(train, "weights_entropy"))]
    x, variance = _column(train, "weights_variance")
    lines.append(Line("spread between examples", x, [value**0.5 for value in variance]))
    note = (
        "Entropy 1: all teachers alike; 0: one teacher alone. A spread (standard deviation) of 0: "
        "the example does not matter."
    )
    kept = [line for line in lines if len(line.x)]
    return _curves("entropy", "How decided the weights are", kept, "0 to 1", note)


def distribution_chart(weights_NT: NDArray[Any], names: Sequence[str]) -> Chart | None:
    """How the weights of each teacher are spread over the examples.

    Args:
        weights_NT: what each teacher got of each example.
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
        weights_NT: what each teacher would get of each example.
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
    across = Axis.around("mean weight", [mark.x for mark in marks], 0.08)
    note = (
        "Of the evaluation split. A weighting that knows better puts the circle right of the cross."
    )
    up = Axis("", len(shown) - 0.5, -0.5, names=shown)
    title = "Weight where right, where wrong"
    return Chart("correctness", title, across, up, marks=tuple(marks), note=note)


def correctness_of(said: Mapping[str, NDArray[Any]], teachers: Sequence[str]) -> Chart | None:
    """The same from predictions.npz; None where it has no weights.

    Args:
        said: its arrays.
        teachers: names of all teachers, heard or not.
    """
    if not {"weights", "heard", "teachers", "labels"} <= said.keys():
        return None
    heard = [str(name) for name in said["heard"]]
    answers_NT = said["teachers"][[teachers.index(name) for name in heard]].T
    right_NT, known_NT = answers_NT == said["labels"][:, None], answers_NT >= 0
    return correctness_chart(said["weights"], right_NT, known_NT, heard)


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
        tip = f"{name}: {100 * accuracy:.2f} %, {cost:,.0f} {x}"
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
    across = Axis.around("points", [0.0, *(mark.x for mark in marks)], 0.08)
    left = f" The best {SHOWN_GAPS} of {len(gaps)} are shown." if len(gaps) > SHOWN_GAPS else ""
    note = f"Thin lines: 95 % intervals; one that crosses 0 tells nothing.{left}"
    up = Axis("", len(names) - 0.5, -0.5, names=tuple(names))
    title = "Minus the student alone"
    return Chart("differences", title, across, up, marks=tuple(marks), note=note)


def _interval(place: int, name: str, gap: tuple[float, float | None]) -> list[Mark]:
    """The mean between the ends of its interval."""
    mean, half = gap
    spread = "one seed" if half is None else f"[{mean - half:+.2f}, {mean + half:+.2f}]"
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


def _names(lines: Lines, prefix: str) -> list[str]:
    found = {key[len(prefix) :]: None for line in lines for key in line if key.startswith(prefix)}
    return list(found)


def _column(lines: Lines, key: str, split: str | None = None) -> tuple[list[float], list[float]]:
    rows = [line for line in lines if key in line and split in (None, line.get("split"))]
    return [line["epoch"] + 1.0 for line in rows], [float(line[key]) for line in rows]
