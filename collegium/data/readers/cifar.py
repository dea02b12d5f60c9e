"""CIFAR-10 and CIFAR-100 from the official binary folders.

Krizhevsky, "Learning multiple layers of features from tiny images" (2009). A file is records
without a gap: one label byte (CIFAR-100: coarse, then fine), then 1,024 red, 1,024 green and 1,024
blue pixels, each plane 32x32, row by row.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from collegium.data.data_string import DataSpec
from collegium.data.image_data import ImageData
from collegium.data.images.load import ImageOptions
from collegium.data.readers.base import AbstractReader
from collegium.data.readers.hub import Choices, load_hub
from collegium.data.splits import Splits
from collegium.errors import DataError

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class CifarFormat:
    """How one of the two data sets is laid out.

    Attributes:
        name: of the data, in messages and records.
        folder: the official folder.
        train_files: equal parts of the 50,000 training records, in order.
        test_file: the 10,000 test records.
        names_file: one class name a line.
        classes: how many there are.
        label_bytes: label bytes of a record.
        label_byte: the one used.
        pickle_folder: the official folder of the Python version, which is not read.
        pickle_files: files of that version.
    """

    name: str
    folder: str
    train_files: tuple[str, ...]
    test_file: str
    names_file: str
    classes: int
    label_bytes: int
    label_byte: int
    pickle_folder: str
    pickle_files: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """All files that must be there."""
        return (*self.train_files, self.test_file, self.names_file)


CIFAR10 = CifarFormat(
    name="cifar10",
    folder="cifar-10-batches-bin",
    train_files=tuple(f"data_batch_{part}.bin" for part in range(1, 6)),
    test_file="test_batch.bin",
    names_file="batches.meta.txt",
    classes=10,
    label_bytes=1,
    label_byte=0,
    pickle_folder="cifar-10-batches-py",
    pickle_files=("data_batch_1", "test_batch"),
)
CIFAR100 = CifarFormat(
    name="cifar100",
    folder="cifar-100-binary",
    train_files=("train.bin",),
    test_file="test.bin",
    names_file="fine_label_names.txt",
    classes=100,
    label_bytes=2,
    label_byte=1,
    pickle_folder="cifar-100-python",
    pickle_files=("train", "test"),
)
CIFAR100_COARSE = replace(
    CIFAR100,
    name="cifar100-coarse",
    names_file="coarse_label_names.txt",
    classes=20,
    label_byte=0,
)
"""The twenty superclasses of CIFAR-100."""


def load_cifar(layout: CifarFormat, root: Path) -> Splits:
    """Reads the official binary folder; nothing is held out.

    Args:
        layout: `CIFAR10`, `CIFAR100` or `CIFAR100_COARSE`.
        root: the official folder, or the folder it is in.

    Returns:
        Train (50,000) and test (10,000); an index is the record's position in the files' order.

    Raises:
        DataError: files are missing, of the wrong size, or hold labels that are no class.
    """
    folder = _locate(layout, root)
    names = _read_names(layout, folder / layout.names_file)
    train = _read_split(layout, [folder / name for name in layout.train_files], 50_000, names)
    test = _read_split(layout, [folder / layout.test_file], 10_000, names)
    return Splits(train, None, test)


def _locate(layout: CifarFormat, root: Path) -> Path:
    if not root.is_dir():
        raise DataError(
            f"{layout.name}: {root} is not a folder; give the official folder {layout.folder} "
            "or the one it is in"
        )
    candidates = [folder for folder in (root / layout.folder, root) if folder.is_dir()]
    lacks = {folder: _missing(folder, layout.files) for folder in candidates}
    best = min(candidates, key=lambda folder: len(lacks[folder]))
    if lacks[best]:
        _refuse_pickles(layout, root)
        raise DataError(
            f"{layout.name}: {best} lacks {', '.join(lacks[best])}; give the official binary "
            f"folder {layout.folder} or the one it is in"
        )
    return best


def _missing(folder: Path, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if not (folder / name).is_file()]


def _refuse_pickles(layout: CifarFormat, root: Path) -> None:
    for folder in (root, root / layout.pickle_folder):
        if not _missing(folder, layout.pickle_files):
            raise DataError(
                f"{layout.name}: {folder} has the Python (pickle) version, which can run code "
                f"and is never read; get the binary version, {layout.folder}"
            )


def _read_names(layout: CifarFormat, path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text of class names") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != layout.classes:
        raise DataError(f"{path} holds {len(names)} class names, expected {layout.classes}")
    return names


def _read_split(
    layout: CifarFormat, paths: list[Path], count: int, names: tuple[str, ...]
) -> ImageData:
    per_file = count // len(paths)
    images_NDHW = np.empty((count, *_SHAPE), np.uint8)
    labels_N = np.empty(count, np.int64)
    for part, path in enumerate(paths):
        records = _read_records(layout, path, per_file)
        here = slice(part * per_file, (part + 1) * per_file)
        images_NDHW[here] = records[:, layout.label_bytes :].reshape(-1, *_SHAPE)
        labels_N[here] = _checked_labels(layout, records, path)
    images, labels = torch.from_numpy(images_NDHW), torch.from_numpy(labels_N)
    return ImageData.numbered(images, labels, names, layout.name, "crop-flip")


def _read_records(layout: CifarFormat, path: Path, count: int) -> NDArray[np.uint8]:
    record = layout.label_bytes + _PIXELS
    found = path.stat().st_size
    if found != count * record:
        raise DataError(
            f"{path} has {found:,} bytes, expected {count * record:,} ({count:,} records of "
            f"{record:,} bytes); get the file again"
        )
    return np.fromfile(path, np.uint8).reshape(count, record)


def _checked_labels(
    layout: CifarFormat, records: NDArray[np.uint8], path: Path
) -> NDArray[np.uint8]:
    labels_N = records[:, layout.label_byte]
    wrong = np.flatnonzero(labels_N >= layout.classes)
    if len(wrong):
        raise DataError(
            f"{path}: record {wrong[0]} has label {labels_N[wrong[0]]}, expected 0 to "
            f"{layout.classes - 1}; get the file again"
        )
    return labels_N


class Cifar10Reader(AbstractReader):
    """`cifar10:DIR`: the official binary folder; without DIR, downloaded by `datasets`."""

    slug = "cifar10"
    side = 32
    layout = CIFAR10

    def read(self, spec: DataSpec, image_options: ImageOptions) -> Splits:
        """See `load_cifar`."""
        coarse = spec.options.get("labels") == "coarse"
        if spec.place:
            return load_cifar(CIFAR100_COARSE if coarse else self.layout, spec.path)
        return load_hub(
            f"uoft-cs/{self.slug}",
            name=self.slug,
            image_options=image_options,
            choices=Choices(label="coarse_label" if coarse else ""),
            alternative=f"; or give the official binary folder, {self.slug}:DIR",
        )


class Cifar100Reader(Cifar10Reader):
    """`cifar100:DIR`: the same; `?labels=coarse` for the 20 superclasses."""

    slug = "cifar100"
    options = ("labels",)
    layout = CIFAR100
