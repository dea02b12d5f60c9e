"""Whatever a picture is like, its pixels are those a person would see."""

import io

import numpy as np
import pytest
from PIL import Image

from collegium.data.images.decode import EncodedImage, common_shape, decode, read_headers

GRADIENT = np.add.outer(np.arange(24) * 6, np.arange(36) * 3).astype(np.uint8)
COLOUR = np.stack([GRADIENT, GRADIENT[::-1], 255 - GRADIENT], 2)


def stored(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return EncodedImage("it", file.getvalue())


def decoded(picture, rows=24, columns=36, channels=3):
    return decode([picture], (channels, rows, columns))[0].numpy().transpose(1, 2, 0).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pictures_stand_upright(orientation, kind):
    # What a camera stores that was held so: the inverse of what has to be done to it.
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    image = Image.fromarray(COLOUR)
    lying = image if undo is None else image.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"JPEG": {"quality": 100}, "PNG": {}, "WEBP": {"lossless": True}}[kind]
    picture = stored(lying, kind, exif=exif, **lossless)
    (header,) = read_headers([picture])
    assert (header.height, header.width) == (24, 36)
    assert np.abs(decoded(picture) - COLOUR).mean() < (6 if kind == "JPEG" else 0.1)


def test_damaged_metadata_is_no_damaged_picture():
    picture = stored(Image.fromarray(COLOUR), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decoded(picture).shape == (24, 36, 3)


@pytest.mark.parametrize("mode", ["CMYK", "RGBA", "P", "L", "LA", "1", "YCbCr"])
def test_every_mode_becomes_colour(mode):
    image = Image.fromarray(COLOUR).convert(mode)
    picture = stored(image, "JPEG" if mode in ("CMYK", "YCbCr") else "PNG")
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(decoded(picture) - expected).mean() < 3


def test_grey_is_kept_grey_only_alone():
    grey, colour = (stored(Image.fromarray(COLOUR).convert(mode)) for mode in ("L", "RGB"))
    assert common_shape({"train": read_headers([grey, grey])}, None)[0] == 1
    assert common_shape({"train": read_headers([grey, colour])}, None)[0] == 3


def test_large_jpegs_are_decoded_at_a_fraction_to_nearly_the_same():
    wave = np.sin(np.arange(512) / 23)[:, None] * np.cos(np.arange(800) / 31)
    image = Image.fromarray((127 + 120 * np.stack([wave, -wave, wave**2], 2)).astype(np.uint8))
    box = ((800 - 512) / 2, 0, (800 + 512) / 2, 512)
    whole = image.resize((32, 32), Image.Resampling.BILINEAR, box=box)
    found = decoded(stored(image, "JPEG", quality=98), 32, 32)
    assert np.abs(found - np.asarray(whole)).max() <= 3
