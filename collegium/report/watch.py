"""A page that is rewritten while training runs; the browser that shows it reloads it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from collegium.records.run_folder import CHECKPOINT, PARTS, REPORT, Record
from collegium.report.page import write_page
from collegium.utils.lock import is_taken
from collegium.utils.signals import GracefulInterrupt

LOOK = 1.0
"""Seconds between two checks of the folders."""
RELOAD = 5
"""Seconds after which a browser reloads the page."""
SPARE = 20
"""Pause after writing a page, in multiples of the time it took: at most 1/20 of a core."""

Runs = list[tuple[str, Record]]
"""Each run with its row in a comparison, "" outside of one."""


def watch(
    folders: Sequence[Path], find: Callable[[], Runs], path: Path, *, look: float = LOOK
) -> Runs:
    """Rewrite a page until no process writes the folders any more.

    The last page does not reload itself, however watching ends.

    Args:
        folders: of runs or of comparisons.
        find: the runs in them now; more may come.
        path: of the page.
        look: seconds between two checks.

    Returns:
        The runs in the folders.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C.
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
    """Write the page about runs once; returns the problems of their records.

    Args:
        runs: names of rows, and the runs; without names, the page names them by their settings.
        path: of the page.
        reload: seconds after which a browser reloads it; None for never.
    """
    names, records = [name for name, _ in runs], [record for _, record in runs]
    return write_page(records, path, names=None if "" in names else names, reload=reload)


def going(folders: Sequence[Path], runs: Runs) -> bool:
    """Whether a process writes one of the folders, or a run in them."""
    return any(is_taken(folder) for folder in (*folders, *(run.folder for _, run in runs)))


def _changes(folders: Sequence[Path], find: Callable[[], Runs], look: float) -> Iterator[Runs]:
    """The runs each time they have changed, at a limited rate, for as long as they are written."""
    seen, due = None, 0.0
    while going(folders, runs := find()):
        now = [_signs(record) for _, record in runs]
        if now != seen and (started := time.perf_counter()) >= due:
            seen = now
            yield runs
            ended = time.perf_counter()
            due = ended + SPARE * (ended - started)
        time.sleep(look)


def _signs(record: Record) -> dict[str, tuple[int, int]]:
    """Time and size of each file: different after a write into the run folder."""
    found = {}
    for part in {*PARTS, CHECKPOINT} - {REPORT}:
        with contextlib.suppress(OSError):
            about = record.path(part).stat()
            found[part] = about.st_mtime_ns, about.st_size
    return found
