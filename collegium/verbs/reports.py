"""The command report."""

from pathlib import Path

import tyro

from collegium.errors import FolderError, RequestError
from collegium.record import REPORT, RUN, Record
from collegium.verbs.options import Answer, Call, Flag

_TABLE = "compare.json"


def report(
    folders: tyro.conf.Positional[tuple[Path, ...]], out: Path | None = None, json: Flag = False
) -> Call:
    """A page about runs, finished or not: FOLDER [FOLDER ...].

    Runs that differ in their seed alone are one row of it.

    Args:
        folders: run folders, or folders made by compare.
        out: the page; by default report.html in the folder, for several in this one.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        if not folders:
            raise RequestError("no folder was given; try: collegium report FOLDER")
        from collegium.report.page import write_page

        found = [run for folder in folders for run in _runs(folder)]
        names = [name for name, _ in found]
        path = out or (folders[0] / REPORT if len(folders) == 1 else Path(REPORT))
        if path.is_dir():
            raise FolderError(f"{path} is a folder; --out names the file of the page")
        records = [record for _, record in found]
        write_page(records, path, names=None if "" in names else names)
        result = {"report": str(path), "runs": [str(record.folder) for record in records]}
        return Answer(result, f"report on {len(found)} run{'s' * (len(found) > 1)}: {path}")

    return call


def _runs(folder: Path) -> list[tuple[str, Record]]:
    """The runs of a folder and the rows of a comparison they belong to, "" outside of one."""
    if (folder / RUN).is_file():
        return [("", Record(folder))]
    if not folder.is_dir():
        raise FolderError(f"{folder} is no folder; a report is made of run folders")
    kept = sorted(folder.glob(f"runs/*/seed-*/{RUN}"))
    if not kept:
        raise FolderError(f"{folder} holds no run: it has no {RUN}, and no runs of a comparison")
    rows = _rows(folder)
    records = [Record(path.parent) for path in kept]
    found = [(record.folder.parent.name, record) for record in records]
    order = {name: place for place, name in enumerate(rows)}
    found.sort(key=lambda run: order.get(run[0], len(order)))
    return [(rows.get(name, name), record) for name, record in found]


def _rows(folder: Path) -> dict[str, str]:
    """Names of a comparison's rows by their folders, as far as its table tells them."""
    from collegium.rows import folder_name

    if not (folder / _TABLE).is_file():
        return {}
    table = Record(folder).read_json(_TABLE)
    rows = table.get("rows", []) if isinstance(table, dict) else []
    names = [str(row["name"]) for row in rows if isinstance(row, dict) and "name" in row]
    return {folder_name(name): name for name in names}
