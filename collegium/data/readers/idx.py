"""MNIST and data sets in its form: idx files, compressed by gzip or not.

LeCun, Cortes and Burges, "The MNIST database of handwritten digits" (1998), describe the form: two
zero bytes, 8 for unsigned bytes, the number of axes, each axis as a big-endian 32-bit number, then
the values. Fashion-MNIST: Xiao, Rasul and Vollgraf (2017, arXiv:1708.07747).
"""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from collegium.data.data_string import DataSpec
from collegium.data.image_data import ImageData
from collegium.data.images.load import ImageOptions
from collegium.data.readers.base import AbstractReader
from collegium.data.splits import Splits
from collegium.errors import DataError

_GZIP = b"\x1f\x8b"
_GZIP_GAIN = 1032  # deflate cannot make more of a byte
_CHUNK = 1 << 20
_PARTS = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class IdxFormat:
    """One data set of idx files.

    Attributes:
        name: of the data, in messages and records.
        folder: the folder's name in torchvision, with which many download it.
        classes: the ten names.
        augment: the view recipe that suits training.
    """

    name: str
    folder: str
    classes: tuple[str, ...]
    augment: str


MNIST = IdxFormat("mnist", "MNIST", tuple("0123456789"), "none")
_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
FASHION_MNIST = IdxFormat("fashion-mnist", "FashionMNIST", tuple(_CLOTHES.split(",")), "crop-flip")


def load_idx(layout: IdxFormat, root: Path) -> Splits:
    """Reads the four files; nothing is held out.

    Args:
        layout: `MNIST` or `FASHION_MNIST`.
        root: the folder with the files, or the one that holds raw/ or MNIST/raw/ with them.

    Returns:
        Train and test; an index is the position in the file.

    Raises:
        DataError: files are missing, truncated, or their headers do not fit what is in them.
    """
    folder = _locate(layout, root)
    parts = {split: _read_split(layout, folder, part) for split, part in _PARTS.items()}
    return Splits(parts["train"], None, parts["test"])


def _find(folder: Path, part: str, kind: str, axes: int) -> Path | None:
    plain = [f"{part}-{kind}{mark}idx{axes}-ubyte" for mark in "-."]
    paths = (folder / name for name in (*plain, *(f"{name}.gz" for name in plain)))
    return next((path for path in paths if path.is_file()), None)


def _locate(layout: IdxFormat, root: Path) -> Path:
    folders = [root, root / layout.folder / "raw", root / "raw", root / layout.folder]
    for folder in folders:
        if _find(folder, "train", "images", 3):
            return folder
    what = "holds no" if root.is_dir() else "is not a folder with"
    raise DataError(
        f"{layout.name}: {root} {what} train-images-idx3-ubyte (or .gz, here or in "
        f"{layout.folder}/raw); give the folder of the four idx files"
    )


def _read_split(layout: IdxFormat, folder: Path, part: str) -> ImageData:
    _, images_NHW = _read(layout, folder, part, "images", 3)
    path, labels_N = _read(layout, folder, part, "labels", 1)
    if len(labels_N) != len(images_NHW):
        raise DataError(f"{path} has {len(labels_N):,} labels for {len(images_NHW):,} images")
    if labels_N.max(initial=0) >= len(layout.classes):
        raise DataError(f"{path} has the label {labels_N.max()}, expected 0 to 9; is it the file?")
    images, labels = torch.from_numpy(images_NHW)[:, None], torch.from_numpy(labels_N).long()
    return ImageData.numbered(images, labels, layout.classes, layout.name, layout.augment)


def _read(
    layout: IdxFormat, folder: Path, part: str, kind: str, axes: int
) -> tuple[Path, UInt8[np.ndarray, "..."]]:
    """A file and its values, in the shape of its header."""
    path = _find(folder, part, kind, axes)
    if path is None:
        raise DataError(f"{layout.name}: {folder} lacks {part}-{kind}-idx{axes}-ubyte (or .gz)")
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        try:
            source: BufferedIOBase = gzip.GzipFile(fileobj=file) if packed else file
            return path, _values(source, path, axes, packed)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is damaged: {error}; get the file again") from error


def _values(file: BufferedIOBase, path: Path, axes: int, packed: bool) -> UInt8[np.ndarray, "..."]:
    head = file.read(4 + 4 * axes)
    if head[:4] != bytes((0, 0, 8, axes)) or len(head) < 4 + 4 * axes:
        raise DataError(f"{path} is no idx file of bytes with {axes} axes: it begins {head[:4]!r}")
    shape = struct.unpack(f">{axes}I", head[4:])
    claimed, stored = math.prod(shape), path.stat().st_size
    # Before anything of the claimed size is made.
    if 0 in shape or (claimed > _GZIP_GAIN * stored if packed else claimed != stored - len(head)):
        raise DataError(
            f"{path} claims {'x'.join(map(str, shape))} values and has {stored:,} bytes"
            f"{', compressed' if packed else ''}; get the file again"
        )
    values = bytearray()  # memory grows with what is there, not with what is claimed
    while chunk := file.read(min(_CHUNK, claimed + 1 - len(values))):
        values += chunk
    if len(values) != claimed:
        found = "more" if len(values) > claimed else f"{len(values):,}"
        raise DataError(f"{path} claims {claimed:,} values and holds {found}; get the file again")
    return np.frombuffer(values, np.uint8).reshape(shape)


class MnistReader(AbstractReader):
    """`mnist:DIR`: the four idx files, compressed or not."""

    slug = "mnist"
    needs = "DIR, the folder with train-images-idx3-ubyte"
    side = 28
    layout = MNIST

    def read(self, spec: DataSpec, image_options: ImageOptions) -> Splits:
        """See `load_idx`."""
        return load_idx(self.layout, spec.path)


class FashionMnistReader(MnistReader):
    """`fashion-mnist:DIR`: the four idx files, compressed or not."""

    slug = "fashion-mnist"
    layout = FASHION_MNIST
