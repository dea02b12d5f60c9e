"""A lock, so that only one process writes a run folder; it ends when that process ends.

It is a record lock of the kernel (fcntl), which child processes do not inherit. The library
filelock uses a lock that forked workers keep: the folder of a killed run would stay locked until
its workers notice and end.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from collegium.errors import FolderError
from collegium.utils.files import reporting_writes

LOCK = ".lock"
TRIES, PAUSE = 5, 0.02
"""A writer tries this often, with this pause in seconds, since a check locks for a moment."""
_HELD: set[Path] = set()
"""Folders that this process has locked; a record lock does not block its own process."""


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Lock a folder against other writing processes; creates the folder if it does not exist.

    Raises:
        FolderError: another process (the message has its id) is writing the folder, or the folder
            cannot be written.
    """
    key = folder.resolve()
    if key in _HELD:  # opening and closing the file again would release the lock
        raise FolderError(_taken(folder, str(os.getpid())))
    with reporting_writes(f"to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+")
    with file:
        if (process := _taken_by(file, TRIES)) is not None:
            raise FolderError(_taken(folder, process))
        _HELD.add(key)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            _HELD.discard(key)


def refuse_taken(folder: Path) -> None:
    """Check, before any slow work, that no other process is writing a folder.

    Raises:
        FolderError: another process is writing it.
    """
    if folder.resolve() not in _HELD and (process := _holder(folder, TRIES)) is not None:
        raise FolderError(_taken(folder, process))


def is_taken(folder: Path) -> bool:
    """Whether a process, this one or another, is writing the folder now."""
    return folder.resolve() in _HELD or _holder(folder) is not None


def _holder(folder: Path, tries: int = 1) -> str | None:
    """The id of another process that is writing a folder; None if there is none."""
    try:
        file = (folder / LOCK).open("r+")
    except OSError:
        return None  # no process has ever locked it; writing reports other errors
    with file:
        return _taken_by(file, tries)


def _taken_by(file: TextIO, tries: int) -> str | None:
    """Take a record lock, which no child process inherits; returns the id of who has it, if any."""
    import fcntl

    for left in reversed(range(tries)):
        with contextlib.suppress(BlockingIOError, PermissionError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        time.sleep(PAUSE if left else 0)
    return os.pread(file.fileno(), 32, 0).decode(errors="replace")


def _taken(folder: Path, process: str) -> str:
    other = f"another process ({process.strip() or 'unknown'})"
    return f"{folder} is being written by {other}; wait for it, stop it, or choose another --out"
