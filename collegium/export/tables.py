"""What was measured of an export, as rows of text."""

from collections.abc import Sequence

from collegium.records.run_folder import Json

HEAD = ("file", "accuracy", "agreement", "max. difference", "size", "batch 1", "batch 64")

_WORDS = ("file", "teacher", "model")
"""Columns that are no numbers."""


def rows(found: Json) -> list[list[str]]:
    """A row for the original and for each file, in the columns of `HEAD`."""
    return [_row(row) for row in found["rows"]]


def _row(row: Json) -> list[str]:
    exported = "agreement" in row
    return [
        row["name"],
        f"{100 * row['accuracy']:.2f} %",
        f"{100 * row['agreement']:.2f} %" if exported else "",
        f"{row['max_difference']:.2g}" if exported else "",
        size(row["bytes"]),
        *(duration(row["latency"][batch]) for batch in ("1", "64")),
    ]


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(0.0000123), duration(1.5)
    ('0.0123 ms', '1500 ms')
    """
    count = 1000 * seconds
    return f"{count:.3g} ms" if count < 1000 else f"{count:.0f} ms"


def size(count: int) -> str:
    """Bytes for people.

    >>> size(8816), size(1092816)
    ('8.8 kB', '1.09 MB')
    """
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def terminal(found: Json) -> str:
    """All of it, for a terminal."""
    table = [list(HEAD), *rows(found)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEAD))]
    lines = [_aligned(line, widths) for line in table]
    return "\n".join([*lines, "", note(found), f"results saved to {found['out']}"])


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([first, *rest]).rstrip()


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; cells are written as they are."""
    marks = ["---" if name in _WORDS else "---:" for name in head]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, marks, *lines])


def note(found: Json) -> str:
    """On what and how it was measured."""
    same = "" if found["same_images"] else " (not the images the run was measured on)"
    if not found.get("as_recorded", True):
        same += f", on which its run recorded {100 * found['accuracy_recorded']:.2f} %"
    threads = f"{found['threads']} CPU thread{'s' * (found['threads'] > 1)}"
    return (
        f"{found['images']:,} images of the {found['split']} split of {found['data']}{same}; time "
        f"is the median of a call, {threads}, preparing left out"
    )
