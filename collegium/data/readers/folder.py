"""Image folders: train/CLASS/*.png, val/CLASS/*.png and, if there is one, test/CLASS/*.png."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from collegium.data.class_names import alike, distinct, forms_told, numbers_of, refuse_strangers
from collegium.data.data_string import DataSpec
from collegium.data.images.files import FileShelf, Pictures
from collegium.data.images.find import Found, find_images, nothing_found, passed_told
from collegium.data.images.load import EncodedSplit, load_images
from collegium.data.images.options import ImageOptions
from collegium.data.readers.base import FOLDER_OPTIONS, AbstractReader
from collegium.data.splits import Splits
from collegium.errors import DataError

_FOLDERS = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}
_NAMES = tuple(name for names in _FOLDERS.values() for name in names)
_LAYOUT = "expected train/CLASS/*.png, val/CLASS/*.png (or jpg, webp, bmp, tif, gif, ppm, avif)"
_NAMED = 5


@dataclass(frozen=True)
class _Split:
    """A folder of class folders.

    Attributes:
        folder: where it is.
        found: the images of each class folder that has some, by its name.
        passed: files that are no images, in the class folders or beside them.
    """

    folder: Path
    found: Mapping[str, Found]
    passed: Sequence[str]

    def album(self, classes: Sequence[str]) -> EncodedSplit:
        """Its pictures and their labels."""
        files: dict[str, list[str]] = {}
        labels: list[int] = []
        for found, number in zip(
            self.found.values(), numbers_of(list(self.found), classes), strict=True
        ):
            files |= found.files
            labels += [number] * len(found.files)
        shelf = FileShelf(self.folder, files)
        return EncodedSplit(Pictures.all_of(shelf), shelf.by_folder(labels))


def load_folder(root: Path, image_options: ImageOptions) -> Splits:
    """Reads an image folder; nothing is held out.

    The classes are the sorted names of the folders in train/; folders in them count as their class
    at any depth, links are followed; hidden files and whatever is not called like an image are
    passed over and counted in a note. An index is the position in the split's pictures, sorted by
    class, folder and file name. A folder of class folders, without train/, is train as a whole.
    Names that differ in nothing but their Unicode form are one class.

    Args:
        root: the folder that holds train/, perhaps val/ (or validation/, or valid/) and test/.
        image_options: size, and what becomes of damaged pictures.

    Returns:
        The splits; their notes name classes that another split than train lacks, such that only
        look alike, such that may be several, and what was passed over.

    Raises:
        DataError: another layout, a class without images, a file that is no image.
        UnknownNameError: val/ or test/ has a class that train/ has not.
    """
    folders, name = _split_folders(root), root.resolve().name
    splits = {split: _read(folder, split == "train") for split, folder in folders.items()}
    classes = distinct(splits["train"].found)
    for found in splits.values():
        strange = [
            stranger
            for stranger, number in zip(
                found.found, numbers_of(list(found.found), classes), strict=True
            )
            if number < 0
        ]
        refuse_strangers(strange, classes, str(found.folder))
    loaded = load_images(
        {split: found.album(classes) for split, found in splits.items()},
        classes=classes,
        name=name,
        augment="crop-flip",
        image_options=image_options,
    )
    notes = [_lack(found.folder, found.found, classes) for found in splits.values()]
    notes += [_nested(name, splits["train"].found)]
    notes += [alike(name, classes), forms_told(name, list(splits["train"].found), classes)]
    notes += [passed_told(_passed(root, splits), name), _unused(root, splits)]
    return replace(loaded, notes=(*loaded.notes, *filter(None, notes)))


def _passed(root: Path, splits: Mapping[str, _Split]) -> list[str]:
    """Everything that is not read, relative to the root."""
    return [
        os.path.relpath(found.folder / path, root)
        for found in splits.values()
        for path in found.passed
    ]


def _unused(root: Path, splits: Mapping[str, _Split]) -> str:
    """A line on folders beside train/ whose images nobody reads."""
    used = {found.folder for found in splits.values()}
    others = [name for name in _subfolders(root) if root not in used and root / name not in used]
    count = {name: len(find_images(root, name)) for name in others}
    named = ", ".join(f"{name}/ ({images:,} images)" for name, images in count.items() if images)
    if not named:
        return ""
    return (
        f"{root.resolve().name}: not read, since no split is called so: {named}; the splits are "
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
    passed = [*beside, *(path for images in found.values() for path in images.passed)]
    filled = {name: images for name, images in found.items() if images.files}
    if not filled:
        raise DataError(f"{folder} has class folders without any images; fill or remove it")
    return _Split(folder, filled, passed)


def _split_folders(root: Path) -> dict[str, Path]:
    if root.is_file():
        raise DataError(f"{root} is a file, not a folder: unpack it; {_LAYOUT}")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; {_LAYOUT}")
    if (root / "wnids.txt").is_file():
        raise DataError(f"{root} is the official folder of Tiny-ImageNet: say tiny-imagenet:{root}")
    found = {split: _split_folder(root, names) for split, names in _FOLDERS.items()}
    folders = {split: folder for split, folder in found.items() if folder is not None}
    # Images deeper than that might as well be of folders of folders of classes.
    if not folders and any(name in find_images(root, name).files for name in _subfolders(root)):
        return {"train": root}
    if "train" not in folders:
        there = ", ".join(_subfolders(root)[:_NAMED])
        more = f"; it has {there}" if there else ""
        raise DataError(f"{root} has no folder train; {_LAYOUT}{more}")
    return folders


def _split_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    """The folder of a split, in capitals too if there are folders in it: others are classes."""
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


def _lack(folder: Path, found: Mapping[str, object], classes: Sequence[str]) -> str:
    there = set(numbers_of(list(found), classes))
    missing = [name for place, name in enumerate(classes) if place not in there]
    if not missing:
        return ""
    named = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
    return f"{folder} has no images of {len(missing)} of the {len(classes)} classes: {named}"


def _nested(name: str, found: Mapping[str, Found]) -> str:
    """A line on class folders of nothing but folders, which might be the classes instead."""
    several = {
        label: [folder.removeprefix(f"{label}/") for folder in images.files]
        for label, images in found.items()
        if label not in images.files and len(images.files) > 1
    }
    if not several:
        return ""
    label, inner = next(iter(several.items()))
    named = ", ".join(inner[:_NAMED]) + (", ..." if len(inner) > _NAMED else "")
    return (
        f"{name}: images in folders of a class folder are of its class: {len(several)} of the "
        f"{len(found)} classes hold nothing but folders ({label}: {named}); if those are the "
        "classes, move them up"
    )


class FolderReader(AbstractReader):
    """`folder:DIR`: train/CLASS/*.png and perhaps val/ and test/."""

    slug = "folder"
    needs = "DIR, with DIR/train/CLASS/*.png"
    options = FOLDER_OPTIONS

    def read(self, spec: DataSpec, image_options: ImageOptions) -> Splits:
        """See `load_folder`."""
        return load_folder(spec.path, image_options)
