"""Pictures of every kind that people have: how each is made, stored, and what its pixels are.

A kind is a mode, a type of numbers, a range and a file format; the reference reading is written
plainly, by what the format says, and shares nothing with the package.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Kind:
    """One kind of picture.

    Attributes:
        name: of the kind.
        values: numbers of a picture, from a generator and rows and columns.
        store: the bytes of its file.
        suffix: of the file.
        read: what its pixels are, 0..255, HW or HWD; None for a kind that is refused.
        refused: what the refusal says.
        as_array: whether the numbers themselves, as an array, are the same picture.
        told: what the note on it says; empty where nothing had to be guessed.
    """

    name: str
    values: Callable[[np.random.Generator, int, int], Pixels]
    store: Callable[[Pixels], bytes]
    suffix: str
    read: Callable[[Pixels], Pixels] | None
    refused: str = ""
    as_array: bool = True
    told: str = ""


def saved(form: str, mode: str | None = None, **options: Any) -> Callable[[Pixels], bytes]:
    """A file that Pillow writes of an array, converted to a mode first."""

    def store(values: Pixels) -> bytes:
        image = Image.fromarray(values)
        file = io.BytesIO()
        (image if mode is None else image.convert(mode)).save(file, form, **options)
        return file.getvalue()

    return store


def png_of_16_bits(values: Pixels) -> bytes:
    """A PNG of colours of 16 bits, which Pillow cannot write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        code = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + code

    rows, columns, _ = values.shape
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", columns, rows, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def whole(top: int, kind: Any, *depth: int) -> Callable[[np.random.Generator, int, int], Pixels]:
    """Whole numbers up to and with a largest one."""

    def make(rng: np.random.Generator, rows: int, columns: int) -> Pixels:
        found = rng.integers(0, top + 1, (rows, columns, *depth)).astype(kind)
        found.flat[0], found.flat[1] = top, 0
        return found

    return make


def real(low: float, high: float) -> Callable[[np.random.Generator, int, int], Pixels]:
    """Floating numbers that reach both ends."""

    def make(rng: np.random.Generator, rows: int, columns: int) -> Pixels:
        found = rng.uniform(low, high, (rows, columns)).astype(np.float32)
        found.flat[0], found.flat[1] = high, low
        return found

    return make


def holding(value: float) -> Callable[[np.random.Generator, int, int], Pixels]:
    """Floating numbers 0 to 1 with one other among them."""

    def make(rng: np.random.Generator, rows: int, columns: int) -> Pixels:
        found = real(0, 1)(rng, rows, columns)
        found.flat[2] = value
        return found

    return make


def same(values: Pixels) -> Pixels:
    """Bytes as they are."""
    return values


def shifted(bits: int) -> Callable[[Pixels], Pixels]:
    """The upper eight of so many bits."""
    return lambda values: values.astype(np.int64) >> (bits - 8)


def stretched(low: float, high: float) -> Callable[[Pixels], Pixels]:
    """From one end to the other, rounded."""
    return lambda values: ((values.astype(np.float64) - low) * 255 / (high - low)).round()


def as_mode(mode: str, back: str) -> Callable[[Pixels], Pixels]:
    """Through another mode of Pillow and back."""
    return lambda values: np.asarray(Image.fromarray(values).convert(mode).convert(back))


def in_colour(values: Pixels) -> Pixels:
    """Palettes are colour, whatever is in them."""
    return np.stack([values] * 3, axis=2)


def without_alpha(values: Pixels) -> Pixels:
    """What lies under the transparency."""
    return values[..., 0] if values.shape[2] == 2 else values[..., :3]


DEEP, CLEAR = "pixels of more than 8 bits run from", "transparency of 4 of 4 images is dropped"
_BITS = ((219, 8), (255, 8), (1000, 10), (4095, 12), (16000, 14), (60000, 16))
_FORMS = {"png": "PNG", "tiff": "TIFF", "pgm": "PPM"}


def _deep(suffix: str, top: int, bits: int) -> Kind:
    made, told = whole(top, np.uint16), DEEP * (bits < 16)
    name, store = f"{top} in {bits} bits of {suffix}", saved(_FORMS[suffix])
    return Kind(name, made, store, suffix, shifted(bits), told=told)


def _coloured(top: int, bits: int) -> Kind:
    made, told = whole(top, np.uint16, 3), DEEP * (bits < 16)
    name = f"{top} in {bits} bits of colour"
    return Kind(name, made, png_of_16_bits, "png", shifted(bits), told=told)


KINDS = (
    *(_deep("png", top, bits) for top, bits in _BITS),
    *(_deep(suffix, top, bits) for suffix in ("tiff", "pgm") for top, bits in _BITS[::3]),
    *(_coloured(top, bits) for top, bits in ((219, 8), (4095, 12), (60000, 16))),
    Kind("masks of 16 bits", whole(1, np.uint16), saved("PNG"), "png", stretched(0, 1), told=DEEP),
    Kind("digits of 16", whole(16, np.uint16), saved("PNG"), "png", stretched(0, 16), told=DEEP),
    Kind("32 bits", whole(3000, np.int32), saved("TIFF"), "tif", shifted(12), told=DEEP),
    Kind("floats 0..1", real(0, 1), saved("TIFF"), "tif", stretched(0, 1)),
    Kind("floats 0..0.4", real(0, 0.4), saved("TIFF"), "tif", stretched(0, 1)),
    Kind("floats 0..255", real(0, 255), saved("TIFF"), "TIF", stretched(0, 255), told=DEEP),
    Kind("floats -1..1", real(-1, 1), saved("TIFF"), "tiff", stretched(-1, 1), told=DEEP),
    Kind("standardised", real(-2, 2.5), saved("TIFF"), "tif", None, "normalisation belongs"),
    Kind("metres", real(0, 10), saved("TIFF"), "tif", None, "0 to 255: give raw pixels"),
    Kind("NaN", holding(np.nan), saved("TIFF"), "tif", None, "NaN or infinite"),
    Kind("infinity", holding(np.inf), saved("TIFF"), "tif", None, "NaN or infinite"),
    Kind("20 bits", whole(2**20, np.int32), saved("TIFF"), "tif", None, "0 to 255: give raw"),
    Kind("black", whole(0, np.uint8), saved("PNG"), "png", None, "the images are blank"),
    Kind(
        "black of 16 bits", whole(0, np.uint16), saved("PNG"), "png", None, "the images are blank"
    ),
    Kind("grey", whole(255, np.uint8), saved("PNG"), "png", same),
    Kind("colour", whole(255, np.uint8, 3), saved("PNG"), "PNG", same),
    Kind("bmp", whole(255, np.uint8, 3), saved("BMP"), "bmp", same),
    Kind("ppm", whole(255, np.uint8, 3), saved("PPM"), "ppm", same),
    Kind("tiff", whole(255, np.uint8, 3), saved("TIFF"), "tif", same),
    Kind("webp", whole(255, np.uint8, 3), saved("WEBP", lossless=True), "webp", same),
    Kind("gif", whole(255, np.uint8), saved("GIF"), "gif", in_colour, as_array=False),
    Kind("bits", whole(255, np.uint8), saved("PNG", "1"), "png", as_mode("1", "L"), as_array=False),
    Kind(
        "palette", whole(255, np.uint8, 3), saved("PNG", "P"), "png", as_mode("P", "RGB"), "", False
    ),
    Kind(
        "cmyk",
        whole(255, np.uint8, 3),
        saved("TIFF", "CMYK"),
        "tif",
        as_mode("CMYK", "RGB"),
        "",
        False,
    ),
    Kind(
        "grey with alpha",
        whole(255, np.uint8, 2),
        saved("PNG"),
        "png",
        without_alpha,
        as_array=False,
        told=CLEAR,
    ),
    Kind(
        "colour with alpha",
        whole(255, np.uint8, 4),
        saved("PNG"),
        "png",
        without_alpha,
        as_array=False,
        told=CLEAR,
    ),
)
