"""The parts of a page about one run: tables and charts of its reading."""

from collections.abc import Sequence

import numpy as np

from collegium.plots import matrices, plots, tables
from collegium.plots.chart import Chart
from collegium.plots.tables import Cell, Table, number, share
from collegium.report.load import Reading

Points = dict[tuple[str, str], tuple[float, float | None]]
"""By kind and name: a cost, and an accuracy where it is known."""


def teachers_table(reading: Reading) -> Table | None:
    """Accuracy, size and share of each teacher."""
    if not reading.teachers:
        return None
    split = str(reading.summary.get("split", "validation"))
    numbers = reading.last_line | reading.summary
    return tables.teachers_table(
        reading.teachers, numbers, reading.teacher_accuracy(), reading.heard, split
    )


def curves(reading: Reading) -> list[Chart]:
    """Accuracy, every term of the loss, hints by pair, gradient shares."""
    found = [
        plots.accuracy_chart(reading.metrics, reading.teacher_accuracy()),
        plots.loss_chart(reading.metrics),
        plots.hint_chart(reading.metrics),
        plots.gradient_chart(reading.metrics),
    ]
    return [chart for chart in found if chart is not None]


def hearing(reading: Reading) -> list[Chart]:
    """Who was heard: over epochs, over examples, and with what right."""
    weights = reading.weights.get("weights", np.empty((0, 0)))
    said = reading.predictions
    found = [
        plots.weights_chart(reading.metrics),
        plots.entropy_chart(reading.metrics) if len(reading.heard) > 1 else None,
        plots.distribution_chart(weights, reading.heard) if weights.size else None,
        plots.correctness_of(said, [str(row["name"]) for row in reading.teachers]),
    ]
    return [chart for chart in found if chart is not None]


def class_heat(reading: Reading) -> Table | None:
    """Mean weight of each teacher by class, over the training examples of the last epoch."""
    arrays = reading.weights
    if "labels" not in arrays:
        return None
    names = reading.classes
    return matrices.class_matrix(arrays["labels"], arrays["weights"], reading.heard, names)


def confusions(reading: Reading) -> list[Table]:
    """The student's classes against the truth and against each teacher's, where it knows them."""
    said, classes = reading.predictions, reading.classes
    if not {"student", "labels"} <= said.keys():
        return []
    others = [("the truth", said["labels"])]
    names = [str(row["name"]) for row in reading.teachers]
    others += list(zip(names, said.get("teachers", ()), strict=False))
    student_N = said["student"]
    if len(classes) > matrices.SHOWN_CLASSES:
        return [matrices.commonest_confusions(others, student_N, classes)]
    return [
        matrices.confusion_matrix(name, other_N, student_N, classes) for name, other_N in others
    ]


def agreement(reading: Reading) -> Table | None:
    """How often each two of student, teachers and truth give the same class."""
    said = reading.predictions
    if not {"student", "labels"} <= said.keys() or not len(said.get("teachers", ())):
        return None
    return matrices.agreement_matrix([str(row["name"]) for row in reading.teachers], said)


def cost_table(reading: Reading) -> Table:
    """Seconds, speed, the teachers' part, what the store saved."""
    summary, train = reading.summary, reading.last_line
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
    return plots.cost_chart(shown, f"cost-{x.replace('/', '-')}", x, f"Accuracy against {x}")


def _student_name(reading: Reading, readings: Sequence[Reading]) -> str:
    return "student" if len(readings) == 1 else reading.name


def settings(reading: Reading) -> list[tuple[str, str]]:
    """What decided the result, as names and values."""
    run = reading.run
    plain = ["data", "student", "method", "seed", "validation", "augment", "views"]
    found = [(key, str(run[key])) for key in plain if run.get(key) is not None]
    found += [(k, str(run[k])) for k in ("class_weights", "label_smoothing") if run.get(k)]
    for part in ("optimisation", "options"):
        found += [(k, str(v)) for k, v in run.get(part, {}).items() if v not in (None, [], "")]
    environment = run.get("environment", {})
    found += [("changed", line) for line in reading.summary.get("changes", [])]
    return [*found, *((key, str(value)) for key, value in environment.items() if value)]
