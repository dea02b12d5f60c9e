"""A matrix as an SVG figure; the report page shows the same as a table of coloured cells."""

from dataclasses import dataclass
from html import escape

from collegium.plots.chart import shorten, svg_text
from collegium.plots.figure import AbstractFigure
from collegium.plots.tables import Table, colours

_CELL, _ROW, _LETTER, _TOP = 44.0, 24.0, 6.6, 34.0
_LETTERS = 16
"""Letters of a name that are shown."""


@dataclass(frozen=True)
class Heat(AbstractFigure):
    """A heat-map.

    Attributes:
        table: its cells, each with a level of the colour scale.
    """

    table: Table

    @property
    def name(self) -> str:
        """Its title."""
        return self.table.title

    @property
    def about(self) -> str:
        """How to read it."""
        return " ".join(part for part in (f"{self.table.axes}.", self.table.note) if part != ".")

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        width = self._left + self._across * len(self.table.head[1:])
        return width + 8, self._down + _ROW * len(self.table.rows) + 8

    def svg(self) -> str:
        """The drawing."""
        width, height = self.size
        start = (
            f'<svg role="img" aria-label="{escape(self.name)}" viewBox="0 0 {width:g} {height:g}">'
        )
        return "".join((start, *self._names(), *self._cells(), "</svg>"))

    @property
    def _left(self) -> float:
        return 14 + _LETTER * max(len(shorten(row[0].text, _LETTERS)) for row in self.table.rows)

    @property
    def _turned(self) -> bool:
        """Whether the columns' names need more room than a cell has."""
        return max(len(name) for name in self.table.head) * _LETTER > 2 * _CELL

    @property
    def _across(self) -> float:
        longest = max(len(name) for name in self.table.head)
        return _CELL if self._turned else max(_CELL, _LETTER * longest + 12)

    @property
    def _down(self) -> float:
        longest = max(len(shorten(name, _LETTERS)) for name in self.table.head)
        return 14 + _LETTER * longest if self._turned else _TOP

    def _names(self) -> list[str]:
        found = []
        for place, name in enumerate(self.table.head[1:]):
            x, y = self._left + self._across * (place + 0.5), self._down - 8
            turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if self._turned else ""
            anchor = "start" if self._turned else "middle"
            found.append(svg_text(shorten(name, _LETTERS), x + 4 * self._turned, y, anchor, turn))
        for place, row in enumerate(self.table.rows):
            y = self._down + _ROW * (place + 0.5) + 4
            found.append(svg_text(shorten(row[0].text, _LETTERS), self._left - 8, y, "end"))
        return found

    def _cells(self) -> list[str]:
        found, scale = [], colours()
        for down, row in enumerate(self.table.rows):
            for across, cell in enumerate(row[1:]):
                if cell.level is None:
                    continue
                back, ink = scale[cell.level]
                x, y = self._left + self._across * across, self._down + _ROW * down
                size = f'width="{self._across - 2:g}" height="{_ROW - 2:g}"'
                box = f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="2" fill="{back}"/>'
                middle = x + self._across / 2 - 1
                text = svg_text(cell.text, middle, y + 15, "middle", fill=ink)
                found.append(f"<g><title>{escape(cell.tip)}</title>{box}{text}</g>")
        return found
