"""Image folders: train/CLASS/*.png, val/CLASS/*.png and, if there is one, test/CLASS/*.png."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collegium.data.class_names import class_numbers, distinct, missing_note, name_notes, numbers_of
from collegium.data.data_string import DataSpec
from collegium.data.images.find import Found, find_images, nothing_found, skipped_note
from collegium.data.images.load import EncodedSplit, ImageOptions, load_images
from collegium.data.images.source import ImageFiles
from collegium.data.readers.base import FOLDER_OPTIONS, AbstractReader
from collegium.data.splits import SPLIT_NAMES, Splits
from collegium.errors import DataError
from collegium.utils.text import some

_NAMES = tuple(name for names in SPLIT_NAMES.values() for name in names)
_LAYOUT = "expected train/CLASS/*.png, val/CLASS/*.png (or jpg, webp, bmp, tif, gif, ppm, avif)"
_NAMED = 5


@dataclass(frozen=True)
class _Split:
    """A folder of class folders.

    Attributes:
        folder: its path.
        found: the images of each class folder that has some, by its name.
        skipped: files that are no images, in the class folders or beside them.
    """

    folder: Path
    found: Mapping[str, Found]
    skipped: Sequence[str]

    def encoded(self, classes: Sequence[str]) -> EncodedSplit:
        """Its images and their labels.

        Raises:
            UnknownNameError: a class folder that train does not have.
        """
        numbers = class_numbers(list(self.found), classes, str(self.folder))
        files: dict[str, list[str]] = {}
        labels: list[int] = []
        for found, number in zip(self.found.values(), numbers, strict=True):
            files |= found.files
            labels += [number] * len(found.files)
        source = ImageFiles(self.folder, files)
        return EncodedSplit.all_of(source, source.by_folder(labels))


def _unused_note(root: Path, splits: Mapping[str, _Split]) -> str:
    """A note on folders beside train/ whose images are not read."""
    used = {found.folder for found in splits.values()}
    others = [name for name in _subfolders(root) if root not in used and root / name not in used]
    count = {name: len(find_images(root, name)) for name in others}
    named = ", ".join(f"{name}/ ({images:,} images)" for name, images in count.items() if images)
    if not named:
        return ""
    return (
        f"{root.resolve().name}: not read, since no split has that name: {named}; the splits are "
        f"{', '.join(_NAMES)}"
    )


def _read(folder: Path, is_train: bool) -> _Split:
    """The images of each class."""
    classes = _subfolders(folder)
    if not classes:
        raise DataError(f"{folder} has no class folders; {_LAYOUT}")
    found = {name: find_images(folder, name) for name in classes}
    for name, images in found.items():
        if is_train and not images.files:
            raise DataError(nothing_found(folder / name, images))
    beside = [path.name for path in sorted(folder.iterdir()) if not path.is_dir()]
    skipped = [*beside, *(path for images in found.values() for path in images.skipped)]
    filled = {name: images for name, images in found.items() if images.files}
    if not filled:
        raise DataError(f"{folder} has class folders without any images; fill or remove it")
    return _Split(folder, filled, skipped)


def _split_folders(root: Path) -> dict[str, Path]:
    if root.is_file():
        raise DataError(f"{root} is a file, not a folder: unpack it; {_LAYOUT}")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; {_LAYOUT}")
    if (root / "wnids.txt").is_file():
        raise DataError(
            f"{root} is the official folder of Tiny-ImageNet; give tiny-imagenet:{root}"
        )
    found = {split: _split_folder(root, names) for split, names in SPLIT_NAMES.items()}
    folders = {split: folder for split, folder in found.items() if folder is not None}
    # Deeper images might as well be in folders of folders of classes.
    if not folders and any(name in find_images(root, name).files for name in _subfolders(root)):
        return {"train": root}
    if "train" not in folders:
        there = ", ".join(_subfolders(root)[:_NAMED])
        more = f"; it has {there}" if there else ""
        raise DataError(f"{root} has no folder train; {_LAYOUT}{more}")
    return folders


def _split_folder(root: Path, names: Sequence[str]) -> Path | None:
    """The folder of a split; in another case only if it has subfolders, else it is a class."""
    there = [
        root / found
        for found in _subfolders(root)
        if found in names or (found.lower() in names and _subfolders(root / found))
    ]
    if len(there) > 1:
        both = " and ".join(folder.name for folder in there)
        raise DataError(f"{root} has {both}, which mean the same; keep one of them")
    return there[0] if there else None


def _subfolders(folder: Path) -> list[str]:
    entries = (path for path in folder.iterdir() if path.is_dir())
    return sorted(path.name for path in entries if not path.name.startswith("."))


def _nested_note(name: str, found: Mapping[str, Found]) -> str:
    """A note on class folders that contain only folders, which may be the real classes."""
    several = {
        label: [folder.removeprefix(f"{label}/") for folder in images.files]
        for label, images in found.items()
        if label not in images.files and len(images.files) > 1
    }
    if not several:
        return ""
    label, inner = next(iter(several.items()))
    return (
        f"{name}: images in folders of a class folder are of its class: {len(several)} of the "
        f"{len(found)} classes contain only folders ({label}: "
        f"{some(inner, _NAMED)}); if those are the "
        "classes, move them up"
    )


class FolderReader(AbstractReader):
    """`folder:DIR`: train/CLASS/*.png and perhaps val/ and test/."""

    slug = "folder"
    needs = "DIR, with DIR/train/CLASS/*.png"
    options = FOLDER_OPTIONS

    def read(self, spec: DataSpec, image_options: ImageOptions) -> Splits:
        """The splits of the folder with train/, and perhaps val/ and test/; nothing is held out.

        The classes are the sorted names of the folders in train/. Images at any depth of a class
        folder belong to its class; links are followed. Hidden files and files not named like an
        image are skipped and counted in a note. An index is the position in the split's images,
        sorted by class, folder and file name. A folder of class folders without train/ is the train
        split. Names that differ only in their Unicode form are one class.

        Returns:
            The splits; their notes name classes that a split lacks, classes that look alike,
            classes that may be several, and skipped files.

        Raises:
            DataError: another layout, a class without images, a file that is no image.
            UnknownNameError: val/ or test/ has a class that train/ does not have.
        """
        root, name = spec.path, spec.path.resolve().name
        folders = _split_folders(root)
        splits = {split: _read(folder, split == "train") for split, folder in folders.items()}
        classes = distinct(splits["train"].found)
        encoded = {split: found.encoded(classes) for split, found in splits.items()}
        loaded = load_images(encoded, classes=classes, name=name, image_options=image_options)
        notes = [
            missing_note(
                f"{found.folder} has no images of", classes, numbers_of(found.found, classes)
            )
            for found in splits.values()
        ]
        notes += [_nested_note(name, splits["train"].found)]
        notes += name_notes(name, splits["train"].found, classes)
        skipped = [
            os.path.relpath(found.folder / path, root)
            for found in splits.values()
            for path in found.skipped
        ]
        return loaded.with_notes(*notes, skipped_note(skipped, name), _unused_note(root, splits))
