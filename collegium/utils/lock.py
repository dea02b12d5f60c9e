"""Only one process writes a run folder; the kernel releases the lock when that process ends.

A record lock, which no child inherits: the library filelock takes one that forked workers keep, so
the folder of a killed run would stay locked until its workers notice.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from collegium.errors import FolderError

LOCK = ".lock"
TRIES, PAUSE = 5, 0.02
"""A writer tries so often, with this pause in seconds: a check holds the lock for a moment."""
_HELD: set[Path] = set()
"""Locked by this process: the kernel's locks do not keep a process from itself."""


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other processes from writing a folder, which is made if it is not there.

    Raises:
        FolderError: another process writes it, named by its number; or it cannot be written.
    """
    key = folder.resolve()
    if key in _HELD:  # opening and closing the file once more would give the lock away
        raise FolderError(_taken(folder, str(os.getpid())))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise FolderError(f"cannot write to {folder}: {error.strerror}") from None
    try:
        if not _lock(descriptor, TRIES):
            raise FolderError(_taken(folder, os.read(descriptor, 32).decode(errors="replace")))
        _HELD.add(key)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        try:
            yield
        finally:
            _HELD.discard(key)
    finally:
        os.close(descriptor)


def refuse_taken(folder: Path) -> None:
    """Find out early, before anything costs time, that another process writes a folder.

    Raises:
        FolderError: it does.
    """
    if folder.resolve() not in _HELD and (process := _holder(folder, TRIES)) is not None:
        raise FolderError(_taken(folder, process))


def is_taken(folder: Path) -> bool:
    """Whether a process writes the folder now, this one or another."""
    return folder.resolve() in _HELD or _holder(folder) is not None


def _holder(folder: Path, tries: int = 1) -> str | None:
    """The number of another process that writes a folder; None if there is none."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return None  # there never was a writer; other errors are reported on writing
    try:
        free = _lock(descriptor, tries)
        return None if free else os.read(descriptor, 32).decode(errors="replace")
    finally:
        os.close(descriptor)


def _lock(descriptor: int, tries: int) -> bool:
    """Whether the lock was free; a record lock, which no child inherits."""
    import fcntl

    for left in reversed(range(tries)):
        with contextlib.suppress(BlockingIOError, PermissionError):
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(PAUSE if left else 0)
    return False


def _taken(folder: Path, process: str) -> str:
    return (
        f"{folder} is being written by another process ({process.strip() or 'unknown'}); wait for "
        "it, stop it, or choose another --out"
    )
