"""Views of larger images: random resized crop, colour jitter, random erasing.

Random resized crop: Szegedy et al., "Going deeper with convolutions", CVPR 2015. Colour jitter:
Howard, "Some improvements on deep convolutional neural network based image classification", 2013.
Random erasing: Zhong et al., "Random erasing data augmentation", AAAI 2020.

On a CPU the same triple (seed, index, view) is the same bits in any batch. For that everything is
built from operations that round each number correctly and alone (no exponential, no fused product,
no mean over pixels but one of integers), and boxes are whole pixels. On other devices results agree
to 1e-6, which is what the rounding of the interpolation may differ by.
"""

import math

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from collegium.data.rng import Stream, below, fold, fold_in, signed

CROP_AREA, CROP_ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
JITTER = 0.4
ERASE_AREA, ERASE_ASPECT, ERASE_ONE_IN = (0.02, 1 / 3), (0.3, 3.3), 4
_CROP_STREAMS = (Stream.CROP_AREA, Stream.CROP_ASPECT, Stream.CROP_ROW, Stream.CROP_COLUMN)
_ERASE_STREAMS = (Stream.ERASE_AREA, Stream.ERASE_ASPECT, Stream.ERASE_ROW, Stream.ERASE_COLUMN)

_STEPS = 1 << 16  # of a fraction that is drawn
_ASPECTS = 64
_LEVELS = 1023  # of grey: products with the weights below stay within 32 bits
_GREY = (19595, 38470, 7471)  # of 65,536: red, green and blue in ITU-R BT.601


class Draws:
    """What is drawn for a batch of views, one stream for each purpose.

    Args:
        index_B: int64, which examples.
        view_B: int64, which views of them.
        seed: of the views.
    """

    def __init__(self, index_B: Int[Tensor, " B"], view_B: Int[Tensor, " B"], seed: int) -> None:
        self._index_B, self._view_B, self._seed = index_B, view_B, seed

    def below(self, stream: Stream, count: int | Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Integers from 0 to `count` - 1."""
        key = torch.tensor(signed(fold(self._seed, stream)), device=self._index_B.device)
        return below(count, fold_in(key, self._index_B, self._view_B))

    def between(self, stream: Stream, low: float, high: float) -> Float[Tensor, " B"]:
        """Numbers from `low` to `high` in 65,536 even steps, in float64."""
        return low + (high - low) * (self.below(stream, _STEPS + 1).double() / _STEPS)

    def aspect(self, stream: Stream, low: float, high: float) -> Float[Tensor, " B"]:
        """Aspect ratios in 64 steps of even ratio, in float64, from a table: no logarithm here."""
        step = math.log(high / low) / (_ASPECTS - 1)
        table = [low * math.exp(step * place) for place in range(_ASPECTS)]
        chosen_B = self.below(stream, _ASPECTS)
        return torch.tensor(table, dtype=torch.float64, device=chosen_B.device)[chosen_B]


def _box(
    draws: Draws,
    size: torch.Size,
    area: tuple[float, float],
    aspect: tuple[float, float],
    streams: tuple[Stream, Stream, Stream, Stream],
) -> tuple[Int[Tensor, " B"], ...]:
    """First row, rows, first column and columns of a box in images of that size.

    Args:
        draws: of these views.
        size: rows and columns of the images.
        area: the least and the largest share of the area.
        aspect: the least and the largest aspect ratio.
        streams: of area, aspect ratio, first row and first column.
    """
    pixels_B = draws.between(streams[0], *area) * (size[0] * size[1])
    aspect_B = draws.aspect(streams[1], *aspect)
    rows_B = (pixels_B / aspect_B).sqrt().round().long().clamp(1, size[0])
    columns_B = (pixels_B * aspect_B).sqrt().round().long().clamp(1, size[1])
    top_B = draws.below(streams[2], size[0] - rows_B + 1)
    return top_B, rows_B, draws.below(streams[3], size[1] - columns_B + 1), columns_B


def resized_crop(
    images_BDHW: Shaped[Tensor, "B D H W"], draws: Draws, flip: bool = True
) -> Float[Tensor, "B D H W"]:
    """A part of each image with 8 to 100 % of its area, enlarged to the whole.

    Bilinear, pixel centres at halves. Where the part sticks out it is cut off (rather than drawn
    again: a pure function draws once).

    Args:
        images_BDHW: pixels of any range; left as they are.
        draws: of these views.
        flip: mirror left and right, one time in two.

    Returns:
        float32 pixels in the range of the images'.
    """
    height, width = images_BDHW.shape[2:]
    top_B, rows_B, left_B, columns_B = _box(
        draws, images_BDHW.shape[2:], CROP_AREA, CROP_ASPECT, _CROP_STREAMS
    )
    mirrored_B = draws.below(Stream.FLIP, 1 + flip) == 1
    stretched = _stretch_rows(images_BDHW, *_places(top_B, rows_B, height))
    low_BW, high_BW, weight_BW = _places(left_B, columns_B, width)
    low_BW, high_BW, weight_BW = (
        torch.where(mirrored_B[:, None], x_BW.flip(1), x_BW)
        for x_BW in (low_BW, high_BW, weight_BW)
    )
    return _stretch_columns(stretched, low_BW, high_BW, weight_BW)


def _places(
    start_B: Tensor, length_B: Tensor, size: int
) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B S"], Float[Tensor, "B S"]]:
    """For each pixel of an enlarged side: the two it lies between, and how far from the first."""
    middle_S = torch.arange(size, device=start_B.device).double() + 0.5
    place_BS = middle_S * divide_(length_B[:, None].double(), size) - 0.5
    last_B1 = (length_B[:, None] - 1).double()
    place_BS = torch.minimum(place_BS.clamp_min(0), last_B1)
    low_BS = place_BS.floor()
    high_BS = torch.minimum(low_BS + 1, last_B1)
    start_B1 = start_B[:, None]
    return low_BS.long() + start_B1, high_BS.long() + start_B1, (place_BS - low_BS).float()


def divide_(numbers: Float[Tensor, "..."], count: int) -> Float[Tensor, "..."]:
    """The numbers, each divided by `count` in place."""
    # A plain number would be turned into a factor on some devices, one rounding apart.
    return numbers.div_(torch.full((), count, dtype=numbers.dtype, device=numbers.device))


def _stretch_rows(
    images_BDHW: Tensor, low_BH: Tensor, high_BH: Tensor, weight_BH: Tensor
) -> Tensor:
    examples, channels, height, width = images_BDHW.shape
    rows_PW = images_BDHW.reshape(-1, width)  # one row of pixels each: copied whole
    firsts = torch.arange(examples * channels, device=low_BH.device).view(examples, channels, 1)

    def take(places_BH: Tensor) -> Tensor:
        places = (firsts * height + places_BH[:, None]).flatten()
        return rows_PW.index_select(0, places).view(images_BDHW.shape).float()

    return _between(take(low_BH), take(high_BH), weight_BH[:, None, :, None])


def _stretch_columns(
    rows_BDHW: Tensor, low_BW: Tensor, high_BW: Tensor, weight_BW: Tensor
) -> Tensor:
    def take(places_BW: Tensor) -> Tensor:
        return rows_BDHW.gather(3, places_BW[:, None, None].expand(rows_BDHW.shape))

    return _between(take(low_BW), take(high_BW), weight_BW[:, None, None])


def _between(low: Tensor, high: Tensor, weight: Tensor) -> Tensor:
    # Separate products and a sum: lerp rounds otherwise in another batch.
    return low.mul_(1 - weight).add_(high.mul_(weight))


def jitter(pixels_BDHW: Float[Tensor, "B D H W"], draws: Draws) -> Float[Tensor, "B D H W"]:
    """Brightness, contrast and saturation, each times 0.6 to 1.4, in this order.

    Contrast pulls towards the mean grey of the image, saturation towards each pixel's own.

    Args:
        pixels_BDHW: in 0..1; red, green and blue, or what has no saturation. Used up.
        draws: of these views.
    """
    streams = (Stream.BRIGHTNESS, Stream.CONTRAST, Stream.SATURATION)
    factors = [draws.between(stream, 1 - JITTER, 1 + JITTER) for stream in streams]
    bright_B, contrast_B, saturation_B = (f[:, None, None, None].float() for f in factors)
    pixels_BDHW = pixels_BDHW.mul_(bright_B).clamp_(0, 1)
    mean_B = _mean_grey(pixels_BDHW)[:, None, None, None]
    pixels_BDHW = pixels_BDHW.mul_(contrast_B).add_(mean_B * (1 - contrast_B)).clamp_(0, 1)
    if pixels_BDHW.shape[1] != 3:
        return pixels_BDHW
    grey_B1HW = _grey(pixels_BDHW).mul_(1 - saturation_B)
    return pixels_BDHW.mul_(saturation_B).add_(grey_B1HW).clamp_(0, 1)


def _grey(pixels_BDHW: Tensor) -> Tensor:
    red, green, blue = (
        pixels_BDHW[:, place : place + 1] * (weight / 65536) for place, weight in enumerate(_GREY)
    )
    return red.add_(green).add_(blue)


def _mean_grey(pixels_BDHW: Tensor) -> Tensor:
    """Of whole numbers, whose sum does not depend on the order."""
    planes = [(plane_BHW * _LEVELS).round_().int() for plane_BHW in pixels_BDHW.unbind(1)]
    if len(planes) == 3:
        red, green, blue = (plane.mul_(weight) for plane, weight in zip(planes, _GREY, strict=True))
        planes = [red.add_(green).add_(blue).bitwise_right_shift_(16)]
    total_B = torch.stack([plane.sum(dim=(1, 2)) for plane in planes]).sum(dim=0)
    height, width = pixels_BDHW.shape[2:]
    return divide_(total_B.double(), _LEVELS * len(planes) * height * width).float()


def erase(pixels_BDHW: Float[Tensor, "B D H W"], draws: Draws) -> Float[Tensor, "B D H W"]:
    """One time in four, a black rectangle of 2 to 33 % of the area.

    Args:
        pixels_BDHW: in 0..1. Used up.
        draws: of these views.
    """
    height, width = pixels_BDHW.shape[2:]
    top_B, rows_B, left_B, columns_B = _box(
        draws, pixels_BDHW.shape[2:], ERASE_AREA, ERASE_ASPECT, _ERASE_STREAMS
    )
    hole_BH, hole_BW = _within(top_B, rows_B, height), _within(left_B, columns_B, width)
    erased_B = draws.below(Stream.ERASE, ERASE_ONE_IN) == 0
    hole_BHW = hole_BH[:, :, None] & hole_BW[:, None] & erased_B[:, None, None]
    return pixels_BDHW.masked_fill_(hole_BHW[:, None], 0)


def _within(start_B: Tensor, length_B: Tensor, size: int) -> Tensor:
    place_S = torch.arange(size, device=start_B.device)
    return (place_S >= start_B[:, None]) & (place_S < (start_B + length_B)[:, None])
