"""How what a module gives is read as a feature map, and how such a layer is called.

A layer is a module path and, where the module gives no plain map, how it is read:

    layer3                     a map (B, D, H, W) as it is; a vector (B, D) as a map of 1x1
    features.5@channels_last   a map (B, H, W, D)
    vit.layers.3@4x4           tokens (B, N, D) of 4 rows and 4 columns; the first N - 16 of them
                               (class, distillation and register tokens) are left out
    ANY OF THESE@mean          its mean over positions
    ANY OF THESE@strength      its root mean square over channels
    ONE OF THESE+ANOTHER@flow  how the two go together

A module may give a tuple or a mapping of several things: the first tensor in it is read.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from collegium.models.features import pooling as summaries
from collegium.models.features.pooling import SUMMARIES
from collegium.types import MapShape

MEAN = "@mean"
"""After a layer's name: its mean over positions."""
STRENGTH = "@strength"
"""After a layer's name: its root mean square over channels."""
FLOW = "@flow"
"""After the names of two layers with + between them: how they go together."""
CHANNELS_LAST = "@channels_last"
"""After a module path: the module gives (B, H, W, D)."""

EXTRA_TOKENS = 16
"""Most tokens beside those of the image: class, distillation, registers."""

Grid = tuple[int, int]
"""Rows and columns."""


@dataclass(frozen=True)
class LayerSpec:
    """How the output of one module becomes a map.

    Attributes:
        path: of the module, as in `network.named_modules()`.
        grid: rows and columns of its tokens, if it gives tokens.
        channels_last: whether its maps are (B, H, W, D).
        summary: what is made of the map: "mean", "strength" or nothing.
    """

    path: str
    grid: Grid | None = None
    channels_last: bool = False
    summary: str = ""

    @classmethod
    def of(cls, layer: str) -> "LayerSpec":
        """Read a layer's name.

        >>> LayerSpec.of("vit.layers.3@4x6@mean")
        LayerSpec(path='vit.layers.3', grid=(4, 6), channels_last=False, summary='mean')
        """
        path, *marks = layer.split("@")
        grids = [match for mark in marks if (match := re.fullmatch(r"(\d+)x(\d+)", mark))]
        return cls(
            path,
            (int(grids[0][1]), int(grids[0][2])) if grids else None,
            CHANNELS_LAST[1:] in marks,
            next((mark for mark in marks if mark in SUMMARIES), ""),
        )

    @property
    def name(self) -> str:
        """The name this is read from."""
        grid = f"@{self.grid[0]}x{self.grid[1]}" if self.grid else ""
        summary = f"@{self.summary}" if self.summary else ""
        return self.path + grid + CHANNELS_LAST * self.channels_last + summary

    def shape(self, sizes: Sequence[int]) -> MapShape | None:
        """Shape of the map, from what the module gives without the batch; None if it is no map.

        >>> [LayerSpec.of(name).shape((17, 192)) for name in ("block@4x4", "block@4x4@mean")]
        [(192, 4, 4), (192, 1, 1)]
        """
        full = self._full_shape(sizes)
        return full and _summarised(self.summary, full)

    def _full_shape(self, sizes: Sequence[int]) -> MapShape | None:
        if self.grid:
            rows, columns = self.grid
            # More tokens than these are those of another image, or another grid.
            fits = len(sizes) == 2 and 0 <= sizes[0] - rows * columns <= EXTRA_TOKENS
            return (sizes[1], rows, columns) if fits else None
        if len(sizes) == 3:
            first, second, third = sizes
            return (third, first, second) if self.channels_last else (first, second, third)
        return (sizes[0], 1, 1) if len(sizes) == 1 else None

    def map(self, feature: Tensor) -> Float[Tensor, "B _ _ _"]:
        """The map (B, D, H, W) of what the module gives, or its summary."""
        map_BDHW = self.full_map(feature)
        return SUMMARIES[self.summary](map_BDHW) if self.summary else map_BDHW

    def full_map(self, feature: Tensor) -> Float[Tensor, "B _ _ _"]:
        """The map without a summary, a view where that is possible."""
        if self.grid:
            count = self.grid[0] * self.grid[1]
            feature = feature[:, feature.shape[1] - count :].mT.unflatten(2, self.grid)
        elif feature.ndim == 2:
            feature = feature[:, :, None, None]
        elif self.channels_last:
            feature = feature.permute(0, 3, 1, 2)
        return feature


def _summarised(summary: str, shape: MapShape) -> MapShape:
    channels, rows, columns = shape
    return {"mean": (channels, 1, 1), "strength": (1, rows, columns)}.get(summary, shape)


def tensor_in(output: object) -> Tensor | None:
    """The tensor itself, or the first in a tuple or a mapping; None if there is none."""
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, tuple | list):
        output = next((part for part in output if isinstance(part, Tensor)), None)
    return output if isinstance(output, Tensor) else None


def flow_between(first: str, second: str) -> str:
    """The name of how two layers go together.

    >>> flow_between("layer1", "layer2")
    'layer1+layer2@flow'
    """
    return f"{first}+{second}{FLOW}"


def source_layers(layer: str) -> tuple[str, ...]:
    """The layers that a layer is made of: itself, where it is no summary.

    >>> source_layers("block@4x4@mean"), source_layers("layer1+layer2@flow")
    (('block@4x4',), ('layer1', 'layer2'))
    """
    if layer.endswith(FLOW):
        return tuple(layer.removesuffix(FLOW).split("+"))
    whole, _, mark = layer.rpartition("@")
    return (whole,) if mark in SUMMARIES else (layer,)


def read(maps: Mapping[str, Tensor], layer: str) -> Float[Tensor, "B _ _ _"]:
    """The layer of that name, made of the whole where only that is there."""
    if layer in maps:
        return maps[layer]
    given = [maps[whole] for whole in source_layers(layer)]
    if layer.endswith(FLOW):
        return summaries.flow(*given)
    return SUMMARIES[layer.rpartition("@")[2]](*given)


def shape_of(maps: Mapping[str, MapShape], layer: str) -> MapShape | None:
    """The shape of a layer, whole or a summary; None where there is no such layer.

    >>> shapes = {"layer1": (16, 8, 8), "layer2": (32, 4, 4)}
    >>> [shape_of(shapes, name) for name in ("layer1", "layer1@mean", "layer1+layer2@flow")]
    [(16, 8, 8), (16, 1, 1), (16, 32, 1)]
    """
    if layer in maps:
        return maps[layer]
    given = [maps[whole] for whole in source_layers(layer) if whole in maps]
    if layer.endswith(FLOW):
        return (given[0][0], given[1][0], 1) if len(given) == 2 else None
    return _summarised(layer.rpartition("@")[2], given[0]) if given else None


def find_layer(maps: Mapping[str, MapShape], name: str) -> str | None:
    """The layer of that name, which may leave out how it is read; None where there is none.

    >>> shapes = {"vit.layers.3@4x4": (192, 4, 4), "norm@4x4": (192, 4, 4)}
    >>> find_layer(shapes, "vit.layers.3"), find_layer(shapes, "vit.layers.3+norm@flow")
    ('vit.layers.3@4x4', 'vit.layers.3@4x4+norm@4x4@flow')
    """
    if name in maps:
        return name
    wanted = source_layers(name)
    found = [whole for given in wanted if (whole := _find_source(maps, given))]
    if len(found) < len(wanted):
        return None
    if name.endswith(FLOW):
        return flow_between(*found) if len(found) == 2 else None
    return found[0] + name.removeprefix(wanted[0])


def _find_source(maps: Mapping[str, MapShape], name: str) -> str | None:
    return name if name in maps else next((m for m in maps if LayerSpec.of(m).path == name), None)
