"""Stored pictures (PNG, JPEG, WebP, BMP) decoded to one size, by Pillow.

The headers say how large everything is before anything is decoded; a few threads decode straight
into the final tensor.
"""

import os
import statistics
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from collegium.errors import DataError
from collegium.types import MapShape

T = TypeVar("T")
R = TypeVar("R")

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
class Header:
    """What a picture says of itself before it is decoded."""

    width: int
    height: int
    is_grey: bool


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


def thread_count() -> int:
    """Threads that read pictures."""
    return min(_MOST_THREADS, os.cpu_count() or 1)


def _is_grey(image: Image.Image) -> bool:
    return image.mode in _GREY_MODES or image.mode.startswith("I;16")


def read_headers(pictures: Sequence[Picture]) -> list[Header]:
    """Size and kind of every picture.

    Raises:
        DataError: one cannot be read, or is a decompression bomb.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(thread_count()) as pool:
        # Between its two limits Pillow only warns of a bomb; here both are refused.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return _all(pool, _read_header, pictures)


def _read_header(picture: Picture) -> Header:
    with _opened(picture) as image:
        return Header(image.width, image.height, _is_grey(image))


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


def common_shape(headers: Mapping[str, Sequence[Header]], image_size: int | None) -> MapShape:
    """The shape all splits' pictures are brought to; see `load_albums`."""
    every = [header for split in headers.values() for header in split]
    channels = 1 if all(header.is_grey for header in every) else 3
    sizes = {(header.height, header.width) for header in every}
    if image_size is None and len(sizes) == 1:
        return channels, *sizes.pop()
    side = image_size or _median_side(headers["train"])
    return channels, side, side


def _median_side(headers: Sequence[Header]) -> int:
    least, most = _SIZES_CHOSEN
    median = statistics.median(min(header.height, header.width) for header in headers)
    return max(least, min(most, round(median)))


def decode(pictures: Sequence[Picture], shape: MapShape) -> UInt8[Tensor, "N D H W"]:
    """Pixels of pictures, each brought to this shape.

    Raises:
        DataError: one cannot be read.
    """
    images_NDHW = np.empty((len(pictures), *shape), np.uint8)

    def decode_one(place: int) -> None:
        with _opened(pictures[place]) as image:
            pixels = np.asarray(_fitted(eight_bits(image, shape[0]), shape[1], shape[2]))
            images_NDHW[place] = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    # A worker that decodes beside others has one thread, so that all have a core.
    if torch.utils.data.get_worker_info() is not None:
        for place in range(len(pictures)):
            decode_one(place)
        return torch.from_numpy(images_NDHW)
    with ThreadPoolExecutor(thread_count()) as pool:
        _all(pool, decode_one, range(len(pictures)))
    return torch.from_numpy(images_NDHW)


def _all(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)  # after the first failure the rest is in vain


def _fitted(image: Image.Image, rows: int, columns: int) -> Image.Image:
    if image.size == (columns, rows):
        return image
    # Only the square is scaled: a very long picture would become huge before it is cropped.
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    square = (left, top, left + side, top + side)
    return image.resize((columns, rows), Image.Resampling.BILINEAR, box=square)
