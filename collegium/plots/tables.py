"""Tables of a page: cells are sorted by a number, filled with a bar, or coloured by a value."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.models.licences import UNKNOWN, read_licence

LEVELS = 20
"""Steps of the colour scale."""
_VIRIDIS = "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725"
"""Colours at equal distances on the scale; those between are interpolated."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: its content.
        sort: the value that a reader's browser sorts by; a number makes the cell numeric.
        bar: a part of 1 drawn as a bar, or None.
        level: step of the colour scale, 0 to `LEVELS`, or None.
        tip: shown under the pointer.
        series: place in the series of colours, for a name that is a line in a chart.
        alarm: whether its row is highlighted.
    """

    text: str
    sort: float | str | None = None
    bar: float | None = None
    level: int | None = None
    tip: str = ""
    series: int | None = None
    alarm: bool = False

    @property
    def key(self) -> str:
        """The text that the page's script sorts by."""
        if self.sort is None:
            return self.text
        return f"{self.sort:.8g}" if isinstance(self.sort, float) else self.sort

    @property
    def numeric(self) -> bool:
        """Whether it holds a number, which is aligned to the right."""
        return isinstance(self.sort, float)


Columns = Mapping[str, Callable[[Any], Cell | str]]
"""The columns of a table: for each head the function that makes a cell of a row's item."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: above it; "" for none.
        head: names of the columns.
        rows: the cells; the first of a row is its name.
        note: how to read it.
        heat: whether cells are coloured by value.
        axes: meaning of the rows and columns of a heat-map.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    heat: bool = False
    axes: str = ""

    @classmethod
    def of(cls, items: Iterable[Any], columns: Columns, title: str = "", note: str = "") -> "Table":
        """A table with one row for each item.

        >>> Table.of([0.5], {"share": share, "as it is": str}).rows[0][0].text
        '50.00 %'
        """
        contents = [[make(item) for make in columns.values()] for item in items]
        rows = [[Cell(c) if isinstance(c, str) else c for c in row] for row in contents]
        return cls(title, list(columns), rows, note)

    @property
    def numeric(self) -> list[bool]:
        """Of each column whether it holds numbers."""
        places = range(len(self.head))
        return [any(row[place].numeric for row in self.rows) for place in places]


def number(value: float | int | None, form: str = "{:,.0f}") -> Cell:
    """A number, or a dash where there is none."""
    return Cell("-", -1.0) if value is None else Cell(form.format(value), float(value))


def share(value: float | int | None, form: str = "{:.2f} %") -> Cell:
    """A part of 1 as a percentage, or a dash where there is none."""
    return number(None if value is None else 100 * value, form)


def names_of(teachers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names in the rows of teachers.json."""
    return [str(row["name"]) for row in teachers]


def accuracy_of_teachers(
    teachers: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
) -> dict[str, float]:
    """Accuracy of each teacher on the evaluation split; before the end, on validation.

    Args:
        teachers: rows of teachers.json.
        summary: summary.json; empty while the run is not finished.
    """
    found = {row["name"]: row.get("accuracy") for row in teachers}
    if summary:
        found = {name: summary.get(f"accuracy.{name}") for name in found}
    return {name: value for name, value in found.items() if value is not None}


def teachers_table(
    teachers: Sequence[Mapping[str, Any]], train: Mapping[str, Any], summary: Mapping[str, Any]
) -> Table:
    """Accuracy, size and mean weight of each teacher.

    Args:
        teachers: rows of teachers.json.
        train: the training line of the last epoch; empty before the first.
        summary: summary.json; empty while the run is not finished.
    """
    numbers, accuracy = {**train, **summary}, accuracy_of_teachers(teachers, summary)
    weighted = (key.removeprefix("weights.") for key in numbers if key.startswith("weights."))
    series = {name: place for place, name in enumerate(weighted)}
    split = summary.get("split", "validation")
    columns: Columns = {
        "teacher": lambda row: Cell(str(row["name"]), series=series.get(str(row["name"]))),
        "model": lambda row: str(row.get("spec", "")),
        "parameters": lambda row: number(row.get("parameters")),
        f"accuracy, {split}": lambda row: share(accuracy.get(row["name"])),
        "mean weight": lambda row: _weight(numbers.get(f"weights.{row['name']}")),
        "student agrees": lambda row: share(numbers.get(f"agreement.{row['name']}")),
        "licence": lambda row: Cell(str(row.get("licence", UNKNOWN)), tip=_forbidden(row)),
    }
    note = "Mean weight: over the training examples of the last epoch."
    warnings = [f" {row['name']}: {found}." for row in teachers if (found := _forbidden(row))]
    return Table.of(teachers, columns, note=note + "".join(warnings))


def _weight(value: float | None) -> Cell:
    if value is None:
        return Cell("no weight", -1.0)
    return Cell(f"{value:.3f}", float(value), bar=float(value))


def _forbidden(row: Mapping[str, Any]) -> str:
    """The uses that a teacher's licence forbids, in a sentence; empty where none are known."""
    return read_licence(str(row.get("licence", ""))).warning


def heat(
    title: str,
    values: NDArray[Any],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    axes: str,
    note: str = "",
    form: str = "{:.2f}",
    scale: tuple[float, float] = (0.0, 1.0),
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
        scale: values of the first and of the last colour.
        counts: shown in the tips beside the values.
    """
    low, high = scale

    def cell(row: int, column: int) -> Cell:
        value = float(values[row, column])
        if np.isnan(value):
            return Cell("", -1.0)
        tip = f"{rows[row]} / {columns[column]}: {form.format(value)}"
        tip += f" ({int(counts[row, column]):,})" if counts is not None else ""
        part = (value - low) / ((high - low) or 1.0)
        level = round(LEVELS * min(max(part, 0.0), 1.0))
        return Cell(form.format(value), value, level=level, tip=tip)

    lines = [
        [Cell(name), *(cell(row, column) for column in range(len(columns)))]
        for row, name in enumerate(rows)
    ]
    return Table(title, ["", *columns], lines, note, heat=True, axes=axes)


def colours() -> list[tuple[str, str]]:
    """Background and ink of each level: viridis, which brightens evenly and prints in grey."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _VIRIDIS.split()])
    places = np.linspace(0, len(anchors) - 1, LEVELS + 1)
    mixed = [np.interp(places, range(len(anchors)), part).tolist() for part in anchors.T]
    found = []
    for red, green, blue in zip(*mixed, strict=True):
        ink = "#000" if 0.3 * red + 0.6 * green > 0.38 * 255 else "#fff"
        found.append((f"#{round(red):02x}{round(green):02x}{round(blue):02x}", ink))
    return found
