"""Modes of pictures: from whatever Pillow gives to eight bits, grey or RGB, by one rule for a set.

Depth, transparency and several frames are what a header tells and what a person must hear of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from collegium.data.images.pixel_scale import Scale, Span
from collegium.errors import DataError

Alpha = Literal["drop", "white", "black"]

_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
_SEE_THROUGH = ("LA", "La", "PA", "RGBA", "RGBa")
_OTHER_HALF = {"16B": "16L", "16L": "16B", "16N": "16B"}
_FRAMED = ("GIF", "TIFF", "WEBP", "PNG", "AVIF")  # not the previews in a camera's JPEG


@dataclass(frozen=True)
class PixelRule:
    """How every picture of a set becomes eight bits.

    Attributes:
        scale: black and white of pictures deeper than eight bits; None where there are none.
        alpha: what transparency becomes: dropped, so that one sees what lies under it, or the
            picture is put on white or black.
    """

    scale: Scale | None = None
    alpha: Alpha = "drop"

    def to_json(self) -> dict[str, Any]:
        """What a run keeps of it; empty for what holds without a word."""
        kept: dict[str, Any] = {}
        if self.scale is not None:
            kept["range"] = [self.scale.black, self.scale.white]
            if self.scale.given:
                kept["given"] = True
        if self.alpha != "drop":
            kept["alpha"] = self.alpha
        return kept

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "PixelRule":
        """The same again.

        Raises:
            DataError: it is none.
        """
        try:
            ends = [float(end) for end in content.get("range") or ()]
            scale = _scale_of(ends, bool(content.get("given"))) if ends else None
            alpha = content.get("alpha", "drop")
        except (AttributeError, TypeError, ValueError):
            scale, alpha = None, ""
        if alpha not in ("drop", "white", "black"):
            raise DataError(f"run.json is damaged: {content!r} does not say how images are read")
        return cls(scale, alpha)


def _scale_of(ends: Sequence[float], given: bool) -> Scale:
    black, white = ends
    return Scale(black, white, given)


PLAIN = PixelRule()
"""Of pictures of eight bits a channel, whose transparency is dropped."""


def is_grey(image: Image.Image) -> bool:
    """Whether a picture has no colour by its mode."""
    return image.mode in _GREY_MODES or image.mode.startswith("I;16")


def is_deep(image: Image.Image) -> bool:
    """Whether a picture, not yet loaded, has more than eight bits a channel."""
    return image.mode[:1] in "IF" or bool(_half_rawmode(image))


def is_see_through(image: Image.Image) -> bool:
    """Whether parts of it may be transparent."""
    return image.mode in _SEE_THROUGH or (image.mode == "P" and "transparency" in image.info)


def has_frames(image: Image.Image) -> bool:
    """Whether there are more pictures in it than the one that is read, the first."""
    return image.format in _FRAMED and getattr(image, "n_frames", 1) > 1


def _half_rawmode(image: Image.Image) -> str:
    """The raw mode that reads the other byte of colours of 16 bits; empty where there are none."""
    tiles = getattr(image, "tile", None) or ()
    found = ""
    for tile in tiles:
        raw = tile[3] if isinstance(tile[3], str) else (tile[3] or ("",))[0]
        mode, _, depth = str(raw).partition(";")
        if mode not in ("RGB", "RGBA") or depth not in _OTHER_HALF:
            return ""
        found = f"{mode};{_OTHER_HALF[depth]}"
    return found


def other_half(image: Image.Image) -> Image.Image:
    """The lower bytes of a picture of 16-bit colours, which Pillow leaves out.

    Args:
        image: opened for this alone, not yet loaded.
    """
    file: Any = image
    file.tile = [_read_as(tile, _half_rawmode(image)) for tile in file.tile]
    image.load()
    return image


def _read_as(tile: Any, raw: str) -> Any:
    """A part of a file with another raw mode."""
    made = (*tile[:3], raw if isinstance(tile[3], str) else (raw, *tile[3][1:]))
    return tile._make(made) if hasattr(tile, "_make") else made


def deep_values(image: Image.Image, low: Image.Image | None = None) -> NDArray[Any]:
    """The numbers of a picture of more than eight bits, (H, W) or (H, W, 3).

    Args:
        image: the picture.
        low: its lower bytes, where it is one of 16-bit colours.
    """
    if low is None:
        values = np.asarray(image)
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    upper, lower = (np.asarray(half)[..., :3].astype(np.uint16) for half in (image, low))
    return (upper << 8) | lower


@dataclass(frozen=True)
class Look:
    """What only the pixels of a picture tell.

    Attributes:
        span: its numbers, if it is deeper than eight bits.
        clear: whether some of it is transparent.
        hidden: whether it is of one colour under its transparency.
    """

    span: Span | None = None
    clear: bool = False
    hidden: bool = False


def look_at(image: Image.Image, name: str, low: Image.Image | None, deep: bool) -> Look:
    """Look at the pixels of one picture.

    Raises:
        DataError: a pixel is NaN or infinite.
    """
    span = Span.of(deep_values(image, low), name) if deep else None
    if not is_see_through(image):
        return Look(span)
    bands = image.convert("RGBA").split()
    lowest, highest = _ends(bands[3])
    flat = all(low == high for low, high in map(_ends, bands[:3]))
    return Look(span, lowest < 255, lowest < highest and flat)


def _ends(band: Image.Image) -> tuple[int, int]:
    """The smallest and the largest value of eight bits."""
    values = np.asarray(band)
    return int(values.min()), int(values.max())


def eight_bits(
    image: Image.Image,
    channels: int | None = None,
    rule: PixelRule = PLAIN,
    *,
    name: str = "an image",
    low: Image.Image | None = None,
) -> Image.Image:
    """The picture in mode L or RGB; None keeps grey grey.

    Args:
        image: of any mode.
        channels: 1 or 3.
        rule: of the whole set.
        name: what messages call it.
        low: the lower bytes of 16-bit colours.

    Raises:
        DataError: it is deeper than the set it belongs to, whose rule has no scale.
    """
    grey = is_grey(image) if channels is None else channels == 1
    if image.mode[:1] in "IF" or low is not None:
        image = _scaled(image, low, rule.scale, name)
    if is_see_through(image):
        image = _on(image, rule.alpha)
    mode = "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _scaled(
    image: Image.Image, low: Image.Image | None, scale: Scale | None, name: str
) -> Image.Image:
    """Eight bits of more."""
    if scale is None:
        raise DataError(
            f"{name} has more than eight bits a channel, the images looked at before had not: "
            "give ?range=BLACK,WHITE"
        )
    made = Image.fromarray(scale.bytes(deep_values(image, low), name))
    if is_see_through(image):
        made.putalpha(image.getchannel("A"))
    return made


def _on(image: Image.Image, alpha: Alpha) -> Image.Image:
    """A picture without transparency."""
    if image.mode in ("La", "RGBa"):  # colours that were multiplied by what covers them
        image = image.convert(image.mode.upper())
    if alpha != "drop":
        ground = Image.new("RGBA", image.size, alpha)
        grey, whole = is_grey(image), Image.alpha_composite(ground, image.convert("RGBA"))
        return whole.convert("L" if grey else "RGB")
    # Palettes with transparency as Pillow asks for; the others drop it as they are converted.
    return image.convert("RGBA") if image.mode == "P" else image
