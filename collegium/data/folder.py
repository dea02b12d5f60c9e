"""Image folders: train/CLASS/*.png, val/CLASS/*.png and, if there is one, test/CLASS/*.png."""

from pathlib import Path

from collegium.data.albums import Album, load_albums
from collegium.data.pictures import Picture
from collegium.data.splits import Splits
from collegium.errors import DataError, UnknownNameError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_FOLDERS = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}
_LAYOUT = "expected train/CLASS/*.png, val/CLASS/*.png (or png, jpg, jpeg, webp, bmp)"


def load_folder(root: Path, image_size: int | None = None) -> Splits:
    """Reads an image folder; nothing is held out.

    The classes are the sorted names of the folders in train/; hidden files and whatever is not
    called like an image are passed over. An index is the position in the split's pictures, sorted
    by class and then by file name.

    Args:
        root: the folder that holds train/, perhaps val/ (or validation/, or valid/) and test/.
        image_size: see `collegium.data.albums.load_albums`.

    Raises:
        DataError: another layout, a class without images, a file that is no image.
        UnknownNameError: val/ or test/ has a class that train/ has not.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; {_LAYOUT}")
    found = {split: _split_folder(root, names) for split, names in _FOLDERS.items()}
    folders = {split: folder for split, folder in found.items() if folder is not None}
    if "train" not in folders:
        raise DataError(f"{root} has no folder train; {_LAYOUT}")
    classes = tuple(folder.name for folder in _class_folders(folders["train"]))
    return load_albums(
        {split: _album(folder, classes) for split, folder in folders.items()},
        classes=classes,
        name=root.resolve().name,
        augment="crop-flip",
        image_size=image_size,
    )


def _split_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    there = [root / name for name in names if (root / name).is_dir()]
    if len(there) > 1:
        both = " and ".join(folder.name for folder in there)
        raise DataError(f"{root} has {both}, which mean the same; keep one of them")
    return there[0] if there else None


def _class_folders(folder: Path) -> list[Path]:
    entries = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = sorted(entries, key=lambda path: path.name)
    if not found:
        raise DataError(f"{folder} has no class folders; {_LAYOUT}")
    return found


def _album(folder: Path, classes: tuple[str, ...]) -> Album:
    pictures: list[Picture] = []
    labels: list[int] = []
    for class_folder in _class_folders(folder):
        if class_folder.name not in classes:
            raise UnknownNameError(f"class in {folder}", class_folder.name, classes)
        files = _image_files(class_folder)
        pictures += [Picture(str(path), path) for path in files]
        labels += [classes.index(class_folder.name)] * len(files)
    return Album(pictures, labels)


def _image_files(folder: Path) -> list[Path]:
    # A dangling link is kept, so that reading it fails by name and no example is lost silently.
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES
        and not path.name.startswith(".")
        and (path.is_file() or path.is_symlink())
    ]
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(_SUFFIXES)}); fill or remove it")
    return sorted(files, key=lambda path: path.name)
