"""MNIST and data sets in its form: idx files, compressed by gzip or not.

LeCun, Cortes and Burges, "The MNIST database of handwritten digits" (1998), describe the form: two
zero bytes, 8 for unsigned bytes, the number of axes, each axis as a big-endian 32-bit number, then
the values. Fashion-MNIST: Xiao, Rasul and Vollgraf (2017, arXiv:1708.07747).
"""

import gzip
import math
import struct
import zlib
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
_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"


def _find(folder: Path, part: str, kind: str, axes: int) -> Path | None:
    plain = [f"{part}-{kind}{mark}idx{axes}-ubyte" for mark in "-."]
    paths = (folder / name for name in (*plain, *(f"{name}.gz" for name in plain)))
    return next((path for path in paths if path.is_file()), None)


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
    folder = "MNIST"
    """The folder's name in torchvision, with which many download it."""
    classes = tuple("0123456789")
    """The ten names."""
    augment = "none"
    """The view recipe that suits training."""

    def read(self, spec: DataSpec, image_options: ImageOptions) -> Splits:
        """Train and test from the folder with the files, or the one with raw/ or MNIST/raw/.

        Nothing is held out. An index is the position in the file.

        Raises:
            DataError: files are missing, truncated, or their headers do not fit what is in them.
        """
        folder = self._locate(spec.path)
        return Splits(self._split(folder, "train"), None, self._split(folder, "t10k"))

    def _locate(self, root: Path) -> Path:
        folders = [root, root / self.folder / "raw", root / "raw", root / self.folder]
        for folder in folders:
            if _find(folder, "train", "images", 3):
                return folder
        what = "holds no" if root.is_dir() else "is not a folder with"
        raise DataError(
            f"{self.slug}: {root} {what} train-images-idx3-ubyte (or .gz, here or in "
            f"{self.folder}/raw); give the folder of the four idx files"
        )

    def _split(self, folder: Path, part: str) -> ImageData:
        _, images_NHW = self._values(folder, part, "images", 3)
        path, labels_N = self._values(folder, part, "labels", 1)
        if len(labels_N) != len(images_NHW):
            raise DataError(f"{path} has {len(labels_N):,} labels for {len(images_NHW):,} images")
        if labels_N.max(initial=0) >= len(self.classes):
            raise DataError(
                f"{path} has the label {labels_N.max()}, expected 0 to 9; is it the file?"
            )
        images, labels = torch.from_numpy(images_NHW)[:, None], torch.from_numpy(labels_N).long()
        return ImageData.numbered(images, labels, self.classes, self.slug, self.augment)

    def _values(
        self, folder: Path, part: str, kind: str, axes: int
    ) -> tuple[Path, UInt8[np.ndarray, "..."]]:
        """A file and its values, in the shape of its header."""
        path = _find(folder, part, kind, axes)
        if path is None:
            raise DataError(f"{self.slug}: {folder} lacks {part}-{kind}-idx{axes}-ubyte (or .gz)")
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            try:
                source: BufferedIOBase = gzip.GzipFile(fileobj=file) if packed else file
                return path, _values(source, path, axes, packed)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise DataError(f"{path} is damaged: {error}; get the file again") from error


class FashionMnistReader(MnistReader):
    """`fashion-mnist:DIR`: the four idx files, compressed or not."""

    slug = "fashion-mnist"
    folder = "FashionMNIST"
    classes = tuple(_CLOTHES.split(","))
    augment = "crop-flip"
