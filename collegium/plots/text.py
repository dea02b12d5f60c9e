"""Tables as text: in Markdown, and on a terminal."""

import io
import re
import sys
from collections.abc import Sequence
from typing import Any

from collegium.plots.tables import Table

_WIDTH = 160
"""Columns of the text where it does not go to a terminal."""
_BARE_PIPE = re.compile(r"(?<!\\)\|")


def markdown(table: Table) -> str:
    r"""Head and rows in Markdown; of the cells, only bare pipes are escaped.

    >>> from collegium.plots.tables import Cell
    >>> print(markdown(Table("", ["name", "n"], [[Cell("a|b"), Cell("3", 3.0)]])))
    | name | n |
    | --- | ---: |
    | a\|b | 3 |
    """
    marks = ["---:" if numeric else "---" for numeric in table.numeric]
    lines = [table.head, marks, *([cell.text for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def _escaped(cell: str) -> str:
    return _BARE_PIPE.sub(r"\|", cell)


def terminal(tables: Sequence[Table], before: str = "", after: Sequence[str] = ()) -> str:
    """Tables for a terminal, in colours there and plain elsewhere.

    Args:
        tables: each with its title above and its note below.
        before: a line above all of them.
        after: lines below all of them.
    """
    from rich.console import Console
    from rich.text import Text

    shown, text = sys.stdout.isatty(), io.StringIO()
    width = None if shown else _WIDTH
    console = Console(file=text, force_terminal=shown, width=width, highlight=False)
    if before:
        console.print(Text(before, style="bold"))
    for table in tables:
        console.print()
        console.print(_grid(table))
        if table.note:
            console.print(Text(table.note, style="dim"))
    console.print()
    for line in after:
        console.print(Text(line))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def _grid(table: Table) -> Any:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(title=table.title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for name, numeric in zip(table.head, table.numeric, strict=True):
        grid.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        cells = (Text(cell.text) for cell in row)
        grid.add_row(*cells, style="yellow" if row[0].alarm else "")
    return grid
