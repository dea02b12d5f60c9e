"""The parts of a page about one run: tables and charts of its reading."""

from collections.abc import Sequence

import numpy as np

from collegium.plots import matrices, plots, tables
from collegium.plots.chart import Chart
from collegium.plots.tables import Cell, Table, number, share
from collegium.report.load import RunData

Points = dict[tuple[str, str], tuple[float, float | None]]
"""By kind and name: a cost, and an accuracy where it is known."""


def teachers_table(run_data: RunData) -> Table | None:
    """Accuracy, size and share of each teacher."""
    if not run_data.teachers:
        return None
    split = str(run_data.summary.get("split", "validation"))
    numbers = run_data.last_line | run_data.summary
    return tables.teachers_table(
        run_data.teachers, numbers, run_data.teacher_accuracy(), run_data.heard, split
    )


def curves(run_data: RunData) -> list[Chart]:
    """Accuracy, every term of the loss, hints by pair, gradient shares."""
    found = [
        plots.accuracy_chart(run_data.metrics, run_data.teacher_accuracy()),
        plots.loss_chart(run_data.metrics),
        plots.hint_chart(run_data.metrics),
        plots.gradient_chart(run_data.metrics),
    ]
    return [chart for chart in found if chart is not None]


def hearing(run_data: RunData) -> list[Chart]:
    """Who was heard: over epochs, over examples, and with what right."""
    weights = run_data.weights.get("weights", np.empty((0, 0)))
    said = run_data.predictions
    found = [
        plots.weights_chart(run_data.metrics),
        plots.entropy_chart(run_data.metrics) if len(run_data.heard) > 1 else None,
        plots.distribution_chart(weights, run_data.heard) if weights.size else None,
        plots.correctness_of(said, [str(row["name"]) for row in run_data.teachers]),
    ]
    return [chart for chart in found if chart is not None]


def class_heat(run_data: RunData) -> Table | None:
    """Mean weight of each teacher by class, over the training examples of the last epoch."""
    arrays = run_data.weights
    if "labels" not in arrays:
        return None
    names = run_data.classes
    return matrices.class_matrix(arrays["labels"], arrays["weights"], run_data.heard, names)


def confusions(run_data: RunData) -> list[Table]:
    """The student's classes against the truth and against each teacher's, where it knows them."""
    said, classes = run_data.predictions, run_data.classes
    if not {"student", "labels"} <= said.keys():
        return []
    others = [("the truth", said["labels"])]
    names = [str(row["name"]) for row in run_data.teachers]
    others += list(zip(names, said.get("teachers", ()), strict=False))
    student_N = said["student"]
    if len(classes) > matrices.SHOWN_CLASSES:
        return [matrices.commonest_confusions(others, student_N, classes)]
    return [
        matrices.confusion_matrix(name, other_N, student_N, classes) for name, other_N in others
    ]


def agreement(run_data: RunData) -> Table | None:
    """How often each two of student, teachers and truth give the same class."""
    said = run_data.predictions
    if not {"student", "labels"} <= said.keys() or not len(said.get("teachers", ())):
        return None
    return matrices.agreement_matrix([str(row["name"]) for row in run_data.teachers], said)


def cost_table(run_data: RunData) -> Table:
    """Seconds, speed, the teachers' part, what the store saved."""
    summary, train = run_data.summary, run_data.last_line
    lines = [line for line in run_data.metrics if line.get("split") == "train"]
    seconds = summary.get("seconds", sum(line.get("seconds", 0.0) for line in lines))
    asked = summary.get("teacher_seconds", sum(li.get("teacher_seconds", 0.0) for li in lines))
    stored = run_data.run.get("storage", {}).get("store")
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


def cost_charts(readings: Sequence[RunData]) -> list[Chart]:
    """Accuracy against parameters, students and teachers; against speed, the students alone."""
    sizes: Points = {}
    speeds: Points = {}
    for run_data in readings:
        summary, who = run_data.summary, ("student", _student_name(run_data, readings))
        for row in run_data.teachers:
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


def _student_name(run_data: RunData, readings: Sequence[RunData]) -> str:
    return "student" if len(readings) == 1 else run_data.name


def settings(run_data: RunData) -> list[tuple[str, str]]:
    """What decided the result, as names and values."""
    run = run_data.run
    plain = ["data", "student", "method", "seed", "validation", "augment", "views"]
    found = [(key, str(run[key])) for key in plain if run.get(key) is not None]
    found += [(k, str(run[k])) for k in ("class_weights", "label_smoothing") if run.get(k)]
    for part in ("optimisation", "options"):
        found += [(k, str(v)) for k, v in run.get(part, {}).items() if v not in (None, [], "")]
    environment = run.get("environment", {})
    found += [("changed", line) for line in run_data.summary.get("changes", [])]
    return [*found, *((key, str(value)) for key, value in environment.items() if value)]
