"""How what a module gives is read as a feature map, and how such a layer is called.

A layer is a module path and, where the module gives no plain map, how it is read:

    layer3                     a map (B, D, H, W) as it is; a vector (B, D) as a map of 1x1
    features.5@channels_last   a map (B, H, W, D)
    vit.layers.3@4x4           tokens (B, N, D) of 4 rows and 4 columns; the first N - 16 of them
                               (class, distillation and register tokens) are left out
    ANY OF THESE@mean          its mean over positions

A module may give a tuple or a mapping of several things: the first tensor in it is read.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from collegium.types import MapShape

POOLED = "@mean"
"""After a layer's name: its mean over positions."""
CHANNELS_LAST = "@channels_last"
"""After a module path: the module gives (B, H, W, D)."""

Grid = tuple[int, int]
"""Rows and columns."""


@dataclass(frozen=True)
class Reading:
    """How the output of one module becomes a map.

    Attributes:
        path: of the module, as in `network.named_modules()`.
        grid: rows and columns of its tokens, if it gives tokens.
        channels_last: whether its maps are (B, H, W, D).
        pooled: whether the mean over positions is taken.
    """

    path: str
    grid: Grid | None = None
    channels_last: bool = False
    pooled: bool = False

    @classmethod
    def of(cls, layer: str) -> "Reading":
        """Read a layer's name.

        >>> Reading.of("vit.layers.3@4x6@mean")
        Reading(path='vit.layers.3', grid=(4, 6), channels_last=False, pooled=True)
        """
        path, *marks = layer.split("@")
        grids = [match for mark in marks if (match := re.fullmatch(r"(\d+)x(\d+)", mark))]
        return cls(
            path,
            (int(grids[0][1]), int(grids[0][2])) if grids else None,
            CHANNELS_LAST[1:] in marks,
            POOLED[1:] in marks,
        )

    @property
    def name(self) -> str:
        """The name this is read from."""
        grid = f"@{self.grid[0]}x{self.grid[1]}" if self.grid else ""
        return self.path + grid + CHANNELS_LAST * self.channels_last + POOLED * self.pooled

    def shape(self, sizes: Sequence[int]) -> MapShape | None:
        """Shape of the map, from what the module gives without the batch; None if it is no map.

        >>> Reading.of("block@4x4").shape((17, 192))
        (192, 4, 4)
        """
        if self.grid:
            rows, columns = self.grid
            fits = len(sizes) == 2 and sizes[0] >= rows * columns
            return (sizes[1], rows, columns) if fits else None
        if len(sizes) == 3:
            first, second, third = sizes
            return (third, first, second) if self.channels_last else (first, second, third)
        return (sizes[0], 1, 1) if len(sizes) == 1 else None

    def map(self, output: object) -> Float[Tensor, "B _ _ _"]:
        """The map (B, D, H, W), a view where that is possible."""
        feature = tensor_in(output)
        assert feature is not None, f"{self.path} gave no tensor"
        if self.grid:
            count = self.grid[0] * self.grid[1]
            feature = feature[:, feature.shape[1] - count :].mT.unflatten(2, self.grid)
        elif feature.ndim == 2:
            feature = feature[:, :, None, None]
        elif self.channels_last:
            feature = feature.permute(0, 3, 1, 2)
        return feature.mean(dim=(2, 3), keepdim=True) if self.pooled else feature


def tensor_in(output: object) -> Tensor | None:
    """The tensor itself, or the first in a tuple or a mapping; None if there is none."""
    if isinstance(output, Tensor):
        return output
    parts = output.values() if isinstance(output, Mapping) else output
    if not isinstance(output, Mapping | tuple | list):
        return None
    return next((part for part in parts if isinstance(part, Tensor)), None)  # type: ignore[attr-defined]


def shape_of(maps: Mapping[str, MapShape], layer: str) -> MapShape | None:
    """The shape of a layer, pooled or not; None where there is no such layer.

    >>> shape_of({"layer1": (16, 8, 8)}, "layer1@mean")
    (16, 1, 1)
    """
    shape = maps.get(layer.removesuffix(POOLED))
    return (shape[0], 1, 1) if shape and layer.endswith(POOLED) else shape


def find_layer(maps: Mapping[str, MapShape], name: str) -> str | None:
    """The layer of that name, which may leave out how it is read; None where there is none.

    >>> find_layer({"vit.layers.3@4x4": (192, 4, 4)}, "vit.layers.3")
    'vit.layers.3@4x4'
    """
    pooled = POOLED * name.endswith(POOLED)
    name = name.removesuffix(POOLED)
    whole = name if name in maps else next((m for m in maps if Reading.of(m).path == name), None)
    return None if whole is None else whole + pooled
