"""Image folders: train/CLASS/*.png, val/CLASS/*.png and, if there is one, test/CLASS/*.png."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from collegium.data.albums import Album, load_albums
from collegium.data.reading import Reading
from collegium.data.shelves import FileShelf, Pictures
from collegium.data.splits import Splits
from collegium.errors import DataError, UnknownNameError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_FOLDERS = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}
_LAYOUT = "expected train/CLASS/*.png, val/CLASS/*.png (or png, jpg, jpeg, webp, bmp)"
_NAMED = 5


def load_folder(root: Path, reading: Reading) -> Splits:
    """Reads an image folder; nothing is held out.

    The classes are the sorted names of the folders in train/; hidden files and whatever is not
    called like an image are passed over, links are followed. An index is the position in the
    split's pictures, sorted by class and then by file name. A folder of class folders, without
    train/, is train as a whole.

    Args:
        root: the folder that holds train/, perhaps val/ (or validation/, or valid/) and test/.
        reading: size, and what becomes of damaged pictures.

    Returns:
        The splits; their notes name classes that another split than train lacks, and such that
        differ in case alone.

    Raises:
        DataError: another layout, a class without images, a file that is no image.
        UnknownNameError: val/ or test/ has a class that train/ has not.
    """
    folders = _split_folders(root)
    files = {split: _class_files(folder) for split, folder in folders.items()}
    classes = tuple(files["train"])
    for split, folder in folders.items():
        _refuse_strangers(folder, files[split], classes)
    splits = load_albums(
        {split: _album(folders[split], found, classes) for split, found in files.items()},
        classes=classes,
        name=root.resolve().name,
        augment="crop-flip",
        reading=reading,
    )
    notes = [_lack(folders[split], found, classes) for split, found in files.items()]
    notes.append(_alike(splits.train.name, classes))
    return replace(splits, notes=(*splits.notes, *filter(None, notes)))


def image_files(folder: Path) -> list[str]:
    """The names of the images in a folder, sorted.

    Raises:
        DataError: there are none.
    """
    files = _images(folder)
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(_SUFFIXES)}); fill or remove it")
    return sorted(files)


def _images(folder: Path) -> list[str]:
    # A dangling link is kept, so that reading it fails by name and no example is lost silently.
    with os.scandir(folder) as entries:
        return [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(_SUFFIXES)
            and not entry.name.startswith(".")
            and (entry.is_symlink() or entry.is_file())
        ]


def _split_folders(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; {_LAYOUT}")
    if (root / "wnids.txt").is_file():
        raise DataError(f"{root} is the official folder of Tiny-ImageNet: say tiny-imagenet:{root}")
    found = {split: _split_folder(root, names) for split, names in _FOLDERS.items()}
    folders = {split: folder for split, folder in found.items() if folder is not None}
    if not folders and any(_images(root / name) for name in _subfolders(root)):
        return {"train": root}
    if "train" not in folders:
        raise DataError(f"{root} has no folder train; {_LAYOUT}")
    return folders


def _split_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    there = [root / name for name in names if (root / name).is_dir()]
    if len(there) > 1:
        both = " and ".join(folder.name for folder in there)
        raise DataError(f"{root} has {both}, which mean the same; keep one of them")
    return there[0] if there else None


def _subfolders(folder: Path) -> list[str]:
    entries = (path for path in folder.iterdir() if path.is_dir())
    return sorted(path.name for path in entries if not path.name.startswith("."))


def _class_files(folder: Path) -> dict[str, list[str]]:
    """The images of each class."""
    classes = _subfolders(folder)
    if not classes:
        raise DataError(f"{folder} has no class folders; {_LAYOUT}")
    return {name: image_files(folder / name) for name in classes}


def _refuse_strangers(folder: Path, found: Mapping[str, object], classes: Sequence[str]) -> None:
    strangers = sorted(set(found) - set(classes))
    if strangers:
        others = f" (and {len(strangers) - 1} more unknown)" if len(strangers) > 1 else ""
        raise UnknownNameError(f"class in {folder}{others}", strangers[0], classes)


def _lack(folder: Path, found: Mapping[str, object], classes: Sequence[str]) -> str:
    missing = [name for name in classes if name not in found]
    if not missing:
        return ""
    named = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
    return f"{folder} has no images of {len(missing)} of the {len(classes)} classes: {named}"


def _alike(name: str, classes: Sequence[str]) -> str:
    same = [one for one in classes if sum(one.lower() == other.lower() for other in classes) > 1]
    return (
        f"{name} has classes that differ in case alone: {', '.join(same[:_NAMED])}" if same else ""
    )


def _album(folder: Path, files: Mapping[str, Sequence[str]], classes: Sequence[str]) -> Album:
    shelf = FileShelf(folder, files)
    number = {name: label for label, name in enumerate(classes)}
    return Album(Pictures.all_of(shelf), shelf.by_folder([number[name] for name in files]))
