"""Image modes: from any mode of Pillow to eight bits, grey or RGB, by one rule for a data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from collegium.data.images.pixel_scale import Scale, Span
from collegium.errors import DataError

Alpha = Literal["drop", "white", "black"]

_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
_OTHER_HALF = {"16B": "16L", "16L": "16B", "16N": "16B"}
_FRAMED = ("GIF", "TIFF", "WEBP", "PNG", "AVIF")  # not the previews in a camera's JPEG


@dataclass(frozen=True)
class PixelRule:
    """How every image of a data set becomes eight bits.

    Attributes:
        scale: black and white of images deeper than eight bits; None if there are none.
        alpha: "drop" ignores transparency and uses the colours under it; "white" and "black" put
            the image on that colour.
    """

    scale: Scale | None = None
    alpha: Alpha = "drop"

    def to_json(self) -> dict[str, Any]:
        """What run.json stores of it; empty for the defaults."""
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
        """The rule that `to_json` wrote.

        Raises:
            DataError: the content is no rule.
        """
        try:
            scale = None
            if ends := content.get("range"):
                black, white = map(float, ends)
                scale = Scale(black, white, bool(content.get("given")))
            alpha = content.get("alpha", "drop")
        except (AttributeError, TypeError, ValueError):
            scale, alpha = None, ""
        if alpha not in ("drop", "white", "black"):
            raise DataError(f"run.json is damaged: {content!r} does not say how images are read")
        return cls(scale, alpha)


PLAIN = PixelRule()
"""For images of eight bits a channel, whose transparency is dropped."""


def is_grey(image: Image.Image) -> bool:
    """Whether an image has no colour, by its mode."""
    return image.mode in _GREY_MODES or image.mode.startswith("I;16")


def is_deep(image: Image.Image) -> bool:
    """Whether an image that is not yet loaded has more than eight bits a channel."""
    return image.mode[:1] in "IF" or bool(_half_rawmode(image))


def has_alpha(image: Image.Image) -> bool:
    """Whether parts of it may be transparent."""
    return image.mode in _ALPHA_MODES or (image.mode == "P" and "transparency" in image.info)


def has_frames(image: Image.Image) -> bool:
    """Whether it has more frames than the first, which is read."""
    return image.format in _FRAMED and getattr(image, "n_frames", 1) > 1


def _half_rawmode(image: Image.Image) -> str:
    """The raw mode that reads the other byte of 16-bit colours; empty if there are none."""
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
    """The lower bytes of an image of 16-bit colours, which Pillow leaves out.

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
    """The numbers of an image of more than eight bits, (H, W) or (H, W, 3).

    Args:
        image: of any deep mode.
        low: its lower bytes, if it has 16-bit colours.
    """
    if low is None:
        values = np.asarray(image)
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    upper, lower = (np.asarray(half)[..., :3].astype(np.uint16) for half in (image, low))
    return (upper << 8) | lower


@dataclass(frozen=True)
class PixelFacts:
    """What only the pixels of an image can show.

    Attributes:
        span: range of its numbers, if it is deeper than eight bits.
        clear: some of it is transparent.
        hidden: it has one colour under its transparency.
    """

    span: Span | None = None
    clear: bool = False
    hidden: bool = False


def pixel_facts(image: Image.Image, name: str, low: Image.Image | None, deep: bool) -> PixelFacts:
    """Inspect the pixels of one image.

    Raises:
        DataError: a pixel is NaN or infinite.
    """
    span = Span.of(deep_values(image, low), name) if deep else None
    if not has_alpha(image):
        return PixelFacts(span)
    ends: Any = image.convert("RGBA").getextrema()
    *colours, (lowest, highest) = ends
    flat = all(low == high for low, high in colours)
    return PixelFacts(span, lowest < 255, lowest < highest and flat)


def eight_bits(
    image: Image.Image,
    channels: int | None = None,
    rule: PixelRule = PLAIN,
    *,
    name: str = "an image",
    low: Image.Image | None = None,
) -> Image.Image:
    """The image in mode L or RGB.

    Args:
        image: of any mode.
        channels: 1 or 3; None keeps grey images grey.
        rule: of the whole data set.
        name: used in messages.
        low: the lower bytes of 16-bit colours.

    Raises:
        DataError: it is deeper than eight bits, and the rule of its data set has no scale.
    """
    grey = is_grey(image) if channels is None else channels == 1
    if image.mode[:1] in "IF" or low is not None:
        image = _scaled(image, low, rule.scale, name)
    if has_alpha(image):
        image = _on(image, rule.alpha)
    mode = "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _scaled(
    image: Image.Image, low: Image.Image | None, scale: Scale | None, name: str
) -> Image.Image:
    """Eight bits of more."""
    if scale is None:
        raise DataError(
            f"{name} has more than eight bits a channel, the images inspected before had not: "
            "give ?range=BLACK,WHITE"
        )
    made = Image.fromarray(scale.bytes(deep_values(image, low), name))
    if has_alpha(image):
        made.putalpha(image.getchannel("A"))
    return made


def _on(image: Image.Image, alpha: Alpha) -> Image.Image:
    """The image without transparency."""
    if image.mode in ("La", "RGBa"):  # colours multiplied by their opacity
        image = image.convert(image.mode.upper())
    if alpha != "drop":
        ground = Image.new("RGBA", image.size, alpha)
        grey, merged = is_grey(image), Image.alpha_composite(ground, image.convert("RGBA"))
        return merged.convert("L" if grey else "RGB")
    # Pillow converts palettes with transparency by way of RGBA; others drop it when converted.
    return image.convert("RGBA") if image.mode == "P" else image
