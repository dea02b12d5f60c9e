"""The content of audit.json as tables: for a terminal, for Markdown, for a page."""

import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from collegium.audit.calibration import Temperature

Json = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: what it shows.
        head: names of the columns.
        rows: cells, as many in each row as in the head.
        note: how to read it.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def tables(found: Json) -> list[Table]:
    """Everything an audit measured, as tables; those that would be empty are left out."""
    several = len(found["teachers"]) > 1
    made = [
        _quality(found),
        _cost(found),
        *([_agreement(found), _errors(found)] if several else []),
        *([_everybody(found)] if found["head_room"] else []),
        *([_knowing(found)] if found["head_room_of_knowing"] and several else []),
        *([_findings(found)] if found["findings"] else []),
    ]
    return made


def headline(found: Json) -> str:
    """What was audited, in one line."""
    return (
        f"{len(found['teachers'])} teachers on {found['examples']:,} images of the "
        f"{found['split']} split of {found['data']}, {len(found['classes'])} classes"
    )


def _quality(found: Json) -> Table:
    head = (
        "teacher",
        "accuracy, %",
        "top 5, %",
        "cross entropy",
        "ECE",
        "best temperature",
        "then",
    )
    rows = [
        (
            row["name"],
            f"{100 * row['accuracy']:.2f} ± {100 * row['accuracy_half_width']:.2f}",
            _number(row["top5"], "{:.2f}", 100.0),
            _number(row.get("loss"), "{:.4f}"),
            _number(row.get("ece"), "{:.4f}"),
            _temperature(row),
            _number(row.get("ece_at_temperature"), "{:.4f}"),
        )
        for row in found["teachers"]
    ]
    note = (
        "± is half a 95 % interval. ECE is the calibration error; the best temperature has the "
        "least cross entropy on these images, above 1 a teacher is too sure; then: ECE at that "
        "temperature. It is searched from 0.01 to 100; none helps: its probabilities are no better "
        "than a uniform guess at any." + _partial(found)
    )
    return Table("How good they are", head, rows, note)


def _temperature(row: Json) -> str:
    outcome = row.get("temperature_outcome")
    return "-" if outcome is None else str(Temperature(row["temperature"] or math.inf, outcome))


def _partial(found: Json) -> str:
    """What teachers reach that do not know every class."""
    rows = [row for row in found["teachers"] if "images_known" in row]
    known = [
        f"{row['name']} {100 * row['accuracy_known']:.2f} % of {row['images_known']:,}"
        for row in rows
    ]
    if not known:
        return ""
    return (
        f" On the images whose class it knows: {', '.join(known)}; its cross entropy, ECE and "
        "temperature are of these. A teacher that does not tell some classes apart is right when "
        "it names one of them."
    )


def _cost(found: Json) -> Table:
    measured = ("parameters", "MFLOPs", "MB", "MB a view", "images/s")
    head = ("network", "model", "classes", *measured, "how loaded")
    networks = [(row["name"], row) for row in found["teachers"]]
    if found["student"]:
        networks.append(("student", found["student"]))
    rows = [
        (
            name,
            row["spec"],
            str(row.get("classes", len(found["classes"]))),
            f"{row['parameters']:,}",
            f"{row['flops'] / 1e6:,.1f}",
            f"{row['bytes'] / 1e6:,.2f}",
            f"{row['view_bytes'] / 1e6:,.2f}",
            f"{row['images_per_s']:,.0f}",
            "; ".join([*row.get("changes", ()), *row.get("notes", ())]) or "-",
        )
        for name, row in networks
    ]
    note = (
        "FLOPs of one view, a multiplication and an addition are two; MB of weights, and what the "
        "forward of a view holds at once beside them."
    )
    return Table("What they cost", head, rows, note + _share_of_step(found))


def _share_of_step(found: Json) -> str:
    """How much of a step's arithmetic the teachers are, which a store spares."""
    if not found["student"] or not found["student"]["flops"]:
        return ""
    taught = sum(row["flops"] for row in found["teachers"])
    share = taught / (taught + 3 * found["student"]["flops"])
    return (
        f" Training this student, the teachers are {100 * share:.0f} % of a step's arithmetic, and "
        "none of it where their answers are stored."
    )


def _agreement(found: Json) -> Table:
    pairs = found["pairs"]
    rows = _square(pairs["teachers"], pairs["agreement"])
    note = "Part of the images, in %, that two teachers put into the same class."
    return Table("Agreement", ("", *pairs["teachers"]), rows, note)


def _errors(found: Json) -> Table:
    pairs = found["pairs"]
    rows = _square(pairs["teachers"], pairs["shared_errors"])
    note = "Part of the errors of the row's teacher, in %, on which the column's errs too."
    return Table("Errors they share", ("", *pairs["teachers"]), rows, note)


def _square(
    names: Sequence[str], values: Sequence[Sequence[float | None]]
) -> list[tuple[str, ...]]:
    pairs = zip(names, values, strict=True)
    return [(name, *(_number(value, "{:.1f}", 100.0) for value in row)) for name, row in pairs]


def _ensemble(room: Json, title: str) -> Table:
    head = (
        "teacher",
        "alone, %",
        "mean without it, %",
        "worth, points",
        "only it, %",
        "best weights",
        "posterior",
    )
    rows = [
        (
            name,
            f"{100 * room['single_T'][place]:.2f}",
            _number(room["without_T"][place], "{:.2f}", 100.0),
            _gap(room["worth_T"][place]) if room["worth_T"] else "-",
            f"{100 * room['only_T'][place]:.2f}",
            f"{room['shares_T'][place]:.3f}",
            f"{room['posterior_T'][place]:.3f}",
        )
        for place, name in enumerate(room["teachers"])
    ]
    note = (
        f"Mean of probabilities {100 * room['mean']:.2f} % (of logits "
        f"{100 * room['mean_of_logits']:.2f} %); best fixed weights {100 * room['mixture']:.2f} % "
        "on these images, on which they were chosen by accuracy, and "
        f"{100 * room['mixture_cross_fitted']:.2f} % when chosen on one half and measured on the "
        f"other; at least one is right on {100 * room['oracle']:.2f} %. Worth: the mean minus the "
        "mean without it. Only it: images on which no other teacher is right. Posterior: mean "
        "weight when a teacher's probability of the true class decides."
    )
    return Table(title, head, rows, note)


def _everybody(found: Json) -> Table:
    """All teachers on all images, with a word on logits that some of them do not have."""
    made = _ensemble(found["head_room"], "Together")
    if not found.get("head_room_of_knowing"):
        return made
    note = (
        f"{made.note} The mean of logits says nothing here: a teacher has no logits for classes "
        "that it does not know."
    )
    return Table(made.title, made.head, made.rows, note)


def _knowing(found: Json) -> Table:
    """The same over the teachers that know each image's class."""
    room = found["head_room_of_knowing"]
    made = _ensemble(room, "Together, each teacher on the classes it knows")
    counts = zip(room["teachers"], room["known_T"], strict=True)
    known = ", ".join(f"{name} {count:,}" for name, count in counts)
    note = (
        f"For each image only the teachers that know its class count, as in training, and alike "
        "where none of them has a weight. Of the "
        f"{room['examples']:,} images whose class some teacher knows: {known}; alone: accuracy on "
        f"these. {made.note}"
    )
    return Table(made.title, made.head, made.rows, note)


def _findings(found: Json) -> Table:
    rows = [
        ("alarm" if line["alarm"] else "note", line["teacher"], line["kind"], line["text"])
        for line in found["findings"]
    ]
    return Table("What to look at", ("", "teacher", "kind", "what was found"), rows)


def _gap(gap: Json) -> str:
    doubt = _number(gap["half_width"], "{:.2f}", 100.0)
    return f"{100 * gap['mean']:+.2f} ± {doubt}"


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return "-" if value is None else form.format(scale * value)


def markdown(found: Json) -> str:
    """The content of audit.md."""
    lines = [f"# {headline(found)}", "", *(f"* {line}" for line in found["advice"])]
    for table in tables(found):
        lines += [
            "",
            f"## {table.title}",
            "",
            _cells(table.head),
            _cells(["---"] * len(table.head)),
        ]
        lines += [_cells(row) for row in table.rows]
        lines += ["", table.note] if table.note else []
    return "\n".join(lines) + "\n"


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def terminal(found: Json) -> str:
    """The same for whoever typed the command: in colours on a terminal, plain elsewhere."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    shown = sys.stdout.isatty()
    text = io.StringIO()
    width = None if shown else 160
    console = Console(file=text, force_terminal=shown, width=width, highlight=False)
    console.print(Text(headline(found), style="bold"))
    for table in tables(found):
        grid = Grid(title=table.title, title_justify="left", box=box.SIMPLE_HEAD)
        for place, name in enumerate(table.head):
            words = place == 0 or name in (
                "model",
                "how loaded",
                "teacher",
                "kind",
                "what was found",
            )
            grid.add_column(name, justify="left" if words else "right", overflow="fold")
        for row in table.rows:
            grid.add_row(*map(Text, row), style="yellow" if row[0] == "alarm" else "")
        console.print(grid)
        if table.note:
            console.print(Text(table.note, style="dim"))
    console.print()
    for line in found["advice"]:
        console.print(Text(line))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
