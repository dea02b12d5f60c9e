"""Records and comparisons in a notebook, as HTML without scripts."""

from collections.abc import Sequence
from html import escape

from collegium.plots.figure import AbstractFigure, figure_html, in_notebook
from collegium.plots.tables import Cell, Table


def card(
    title: str,
    answer: str,
    table: Table | None,
    figures: Sequence[AbstractFigure] = (),
    problems: Sequence[str] = (),
) -> str:
    """A title, the answer in words, a table and figures; every name is escaped.

    Args:
        title: name of the folder or of the object.
        answer: the result in a sentence.
        table: numbers below it.
        figures: shown below the table.
        problems: messages about parts that could not be shown.
    """
    parts = [f"<b>{escape(title)}</b><p>{escape(answer)}</p>"]
    parts += [table_html(table)] if table else []
    parts += [figure_html(figure) for figure in figures]
    parts += [f'<p class="note">{escape(problem)}</p>' for problem in problems]
    return in_notebook("".join(parts))


def table_html(table: Table) -> str:
    """A table without a script."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = "".join(
        f"<tr>{''.join(_cell(cell, n) for n, cell in enumerate(row))}</tr>" for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}"


def _cell(cell: Cell, place: int) -> str:
    kind = "td" if place else "th"
    return f"<{kind}>{escape(cell.text)}</{kind}>"
