"""Which hidden layers a network has for hints, and which others can be requested for."""

import difflib
import itertools
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Sequence

import torch
from torch import nn

from collegium.errors import RequestError
from collegium.models.features.layer_names import LayerSpec
from collegium.models.features.trace import Call, Layer, interpret, mixes_positions, watch
from collegium.models.network import Network
from collegium.types import MapShape

SPREAD = 4
"""Layers of a network whose maps have all one resolution, as a vision transformer's."""


def survey(
    network: nn.Module,
    image_shape: MapShape,
    requested: Sequence[str] = (),
    whose: str = "the network",
) -> dict[str, MapShape]:
    """The layers hints can use, from shallow to deep: the last map at each resolution.

    A ResNet's stages, a VGG's blocks, a Swin's stages. What the block that leaves a resolution
    computes before it does so, as the wide maps of MobileNet's, is no end of a stage. A network of
    blocks at one resolution, as a vision transformer, has four layers at even depth, the last map
    among them. Resolutions of 1x1 count only where there is nothing larger, so that a perceptron
    still has its hidden vector.

    Args:
        network: run once on a blank image, in evaluation mode; left as it was. Of a `Network` the
            layers are those of `body`.
        image_shape: channels, rows and columns of what it is given.
        requested: further layers to list, with or without how they are read. What was last without
            them stays last: weightings use it.
        whose: the network is, in messages.

    Raises:
        RequestError: there is no such layer, or what it gives cannot be read as a map.
    """
    calls, classes, layers = _trace(network, image_shape)
    apart = [layer for layer in layers if not layer.call.aside]
    chosen = _choose(apart, _last_calls(calls), classes)
    further = dict(_find(name, calls, layers, whose) for name in requested)
    shapes = further | chosen
    order = {call.path: call.place for call in calls}
    last = list(chosen)[-1:]
    rest = sorted(shapes.keys() - set(last), key=lambda name: order[LayerSpec.of(name).path])
    return {name: shapes[name] for name in (*rest, *last)}


def every_layer(network: nn.Module, image_shape: MapShape) -> dict[str, MapShape]:
    """All layers that can be requested for, in the order of the forward; see `survey`."""
    calls, _, layers = _trace(network, image_shape)
    last = _last_calls(calls)
    return {layer.name: layer.shape for layer in layers if layer.call.path and layer.call in last}


def _last_calls(calls: Sequence[Call]) -> set[Call]:
    """The last call of each module: what is read of one that is called several times."""
    return set({call.module: call for call in calls}.values())


def _trace(network: nn.Module, image_shape: MapShape) -> tuple[list[Call], int, list[Layer]]:
    """The body's calls, the number of classes, and the calls that give maps."""
    if isinstance(network, Network):
        blank_BDHW = torch.zeros(1, *image_shape, device=network.mean.device)
        channels, rows, columns = network.prepare(blank_BDHW).shape[1:]
        return _trace(network.body, (channels, rows, columns))
    calls, classes = watch(network, image_shape)
    return calls, classes, interpret(calls, image_shape)


def _find(
    name: str, calls: Sequence[Call], layers: Sequence[Layer], whose: str
) -> tuple[str, MapShape]:
    """The layer of that name, as it is read."""
    wanted = LayerSpec.of(name)
    sizes = {call.path: call.sizes for call in calls if call.path}
    if wanted.path not in sizes:
        close = difflib.get_close_matches(wanted.path, sizes, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}? " if close else ""
        raise RequestError(
            f"{whose} has no layer {wanted.path!r}; {hint}"
            "all there are: collegium layers --data D --model M --all"
        )
    last = _last_calls(calls)
    usual = {one.call.path: one for one in layers if one.call in last}.get(wanted.path)
    if usual and wanted.name == wanted.path:
        return usual.name, usual.shape
    shape = wanted.shape(sizes[wanted.path])
    if shape is None or (usual is None and wanted.name == wanted.path):
        given = ", ".join(map(str, ("B", *sizes[wanted.path])))
        raise RequestError(f"layer {name!r} of {whose} gives ({given}), which is no map or tokens")
    return wanted.name, shape


def _choose(layers: Sequence[Layer], last: Collection[Call], classes: int) -> dict[str, MapShape]:
    readable = [layer for layer in layers if layer.call in last]
    hidden = [layer for layer in readable if layer.call.path and layer.shape[1:] != (1, 1)]
    if not hidden:
        hidden = _before_classifier(readable, classes)
    leaving = _leaving(layers)
    best: dict[tuple[int, ...], tuple[int, int]] = {}
    for place, layer in enumerate(hidden):
        around = sum(
            f"{layer.call.path}.".startswith(path) and layer.call.place < mixed
            for path, mixed in leaving[layer.shape[1:]]
        )
        # A container ends after its last child with the same output: the later, shorter path wins.
        best[layer.shape[1:]] = max(best.get(layer.shape[1:], (-around, place)), (-around, place))
    chosen = [hidden[place] for place in sorted(place for _, place in best.values())]
    if len(chosen) == 1 and chosen[0].shape[1:] != (1, 1):
        chosen = [*_spread(hidden), *chosen]
    return {layer.name: layer.shape for layer in chosen}


def _leaving(layers: Sequence[Layer]) -> dict[tuple[int, ...], list[tuple[str, int]]]:
    """For each resolution, the modules that are given it and give the next smaller one.

    With the place of the first call inside that mixes positions at the old resolution: from there
    on it is a stage that ends in a smaller map, as VGG's or Swin's, and not a block on its way.
    """
    ends = [layer.call.place for layer in layers]
    sizes = sorted({math.prod(layer.shape[1:]) for layer in layers}, reverse=True)
    following = dict(itertools.pairwise(sizes))
    found: dict[tuple[int, ...], list[tuple[str, int]]] = defaultdict(list)
    for layer in layers:
        before = bisect_left(ends, layer.call.began)
        if before and layer.call.path:
            given = layers[before - 1].shape[1:]
            if math.prod(layer.shape[1:]) == following.get(math.prod(given)):
                inside = layers[before : bisect_left(ends, layer.call.place)]
                mixing = (
                    one.call.place
                    for one in inside
                    if one.shape[1:] == given and mixes_positions(one.call.module)
                )
                found[given].append((f"{layer.call.path}.", next(mixing, layer.call.place)))
    return found


def _before_classifier(layers: Sequence[Layer], classes: int) -> list[Layer]:
    end = len(layers)
    while end and (layers[end - 1].call.path == "" or layers[end - 1].shape == (classes, 1, 1)):
        end -= 1
    return list(layers[:end])


def _spread(layers: Sequence[Layer]) -> list[Layer]:
    """Blocks at even depth, without the last: of siblings of one class and shape, the most."""
    families: dict[tuple[str, type, MapShape], list[Layer]] = defaultdict(list)
    for layer in layers:
        call = layer.call
        if any(True for _ in call.module.children()):  # a block is made of parts
            families[call.path.rpartition(".")[0], type(call.module), layer.shape].append(layer)
    if not families:
        return []
    blocks = max(families.values(), key=lambda family: (len(family), _learned(family)))
    places = {-(-len(blocks) * part // SPREAD) - 1 for part in range(1, SPREAD)}
    return [blocks[place] for place in sorted(places - {len(blocks) - 1})]


def _learned(family: Sequence[Layer]) -> int:
    return sum(p.numel() for layer in family for p in layer.call.module.parameters())
