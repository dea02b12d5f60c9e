"""Stored pictures (PNG, JPEG, WebP, BMP, TIFF, GIF, PPM, AVIF) decoded to one size, by Pillow.

The headers say how large everything is before anything is decoded; a few threads decode straight
into the final tensor.
"""

import os
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from collegium.data.images.modes import (
    PLAIN,
    Look,
    PixelRule,
    eight_bits,
    has_frames,
    is_deep,
    is_grey,
    is_see_through,
    look_at,
    other_half,
)
from collegium.data.images.pixel_scale import Scale
from collegium.errors import DataError
from collegium.types import MapShape

T = TypeVar("T")
R = TypeVar("R")

DECODER_VERSION = 2
"""Which function from stored bytes to pixels this is."""
LEAVE_OUT = "; mend or remove it, or leave such images out: --corrupt skip"
MANY = 10_000
"""Pictures whose reading is worth processes, and a word to the user."""

# Others can start programs: EPS calls Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "AVIF")
_NO_FORMAT = "not a PNG, JPEG, WebP, BMP, TIFF, GIF, PPM or AVIF image"
_SIZES_CHOSEN = (32, 224)
_MOST = 0.9  # of the pictures of train, which decide a size for the few others
_MOST_THREADS = 8
_MARGIN = 2  # a JPEG is decoded at no less than this many times the size that is wanted
_ORIENTATION = 0x0112  # of the Exif standard
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ANY_DEPTH = PixelRule(Scale(0.0, 65535.0, given=True))
_LYING = (5, 6, 7, 8)  # width and height change places


@dataclass(frozen=True)
class Picture:
    """One image as it is stored.

    Attributes:
        name: what messages call it.
        content: its file, or the bytes of one.
    """

    name: str
    content: Path | bytes


@runtime_checkable
class Listed(Protocol):
    """Pictures by number."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, place: int, /) -> Picture:
        """The one of that number."""


@dataclass(frozen=True)
class Header:
    """What a picture says of itself before it is decoded, standing upright.

    Attributes:
        width: columns.
        height: rows.
        is_grey: whether it has no colour.
        deep: whether a channel has more than eight bits.
        see_through: whether parts may be transparent.
        frames: whether it holds more pictures than the one that is read.
    """

    width: int
    height: int
    is_grey: bool
    deep: bool = False
    see_through: bool = False
    frames: bool = False


def free_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    entries = dict(line.split(":") for line in table.read_text().splitlines())
    return int(entries["MemAvailable"].split()[0]) * 1024


def thread_count() -> int:
    """Threads, or processes, that read pictures."""
    return min(_MOST_THREADS, os.cpu_count() or 1)


def read_headers(pictures: Listed) -> list[Header]:
    """Size and kind of every picture.

    Raises:
        DataError: one cannot be read, or is a decompression bomb.
    """
    with _bombs_are_errors(), ThreadPoolExecutor(thread_count()) as pool:
        return _all(pool, _read_header, map(pictures.__getitem__, range(len(pictures))))


def _read_header(picture: Picture) -> Header:
    with _opened(picture) as image:
        return header_of(image)


def header_of(image: Image.Image) -> Header:
    """What a picture says that Pillow has opened."""
    width, height = image.size
    if orientation(image) in _LYING:
        width, height = height, width
    kinds = (is_grey(image), is_deep(image), is_see_through(image), has_frames(image))
    return Header(width, height, *kinds)


def read_looks(pictures: Listed, headers: Sequence[Header]) -> list[Look]:
    """What the pixels tell of those whose headers leave it open: depth and transparency.

    Raises:
        DataError: one cannot be read, or has pixels that are NaN or infinite.
    """

    def look(place: int) -> Look:
        header, picture = headers[place], pictures[place]
        with _opened(picture) as image:
            low = _low(picture, image)
            return look_at(image, picture.name, low, header.deep)

    places = [at for at, header in enumerate(headers) if header.deep or header.see_through]
    with _bombs_are_errors(), ThreadPoolExecutor(thread_count()) as pool:
        return _all(pool, look, places)


def _low(picture: Picture, image: Image.Image) -> Image.Image | None:
    """The lower bytes of 16-bit colours, which Pillow leaves out of an image."""
    if image.mode[:1] in "IF" or not is_deep(image):
        return None
    with _opened(picture) as again:
        return other_half(again)


@contextmanager
def _bombs_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # remarks on metadata nobody uses
        # Between its two limits Pillow only warns of a bomb; here both are refused.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _opened(picture: Picture) -> Iterator[Image.Image]:
    content = picture.content
    try:
        source = BytesIO(content) if isinstance(content, bytes) else content
        with Image.open(source, formats=_FORMATS) as image:
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{picture.name} is a decompression bomb: {error}{LEAVE_OUT}") from error
    except DataError:
        raise
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        reason = _reason(error, content)
        raise DataError(
            f"{picture.name} cannot be read as an image: {reason}{LEAVE_OUT}"
        ) from error


def _reason(error: Exception, content: Path | bytes) -> str:
    if not isinstance(error, UnidentifiedImageError):
        return str(error).partition("\n")[0] or type(error).__name__
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    return _NO_FORMAT if size else "it has no bytes"


def orientation(image: Image.Image) -> int:
    """How the camera was held, 1 to 8; 1 is upright."""
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged note beside a picture is no damaged picture
        return 1


def common_shape(
    headers: Mapping[str, Sequence[Header]], image_size: int | Sequence[int] | None
) -> MapShape:
    """The shape all splits' pictures are brought to; see `load_images`."""
    every = [header for split in headers.values() for header in split]
    channels = 1 if all(header.is_grey for header in every) else 3
    if image_size is not None:
        rows, columns = (image_size,) * 2 if isinstance(image_size, int) else image_size
        return channels, rows, columns
    sizes = Counter((header.height, header.width) for header in headers["train"])
    size, count = sizes.most_common(1)[0]
    if count >= _MOST * len(headers["train"]):
        return channels, *size
    return channels, *(_median_side(headers["train"]),) * 2


def _median_side(headers: Sequence[Header]) -> int:
    least, most = _SIZES_CHOSEN
    median = statistics.median(min(header.height, header.width) for header in headers)
    return max(least, min(most, round(median)))


def decode(
    pictures: Listed,
    shape: MapShape,
    rule: PixelRule = PLAIN,
) -> UInt8[Tensor, "N D H W"]:
    """Pixels of pictures, each brought to this shape by the rule of their set.

    Raises:
        DataError: one cannot be read.
    """
    images_NDHW = np.empty((len(pictures), *shape), np.uint8)

    def fill(place: int) -> None:
        images_NDHW[place] = decode_one(pictures[place], shape, rule)

    with _bombs_are_errors():
        # A worker that decodes beside others has one thread, so that all have a core.
        if torch.utils.data.get_worker_info() is not None:
            for place in range(len(pictures)):
                fill(place)
            return torch.from_numpy(images_NDHW)
        with ThreadPoolExecutor(thread_count()) as pool:
            _all(pool, fill, range(len(pictures)))
    return torch.from_numpy(images_NDHW)


def decode_one(
    picture: Picture,
    shape: MapShape,
    rule: PixelRule = PLAIN,
) -> UInt8[np.ndarray, "D H W"]:
    """Pixels of one picture, standing upright, brought to this shape by the rule of its set.

    Raises:
        DataError: it cannot be read.
    """
    with _opened(picture) as image:
        turn = orientation(image)
        rows, columns = as_stored(shape[1:], turn)
        # What would be scaled away need not be decoded; other formats than JPEG ignore this.
        image.draft(image.mode, (_MARGIN * columns, _MARGIN * rows))
        low = _low(picture, image)
        plain = eight_bits(image, shape[0], rule, name=picture.name, low=low)
        pixels = np.asarray(brought_to(plain, shape[1:], turn))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def as_stored(size: Sequence[int], turn: int) -> tuple[int, int]:
    """Rows and columns of a picture as a camera stored it, of those it has upright."""
    rows, columns = size
    return (columns, rows) if turn in _LYING else (rows, columns)


def brought_to(image: Image.Image, size: Sequence[int], turn: int) -> Image.Image:
    """A picture that a camera stored so, upright, of so many rows and columns."""
    fitted = fit(image, *as_stored(size, turn))
    return fitted.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else fitted


def fault(picture: Picture) -> str:
    """Why a picture cannot be decoded, beginning with its name; empty if it can be."""
    try:
        with _bombs_are_errors():
            # The smallest size costs least, and reads every byte.
            decode_one(picture, (1, 1, 1), _ANY_DEPTH)
    except DataError as error:
        return str(error).removesuffix(LEAVE_OUT)
    return ""


def _all(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)  # after the first failure the rest is in vain


def fit(image: Image.Image, rows: int, columns: int) -> Image.Image:
    """The largest centred part of this shape scaled to this size; one of this size as it is."""
    if image.size == (columns, rows):
        return image
    # Only the part is scaled: a very long picture would become huge before it is cropped.
    width = min(image.width, image.height * columns / rows)
    height = min(image.height, image.width * rows / columns)
    left, top = (image.width - width) / 2, (image.height - height) / 2
    part = (left, top, left + width, top + height)
    return image.resize((columns, rows), Image.Resampling.BILINEAR, box=part)
