"""audit.html: the tables and three drawings on one page; no network, no script, names escaped."""

from collections.abc import Sequence
from html import escape
from typing import Any

from collegium.audit.tables import Table, headline, tables

Json = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #8886; }
td { white-space: nowrap; }
th:first-child, td:first-child, th.text, td.text { text-align: left; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 6rem; }
tr.alarm { background: #e69f0033; }
.note { color: #888; font-size: .9rem; max-width: 60rem; }
.answer { font-size: 1.15rem; }
.wide { overflow-x: auto; }
figure { display: inline-block; margin: 0 2rem 1rem 0; vertical-align: top; }
svg { overflow: visible; }
svg text { font-size: 11px; fill: currentColor; }
.axis { stroke: currentColor; stroke-opacity: .4; fill: none; }
.ideal { stroke: currentColor; stroke-opacity: .4; stroke-dasharray: 4 3; fill: none; }
"""
BLUE, ORANGE = "#0072b2", "#d55e00"
"""Of Okabe and Ito's colours, which all kinds of colour vision tell apart."""
SIDE = 150
"""Of a reliability diagram, in pixels."""
DARK = ' style="fill: white"'
"""Of text on a dark square."""
WORDS = ("model", "how loaded", "teacher", "kind", "what was found")


def page(found: Json) -> str:
    """The page as HTML."""
    title = escape(headline(found))
    advice = "".join(f'<p class="answer">{escape(line)}</p>' for line in found["advice"])
    sections = [_section(table, _drawing(table.title, found)) for table in tables(found)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>Audit</h1><p>{title}</p>{advice}\n" + "\n".join(sections) + "\n</body></html>\n"
    )


def _section(table: Table, drawing: str) -> str:
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'<h2>{escape(table.title)}</h2>{drawing}<div class="wide">{_table(table)}</div>{note}'


def _table(table: Table) -> str:
    kinds = [' class="text"' if name in WORDS else "" for name in table.head]
    heads = zip(kinds, table.head, strict=True)
    header = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in heads)
    body = "".join(_row(row, kinds) for row in table.rows)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"


def _row(row: Sequence[str], kinds: Sequence[str]) -> str:
    cells = zip(kinds, row, strict=True)
    inside = "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in cells)
    return f'<tr class="alarm">{inside}</tr>' if row[0] == "alarm" else f"<tr>{inside}</tr>"


def _drawing(title: str, found: Json) -> str:
    if title == "How good they are":
        return "".join(_reliability(row) for row in found["teachers"] if row.get("bins"))
    if title == "Agreement":
        return _heat_map(found["pairs"]["teachers"], found["pairs"]["agreement"])
    if title == "Together":
        return _bars(found["head_room"])
    together = title.startswith("Together")
    return _bars(found["head_room_of_knowing"]) if together else ""


def _reliability(row: Json) -> str:
    """Accuracy over confidence; the dots' area is the share of the images."""
    dots = "".join(
        f'<circle cx="{SIDE * one["confidence"]:.1f}" cy="{SIDE * (1 - one["accuracy"]):.1f}" '
        f'r="{2 + 10 * one["share"] ** 0.5:.1f}" fill="{BLUE}" fill-opacity=".7"><title>'
        f"{100 * one['share']:.1f} % of the images: confidence {100 * one['confidence']:.1f} %, "
        f"right {100 * one['accuracy']:.1f} %</title></circle>"
        for one in row["bins"]
    )
    name = escape(row["name"])
    return (
        f'<figure><svg width="{SIDE + 40}" height="{SIDE + 48}" role="img" '
        f'aria-label="calibration of {name}"><g transform="translate(30 18)">'
        f'<rect class="axis" width="{SIDE}" height="{SIDE}"/>'
        f'<path class="ideal" d="M0 {SIDE}L{SIDE} 0"/>{dots}'
        f'<text x="0" y="-6">{name}</text>'
        f'<text x="{SIDE / 2}" y="{SIDE + 14}" text-anchor="middle">confidence</text>'
        f'<text transform="translate(-8 {SIDE / 2}) rotate(-90)" text-anchor="middle">right</text>'
        "</g></svg></figure>"
    )


def _heat_map(names: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """Agreement as squares; colours run from the least there is to 1."""
    least = min(min(row) for row in values)
    cell, left = 46, 8 + 7 * max(map(len, names))
    squares = "".join(
        f'<rect x="{left + cell * j}" y="{20 + cell * i}" width="{cell - 2}" height="{cell - 2}" '
        f'fill="{BLUE}" fill-opacity="{0.08 + 0.82 * _part(value, least):.2f}"/>'
        f'<text x="{left + cell * j + cell / 2 - 1}" y="{20 + cell * i + cell / 2 + 3}" '
        f'text-anchor="middle"{DARK if _part(value, least) > 0.6 else ""}>{100 * value:.1f}</text>'
        for i, row in enumerate(values)
        for j, value in enumerate(row)
    )
    rows = "".join(
        f'<text x="{left - 6}" y="{20 + cell * i + cell / 2 + 3}" text-anchor="end">'
        f"{escape(name)}</text>"
        for i, name in enumerate(names)
    )
    size = cell * len(names)
    return (
        f'<figure><svg width="{left + size}" height="{size + 24}" role="img" '
        f'aria-label="agreement in %">{rows}{squares}</svg></figure>'
    )


def _part(value: float, least: float) -> float:
    return (value - least) / (1 - least) if least < 1 else 1.0


def _bars(room: Json) -> str:
    """From the best teacher over the mean and fixed weights to a perfect choice."""
    values = {
        "mean of probabilities": room["mean"],
        "mean of logits": room["mean_of_logits"],
        "best fixed weights, on these images": room["mixture"],
        "best fixed weights, cross-fitted": room["mixture_cross_fitted"],
        "perfect choice": room["oracle"],
    }
    alone = dict(zip(room["teachers"], room["single_T"], strict=True))
    bars = [(name, value, ORANGE) for name, value in alone.items()]
    bars += [(name, value, BLUE) for name, value in values.items()]
    left = 16 + 7 * max(len(name) for name, _, _ in bars)
    lines = "".join(
        f'<text x="{left - 8}" y="{22 * i + 14}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{left}" y="{22 * i + 2}" width="{360 * value:.1f}" height="16" fill="{colour}"/>'
        f'<text x="{left + 360 * value + 6:.1f}" y="{22 * i + 14}">{100 * value:.2f} %</text>'
        for i, (name, value, colour) in enumerate(bars)
    )
    return (
        f'<figure><svg width="{left + 430}" height="{22 * len(bars) + 6}" role="img" '
        f'aria-label="accuracy alone and together">{lines}</svg></figure>'
    )
