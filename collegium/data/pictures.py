"""Stored pictures (PNG, JPEG, WebP, BMP) decoded to one size, by Pillow.

Two passes: the headers say how large everything is, so that what does not fit is refused before
anything is decoded; then a few threads decode straight into the final tensor.
"""

import os
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from collegium.data.image_data import ImageData
from collegium.data.splits import Splits
from collegium.errors import DataError
from collegium.types import MapShape

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # others can start programs: EPS calls Ghostscript
_GREY_MODES = ("1", "L", "LA", "I")
_SIZES_CHOSEN = (32, 224)
_MOST_THREADS = 8


@dataclass(frozen=True)
class Picture:
    """One image as it is stored.

    Attributes:
        name: what messages call it.
        content: its file, or the bytes of one.
    """

    name: str
    content: Path | bytes


@dataclass(frozen=True)
class Album:
    """The pictures of one split with their labels, not yet decoded."""

    pictures: Sequence[Picture]
    labels: Sequence[int]


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    is_grey: bool


def decode_albums(
    albums: Mapping[str, Album],
    *,
    classes: tuple[str, ...],
    name: str,
    augment: str,
    image_size: int | None,
) -> Splits:
    """Decodes all splits to one size.

    Args:
        albums: "train" and perhaps "validation" and "test".
        classes: the class names.
        name: what the data are called.
        augment: the view recipe that suits training.
        image_size: rows and columns of the result: the largest centred square of each picture
            is scaled to it (bilinear, antialiased). None keeps pictures that all have one size
            as they are, else takes the median shorter side of train, at least 32, at most 224.

    Returns:
        uint8 images, RGB unless every picture is grey.

    Raises:
        DataError: a picture cannot be read or is a decompression bomb, or all together would fill
            more than half of the free memory.
    """
    headers = {split: _read_headers(album.pictures) for split, album in albums.items()}
    shape = _common_shape(headers, image_size)
    _check_memory(sum(map(len, headers.values())), shape, name)
    found = {
        split: _decode_album(album, shape, classes, name, augment)
        for split, album in albums.items()
    }
    return Splits(found["train"], found.get("validation"), found.get("test"))


def eight_bits(image: Image.Image, channels: int | None = None) -> Image.Image:
    """The picture in mode L or RGB; None keeps grey grey. 16 bits lose the lower eight."""
    grey = _is_grey(image) if channels is None else channels == 1
    if image.mode.startswith("I"):
        upper = np.asarray(image).astype(np.int64).clip(0, 0xFFFF) >> 8
        image = Image.fromarray(upper.astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # as Pillow asks for
    return image.convert("L" if grey else "RGB")


def free_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    entries = dict(line.split(":") for line in table.read_text().splitlines())
    return int(entries["MemAvailable"].split()[0]) * 1024


def _is_grey(image: Image.Image) -> bool:
    return image.mode in _GREY_MODES or image.mode.startswith("I;16")


def _read_headers(pictures: Sequence[Picture]) -> list[_Header]:
    with warnings.catch_warnings():
        # Between its two limits Pillow only warns of a bomb; here both are refused.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return [_read_header(picture) for picture in pictures]


def _read_header(picture: Picture) -> _Header:
    with _opened(picture) as image:
        return _Header(image.width, image.height, _is_grey(image))


@contextmanager
def _opened(picture: Picture) -> Iterator[Image.Image]:
    content = picture.content
    try:
        source = BytesIO(content) if isinstance(content, bytes) else content
        with Image.open(source, formats=_FORMATS) as image:
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{picture.name} is a decompression bomb: {error}") from error
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        reason = "not a PNG, JPEG, WebP or BMP image"
        if not isinstance(error, UnidentifiedImageError):
            reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{picture.name} cannot be read as an image: {reason}") from error


def _common_shape(headers: Mapping[str, Sequence[_Header]], image_size: int | None) -> MapShape:
    every = [header for split in headers.values() for header in split]
    channels = 1 if all(header.is_grey for header in every) else 3
    sizes = {(header.height, header.width) for header in every}
    if image_size is None and len(sizes) == 1:
        return channels, *sizes.pop()
    side = image_size or _median_side(headers["train"])
    return channels, side, side


def _median_side(headers: Sequence[_Header]) -> int:
    least, most = _SIZES_CHOSEN
    median = statistics.median(min(header.height, header.width) for header in headers)
    return max(least, min(most, round(median)))


def _check_memory(count: int, shape: MapShape, name: str) -> None:
    free = free_memory()
    channels, rows, columns = shape
    needed = count * channels * rows * columns
    if free is not None and needed > free // 2:
        raise DataError(
            f"{name}: {count:,} images of {rows}x{columns} need {needed / 1e9:.1f} GB, more than "
            f"half of the {free / 1e9:.1f} GB of free memory; give a smaller image_size"
        )


def _decode_album(
    album: Album, shape: MapShape, classes: tuple[str, ...], name: str, augment: str
) -> ImageData:
    images_NDHW = _decode(album.pictures, shape)
    labels_N = torch.tensor(album.labels, dtype=torch.int64)
    return ImageData(images_NDHW, labels_N, torch.arange(len(labels_N)), classes, name, augment)


def _decode(pictures: Sequence[Picture], shape: MapShape) -> UInt8[Tensor, "N D H W"]:
    images_NDHW = np.empty((len(pictures), *shape), np.uint8)

    def decode_one(place: int) -> None:
        with _opened(pictures[place]) as image:
            pixels = np.asarray(_fitted(eight_bits(image, shape[0]), shape[1], shape[2]))
            images_NDHW[place] = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for _ in pool.map(decode_one, range(len(pictures))):
                pass
        finally:
            pool.shutdown(cancel_futures=True)  # after the first failure the rest is in vain
    return torch.from_numpy(images_NDHW)


def _fitted(image: Image.Image, rows: int, columns: int) -> Image.Image:
    if image.size == (columns, rows):
        return image
    # Only the square is scaled: a very long picture would become huge before it is cropped.
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    square = (left, top, left + side, top + side)
    return image.resize((columns, rows), Image.Resampling.BILINEAR, box=square)
