"""The parts of a page about one run: tables and charts of its reading."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.record import Json
from collegium.report import figures
from collegium.report.chart import Chart
from collegium.report.reading import Reading
from collegium.report.tables import Cell, Scale, Table, heat, number, share

Points = dict[tuple[str, str], tuple[float, float | None]]
"""By kind and name: a cost, and an accuracy where it is known."""
SHOWN_CLASSES = 20
"""As many classes as are shown in a matrix; of more, a rule chooses."""
SHOWN_CONFUSIONS = 20


def teachers_table(reading: Reading) -> Table | None:
    """Accuracy, size and share of each teacher."""
    if not reading.teachers:
        return None
    accuracy, heard = reading.teacher_accuracy(), reading.heard
    last = _last(reading)
    rows = []
    for row in reading.teachers:
        name = str(row["name"])
        weight = reading.summary.get(f"weights.{name}", last.get(f"weights.{name}"))
        rows.append(
            [
                Cell(name, series=heard.index(name) if name in heard else None),
                Cell(str(row.get("spec", ""))),
                number(row.get("parameters")),
                share(accuracy.get(name)),
                Cell("not heard", -1.0) if weight is None else _bar(weight),
                share(reading.summary.get(f"agreement.{name}")),
            ]
        )
    split = reading.summary.get("split", "validation")
    head = ["teacher", "model", "parameters", f"accuracy, {split}", "mean weight given"]
    head += ["student agrees"]
    note = "Mean weight: over the training examples of the last epoch."
    return Table("", head, rows, note)


def _bar(value: float) -> Cell:
    return Cell(f"{value:.3f}", float(value), bar=float(value))


def _last(reading: Reading) -> Json:
    train = [line for line in reading.metrics if line.get("split") == "train"]
    return train[-1] if train else {}


def curves(reading: Reading) -> list[Chart]:
    """Accuracy, every term of the loss, hints by pair, gradient shares."""
    found = [
        figures.accuracy_chart(reading.metrics, reading.teacher_accuracy()),
        figures.loss_chart(reading.metrics),
        figures.hint_chart(reading.metrics),
        figures.gradient_chart(reading.metrics),
    ]
    return [chart for chart in found if chart is not None]


def hearing(reading: Reading) -> list[Chart]:
    """Who was heard: over epochs, over examples, and with what right."""
    weights = reading.weights.get("weights", np.empty((0, 0)))
    said = reading.predictions
    found = [
        figures.weights_chart(reading.metrics),
        figures.entropy_chart(reading.metrics) if len(reading.heard) > 1 else None,
        figures.distribution_chart(weights, reading.heard) if weights.size else None,
    ]
    if {"weights", "heard", "teachers", "labels"} <= said.keys():
        found.append(_correctness(reading))
    return [chart for chart in found if chart is not None]


def _correctness(reading: Reading) -> Chart | None:
    said, names = reading.predictions, [row["name"] for row in reading.teachers]
    heard = [str(name) for name in said["heard"]]
    answers_NT = said["teachers"][[names.index(name) for name in heard]].T
    right_NT, known_NT = answers_NT == said["labels"][:, None], answers_NT >= 0
    return figures.correctness_chart(said["weights"], right_NT, known_NT, heard)


def class_heat(reading: Reading) -> Table | None:
    """Mean weight of each teacher by class, over the training examples of the last epoch."""
    arrays, heard = reading.weights, reading.heard
    if "labels" not in arrays or len(heard) < 2:
        return None
    present, place = np.unique(arrays["labels"], return_inverse=True)
    counts = np.bincount(place)
    sums = [np.bincount(place, arrays["weights"][:, t]) for t in range(len(heard))]
    means = np.stack(sums, axis=1) / counts[:, None]
    chosen, note = _varied(means)
    names = [_class(reading, int(present[row])) for row in chosen]
    return heat(
        "Mean weight by class",
        means[chosen],
        names,
        heard,
        axes="class / teacher",
        note=f"Over the training examples of the last epoch.{note}",
        scale=Scale(0.0, float(max(means.max(), 1e-9))),
    )


def _varied(means: NDArray[Any]) -> tuple[NDArray[Any], str]:
    if len(means) <= SHOWN_CLASSES:
        return np.arange(len(means)), ""
    distance = np.abs(means - means.mean(axis=0)).sum(axis=1)
    chosen = np.sort(np.argsort(-distance, kind="stable")[:SHOWN_CLASSES])
    return chosen, f" The {SHOWN_CLASSES} of {len(means)} classes that are furthest from the mean."


def _class(reading: Reading, label: int) -> str:
    names = reading.classes
    return names[label] if 0 <= label < len(names) else str(label)


def confusions(reading: Reading) -> list[Table]:
    """The student's classes against the truth and against each teacher's, where it knows them."""
    said = reading.predictions
    if not {"student", "labels"} <= said.keys():
        return []
    others = [("the truth", said["labels"])]
    names = [str(row["name"]) for row in reading.teachers]
    others += list(zip(names, said.get("teachers", ()), strict=False))
    if len(reading.classes) > SHOWN_CLASSES:
        return [_commonest(reading, others)]
    return [_matrix(reading, name, classes, said["student"]) for name, classes in others]


def _matrix(reading: Reading, name: str, other_N: NDArray[Any], student_N: NDArray[Any]) -> Table:
    known_N = other_N >= 0
    size = max(len(reading.classes), 1 + int(max(other_N.max(), student_N.max())))
    counts = np.zeros((size, size), dtype=int)
    np.add.at(counts, (other_N[known_N], student_N[known_N]), 1)
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = [_class(reading, label) for label in range(size)]
    return heat(
        f"Student against {name}",
        np.where(counts > 0, 100 * parts, np.nan),
        classes,
        classes,
        axes=f"rows: {name}; columns: the student",
        form="{:.0f}",
        scale=Scale(0.0, 100.0),
        counts=counts,
    )


def _commonest(reading: Reading, others: Sequence[tuple[str, NDArray[Any]]]) -> Table:
    rows = []
    for name, other_N in others:
        apart = (other_N != reading.predictions["student"]) & (other_N >= 0)
        pairs = np.stack([other_N[apart], reading.predictions["student"][apart]], axis=1)
        kinds, counts = np.unique(pairs, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:SHOWN_CONFUSIONS]
        for (said, student), count in zip(
            kinds[order].tolist(), counts[order].tolist(), strict=True
        ):
            cells = [Cell(name), Cell(_class(reading, said)), Cell(_class(reading, student))]
            rows.append([*cells, number(int(count))])
    head = ["against", "it says", "the student says", "examples"]
    note = f"With {len(reading.classes)} classes: the {SHOWN_CONFUSIONS} commonest of each."
    return Table("Where the student differs", head, rows, note)


def agreement(reading: Reading) -> Table | None:
    """How often each two of student, teachers and truth give the same class."""
    said = reading.predictions
    if not {"student", "labels"} <= said.keys() or not len(said.get("teachers", ())):
        return None
    names = ["truth", "student", *(str(row["name"]) for row in reading.teachers)]
    answers = np.stack([said["labels"], said["student"], *said["teachers"]])
    known = (answers[:, None] >= 0) & (answers[None] >= 0)
    equal = (answers[:, None] == answers[None]) & known
    same = 100 * equal.sum(axis=2) / np.maximum(known.sum(axis=2), 1)
    apart = same[~np.eye(len(same), dtype=bool)]
    return heat(
        "Who agrees with whom",
        same,
        names,
        names,
        axes="same class, % of the evaluation split",
        form="{:.1f}",
        scale=Scale(float(apart.min()), 100.0),
    )


def cost_table(reading: Reading) -> Table:
    """Seconds, speed, the teachers' part, what the store saved."""
    summary, train = reading.summary, _last(reading)
    lines = [line for line in reading.metrics if line.get("split") == "train"]
    seconds = summary.get("seconds", sum(line.get("seconds", 0.0) for line in lines))
    asked = summary.get("teacher_seconds", sum(li.get("teacher_seconds", 0.0) for li in lines))
    stored = reading.run.get("storage", {}).get("store")
    rows = [
        ("parameters of the student", number(summary.get("parameters"))),
        ("seconds of training", number(seconds, "{:,.1f}")),
        ("of them in teachers", number(100 * asked / seconds if seconds else None, "{:.1f} %")),
        ("training images/s", number(summary.get("images_per_s", train.get("images_per_s")))),
        ("student alone, images/s", number(summary.get("inference_images_per_s"))),
        (
            "answers from the store",
            share(summary.get("store_hits")) if stored else Cell("no store"),
        ),
        ("calibration error", number(summary.get("ece"), "{:.4f}")),
    ]
    return Table("", ["what", "how much"], [[Cell(name), cell] for name, cell in rows])


def cost_charts(readings: Sequence[Reading]) -> list[Chart]:
    """Accuracy against parameters, students and teachers; against speed, the students alone."""
    sizes: Points = {}
    speeds: Points = {}
    for reading in readings:
        summary, who = reading.summary, ("student", _student_name(reading, readings))
        for row in reading.teachers:
            accuracy = summary.get(f"accuracy.{row['name']}")
            sizes["teacher", str(row["name"])] = (float(row.get("parameters", 0)), accuracy)
        sizes[who] = (float(summary.get("parameters", 0)), summary.get("accuracy_last"))
        speeds[who] = (
            float(summary.get("inference_images_per_s", 0)),
            summary.get("accuracy_last"),
        )
    found = [_cost_chart(sizes, "parameters"), _cost_chart(speeds, "images/s")]
    return [chart for chart in found if chart is not None]


def _cost_chart(points: Points, x: str) -> Chart | None:
    """A chart, where there are two points at least to compare."""
    shown = [(*who, cost, value) for who, (cost, value) in points.items() if cost and value]
    if len(shown) < 2:
        return None
    return figures.cost_chart(shown, f"cost-{x.replace('/', '-')}", x, f"Accuracy against {x}")


def _student_name(reading: Reading, readings: Sequence[Reading]) -> str:
    return "student" if len(readings) == 1 else reading.name


def settings(reading: Reading) -> list[tuple[str, str]]:
    """What decided the result, as names and values."""
    run = reading.run
    plain = ["data", "student", "method", "seed", "validation", "augment", "views"]
    found = [(key, str(run[key])) for key in plain if run.get(key) is not None]
    for part in ("optimisation", "options"):
        found += [(k, str(v)) for k, v in run.get(part, {}).items() if v not in (None, [], "")]
    environment = run.get("environment", {})
    return [*found, *((key, str(value)) for key, value in environment.items() if value)]
