"""What a record and a comparison look like in a notebook: HTML that needs nothing else."""

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
    """A title, the answer in words, a table, pictures; every name escaped.

    Args:
        title: what it is.
        answer: what was found.
        table: numbers beside it.
        figures: pictures below it.
        problems: what could not be shown.
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
