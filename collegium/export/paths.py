"""Checks of folders and files before torch is imported. Imports no torch."""

from collections.abc import Iterable
from pathlib import Path

from collegium.errors import DataError, FolderError, RequestError
from collegium.export.options import ExportOptions
from collegium.records.run_folder import RUN, STUDENT, SUMMARY, Record
from collegium.utils.lock import refuse_taken

CARD, RESULT = "README.md", "export.json"


def refuse_unfinished(folder: Path | str) -> Record:
    """The record of a finished run.

    Raises:
        FolderError: it is no run folder, its run is still going, or was stopped.
    """
    record = Record(folder)
    if not record.path(RUN).is_file():
        raise FolderError(f"{folder} is no run folder: it has no {RUN}")
    try:
        refuse_taken(record.folder)
    except FolderError:
        raise FolderError(
            f"{folder}: its run is still going and has no finished student; wait for its end"
        ) from None
    missing = [part for part in (SUMMARY, STUDENT) if not record.path(part).is_file()]
    if missing:
        raise FolderError(
            f"{folder} has no {' and no '.join(missing)}: its run was stopped before its end; "
            f"go on with: collegium resume {folder}"
        )
    return record


def free_place(
    record: Record, wanted: ExportOptions, out: Path | str | None, overwrite: bool
) -> Path:
    """The folder an export goes to.

    Raises:
        FolderError: it is a file, or holds something else, or an export and must not be replaced.
    """
    place = Path(out) if out is not None else record.folder / "export" / wanted.name
    if place.exists() and not place.is_dir():
        raise FolderError(f"{place} is a file; --out names a folder")
    if not place.is_dir() or not any(place.iterdir()):
        return place
    if not (place / RESULT).is_file():
        raise FolderError(f"{place} holds other files and no export; choose another --out")
    if not overwrite:
        raise FolderError(
            f"{place} holds an export already; choose another --out, or give --overwrite"
        )
    return place


def check_images(images: Iterable[Path | str], top: int) -> None:
    """Refuse a request for predictions that cannot work.

    Raises:
        RequestError: there is no image, or `top` is below 1.
        DataError: an image is missing; the message names it.
    """
    if top < 1:
        raise RequestError(f"--top must be at least 1, got {top}")
    paths = list(map(Path, images))
    if not paths:
        raise RequestError("no image was given; try: collegium predict FOLDER IMAGE")
    for path in paths:
        if not path.exists():
            raise DataError(f"image {path}: no such file")
