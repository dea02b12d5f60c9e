"""Arrays of pixels: the order of their axes, and the numbers that are black and white."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from collegium.data.images.pixel_scale import Scale, Span, choose_scale, guess_note
from collegium.errors import DataError

REMEDY = "give pixel_range=(BLACK, WHITE)"
_CHANNELS = (1, 3)
_NUMPY_HAS = (torch.float16, torch.float32, torch.float64)


def numbers(values: Any, name: str) -> NDArray[Any]:
    """An array of numbers that numpy and torch can read.

    Raises:
        DataError: it contains anything else.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DataError(f"{name}: some pixels are masked: fill them, as by images.filled(0)")
    array = of_tensor(values, name) if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name}: cannot use an array of {array.dtype}; numbers are expected")
    # torch cannot read foreign byte orders and negative strides.
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def of_tensor(values: Tensor, name: str) -> NDArray[Any]:
    """The numbers of a tensor; types that numpy lacks become float32.

    Raises:
        DataError: it is sparse or quantised, or has no numbers.
    """
    if values.layout != torch.strided or values.is_quantized or values.is_meta:
        kind = "quantised" if values.is_quantized else "meta" if values.is_meta else "sparse"
        raise DataError(f"{name}: cannot use a {kind} tensor; give a plain one, with its numbers")
    values = values.detach().cpu()
    small = values.is_floating_point() and values.dtype not in _NUMPY_HAS
    return np.asarray(values.float() if small else values)


def channels_first(images: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """Images NHW, NHWD or NDHW with channels first, and whether another reading fits too.

    Other shapes stay as they are.
    """
    if images.ndim == 3:
        return images[:, None], False
    if images.ndim != 4:
        return images, False
    first, last = images.shape[1] in _CHANNELS, images.shape[3] in _CHANNELS
    if last and not first:
        return images.transpose(0, 3, 1, 2), False
    return images, first and last


def stacked(images: Sequence[NDArray[Any]], name: str) -> tuple[NDArray[Any], bool]:
    """One array NDHW of images HW, HWD or DHW; grey ones among colour become colour.

    Raises:
        DataError: they differ in size or type.
    """
    read = [channels_first(image[None]) for image in images]
    parts = [part[0] for part, _ in read]
    channels = max(len(part) for part in parts)
    for place, part in enumerate(parts):
        if (part.shape[1:], part.dtype) != (parts[0].shape[1:], parts[0].dtype):
            raise DataError(
                f"{name}: item 0 is {_describe(parts[0])}, item {place} is {_describe(part)}; "
                "bring all images to one size and type"
            )
    wide = [np.broadcast_to(part, (channels, *part.shape[1:])) for part in parts]
    return np.stack(wide), any(unclear for _, unclear in read)


def in_colour(parts: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Splits NDHW; if one has colour, the channel of grey ones is repeated, as for folders."""
    colour = any(images.ndim == 4 and images.shape[1] == 3 for images in parts.values())
    grey = [part for part, images in parts.items() if images.ndim == 4 and images.shape[1] == 1]
    repeated = {part: parts[part].repeat(3, 1) for part in grey if colour}
    return {**parts, **repeated}


def _describe(image: NDArray[Any]) -> str:
    return f"{'x'.join(map(str, image.shape[1:]))} {image.dtype}"


def layout_note(shape: Sequence[int], name: str) -> str:
    """A note on the order of axes that was chosen, if two fit."""
    size = "x".join(map(str, shape))
    return f"{name}: images of the shape {size} are read with channels first, which is not evident"


def to_pixels(
    parts: Mapping[str, NDArray[Any]], scale: Scale | None, name: str
) -> tuple[dict[str, Tensor], Scale | None, list[str]]:
    """Pixels of all splits, uint8 0..255 or float32 in 0..1; the scale; notes on guesses.

    Bytes stay as they are, booleans are black and white, integers become bytes, floats stay floats.

    Args:
        parts: images of each split.
        scale: black and white of other types than bytes; None finds them.
        name: of the data, in messages.

    Raises:
        DataError: pixels are NaN, or no scale suits them; splits have different ranges.
    """
    spans = {
        part: _span(images, name if part == "train" else f"{name}, {part}")
        for part, images in parts.items()
        if images.dtype.kind != "b" and images.dtype != np.uint8 and images.size
    }
    notes: list[str] = []
    if spans and scale is None:
        scale = choose_scale(spans, name, REMEDY)
        if not _evident(parts, spans, scale):
            notes.append(guess_note(spans, scale, name, "pixels", REMEDY))
    return {part: _pixels(images, scale, name) for part, images in parts.items()}, scale, notes


def _evident(parts: Mapping[str, NDArray[Any]], spans: Mapping[str, Span], scale: Scale) -> bool:
    """Whether the scale is beyond doubt."""
    floats = all(parts[part].dtype.kind == "f" for part in spans)
    most = all(parts[part].dtype == np.uint16 for part in spans)
    return (scale.black, scale.white) == (0.0, 1.0 if floats else 65535.0 if most else -1.0)


def _span(images: NDArray[Any], name: str) -> Span:
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        finite_N = np.isfinite(images.reshape(len(images), -1)).all(axis=1)
        place = int(finite_N.argmin())
        raise DataError(
            f"{name}: image {place} has pixels that are NaN or infinite, and "
            f"{int((~finite_N).sum()) - 1} more have; repair or leave them out"
        )
    return Span.of(images, name)


def _pixels(images: NDArray[Any], scale: Scale | None, name: str) -> Tensor:
    if images.dtype.kind == "b":
        return torch.tensor(images.astype(np.uint8) * 255)
    if images.dtype == np.uint8 or scale is None:
        return torch.tensor(np.ascontiguousarray(images))
    if images.dtype.kind == "f":
        return torch.tensor(np.ascontiguousarray(scale.unit(images)))
    return torch.tensor(np.ascontiguousarray(scale.bytes(images, name)))
