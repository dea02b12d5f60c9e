"""Run folders before and after a run: may it be written, is it finished, how does it go on."""

import os
import shlex
from pathlib import Path

from collegium.errors import FolderError
from collegium.records.run_folder import REPORT, RUN, SUMMARY, Json, Record
from collegium.utils.lock import refuse_taken


def finished(folder: Path) -> bool:
    """Whether a run is complete, to its last file."""
    record = Record(folder)
    return record.path(SUMMARY).is_file() and record.path(REPORT).is_file()


def go_on(content: Json, out: Path) -> str:
    """How a run that stopped is gone on with, for the end of a message."""
    if not Record(out).path(RUN).is_file():
        return " before anything was written"
    if foreign_parts(content):
        call = f"execute(run, Path({str(out)!r}), resume=True)"
        return f"; go on from Python, with the same objects: {call}"
    return f"; go on with: collegium resume {shlex.quote(str(out))}"


def foreign_parts(content: Json) -> list[str]:
    """Parts that were given from Python, which no string can bring back."""
    parts = [content.get("data"), content.get("student"), *content.get("teachers", {}).values()]
    return [str(part) for part in parts if str(part).startswith("<")]


def check_folder(out: Path, may_hold_run: bool) -> None:
    """Refuse an output folder before anything costs time.

    Raises:
        FolderError: it holds a run, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise FolderError(f"{out} is a file; --out names a folder")
    # Another process of the same run finds the folder that its first process made.
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    refuse_taken(out)
    if not may_hold_run and Record(out).holds_run():
        raise FolderError(
            f"{out} holds a run already; choose another --out, give --overwrite, or go on with: "
            f"collegium resume {out}"
        )
