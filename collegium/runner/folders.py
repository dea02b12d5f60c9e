"""Checks of run folders: whether one may be written, is finished, and how to resume its run."""

import os
import shlex
from pathlib import Path

from collegium.errors import FolderError
from collegium.records.run_folder import REPORT, RUN, SUMMARY, Json, Record
from collegium.utils.lock import refuse_taken


def finished(folder: Path) -> bool:
    """Whether a run is complete, including the last file that it writes."""
    record = Record(folder)
    return record.path(SUMMARY).is_file() and record.path(REPORT).is_file()


def go_on(content: Json, out: Path) -> str:
    """How to resume a stopped run, for the end of a message."""
    if not Record(out).path(RUN).is_file():
        return " before anything was written"
    if foreign_parts(content):
        call = f"execute(run, Path({str(out)!r}), resume=True)"
        return f"; go on from Python, with the same objects: {call}"
    return f"; go on with: collegium resume {shlex.quote(str(out))}"


def foreign_parts(content: Json) -> list[str]:
    """Parts of a run that were Python objects, so run.json cannot rebuild them."""
    parts = [content.get("data"), content.get("student"), *content.get("teachers", {}).values()]
    return [str(part) for part in parts if str(part).startswith("<")]


def check_folder(out: Path, may_hold_run: bool) -> None:
    """Check an output folder before any slow work.

    Raises:
        FolderError: it is a file, another process is writing it, or it holds a run and
            `may_hold_run` is False.
    """
    if out.exists() and not out.is_dir():
        raise FolderError(f"{out} is a file; --out names a folder")
    # Further processes of a run find the folder that its first process has made.
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    refuse_taken(out)
    if not may_hold_run and Record(out).holds_run():
        raise FolderError(
            f"{out} holds a run already; choose another --out, give --overwrite, or go on with: "
            f"collegium resume {out}"
        )
