"""What a method needs of a layer, or of two, where that is less than the whole map.

Of a teacher it is made where the layer is read, so that a store keeps no more than that. Plain
arithmetic: it is part of a teacher's forward, which may be compiled.
"""

import functools
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def mean_over_positions(map_BDHW: Float[Tensor, "B D _ _"]) -> Float[Tensor, "B D 1 1"]:
    """Where it is does not matter."""
    return _full(map_BDHW).mean(dim=(2, 3), keepdim=True)


def strength(map_BDHW: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B 1 H W"]:
    """Root mean square over channels, in float32: in which channel does not matter.

    As a map of one channel it has the attention of the whole.
    """
    length_B1HW = torch.linalg.vector_norm(channels_last(_full(map_BDHW)), dim=1, keepdim=True)
    return length_B1HW / map_BDHW.shape[1] ** 0.5


def flow(
    first_BDHW: Float[Tensor, "B D _ _"], second_BDHW: Float[Tensor, "B E _ _"]
) -> Float[Tensor, "B D E 1"]:
    """Products of the channels of two maps, the mean over positions; see `losses.flow`.

    As a map of D channels, each of which a store in few bits gives a scale of its own. On CPUs the
    products are added up in float64: how they round depends on the number of examples and on
    where they lie in memory, and stored answers are to be live ones to the bit.
    """
    size, kind = common_size(first_BDHW, second_BDHW), _full(first_BDHW).dtype
    exact = torch.float64 if first_BDHW.device.type == "cpu" else kind
    first_BPD, second_BPE = (
        rows_of(pooled(_full(map_BDHW), size)).to(exact) for map_BDHW in (first_BDHW, second_BDHW)
    )
    with torch.autocast(first_BDHW.device.type, enabled=False):
        return mean_product(first_BPD, second_BPE).to(kind)[..., None]


def _full(map_BDHW: Tensor) -> Tensor:
    """In float32 at least: half precision has neither the range nor the digits for squares."""
    return map_BDHW.to(torch.promote_types(map_BDHW.dtype, torch.float32))


SUMMARIES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": mean_over_positions,
    "strength": strength,
}
"""Of one layer, by the mark after its name."""


def mean_product(
    first_BPD: Float[Tensor, "B P D"], second_BPE: Float[Tensor, "B P E"]
) -> Float[Tensor, "B D E"]:
    """Products of columns, the mean over rows."""
    return first_BPD.mT @ second_BPE / first_BPD.shape[1]


def channels_last(map_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
    """The same map, laid out so that pooling and 1x1 convolutions run several times as fast."""
    return map_BDHW.contiguous(memory_format=torch.channels_last)


def rows_of(map_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B P D"]:
    """The channels at each position, position by position."""
    return channels_last(map_BDHW).permute(0, 2, 3, 1).flatten(1, 2)


def common_size(first_BDHW: Tensor, second_BDHW: Tensor) -> tuple[int, int]:
    """The smaller of two maps' heights and of their widths."""
    height, width = map(min, zip(first_BDHW.shape[2:], second_BDHW.shape[2:], strict=True))
    return height, width


def windows(map_BDHW: Tensor, size: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and columns of the windows that pool a map to a size; None where they overlap."""
    height, width = map_BDHW.shape[2:]
    if height % size[0] or width % size[1]:
        return None
    return height // size[0], width // size[1]


def pooled(map_BDHW: Float[Tensor, "B D _ _"], size: tuple[int, int]) -> Float[Tensor, "B D _ _"]:
    """Average-pooled to a height and a width, neither larger than the map's."""
    window = windows(map_BDHW, size)
    if window == (1, 1):
        return map_BDHW
    map_BDHW = channels_last(map_BDHW)
    if window is None:
        return F.adaptive_avg_pool2d(map_BDHW, size)
    return mean_of_windows(map_BDHW.permute(0, 2, 3, 1), window).permute(0, 3, 1, 2)


def mean_of_windows(
    map_BHWD: Float[Tensor, "B _ _ D"], window: tuple[int, int]
) -> Float[Tensor, "B _ _ D"]:
    """Average pooling that adds whole rows, then whole columns: three times as fast as torch's."""
    (rows, columns), (examples, height, width, channels) = window, map_BHWD.shape
    split = map_BHWD.reshape(examples, height // rows, rows, width // columns, -1)
    added = functools.reduce(torch.add, split.unbind(2))
    return functools.reduce(torch.add, added.split(channels, dim=3)) / (rows * columns)
