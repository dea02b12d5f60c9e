"""What an image processor does to the shape of a picture, seen in pictures that it prepared."""

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
ADVICE = "give ?mean=...&std=...&size=... to say yourself how it wants its pixels"
_BLOCKS, _LIKE = 6, 6 / 255
"""Of a drawn picture a side has so many blocks; it looks the same within this, on average."""
Ask = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float64]]


def asker(processor: Any, channels: int) -> Ask:
    """A function that gives what a processor makes of pictures, (N, D, rows, columns)."""
    from PIL import Image

    def ask(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        shown = [Image.fromarray(one[:, :, 0] if channels == 1 else one) for one in pictures]
        answer = processor(images=shown, return_tensors="np")
        if "pixel_values" not in answer:
            raise RequestError(f"its processor gives {', '.join(answer)}, no pixels; {ADVICE}")
        found = np.asarray(answer["pixel_values"], np.float64)
        if found.ndim != 4 or found.shape[:2] != (len(pictures), channels):
            raise RequestError(
                f"its processor makes {found.shape} of {len(pictures)} pictures, expected "
                f"({len(pictures)}, {channels}, rows, columns); {ADVICE}"
            )
        return found

    return ask


def plain(colour: Sequence[int], rows: int, columns: int) -> NDArray[np.uint8]:
    """A picture of one colour."""
    return np.broadcast_to(np.array(colour, np.uint8), (rows, columns, 3)).copy()


def find_size(ask: Ask) -> tuple[tuple[int, int] | None, bool]:
    """What squares are brought to (None: they stay so); whether others keep their ratio.

    Raises:
        RequestError: it depends on the picture in another way.
    """
    small, large = (ask([plain([128] * 3, side, side)]).shape[2:] for side in SIDES)
    if small != large:
        if (small, large) != ((SIDES[0],) * 2, (SIDES[1],) * 2):
            raise RequestError(f"its processor's size depends on the picture's; {ADVICE}")
        return None, False
    wide = ask([plain([128] * 3, *SIDES)]).shape[2:]
    return (int(small[0]), int(small[1])), bool(wide != small)


def with_crop(ask: Ask, preprocess: Preprocess, name: str) -> Preprocess:
    """With what is cut off, and whether the ratio of sides is kept before that.

    Every way a picture may be resized and cut is tried; the one is taken that shows two drawn
    pictures as the processor does.

    Raises:
        RequestError: there is none.
    """
    size = preprocess.size
    if size is None:
        return preprocess
    side = max(_BLOCKS * 4, min(SIDES[0], max(size)))
    error = _compared(ask, preprocess, _drawn(side, side))
    errors: dict[tuple[int, ...] | None, float] = {
        resize: error(resize) for resize in (None, *_candidates(ask, size, side))
    }
    best: tuple[int, ...] | None = min(errors, key=errors.__getitem__)
    other = _compared(ask, preprocess, _drawn(2 * side, 2 * side))
    if max(errors[best], other(best)) > _LIKE:
        raise RequestError(
            f"its {name} does not show pictures resized to one size, or the centre of that; "
            f"{ADVICE}"
        )
    whole = best or size
    if whole[0] == whole[1] and ask([plain([0] * 3, side, side * 4 // 3)]).shape[2:] == size:
        error = _compared(ask, preprocess, _drawn(side, side * 4 // 3))
        best = min(best, whole[:1], key=error)
    return replace(preprocess, resize=best)


def _candidates(ask: Ask, size: tuple[int, int], side: int) -> Iterator[tuple[int, int]]:
    """What a square may be resized to before its centre is cut out, by how fast a ramp rises."""
    step = 225 / (side - 1)
    ramp = np.broadcast_to(15 + step * np.arange(side), (side, side))
    low, high = (ask([plain([value] * 3, side, side)]).mean() for value in (15, 240))
    near = []
    for axis, picture in ((0, ramp.T), (1, ramp)):
        shown = ask([np.repeat(picture.round().astype(np.uint8)[:, :, None], 3, axis=2)])
        rise = (shown[0].mean(axis=(0, 2 - axis)) - low) / (high - low) * (side - 1)
        inner = (rise > 2) & (rise < side - 3)
        if inner.sum() < 3:
            return
        slope = float(np.polyfit(np.flatnonzero(inner), rise[inner], 1)[0])
        near.append(round(side / slope) if slope > 0 else 0)
    for off in range(-2, 3):
        rows, columns = (whole + off for whole in near)
        if rows >= size[0] and columns >= size[1] and (rows, columns) != size:
            yield rows, columns


def _drawn(rows: int, columns: int) -> NDArray[np.uint8]:
    """A picture of soft grey blocks, far from black and white, which curves cannot overshoot."""
    generator = torch.Generator().manual_seed(0)
    blocks = 90 + 76 * torch.rand(1, 1, _BLOCKS, _BLOCKS, generator=generator)
    grey = nn.functional.interpolate(blocks, (rows, columns), mode="bilinear")[0, 0]
    return np.repeat(grey.round().byte().numpy()[:, :, None], 3, axis=2)


def _compared(
    ask: Ask, preprocess: Preprocess, picture: NDArray[np.uint8]
) -> Callable[[tuple[int, ...] | None], float]:
    """By how much, of pixels in 0..1, we show a picture otherwise than the processor."""
    views = torch.from_numpy(picture[:, :, : preprocess.channels]).permute(2, 0, 1)[None] / 255
    theirs = torch.from_numpy(ask([picture])).float()

    def error(resize: tuple[int, ...] | None) -> float:
        network = Network(nn.Identity(), replace(preprocess, smallest=1, resize=resize), ())
        ours = network.prepare(views)
        if ours.shape != theirs.shape:
            return float("inf")
        return float(((ours - theirs) * network.std).abs().mean())

    return error
