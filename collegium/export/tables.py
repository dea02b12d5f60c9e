"""The measurements of an export as a table and a sentence."""

from collegium.plots import text
from collegium.plots.tables import Columns, Table, number, share
from collegium.plots.words import percent, plural
from collegium.records.run_folder import Json

_COLUMNS: Columns = {
    "file": lambda row: row["name"],
    "accuracy": lambda row: share(row["accuracy"]),
    "agreement": lambda row: share(row.get("agreement")),
    "max. difference": lambda row: number(row.get("max_difference"), "{:.2g}"),
    "size": lambda row: number(row["bytes"], size(row["bytes"])),
    "batch 1": lambda row: number(row["latency"]["1"], duration(row["latency"]["1"])),
    "batch 64": lambda row: number(row["latency"]["64"], duration(row["latency"]["64"])),
}


def table(found: Json) -> Table:
    """A row for the original and for each file."""
    return Table.of(found["rows"], _COLUMNS)


def duration(seconds: float) -> str:
    """Seconds in milliseconds.

    >>> duration(0.0000123), duration(1.5)
    ('0.0123 ms', '1500 ms')
    """
    count = 1000 * seconds
    return f"{count:.3g} ms" if count < 1000 else f"{count:.0f} ms"


def size(count: int) -> str:
    """Bytes in kB or MB.

    >>> size(8816), size(1092816)
    ('8.8 kB', '1.09 MB')
    """
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def terminal(found: Json) -> str:
    """The table, the sentence and the folder, for a terminal."""
    shown = text.terminal([table(found)])
    return f"{shown}\n\n{note(found)}\nresults saved to {found['out']}"


def note(found: Json) -> str:
    """The images, the data and the conditions of the measurements."""
    same = "" if found["same_images"] else " (not the images the run was measured on)"
    if not found.get("as_recorded", True):
        same += f", on which its run recorded {percent(found['accuracy_recorded'])}"
    return (
        f"{found['images']:,} images of the {found['split']} split of {found['data']}{same}; time "
        f"is the median of a call, {plural(found['threads'], 'CPU thread')}, without preprocessing"
    )
