"""How an image processor resizes and crops, found from images that it prepared."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from collegium.errors import RequestError
from collegium.models.network import Network, Preprocess

SIDES = (48, 64)
"""Side lengths, in pixels, of the images given to the processor."""
ADVICE = "give ?mean=...&std=...&size=... to set its preprocessing yourself"
_BLOCKS, _LIKE = 6, 6 / 255
"""Blocks along a side of a test image; the mean difference below which two results are equal."""
Prepare = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float64]]


def prepare_with(processor: Any, channels: int) -> Prepare:
    """A function that runs a processor on images and returns (N, D, rows, columns)."""
    from PIL import Image

    def prepare(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        shown = [Image.fromarray(one[:, :, 0] if channels == 1 else one) for one in images]
        output = processor(images=shown, return_tensors="np")
        if "pixel_values" not in output:
            raise RequestError(f"its processor gives {', '.join(output)}, no pixels; {ADVICE}")
        found = np.asarray(output["pixel_values"], np.float64)
        if found.ndim != 4 or found.shape[:2] != (len(images), channels):
            raise RequestError(
                f"its processor makes {found.shape} of {len(images)} images, expected "
                f"({len(images)}, {channels}, rows, columns); {ADVICE}"
            )
        return found

    return prepare


def one_colour(colour: Sequence[int], rows: int, columns: int) -> NDArray[np.uint8]:
    """An image of one colour."""
    return np.broadcast_to(np.array(colour, np.uint8), (rows, columns, 3)).copy()


def find_size(prepare: Prepare) -> tuple[tuple[int, int] | None, bool]:
    """The size that squares get (None: any size stays); whether others keep their ratio.

    Raises:
        RequestError: the size depends on the image in another way.
    """
    small, large = (prepare([one_colour([128] * 3, side, side)]).shape[2:] for side in SIDES)
    if small != large:
        if (small, large) != ((SIDES[0],) * 2, (SIDES[1],) * 2):
            raise RequestError(f"its processor's size depends on the image's; {ADVICE}")
        return None, False
    wide = prepare([one_colour([128] * 3, *SIDES)]).shape[2:]
    return (int(small[0]), int(small[1])), bool(wide != small)


def with_crop(prepare: Prepare, preprocess: Preprocess, name: str) -> Preprocess:
    """Find the resizing before the centre is cropped, and whether it keeps the aspect ratio.

    Every plausible way is tried; the best must give two test images as the processor does.

    Raises:
        RequestError: none does.
    """
    size = preprocess.size
    if size is None:
        return preprocess
    side = max(_BLOCKS * 4, min(SIDES[0], max(size)))
    error = _compared(prepare, preprocess, _drawn(side, side))
    errors: dict[tuple[int, ...] | None, float] = {
        resize: error(resize) for resize in (None, *_candidates(prepare, size, side))
    }
    best: tuple[int, ...] | None = min(errors, key=errors.__getitem__)
    other = _compared(prepare, preprocess, _drawn(2 * side, 2 * side))
    if max(errors[best], other(best)) > _LIKE:
        raise RequestError(
            f"its {name} does more than resize images to one size and crop the centre; {ADVICE}"
        )
    full = best or size
    if full[0] == full[1] and prepare([one_colour([0] * 3, side, side * 4 // 3)]).shape[2:] == size:
        error = _compared(prepare, preprocess, _drawn(side, side * 4 // 3))
        best = min(best, full[:1], key=error)
    return replace(preprocess, resize=best)


def _candidates(prepare: Prepare, size: tuple[int, int], side: int) -> Iterator[tuple[int, int]]:
    """Sizes a square may have before its centre is cropped, by the slope of a ramp."""
    step = 225 / (side - 1)
    ramp = np.broadcast_to(15 + step * np.arange(side), (side, side))
    low, high = (prepare([one_colour([value] * 3, side, side)]).mean() for value in (15, 240))
    near = []
    for axis, image in ((0, ramp.T), (1, ramp)):
        shown = prepare([np.repeat(image.round().astype(np.uint8)[:, :, None], 3, axis=2)])
        rise = (shown[0].mean(axis=(0, 2 - axis)) - low) / (high - low) * (side - 1)
        inner = (rise > 2) & (rise < side - 3)
        if inner.sum() < 3:
            return
        slope = float(np.polyfit(np.flatnonzero(inner), rise[inner], 1)[0])
        near.append(round(side / slope) if slope > 0 else 0)
    for off in range(-2, 3):
        rows, columns = (full + off for full in near)
        if rows >= size[0] and columns >= size[1] and (rows, columns) != size:
            yield rows, columns


def _drawn(rows: int, columns: int) -> NDArray[np.uint8]:
    """An image of soft grey blocks, far enough from black and white to avoid clipping."""
    generator = torch.Generator().manual_seed(0)
    blocks = 90 + 76 * torch.rand(1, 1, _BLOCKS, _BLOCKS, generator=generator)
    grey = nn.functional.interpolate(blocks, (rows, columns), mode="bilinear")[0, 0]
    return np.repeat(grey.round().byte().numpy()[:, :, None], 3, axis=2)


def _compared(
    prepare: Prepare, preprocess: Preprocess, image: NDArray[np.uint8]
) -> Callable[[tuple[int, ...] | None], float]:
    """A function from a resizing to the mean difference from the processor, in pixels of 0..1."""
    views = torch.from_numpy(image[:, :, : preprocess.channels]).permute(2, 0, 1)[None] / 255
    theirs = torch.from_numpy(prepare([image])).float()

    def error(resize: tuple[int, ...] | None) -> float:
        network = Network(nn.Identity(), replace(preprocess, smallest=1, resize=resize), ())
        ours = network.prepare(views)
        if ours.shape != theirs.shape:
            return float("inf")
        return float(((ours - theirs) * network.std).abs().mean())

    return error
