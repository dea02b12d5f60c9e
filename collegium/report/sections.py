"""The parts of a page about one run: its tables and charts."""

from collections.abc import Sequence

from collegium.plots import matrices, plots, tables
from collegium.plots.chart import Chart
from collegium.plots.tables import Cell, Table, names_of, number, share
from collegium.report.load import RunData


def teachers_table(run_data: RunData) -> Table | None:
    """Accuracy, size and mean weight of each teacher."""
    teachers, ends = run_data.teachers, run_data.summary
    return tables.teachers_table(teachers, run_data.last_line, ends) if teachers else None


def curves(run_data: RunData) -> list[Chart]:
    """Accuracy, every term of the loss, hints by pair, gradient shares."""
    metrics = run_data.metrics
    accuracy = plots.accuracy_chart(metrics, run_data.teacher_accuracy())
    makers = (plots.loss_chart, plots.hint_chart, plots.gradient_chart)
    return _drawn(accuracy, *(make(metrics) for make in makers))


def weight_charts(run_data: RunData) -> list[Chart]:
    """The teachers' weights: by epoch, over examples, and where a teacher is right or wrong."""
    return _drawn(
        plots.weights_chart(run_data.metrics),
        plots.entropy_chart(run_data.metrics) if len(run_data.weighted) > 1 else None,
        plots.distribution_chart(run_data.weights),
        plots.correctness_chart(run_data.predictions, names_of(run_data.teachers)),
    )


def _drawn(*charts: Chart | None) -> list[Chart]:
    """The charts that there are."""
    return [chart for chart in charts if chart is not None]


def class_heat(run_data: RunData) -> Table | None:
    """Mean weight of each teacher by class, over the training examples of the last epoch."""
    return matrices.class_matrix(run_data.weights, run_data.classes)


def confusions(run_data: RunData) -> list[Table]:
    """Predictions of the student against the true classes and against each teacher's."""
    arrays, classes = run_data.predictions, run_data.classes
    if not {"student", "labels"} <= arrays.keys():
        return []
    others, student_N = [("the truth", arrays["labels"])], arrays["student"]
    others += zip(names_of(run_data.teachers), arrays.get("teachers", ()), strict=False)
    if len(classes) > matrices.SHOWN_CLASSES:
        return [matrices.commonest_confusions(others, student_N, classes)]
    return [matrices.confusion_matrix(name, labels, student_N, classes) for name, labels in others]


def agreement(run_data: RunData) -> Table | None:
    """How often each pair of student, teachers and truth agrees."""
    arrays = run_data.predictions
    if not {"student", "labels"} <= arrays.keys() or not len(arrays.get("teachers", ())):
        return None
    return matrices.agreement_matrix(names_of(run_data.teachers), arrays)


def cost_table(run_data: RunData) -> Table:
    """Seconds, speed, the teachers' share of the time, and the share read from the store."""
    summary, train = run_data.summary, run_data.last_line
    seconds, in_teachers = (_total(run_data, key) for key in ("seconds", "teacher_seconds"))
    stored = run_data.run.get("storage", {}).get("store")
    rows = {
        "parameters of the student": number(summary.get("parameters")),
        "training, seconds": number(seconds, "{:,.1f}"),
        "share of it in teachers": share(in_teachers / seconds if seconds else None, "{:.1f} %"),
        "training, images/s": number(summary.get("images_per_s", train.get("images_per_s"))),
        "student alone, images/s": number(summary.get("inference_images_per_s")),
        "outputs read from the store": share(summary.get("store_hits") if stored else None),
        "calibration error": number(summary.get("ece"), "{:.4f}"),
    }
    return Table("", ["quantity", "value"], [[Cell(name), cell] for name, cell in rows.items()])


def _total(run_data: RunData, key: str) -> float:
    """A total over the run: of its summary, or before the end of the epochs so far."""
    lines = (line for line in run_data.metrics if line.get("split") == "train")
    so_far = sum(line.get(key, 0.0) for line in lines)
    return float(run_data.summary.get(key, so_far))


def cost_charts(readings: Sequence[RunData]) -> list[Chart]:
    """Accuracy against parameters, students and teachers; against speed, the students alone."""
    sizes: dict[tuple[str, str], tuple[float, float | None]] = {}
    speeds = sizes.copy()
    for run_data in readings:
        summary = run_data.summary
        student = ("student", "student" if len(readings) == 1 else run_data.name)
        reached = summary.get("accuracy_last")
        for row in run_data.teachers:
            accuracy = summary.get(f"accuracy.{row['name']}")
            sizes["teacher", str(row["name"])] = (float(row.get("parameters", 0)), accuracy)
        sizes[student] = (float(summary.get("parameters", 0)), reached)
        speeds[student] = (float(summary.get("inference_images_per_s", 0)), reached)
    return _drawn(plots.cost_chart(sizes, "parameters"), plots.cost_chart(speeds, "images/s"))


def settings(run_data: RunData) -> list[tuple[str, str]]:
    """The settings of the run, as names and values."""
    run = run_data.run
    plain = ["data", "student", "method", "seed", "validation", "augment", "views"]
    found = [(key, run[key]) for key in plain if run.get(key) is not None]
    found += [(key, run[key]) for key in ("class_weights", "label_smoothing") if run.get(key)]
    for part in ("optimisation", "options"):
        found += [item for item in run.get(part, {}).items() if item[1] not in (None, [], "")]
    found += [("changed", line) for line in run_data.summary.get("changes", [])]
    found += [item for item in run.get("environment", {}).items() if item[1]]
    return [(key, str(value)) for key, value in found]
