"""Tables of a page: cells are sorted by a number, filled with a bar, or coloured by a value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.models.licences import UNKNOWN, read_licence

LEVELS = 20
"""Steps of the colour scale."""
_VIRIDIS = np.array(
    [
        [68, 1, 84],
        [72, 40, 120],
        [62, 73, 137],
        [49, 104, 142],
        [38, 130, 142],
        [31, 158, 137],
        [53, 183, 121],
        [110, 206, 88],
        [181, 222, 43],
        [253, 231, 37],
    ]
)


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what stands in it.
        sort: what it is sorted by; by default its text.
        bar: a part of 1 drawn as a bar, or None.
        level: step of the colour scale, 0 to `LEVELS`, or None.
        tip: shown when pointed at.
        series: place in the series of colours, for a name that is a line in a chart.
    """

    text: str
    sort: float | str | None = None
    bar: float | None = None
    level: int | None = None
    tip: str = ""
    series: int | None = None

    @property
    def key(self) -> str:
        """What a script sorts by."""
        if self.sort is None:
            return self.text
        return f"{self.sort:.8g}" if isinstance(self.sort, float) else self.sort


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: above it; "" for none.
        head: names of the columns.
        rows: the cells; the first of a row is its name.
        note: how to read it.
        heat: whether cells are coloured by value.
        axes: what rows and columns of a heat-map are.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    heat: bool = False
    axes: str = ""


@dataclass(frozen=True)
class Scale:
    """Turns values into steps of the colour scale.

    Attributes:
        low: has the first step.
        high: has the last.
    """

    low: float = 0.0
    high: float = 1.0
    levels: int = field(default=LEVELS)

    def level(self, value: float) -> int:
        """The step of a value, within the scale."""
        part = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.levels * min(max(part, 0.0), 1.0))


def number(value: float | int | None, form: str = "{:,.0f}") -> Cell:
    """A number, or a dash."""
    return Cell("-", -1.0) if value is None else Cell(form.format(value), float(value))


def share(value: float | int | None) -> Cell:
    """A part of 1 as a percentage, or a dash."""
    return number(None if value is None else 100 * value, "{:.2f} %")


def teachers_table(
    teachers: Sequence[Mapping[str, Any]],
    numbers: Mapping[str, Any],
    accuracy: Mapping[str, float],
    heard: Sequence[str],
    split: str,
) -> Table:
    """Accuracy, size and share of each teacher.

    Args:
        teachers: rows of teachers.json.
        numbers: `weights.TEACHER` and `agreement.TEACHER`, as far as they are known.
        accuracy: of each, 0 to 1.
        heard: names of those that got weights.
        split: what accuracy was measured on.
    """
    rows = []
    for row in teachers:
        name = str(row["name"])
        weight = numbers.get(f"weights.{name}")
        rows.append(
            [
                Cell(name, series=heard.index(name) if name in heard else None),
                Cell(str(row.get("spec", ""))),
                number(row.get("parameters")),
                share(accuracy.get(name)),
                Cell("not heard", -1.0) if weight is None else _bar(weight),
                share(numbers.get(f"agreement.{name}")),
                Cell(str(row.get("licence", UNKNOWN)), tip=_forbidden(row)),
            ]
        )
    head = ["teacher", "model", "parameters", f"accuracy, {split}", "mean weight given"]
    note = "Mean weight: over the training examples of the last epoch."
    warnings = [f" {row['name']}: {found}." for row in teachers if (found := _forbidden(row))]
    return Table("", [*head, "student agrees", "licence"], rows, note + "".join(warnings))


def _forbidden(row: Mapping[str, Any]) -> str:
    """What a teacher's licence forbids, in a sentence; empty where nothing is known to be."""
    return read_licence(str(row.get("licence", ""))).warning


def _bar(value: float) -> Cell:
    return Cell(f"{value:.3f}", float(value), bar=float(value))


def heat(
    title: str,
    values: NDArray[Any],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    axes: str,
    note: str = "",
    form: str = "{:.2f}",
    scale: Scale | None = None,
    counts: NDArray[Any] | None = None,
) -> Table:
    """A matrix as a table whose cells are coloured by value; NaN is an empty cell.

    Args:
        title: above it.
        values: one for each cell.
        rows: names of the rows.
        columns: names of the columns.
        axes: what rows and columns are.
        note: how to read it.
        form: how a value is written.
        scale: of the colours; by default 0 to 1.
        counts: shown in the tips beside the values.
    """
    scale = scale or Scale()

    def cell(row: int, column: int) -> Cell:
        value = float(values[row, column])
        if np.isnan(value):
            return Cell("", -1.0)
        tip = f"{rows[row]} / {columns[column]}: {form.format(value)}"
        tip += f" ({int(counts[row, column]):,})" if counts is not None else ""
        return Cell(form.format(value), value, level=scale.level(value), tip=tip)

    lines = [
        [Cell(name), *(cell(row, column) for column in range(len(columns)))]
        for row, name in enumerate(rows)
    ]
    return Table(title, ["", *columns], lines, note, heat=True, axes=axes)


def colours() -> list[tuple[str, str]]:
    """Background and ink of each step: viridis, which brightens evenly and prints in grey."""
    found = []
    for step in range(LEVELS + 1):
        place = step / LEVELS * (len(_VIRIDIS) - 1)
        rgb = [
            np.interp(place, range(len(_VIRIDIS)), parts) for parts in zip(*_VIRIDIS, strict=True)
        ]
        bright = 0.3 * rgb[0] + 0.6 * rgb[1] > 0.38 * 255
        colour = "#" + "".join(f"{round(part):02x}" for part in rgb)
        found.append((colour, "#000" if bright else "#fff"))
    return found
