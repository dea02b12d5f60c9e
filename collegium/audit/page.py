"""audit.html: the tables and charts of an audit, in the page frame of the report."""

from typing import Any

from collegium.audit.tables import headline, tables
from collegium.plots.chart import CROWD, Axis, Chart, Line, Mark
from collegium.plots.plots import rows_chart
from collegium.plots.words import percent
from collegium.report.frame import render

Json = dict[str, Any]

_TEACHER, _ENSEMBLE = 1, 0
"""Series of colours of single teachers and of ensembles."""


def page(found: Json) -> str:
    """The page as HTML."""
    sections = [(table, _charts(table.title, found)) for table in tables(found)]
    drawn = [(chart.key, chart) for _, charts in sections for chart in charts]
    title, advice = headline(found), found["advice"]
    return render("audit.html", drawn, kind="audit", title=title, advice=advice, sections=sections)


def _charts(title: str, found: Json) -> list[Chart]:
    """The charts beside a table."""
    if title == "How good they are":
        rows = [row for row in found["teachers"] if row.get("bins")]
        return [_reliability(place, row) for place, row in enumerate(rows)]
    if title == "Together":
        return [_accuracies("together", found["head_room"])]
    if title.startswith("Together"):
        return [_accuracies("together-known", found["head_room_of_knowing"])]
    return []


def _reliability(place: int, row: Json) -> Chart:
    """Accuracy over confidence; the area of a dot is its share of the images."""
    marks = tuple(
        Mark(
            kind="images of similar confidence",
            x=one["confidence"],
            y=one["accuracy"],
            tip=f"{percent(one['share'], 1)} of the images: confidence "
            f"{percent(one['confidence'], 1)}, accuracy {percent(one['accuracy'], 1)}",
            series=1,
            size=2 + 10 * one["share"] ** 0.5,
        )
        for one in row["bins"]
    )
    ideal = Line("calibrated", (0.0, 1.0), (0.0, 1.0))
    x, y = Axis("confidence", 0.0, 1.0), Axis("accuracy", 0.0, 1.0)
    title = f"Calibration of {row['name']}"
    return Chart(f"calibration-{place}", title, x, y, (ideal,), marks)


def _accuracies(key: str, room: Json) -> Chart:
    """Accuracy of the best teachers alone, of the ensembles, and of a perfect choice."""
    alone = sorted(zip(room["teachers"], room["single_T"], strict=True), key=lambda row: -row[1])
    rows = [(name, value, _TEACHER, name) for name, value in alone[:CROWD]]
    rows += [(short, room[figure], _ENSEMBLE, name) for short, (figure, name) in _ENSEMBLES.items()]
    marks = [
        Mark(
            kind="one teacher" if series == _TEACHER else "together",
            x=100 * value,
            y=float(place),
            tip=f"{name}: {percent(value)}",
            series=series,
        )
        for place, (_, value, series, name) in enumerate(rows)
    ]
    note = f"The best {CROWD} of {len(alone)} teachers are shown." if len(alone) > CROWD else ""
    names = [short for short, *_ in rows]
    return rows_chart(key, "Accuracy alone and together", "accuracy, %", names, marks, note=note)


_ENSEMBLES = {
    "mean": ("mean", "mean of probabilities"),
    "mean of logits": ("mean_of_logits", "mean of logits"),
    "best weights": ("mixture", "best fixed weights, on these images"),
    "cross-fitted": ("mixture_cross_fitted", "best fixed weights, cross-fitted"),
    "perfect choice": ("oracle", "a right teacher for each image, where there is one"),
}
"""Rows of the chart: a short name, the key of the figure, and its full name."""
