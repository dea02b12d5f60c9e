"""CIFAR-10 and CIFAR-100 from the official binary folders.

Krizhevsky, "Learning multiple layers of features from tiny images" (2009). A file is records
without a gap: one label byte (CIFAR-100: coarse, then fine), then 1,024 red, 1,024 green and 1,024
blue pixels, each plane 32x32, row by row.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from collegium.data.data_string import DataSpec
from collegium.data.image_data import ImageData
from collegium.data.images.load import ImageOptions
from collegium.data.readers.base import AbstractReader, text_lines
from collegium.data.readers.hub import Choices, load_hub
from collegium.data.splits import Splits
from collegium.errors import DataError

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
    path = folder / layout.names_file
    names = text_lines(path)
    if len(names) != layout.classes:
        raise DataError(f"{path} holds {len(names)} class names, expected {layout.classes}")
    files = {"train": (layout.train_files, 50_000), "test": ((layout.test_file,), 10_000)}
    parts = {}
    for split, (there, count) in files.items():
        records = [_read_records(layout, folder / file, count // len(there)) for file in there]
        pixels = np.concatenate([record[:, layout.label_bytes :] for record in records])
        labels_N = np.concatenate([record[:, layout.label_byte] for record in records])
        images_NDHW = torch.from_numpy(pixels.reshape(count, 3, 32, 32))
        labels = torch.from_numpy(labels_N).long()
        parts[split] = ImageData.numbered(
            images_NDHW, labels, tuple(names), layout.name, "crop-flip"
        )
    return Splits(parts["train"], None, parts["test"])


def _locate(layout: CifarFormat, root: Path) -> Path:
    if not root.is_dir():
        raise DataError(
            f"{layout.name}: {root} is not a folder; give the official folder {layout.folder} "
            "or the one it is in"
        )
    files = (*layout.train_files, layout.test_file, layout.names_file)
    candidates = [folder for folder in (root / layout.folder, root) if folder.is_dir()]
    lacks = {folder: _missing(folder, files) for folder in candidates}
    best = min(candidates, key=lambda folder: len(lacks[folder]))
    if not lacks[best]:
        return best
    pickles = [Path(file).stem for file in (layout.train_files[0], layout.test_file)]
    for folder in (root, root / layout.pickle_folder):
        if not _missing(folder, pickles):
            raise DataError(
                f"{layout.name}: {folder} has the Python (pickle) version, which can run code "
                f"and is never read; get the binary version, {layout.folder}"
            )
    raise DataError(
        f"{layout.name}: {best} lacks {', '.join(lacks[best])}; give the official binary "
        f"folder {layout.folder} or the one it is in"
    )


def _missing(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (folder / name).is_file()]


def _read_records(layout: CifarFormat, path: Path, count: int) -> NDArray[np.uint8]:
    record = layout.label_bytes + _PIXELS
    found = path.stat().st_size
    if found != count * record:
        raise DataError(
            f"{path} has {found:,} bytes, expected {count * record:,} ({count:,} records of "
            f"{record:,} bytes); get the file again"
        )
    records = np.fromfile(path, np.uint8).reshape(count, record)
    labels_N = records[:, layout.label_byte]
    wrong = np.flatnonzero(labels_N >= layout.classes)
    if len(wrong):
        raise DataError(
            f"{path}: record {wrong[0]} has label {labels_N[wrong[0]]}, expected 0 to "
            f"{layout.classes - 1}; get the file again"
        )
    return records


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
