"""A matrix as an SVG figure; the report page shows the same as a table of coloured cells."""

from collections.abc import Iterator
from html import escape

from collegium.plots.chart import shorten, svg_text
from collegium.plots.figure import AbstractFigure
from collegium.plots.tables import Table, colours

_CELL, _ROW, _LETTER, _TOP = 44.0, 24.0, 6.6, 34.0
_LETTERS = 16
"""Letters of a name that are shown."""


class Heat(AbstractFigure):
    """A heat-map.

    Args:
        table: its cells, each with a level of the colour scale.
    """

    def __init__(self, table: Table) -> None:
        self.table, self.name = table, table.title
        self.about = " ".join(part for part in (f"{table.axes}.", table.note) if part != ".")
        longest = max(map(len, table.head))
        # Names of columns that need more room than a cell has are turned.
        self._turned = longest * _LETTER > 2 * _CELL
        self._left = 14 + _LETTER * max(len(_short(row[0].text)) for row in table.rows)
        self._across = _CELL if self._turned else max(_CELL, _LETTER * longest + 12)
        self._down = 14 + _LETTER * min(longest, _LETTERS) if self._turned else _TOP
        width = self._left + self._across * len(table.head[1:])
        self.size = width + 8, self._down + _ROW * len(table.rows) + 8

    def parts(self) -> Iterator[str]:
        """The names of columns and rows, then the cells."""
        for place, name in enumerate(self.table.head[1:]):
            x, y = self._left + self._across * (place + 0.5), self._down - 8
            turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if self._turned else ""
            anchor = "start" if self._turned else "middle"
            yield svg_text(_short(name), x + 4 * self._turned, y, anchor, turn)
        for place, row in enumerate(self.table.rows):
            y = self._down + _ROW * (place + 0.5) + 4
            yield svg_text(_short(row[0].text), self._left - 8, y, "end")
        yield from self._cells()

    def _cells(self) -> Iterator[str]:
        scale = colours()
        for down, row in enumerate(self.table.rows):
            for across, cell in enumerate(row[1:]):
                if cell.level is None:
                    continue
                back, ink = scale[cell.level]
                x, y = self._left + self._across * across, self._down + _ROW * down
                size = f'width="{self._across - 2:g}" height="{_ROW - 2:g}"'
                box = f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="2" fill="{back}"/>'
                text = svg_text(cell.text, x + self._across / 2 - 1, y + 15, "middle", fill=ink)
                yield f"<g><title>{escape(cell.tip)}</title>{box}{text}</g>"


def _short(name: str) -> str:
    return shorten(name, _LETTERS)
