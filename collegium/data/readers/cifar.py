"""CIFAR-10 and CIFAR-100 from the official binary folders.

Krizhevsky, "Learning multiple layers of features from tiny images" (2009). A file is records
without a gap: one label byte (CIFAR-100: coarse, then fine), then 1,024 red, 1,024 green and 1,024
blue pixels, each plane 32x32, row by row.
"""

from collections.abc import Iterable
from dataclasses import dataclass
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
class _Labels:
    """The labels of a data set.

    Attributes:
        name: of the data, in messages and records.
        names_file: one class name a line.
        classes: how many there are.
        byte: which byte of a record has the label.
    """

    name: str
    names_file: str
    classes: int
    byte: int


_COARSE = _Labels("cifar100-coarse", "coarse_label_names.txt", 20, 0)


class Cifar10Reader(AbstractReader):
    """`cifar10:DIR`: the official binary folder; without DIR, downloaded by `datasets`."""

    slug = "cifar10"
    side = 32
    folder = "cifar-10-batches-bin"
    """The official folder."""
    pickle_folder = "cifar-10-batches-py"
    """The official folder of the Python version, which is not read."""
    train_files = tuple(f"data_batch_{part}.bin" for part in range(1, 6))
    """Equal parts of the 50,000 training records, in order."""
    test_file = "test_batch.bin"
    """The 10,000 test records."""
    label_bytes = 1
    """Label bytes of a record."""
    labels = _Labels("cifar10", "batches.meta.txt", 10, 0)
    """What is read of them."""

    def read(self, spec: DataSpec, image_options: ImageOptions) -> Splits:
        """Train (50,000) and test (10,000) of the official folder, or of the one it is in.

        Nothing is held out. An index is the record's position in the files' order.

        Raises:
            DataError: files are missing, of the wrong size, or hold labels that are no class.
        """
        coarse = spec.options.get("labels") == "coarse"
        if spec.place:
            return self._read_folder(spec.path, _COARSE if coarse else self.labels)
        return load_hub(
            f"uoft-cs/{self.slug}",
            name=self.slug,
            image_options=image_options,
            choices=Choices(label="coarse_label" if coarse else ""),
            alternative=f"; or give the official binary folder, {self.slug}:DIR",
        )

    def _read_folder(self, root: Path, labels: _Labels) -> Splits:
        folder = self._locate(root, labels)
        path = folder / labels.names_file
        names = tuple(text_lines(path))
        if len(names) != labels.classes:
            raise DataError(f"{path} holds {len(names)} class names, expected {labels.classes}")
        parts = []
        for files, count in ((self.train_files, 50_000), ((self.test_file,), 10_000)):
            each = count // len(files)
            records = [self._records(folder / file, each, labels) for file in files]
            pixels = np.concatenate([record[:, self.label_bytes :] for record in records])
            label_N = np.concatenate([record[:, labels.byte] for record in records])
            images_NDHW = torch.from_numpy(pixels.reshape(count, 3, 32, 32))
            labels_N = torch.from_numpy(label_N).long()
            parts.append(ImageData.numbered(images_NDHW, labels_N, names, labels.name, "crop-flip"))
        return Splits(parts[0], None, parts[1])

    def _locate(self, root: Path, labels: _Labels) -> Path:
        if not root.is_dir():
            raise DataError(
                f"{labels.name}: {root} is not a folder; give the official folder {self.folder} "
                "or the one it is in"
            )
        files = (*self.train_files, self.test_file, labels.names_file)
        candidates = [folder for folder in (root / self.folder, root) if folder.is_dir()]
        lacks = {folder: _missing(folder, files) for folder in candidates}
        best = min(candidates, key=lambda folder: len(lacks[folder]))
        if not lacks[best]:
            return best
        pickles = [Path(file).stem for file in (self.train_files[0], self.test_file)]
        for folder in (root, root / self.pickle_folder):
            if not _missing(folder, pickles):
                raise DataError(
                    f"{labels.name}: {folder} has the Python (pickle) version, which can run code "
                    f"and is never read; get the binary version, {self.folder}"
                )
        raise DataError(
            f"{labels.name}: {best} lacks {', '.join(lacks[best])}; give the official binary "
            f"folder {self.folder} or the one it is in"
        )

    def _records(self, path: Path, count: int, labels: _Labels) -> NDArray[np.uint8]:
        record = self.label_bytes + _PIXELS
        found = path.stat().st_size
        if found != count * record:
            raise DataError(
                f"{path} has {found:,} bytes, expected {count * record:,} ({count:,} records of "
                f"{record:,} bytes); get the file again"
            )
        records = np.fromfile(path, np.uint8).reshape(count, record)
        labels_N = records[:, labels.byte]
        wrong = np.flatnonzero(labels_N >= labels.classes)
        if len(wrong):
            raise DataError(
                f"{path}: record {wrong[0]} has label {labels_N[wrong[0]]}, expected 0 to "
                f"{labels.classes - 1}; get the file again"
            )
        return records


def _missing(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (folder / name).is_file()]


class Cifar100Reader(Cifar10Reader):
    """`cifar100:DIR`: the same; `?labels=coarse` for the 20 superclasses."""

    slug = "cifar100"
    options = ("labels",)
    folder = "cifar-100-binary"
    pickle_folder = "cifar-100-python"
    train_files = ("train.bin",)
    test_file = "test.bin"
    label_bytes = 2
    labels = _Labels("cifar100", "fine_label_names.txt", 100, 1)
