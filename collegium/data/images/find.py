"""Image files in folders, and which other files are skipped."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from collegium.errors import DataError
from collegium.utils.text import some

_ENDINGS = "png jpg jpeg jpe jfif webp bmp dib tif tiff gif avif ppm pgm pbm pnm"
SUFFIXES = tuple(f".{ending}" for ending in _ENDINGS.split())
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", ".ds_store", ".gitkeep", ".gitignore", ".directory")


@dataclass
class Found:
    """Content of a folder.

    Attributes:
        files: names of images by folder, relative to the root; those of a folder come before those
            of its subfolders.
        skipped: paths of files that are hidden or not named like images, and of folders that are
            named like images.
    """

    files: dict[str, list[str]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.files.values()))


def find_images(root: Path, inside: str = "") -> Found:
    """All images in a folder and the folders in it, at any depth; links are followed.

    Args:
        root: what paths are relative to.
        inside: the folder, relative to the root.
    """
    found = Found()
    _walk(root, inside, (), found)
    return found


def _walk(root: Path, inside: str, above: tuple[str, ...], found: Found) -> None:
    folder = root / inside
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that contains it
        return
    # A dangling link is kept: reading it fails with its name, and no example is lost silently.
    with os.scandir(folder) as entries:
        sorted_ = sorted(entries, key=lambda entry: entry.name)
    images, folders = [], []
    for entry in sorted_:
        is_folder, looks = entry.is_dir(), entry.name.lower().endswith(SUFFIXES)
        hidden = entry.name.startswith(".")
        if is_folder and not hidden:
            folders.append(entry.name)
        elif looks and not hidden and (entry.is_symlink() or entry.is_file()):
            images.append(entry.name)
        if (is_folder and looks) or not (is_folder or images[-1:] == [entry.name]):
            found.skipped.append(str(Path(inside, entry.name)))
    if images:
        found.files[inside] = images
    for name in folders:
        _walk(root, f"{inside}/{name}" if inside else name, (*above, real), found)


def image_files(folder: Path) -> tuple[list[str], str]:
    """The names of the images in a folder and the folders in it, in the order they are read.

    Returns:
        Paths relative to the folder, and a note on what was skipped.

    Raises:
        DataError: there are none.
    """
    found = find_images(folder)
    if not found.files:
        raise DataError(nothing_found(folder, found))
    paths = [
        f"{inside}/{name}" if inside else name
        for inside, names in found.files.items()
        for name in names
    ]
    return paths, skipped_note(found.skipped, str(folder))


def nothing_found(folder: Path, found: Found) -> str:
    """An error for a folder without images: what it holds instead."""
    there = f", but {kinds(found.skipped)}" if found.skipped else ""
    return f"{folder} holds no images ({', '.join(SUFFIXES)}){there}; fill or remove it"


def skipped_note(skipped: Iterable[str], name: str) -> str:
    """A note on skipped files; empty if there are only files of the system."""
    found = [path for path in skipped if Path(path).name.lower() not in _SYSTEM_FILES]
    if not found:
        return ""
    files = "file" if len(found) == 1 else "files"
    return f"{name}: skipped {len(found):,} {files}, no images: {kinds(found)} ({some(found)})"


def kinds(paths: Iterable[str]) -> str:
    """How many there are of each kind of file.

    >>> kinds(["a/1.heic", "b/2.HEIC", ".x.png", "notes"])
    '2 .heic, 1 hidden, 1 without a suffix'
    """
    count = Counter(map(_kind, paths))
    return ", ".join(f"{number:,} {kind}" for kind, number in count.most_common())


def _kind(path: str) -> str:
    name = Path(path).name
    if name.startswith("."):
        return "hidden"
    suffix = Path(path).suffix.lower()
    if suffix in SUFFIXES:
        return f"folder called {suffix}"
    return suffix or "without a suffix"
