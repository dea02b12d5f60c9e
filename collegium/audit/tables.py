"""The content of audit.json as tables: for a terminal, for Markdown, for a page."""

import math
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from collegium.audit.calibration import Temperature
from collegium.plots import text
from collegium.plots.tables import Cell, Columns, Table, heat, number, share
from collegium.plots.words import percent

Json = dict[str, Any]


def tables(found: Json) -> list[Table]:
    """Every measurement of an audit, as tables; empty tables are left out."""
    several = len(found["teachers"]) > 1
    return [
        _quality(found),
        _cost(found),
        *(_pairs(found) if several else []),
        *([_all_classes(found)] if found["head_room"] else []),
        *([_known_classes(found)] if found["head_room_of_knowing"] and several else []),
        *([Table.of(found["findings"], _FINDINGS, "Findings")] if found["findings"] else []),
    ]


def headline(found: Json) -> str:
    """Teachers, images and data of an audit, in one line."""
    return (
        f"{len(found['teachers'])} teachers on {found['examples']:,} images of the "
        f"{found['split']} split of {found['data']}, {len(found['classes'])} classes"
    )


def markdown(found: Json) -> str:
    """The content of audit.md."""
    parts = [f"# {headline(found)}", "\n".join(f"* {line}" for line in found["advice"])]
    for table in tables(found):
        parts += [f"## {table.title}", text.markdown(table), *([table.note] if table.note else [])]
    return "\n\n".join(parts) + "\n"


def terminal(found: Json) -> str:
    """The same for a terminal."""
    return text.terminal(tables(found), headline(found), found["advice"])


_QUALITY: Columns = {
    "teacher": lambda row: row["name"],
    "accuracy, %": lambda row: _interval(row["accuracy"], row["accuracy_half_width"]),
    "top 5, %": lambda row: share(row["top5"], "{:.2f}"),
    "cross entropy": lambda row: number(row.get("loss"), "{:.4f}"),
    "ECE": lambda row: number(row.get("ece"), "{:.4f}"),
    "best temperature": lambda row: _temperature(row),
    "ECE at it": lambda row: number(row.get("ece_at_temperature"), "{:.4f}"),
}


def _quality(found: Json) -> Table:
    note = (
        "± is half a 95 % interval. ECE is the expected calibration error. The best temperature "
        "has the least cross entropy on these images, searched from 0.01 to 100; above 1 a teacher "
        "is overconfident; none helps: at every temperature its probabilities are no better than a "
        "uniform guess." + _partial(found)
    )
    return Table.of(found["teachers"], _QUALITY, "How good they are", note)


def _interval(mean: float, half_width: float | None, form: str = "{:.2f}") -> Cell:
    """A part of 1 and half of its interval, in percent or points."""
    doubt = share(half_width, "{:.2f}").text
    return Cell(f"{form.format(100 * mean)} ± {doubt}", mean)


def _temperature(row: Json) -> Cell:
    outcome = row.get("temperature_outcome")
    if outcome is None:
        return number(None)
    value = row["temperature"] or math.inf
    return Cell(str(Temperature(value, outcome)), float(value))


def _partial(found: Json) -> str:
    """The accuracy of teachers that do not know every class, on the classes that they know."""
    known = [
        f"{row['name']} {percent(row['accuracy_known'])} of {row['images_known']:,}"
        for row in found["teachers"]
        if "images_known" in row
    ]
    if not known:
        return ""
    return (
        f" On the images whose class it knows: {', '.join(known)}; its cross entropy, ECE and "
        "temperature are measured on these. A teacher that merges some classes is right when it "
        "names one of them."
    )


_COST: Columns = {
    "network": lambda row: row["name"],
    "model": lambda row: row["spec"],
    "classes": lambda row: number(row["classes"]),
    "parameters": lambda row: number(row["parameters"]),
    "MFLOPs": lambda row: number(row["flops"] / 1e6, "{:,.1f}"),
    "MB": lambda row: number(row["bytes"] / 1e6, "{:,.2f}"),
    "MB a view": lambda row: number(row["view_bytes"] / 1e6, "{:,.2f}"),
    "images/s": lambda row: number(row["images_per_s"]),
    "how loaded": lambda row: "; ".join([*row.get("changes", ()), *row.get("notes", ())]) or "-",
}


def _cost(found: Json) -> Table:
    networks = list(found["teachers"])
    if found["student"]:
        networks.append({"name": "student", "classes": len(found["classes"]), **found["student"]})
    note = (
        "FLOPs of one view; a multiplication and an addition are two. MB of the weights, and the "
        "most that the forward of a view holds at once beside them."
    )
    return Table.of(networks, _COST, "What they cost", note + _share_of_step(found))


def _share_of_step(found: Json) -> str:
    """The teachers' share of a step's arithmetic, which a store saves."""
    if not found["student"] or not found["student"]["flops"]:
        return ""
    teachers = sum(row["flops"] for row in found["teachers"])
    part = teachers / (teachers + 3 * found["student"]["flops"])
    return (
        f" When this student is trained, the teachers are {percent(part, 0)} of a step's "
        "arithmetic, or none of it with a store of their outputs."
    )


def _pairs(found: Json) -> Iterator[Table]:
    note = "Share of the images, in %, for which two teachers predict the same class."
    yield _square(found, "agreement", "Agreement", note)
    note = "Share of the errors of the row's teacher, in %, on which the column's is wrong too."
    yield _square(found, "shared_errors", "Errors they share", note)


def _square(found: Json, key: str, title: str, note: str) -> Table:
    """A value of each pair of teachers, coloured from the least to 100 %."""
    names = found["pairs"]["teachers"]
    values_TT = 100 * np.array(found["pairs"][key], dtype=float)
    least = 0.0 if np.isnan(values_TT).all() else float(np.nanmin(values_TT))
    scale = least, 100.0
    return heat(title, values_TT, names, names, axes="", note=note, form="{:.1f}", scale=scale)


_TOGETHER: Columns = {
    "teacher": lambda row: row["teachers"],
    "alone, %": lambda row: share(row["single_T"], "{:.2f}"),
    "mean without it, %": lambda row: share(row["without_T"], "{:.2f}"),
    "worth, points": lambda row: _gap(row["worth_T"]),
    "only it, %": lambda row: share(row["only_T"], "{:.2f}"),
    "best weights": lambda row: number(row["shares_T"], "{:.3f}"),
    "posterior": lambda row: number(row["posterior_T"], "{:.3f}"),
}


def _gap(gap: Json | None) -> Cell:
    return number(None) if gap is None else _interval(gap["mean"], gap["half_width"], "{:+.2f}")


def _together(room: Json, title: str, before: str = "", after: str = "") -> Table:
    """Head-room: a row for each teacher, and the figures of all of them in the note."""
    keys = [key for key in room if key == "teachers" or key.endswith("_T")]
    values = zip_longest(*(room[key] for key in keys))  # one teacher has no worth
    rows = [dict(zip(keys, row, strict=True)) for row in values]
    note = (
        f"Mean of probabilities {percent(room['mean'])} (of logits "
        f"{percent(room['mean_of_logits'])}); best fixed weights {percent(room['mixture'])} on "
        "these images, on which they were chosen by accuracy, and "
        f"{percent(room['mixture_cross_fitted'])} when chosen on one half and measured on the "
        f"other; at least one teacher is right on {percent(room['oracle'])}. Worth: the mean minus "
        "the mean without it. Only it: images on which no other teacher is right. Posterior: mean "
        "weight in proportion to each teacher's probability of the true class."
    )
    return Table.of(rows, _TOGETHER, title, before + note + after)


def _all_classes(found: Json) -> Table:
    """All teachers on all images."""
    after = (
        " The mean of logits says nothing here: a teacher has no logits for classes that it does "
        "not know."
    )
    partial = found.get("head_room_of_knowing")
    return _together(found["head_room"], "Together", after=after if partial else "")


def _known_classes(found: Json) -> Table:
    """The same over the teachers that know each image's class."""
    room = found["head_room_of_knowing"]
    counts = zip(room["teachers"], room["known_T"], strict=True)
    known = ", ".join(f"{name} {count:,}" for name, count in counts)
    before = (
        "For each image only the teachers that know its class count, as in training; they count "
        "equally where none of them has a weight. Images whose class some teacher knows: "
        f"{room['examples']:,}, of which {known}; alone: accuracy on these. "
    )
    return _together(room, "Together, each teacher on the classes it knows", before)


_FINDINGS: Columns = {
    "": lambda line: Cell("alarm" if line["alarm"] else "note", alarm=line["alarm"]),
    "teacher": lambda line: line["teacher"],
    "kind": lambda line: line["kind"],
    "what was found": lambda line: line["text"],
}
