"""Every module of a network watched during one blank view, and what it gives read as a map.

Shapes decide, together with earlier calls: a convolution gives a map, whose rows and columns are
known from then on. Tokens belong to the smallest grid so far, if they are as many as its positions
or a few more (class, distillation and register tokens come first), or to a smaller grid of merged
patches. Names matter in one case: modules inside one named attention are set aside, since queries
and attention matrices have the shapes of maps.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from collegium.models.features.layer_names import EXTRA_TOKENS, Grid, LayerSpec, tensor_in
from collegium.models.outputs import logits_of
from collegium.models.user_modules import blank, evaluating, uncompiled
from collegium.types import MapShape

VIEWS = 2
"""Blank images that are watched: with one, a position's bias (1, D, H, W) would look like a map."""

_ATTENTION = re.compile(r"(attn|attention)(_?\d+d?)?$", re.IGNORECASE)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_CONVOLUTIONAL = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.GroupNorm, *_POOLS)
_OVER_LAST = (nn.Linear, nn.LayerNorm)


class Call(NamedTuple):
    """What one module gave for one view.

    Attributes:
        path: of the module.
        module: itself.
        sizes: of the first tensor it gave, without the batch.
        aside: whether it is no layer of its own: it is or lies in an attention module, or its
            output is a mapping, which repeats what a module inside gave.
        began: how many calls had ended when it began.
        place: how many had ended before it ended.
    """

    path: str
    module: nn.Module
    sizes: tuple[int, ...]
    aside: bool
    began: int
    place: int


class Layer(NamedTuple):
    """A call that gives a map.

    Attributes:
        call: of the module.
        name: with how it is read.
        shape: of the map.
    """

    call: Call
    name: str
    shape: MapShape


def watch(network: nn.Module, image_shape: MapShape) -> tuple[list[Call], int]:
    """Every module's call on blank views, in order, and the number of classes.

    Args:
        network: run once in evaluation mode; left as it was.
        image_shape: channels, rows and columns of what it is given.
    """
    calls: list[Call] = []
    with _watching(network, calls), torch.no_grad(), evaluating(network):
        output = network(blank(network, image_shape, VIEWS))
    return calls, logits_of(output, type(network).__name__).shape[-1]


@contextmanager
def _watching(network: nn.Module, calls: list[Call]) -> Iterator[None]:
    learned = False
    began: dict[nn.Module, int] = {}

    def start(module: nn.Module, inputs: Any) -> None:
        began[module] = len(calls)

    def note(path: str, aside: bool) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal learned
            learned = learned or any(True for _ in module.parameters(recurse=False))
            feature = tensor_in(output)
            # Before the first learned module there is only the image, resized or reshaped. Another
            # first size counts windows or tokens, not images; 1 is what is the same for all.
            if learned and _is_readable(feature) and feature.ndim > 1 and len(feature) == VIEWS:
                repeated = not isinstance(output, Tensor | tuple | list)
                sizes = tuple(feature.shape[1:])
                place = len(calls)
                calls.append(Call(path, module, sizes, aside or repeated, began[module], place))

        return keep

    named = network.named_modules()
    attention = tuple(f"{path}." for path, part in named if path and _is_attention(path, part))
    with uncompiled(network), ExitStack() as hooks:  # compiled code does not know of hooks
        for path, module in readable(network):
            hooks.enter_context(module.register_forward_pre_hook(start))
            aside = f"{path}.".startswith(attention)
            hooks.enter_context(module.register_forward_hook(note(path, aside)))
        yield


def _is_readable(feature: Tensor | None) -> TypeGuard[Tensor]:
    """Whether losses can compare it: quantised and sparse outputs have no plain numbers."""
    return feature is not None and feature.is_floating_point() and feature.layout == torch.strided


def readable(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules whose outputs hooks can read, by path: TorchScript calls no hooks."""
    return [
        (path, module)
        for path, module in network.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]


def _is_attention(path: str, module: nn.Module) -> bool:
    names = path.rpartition(".")[2], type(module).__name__
    return any(_ATTENTION.search(name) for name in names)


def mixes_positions(module: nn.Module) -> bool:
    """Whether there is attention in it, or a convolution that looks further than one position."""
    return any(
        _is_attention(path, part) or (isinstance(part, nn.Conv2d) and part.kernel_size != (1, 1))
        for path, part in module.named_modules()
    )


def interpret(calls: Sequence[Call], image_shape: MapShape) -> list[Layer]:
    """The calls that give maps, in order, those set aside among them."""
    reader = _Reader(image_shape)
    ways = [(call, reader.ways(call)) for call in calls]
    last_kinds = _only(ways, channels_last=True) - _only(ways, channels_last=False)
    layers = []
    for call, readings in ways:
        if readings and call not in reader.refuted:
            # A block that can be read in two ways is read as others of its class are.
            layer_spec = readings[-1 if type(call.module) in last_kinds else 0]
            if shape := layer_spec.shape(call.sizes):
                layers.append(Layer(call, layer_spec.name, shape))
    return layers


def _only(ways: Sequence[tuple[Call, list[LayerSpec]]], *, channels_last: bool) -> set[type]:
    """Classes of blocks whose maps can be read in one way alone, somewhere."""
    alone = ((call, found[0]) for call, found in ways if len(found) == 1 and len(call.sizes) == 3)
    return {
        type(call.module)
        for call, one in alone
        if one.channels_last == channels_last and any(True for _ in call.module.children())
    }


@dataclass
class _Reader:
    """Follows the grid from layer to layer.

    Attributes:
        image_shape: of what the network is given.
        known: rows and columns of the convolutions so far.
        current: the smallest of them; None before the first.
        channels: the fewest that tokens have had; less are a mean of tokens, turned over.
        guessed: tokens taken for merged patches.
        refuted: those that were followed by more tokens: a mixer's channels, turned over.
    """

    image_shape: MapShape
    known: set[Grid] = field(default_factory=set)
    current: Grid | None = None
    channels: int = 0
    guessed: set[Call] = field(default_factory=set)
    refuted: set[Call] = field(default_factory=set)

    def ways(self, call: Call) -> list[LayerSpec]:
        """How the output of a call can be read: not at all, in one way, or in two."""
        path, sizes = call.path, call.sizes
        if len(sizes) == 1:
            return [LayerSpec(path)]
        if len(sizes) == 2:
            tokens = self._of_tokens(call)
            return [LayerSpec(path, grid=tokens)] if tokens else []
        if len(sizes) != 3:
            return []
        if isinstance(call.module, _CONVOLUTIONAL):
            grid = sizes[1], sizes[2]
            if not call.aside and grid != (1, 1):
                self.known.add(grid)
                self.current = min(self.current or grid, grid, key=math.prod)
            return [LayerSpec(path)]
        if type(call.module) in _OVER_LAST:  # subclasses may turn axes inside
            return [LayerSpec(path, channels_last=True)]
        first, last = self._fits(sizes[1:]), self._fits(sizes[:2])
        return [LayerSpec(path)] * first + [LayerSpec(path, channels_last=True)] * last

    def _fits(self, grid: Sequence[int]) -> bool:
        """Whether a convolution gave this grid, or it has the image's proportions when rounded."""
        return tuple(grid) in self.known or self._gap(grid) < max(self.image_shape[1:])

    def _gap(self, grid: Sequence[int]) -> int:
        return abs(grid[0] * self.image_shape[2] - grid[1] * self.image_shape[1])

    def _of_tokens(self, call: Call) -> Grid | None:
        count, channels = call.sizes
        if self.current is None and not call.aside:  # patches cut without a convolution
            grids = (self._grid(count - extra) for extra in range(min(EXTRA_TOKENS, count)))
            self.current = next(filter(None, grids), None)
        if self.current is None or channels < self.channels:
            return None
        positions = math.prod(self.current)
        if 0 <= count - positions <= EXTRA_TOKENS:
            if not call.aside:
                self.channels = min(self.channels or channels, channels)
                self.refuted |= {guess for guess in self.guessed if guess.sizes[0] < positions}
                self.guessed -= self.refuted
            return self.current
        merged = self._grid(count) if count < positions else None
        if merged and not call.aside:
            self.guessed.add(call)
        return merged

    def _grid(self, count: int) -> Grid | None:
        """The grid of so many positions that has the image's proportions, if there is one."""
        grids = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
        best = min(grids, key=self._gap)
        return best if self._gap(best) < max(self.image_shape[1:]) else None
