"""The command report."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from collegium.cli.options import Answer, Command
from collegium.config.option import Option
from collegium.config.run import Run
from collegium.errors import FolderError, Interrupted, RequestError

if TYPE_CHECKING:
    from collegium.records.run_folder import Record

    Runs = list[tuple[str, Record]]
    """The runs, each with the row of a comparison it belongs to; "" outside of one."""

_RUN, _PAGE = "run.json", "report.html"
_TABLE, _RUNS = "compare.json", f"runs/*/seed-*/{_RUN}"
_WAIT = 0.2
"""Seconds between two checks whether the first run has begun."""


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """A page about runs, finished or not: FOLDER [FOLDER ...].

    Runs that differ in their seed alone are one row of it.
    """

    folders: Annotated[tuple[Path, ...], Option(positional=True)] = ()
    """Run folders, or folders made by compare."""
    out: Path | None = None
    """The page; by default report.html in the folder, for several folders in this one."""
    watch: bool = False
    """Write the page again while training continues; a browser that shows it reloads it. Ends with
    the training, or with Ctrl-C."""

    def run(self) -> Answer:
        """Write the page."""
        folders = self.folders
        if not folders:
            raise RequestError("no folder was given; try: collegium report FOLDER")
        path = self.out or (folders[0] / _PAGE if len(folders) == 1 else Path(_PAGE))
        if path.is_dir():
            raise FolderError(f"{path} is a folder; --out names the file of the page")
        found = _watched(folders, path) if self.watch else _written(folders, path)
        result = {"report": str(path), "runs": [str(record.folder) for _, record in found]}
        return Answer(result, f"report on {len(found)} run{'s' * (len(found) > 1)}: {path}")


def _written(folders: Sequence[Path], path: Path) -> "Runs":
    """Write the page; gives its runs."""
    found = _all_runs(folders)
    from collegium.report.watch import write
    from collegium.utils.progress import Display

    display = Display(label="report")
    for problem in write(found, path):
        display.warn(problem)
    return found


def _watched(folders: Sequence[Path], path: Path) -> "Runs":
    """Write the page until no process writes the runs any more; gives these."""
    from collegium.utils.lock import is_taken

    while any(is_taken(folder) and not _begun(folder) for folder in folders):
        time.sleep(_WAIT)
    _all_runs(folders)
    from collegium.report.watch import watch
    from collegium.utils.progress import Display

    Display(label="report").say(f"watching; open {path.resolve().as_uri()} in a browser")
    try:
        return watch(folders, lambda: _all_runs(folders), path)
    except KeyboardInterrupt:
        raise Interrupted(f"no longer watching; the page stays: {path}") from None


def _begun(folder: Path) -> bool:
    """Whether a folder holds a run, or a comparison with one."""
    return (folder / _RUN).is_file() or any(folder.glob(_RUNS))


def _all_runs(folders: Sequence[Path]) -> "Runs":
    """The runs of all folders.

    Raises:
        FolderError: one of them holds none.
    """
    found = [run for folder in folders for run in _runs(folder)]
    for _, record in found:
        try:
            Run.of(record)
        except FolderError as error:  # the reason why the run could not be resumed
            record.doubts = (str(error),)
    return found


def _runs(folder: Path) -> "Runs":
    """The runs of a folder and the rows of a comparison they belong to, "" outside of one."""
    from collegium.records.run_folder import Record

    if (folder / _RUN).is_file():
        return [("", Record(folder))]
    if not folder.is_dir():
        raise FolderError(f"{folder} is no folder; a report is made of run folders")
    kept = sorted(folder.glob(_RUNS))
    if not kept:
        raise FolderError(f"{folder} holds no run: it has no {_RUN}, and no runs of a comparison")
    rows = _rows(folder)
    found = [(path.parent.parent.name, Record(path.parent)) for path in kept]
    order = {name: place for place, name in enumerate(rows)}
    found.sort(key=lambda run: order.get(run[0], len(order)))
    return [(rows.get(name, name), record) for name, record in found]


def _rows(folder: Path) -> dict[str, str]:
    """Names of a comparison's rows by their folders, as far as its table has them."""
    from collegium.methods.method_string import folder_name
    from collegium.records.run_folder import Record

    if not (folder / _TABLE).is_file():
        return {}
    table = Record(folder).read_json(_TABLE)
    rows = table.get("rows", []) if isinstance(table, dict) else []
    rows = rows if isinstance(rows, list) else []
    names = [str(row["method"]) for row in rows if isinstance(row, dict) and "method" in row]
    return {folder_name(name): name for name in names}
