"""Encoded images (PNG, JPEG, WebP, BMP, TIFF, GIF, PPM, AVIF) decoded to one size by Pillow.

The headers give every size before anything is decoded; a few threads decode straight into the
final tensor.
"""

import os
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from collegium.data.images.modes import (
    PLAIN,
    PixelFacts,
    PixelRule,
    eight_bits,
    has_alpha,
    has_frames,
    is_deep,
    is_grey,
    other_half,
    pixel_facts,
)
from collegium.data.images.pixel_scale import Scale
from collegium.errors import DataError
from collegium.types import MapShape

T = TypeVar("T")
R = TypeVar("R")

DECODER_VERSION = 2
"""Increases whenever the same bytes would give other pixels."""
LEAVE_OUT = "; repair or remove it, or leave such images out: --corrupt skip"
MANY = 10_000
"""From this many images on, several processes read them and progress is reported."""

# Others can start programs: EPS calls Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "AVIF")
_NO_FORMAT = "not a PNG, JPEG, WebP, BMP, TIFF, GIF, PPM or AVIF image"
_SIZES_CHOSEN = (32, 224)
_MOST = 0.9  # of the training images: if so many have one size, all get it
_MOST_THREADS = 8
_MARGIN = 2  # a JPEG is decoded at no less than this many times the size of the result
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
_TURNED = (5, 6, 7, 8)  # these exchange width and height


@dataclass(frozen=True)
class EncodedImage:
    """One image as it is stored.

    Attributes:
        name: used in messages.
        content: its file, or the bytes of one.
    """

    name: str
    content: Path | bytes

    def size(self) -> int:
        """Stored bytes, without reading them."""
        content = self.content
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    def read(self) -> bytes:
        """What is stored.

        Raises:
            DataError: its file cannot be read.
        """
        try:
            return self.content if isinstance(self.content, bytes) else self.content.read_bytes()
        except OSError as error:
            raise DataError(f"{self.name} cannot be read: {error}") from error


@dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded; sizes are of the upright image.

    Attributes:
        width: columns.
        height: rows.
        is_grey: it has no colour.
        deep: a channel has more than eight bits.
        has_alpha: parts may be transparent.
        frames: it has more frames than the first, which is read.
    """

    width: int
    height: int
    is_grey: bool
    deep: bool = False
    has_alpha: bool = False
    frames: bool = False


def free_memory() -> int | None:
    """Bytes available without swapping; None if the system does not report them."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    entries = dict(line.split(":") for line in table.read_text().splitlines())
    return int(entries["MemAvailable"].split()[0]) * 1024


def thread_count() -> int:
    """Threads, or processes, that read images."""
    return min(_MOST_THREADS, os.cpu_count() or 1)


def read_headers(encoded_images: Sequence[EncodedImage]) -> list[Header]:
    """Size and kind of every image.

    Raises:
        DataError: one cannot be read, or is a decompression bomb.
    """
    return _in_threads(_read_header, encoded_images)


def _read_header(encoded: EncodedImage) -> Header:
    with _opened(encoded) as image:
        return header_of(image, orientation(image))


def header_of(image: Image.Image, turn: int) -> Header:
    """Header of an image that Pillow has opened, from its orientation in Exif."""
    height, width = as_stored((image.height, image.width), turn)
    kinds = (is_grey(image), is_deep(image), has_alpha(image), has_frames(image))
    return Header(width, height, *kinds)


def read_pixel_facts(
    encoded_images: Sequence[EncodedImage], headers: Sequence[Header]
) -> list[PixelFacts]:
    """Depth and transparency in the pixels of those images whose headers allow either.

    Raises:
        DataError: one cannot be read, or has pixels that are NaN or infinite.
    """

    def facts_at(place: int) -> PixelFacts:
        header, encoded = headers[place], encoded_images[place]
        with _opened(encoded) as image:
            return pixel_facts(image, encoded.name, _low(encoded, image), header.deep)

    places = [at for at, header in enumerate(headers) if header.deep or header.has_alpha]
    return _in_threads(facts_at, places)


def _low(encoded: EncodedImage, image: Image.Image) -> Image.Image | None:
    """The lower bytes of 16-bit colours, which Pillow leaves out of an image."""
    if image.mode[:1] in "IF" or not is_deep(image):
        return None
    with _opened(encoded) as again:
        return other_half(again)


@contextmanager
def _bombs_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # of metadata that is not used
        # Between its two limits Pillow only warns of a bomb; here both are refused.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _opened(encoded: EncodedImage) -> Iterator[Image.Image]:
    content = encoded.content
    try:
        source = BytesIO(content) if isinstance(content, bytes) else content
        with Image.open(source, formats=_FORMATS) as image:
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{encoded.name} is a decompression bomb: {error}{LEAVE_OUT}") from error
    except DataError:
        raise
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        reason = _reason(error, encoded)
        raise DataError(
            f"{encoded.name} cannot be read as an image: {reason}{LEAVE_OUT}"
        ) from error


def _reason(error: Exception, encoded: EncodedImage) -> str:
    if not isinstance(error, UnidentifiedImageError):
        return str(error).partition("\n")[0] or type(error).__name__
    return _NO_FORMAT if encoded.size() else "it has no bytes"


def orientation(image: Image.Image) -> int:
    """Orientation of the camera in Exif, 1 to 8; 1 is upright."""
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata does not make the image damaged
        return 1


def common_shape(
    headers: Mapping[str, Sequence[Header]], image_size: int | Sequence[int] | None
) -> MapShape:
    """The shape that all splits' images get; see `load_images`."""
    every = [header for split in headers.values() for header in split]
    channels = 1 if all(header.is_grey for header in every) else 3
    if image_size is not None:
        rows, columns = (image_size,) * 2 if isinstance(image_size, int) else image_size
        return channels, rows, columns
    sizes = Counter((header.height, header.width) for header in headers["train"])
    size, count = sizes.most_common(1)[0]
    if count >= _MOST * len(headers["train"]):
        return channels, *size
    least, most = _SIZES_CHOSEN
    median = statistics.median(min(header.height, header.width) for header in headers["train"])
    side = max(least, min(most, round(median)))
    return channels, side, side


def decode(
    encoded_images: Sequence[EncodedImage],
    shape: MapShape,
    rule: PixelRule = PLAIN,
) -> UInt8[Tensor, "N D H W"]:
    """Pixels of images, all brought to this shape by one rule.

    Raises:
        DataError: one cannot be read.
    """
    images_NDHW = np.empty((len(encoded_images), *shape), np.uint8)

    def fill(place: int) -> None:
        images_NDHW[place] = decode_one(encoded_images[place], shape, rule)

    _in_threads(fill, range(len(encoded_images)))
    return torch.from_numpy(images_NDHW)


def decode_one(
    encoded: EncodedImage,
    shape: MapShape,
    rule: PixelRule = PLAIN,
) -> UInt8[np.ndarray, "D H W"]:
    """Pixels of one upright image, brought to this shape by the rule of its data set.

    Raises:
        DataError: it cannot be read.
    """
    with _opened(encoded) as image:
        turn = orientation(image)
        rows, columns = as_stored(shape[1:], turn)
        # A JPEG can be decoded at a smaller size; other formats ignore this.
        image.draft(image.mode, (_MARGIN * columns, _MARGIN * rows))
        low = _low(encoded, image)
        plain = eight_bits(image, shape[0], rule, name=encoded.name, low=low)
        pixels = np.asarray(brought_to(plain, shape[1:], turn))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def as_stored(size: Sequence[int], turn: int) -> tuple[int, int]:
    """Rows and columns as the camera stored them, from those of the upright image."""
    rows, columns = size
    return (columns, rows) if turn in _TURNED else (rows, columns)


def brought_to(image: Image.Image, size: Sequence[int], turn: int) -> Image.Image:
    """The upright image of so many rows and columns, from one as the camera stored it."""
    rows, columns = as_stored(size, turn)
    if image.size != (columns, rows):
        # Only the centred part is scaled: a long image would become huge before it is cropped.
        image = ImageOps.fit(image, (columns, rows), Image.Resampling.BILINEAR)
    return image.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else image


def decode_error(encoded: EncodedImage) -> str:
    """Why an image cannot be decoded, beginning with its name; empty if it can be."""
    try:
        with _bombs_are_errors():
            # The smallest size costs least and still reads every byte.
            decode_one(encoded, (1, 1, 1), _ANY_DEPTH)
    except DataError as error:
        return str(error).removesuffix(LEAVE_OUT)
    return ""


def _in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The result for each item, in order."""
    # A worker that decodes beside others has one thread, so that each has a core.
    threads = 1 if torch.utils.data.get_worker_info() is not None else thread_count()
    with _bombs_are_errors(), ThreadPoolExecutor(threads) as pool:
        try:
            return list(pool.map(function, items))
        finally:
            pool.shutdown(cancel_futures=True)  # after the first failure the rest is useless
