"""A page that is written again while runs go on: the browser that shows it reloads it."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from collegium.records.run_folder import CHECKPOINT, PARTS, REPORT, Record
from collegium.report.page import write_page
from collegium.utils.lock import is_taken
from collegium.utils.signals import GracefulInterrupt

LOOK = 1.0
"""Seconds between two looks at the folders."""
RELOAD = 5
"""Seconds after which a browser reloads the page."""
SPARE = 20
"""A page is written at most so rarely that it takes a twentieth of a core."""

Runs = list[tuple[str, Record]]
"""Names of rows, "" outside of a comparison, and the runs."""


def watch(
    folders: Sequence[Path], find: Callable[[], Runs], path: Path, *, look: float = LOOK
) -> Runs:
    """Write a page again and again until nobody writes the folders any more.

    The last page does not reload itself, however the watching ends.

    Args:
        folders: of runs or of comparisons.
        find: the runs in them now; more may come.
        path: of the page.
        look: seconds between two looks.

    Returns:
        The runs that were found.

    Raises:
        KeyboardInterrupt: the user has seen enough.
    """
    with GracefulInterrupt() as interrupt:
        try:
            for runs in _changes(folders, find, look):
                with interrupt.deferred():  # nothing half-written is left
                    write(runs, path, reload=RELOAD)
                if interrupt.wanted:
                    raise KeyboardInterrupt
        finally:
            with interrupt.deferred():
                runs = find()
                write(runs, path)
    return runs


def write(runs: Runs, path: Path, *, reload: int | None = None) -> list[str]:
    """Write the page about runs once; gives what is wrong with their records.

    Args:
        runs: names of rows, and the runs; without names, they are called by what they differ in.
        path: of the page.
        reload: seconds after which a browser reloads it; None for never.
    """
    names = [name for name, _ in runs]
    records = [record for _, record in runs]
    return write_page(records, path, names=None if "" in names else names, reload=reload)


def going(folders: Sequence[Path], runs: Runs) -> bool:
    """Whether a process writes any of the folders, or of the runs in them."""
    return any(is_taken(folder) for folder in (*folders, *(run.folder for _, run in runs)))


def _changes(folders: Sequence[Path], find: Callable[[], Runs], look: float) -> Iterator[Runs]:
    """The runs, when something is new in them and it is time, for as long as they go on."""
    seen, due = None, 0.0
    while going(folders, runs := find()):
        now = [_signs(record) for _, record in runs]
        if now != seen and (started := time.perf_counter()) >= due:
            seen = now
            yield runs
            ended = time.perf_counter()
            due = ended + SPARE * (ended - started)
        time.sleep(look)


def _signs(record: Record) -> list[tuple[int, int] | None]:
    """What changes when something is written into a run folder."""
    parts = (part for part in (*PARTS, CHECKPOINT) if part != REPORT)
    return [_sign(record.path(part)) for part in parts]


def _sign(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
