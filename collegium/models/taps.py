"""Hidden layers by forward hooks: find them, read them, pair a student's with its teachers'.

No network is edited: a layer is a module path, and a hook keeps what the module returned.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from collegium.errors import RequestError, UnknownNameError
from collegium.types import Dims, MapShape

POOLED = "@mean"
"""After a module path: the mean over positions of what the module gives."""


class Taps:
    """Keeps the outputs of some modules of a network, from one forward to the next.

    Args:
        network: read, never changed.
        paths: module paths as in `network.named_modules()`, with `@mean` for means over positions.

    Raises:
        UnknownNameError: a path is not in the network.
    """

    def __init__(self, network: nn.Module, paths: Sequence[str]) -> None:
        self._maps: dict[str, Tensor] = {}
        self._paths = tuple(paths)
        self._handles = []
        modules = dict(network.named_modules())
        for path in paths:
            name = path.removesuffix(POOLED)
            if name not in modules:
                raise UnknownNameError("layer", name, (name for name in modules if name))
            self._handles.append(modules[name].register_forward_hook(self._hook(path)))

    def _hook(self, path: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            feature = as_map(output)
            pooled = path.endswith(POOLED)
            self._maps[path] = feature.mean(dim=(2, 3), keepdim=True) if pooled else feature

        return keep

    def take(self) -> dict[str, Tensor]:
        """The maps of the last forward, in the order of the paths; forgets them."""
        maps = {path: self._maps[path] for path in self._paths}
        self._maps.clear()
        return maps

    def close(self) -> None:
        """Leave the network alone from now on."""
        for handle in self._handles:
            handle.remove()


def shape_of(maps: Mapping[str, MapShape], path: str) -> MapShape | None:
    """The shape of a layer, pooled or not; None where there is no such layer.

    >>> shape_of({"layer1": (16, 8, 8)}, "layer1@mean")
    (16, 1, 1)
    """
    shape = maps.get(path.removesuffix(POOLED))
    return (shape[0], 1, 1) if shape and path.endswith(POOLED) else shape


def as_map(output: Tensor) -> Tensor:
    """A feature map as it is; a vector as a 1x1 map."""
    return output[:, :, None, None] if output.ndim == 2 else output


def survey(network: nn.Module, image_shape: MapShape) -> dict[str, MapShape]:
    """The last map at each resolution, from shallow to deep: the layers hints can use.

    A ResNet's stages, a VGG's blocks. Resolutions of 1x1 count only where there is nothing larger,
    so that a multilayer perceptron still has its hidden vector.

    Args:
        network: run once on a blank image, in evaluation mode; left as it was.
        image_shape: channels, rows and columns of what it is given.
    """
    seen: list[tuple[str, MapShape]] = []
    with _watching(network, seen), torch.no_grad(), _evaluating(network):
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        logits = network(torch.zeros(1, *image_shape, device=device))
    hidden = [(path, shape) for path, shape in seen if path and shape[1:] != (1, 1)]
    if not hidden:
        hidden = _before_classifier(seen, classes=logits.shape[1])
    return _last_of_each_resolution(hidden)


def _before_classifier(
    seen: Sequence[tuple[str, MapShape]], classes: int
) -> list[tuple[str, MapShape]]:
    last = len(seen)
    while last and (seen[last - 1][0] == "" or seen[last - 1][1] == (classes, 1, 1)):
        last -= 1
    return list(seen[:last])


def _last_of_each_resolution(
    layers: Sequence[tuple[str, MapShape]],
) -> dict[str, MapShape]:
    # A container fires after its last child with the same output: the later, shorter path wins.
    by_resolution = {shape[1:]: (path, shape) for path, shape in layers}
    order = {path: place for place, (path, _) in enumerate(layers)}
    return dict(sorted(by_resolution.values(), key=lambda item: order[item[0]]))


@contextmanager
def _watching(network: nn.Module, seen: list[tuple[str, MapShape]]) -> Iterator[None]:
    learned = False

    def note(path: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal learned
            learned = learned or any(True for _ in module.parameters(recurse=False))
            # Before the first learned module there is only the image, resized or reshaped.
            if learned and isinstance(output, Tensor) and output.ndim in (2, 4):
                channels, height, width = as_map(output).shape[1:]
                seen.append((path, (channels, height, width)))

        return keep

    handles = [module.register_forward_hook(note(path)) for path, module in network.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class HintPair(NamedTuple):
    """One teacher's hint to one student layer."""

    student_layer: str
    teacher: str
    teacher_layer: str


Assignment = Literal["one_per_group", "cyclic", "all_to_one", "skip_last"]


def pair_layers(
    dims: Dims, assignment: Assignment = "one_per_group", explicit: Sequence[str] = ()
) -> list[HintPair]:
    """Who hints where: each teacher its own group of student layers, maps of like resolution.

    Args:
        dims: student groups are its `student_maps`, from shallow to deep.
        assignment: "one_per_group" gives teachers, in listed order, to groups from shallow to
            deep (fewer teachers than groups: the deeper ones); "cyclic" gives group g to teacher
            g mod T; "all_to_one" sends every teacher to the middle group; "skip_last" is the
            first without the last teacher.
        explicit: "STUDENT_LAYER=TEACHER:TEACHER_LAYER" strings, which replace the rule.

    Raises:
        RequestError: a network has no layer to pair, or an explicit pair cannot be read.
    """
    if explicit:
        return [_parse_pair(text, dims) for text in explicit]
    silent = [name for name in dims.teachers if not dims.teacher_maps.get(name)]
    if silent or not dims.student_maps:
        who = f"teacher {', '.join(silent)}" if silent else "the student"
        raise RequestError(f"hints need feature maps, and {who} has none; use hint_weight=0")
    groups = list(dims.student_maps)
    pairs = _assign(dims.teachers, len(groups), assignment)
    return [
        HintPair(groups[group], teacher, nearest_layer(dims, groups[group], teacher))
        for teacher, group in pairs
    ]


def _assign(teachers: Sequence[str], groups: int, assignment: Assignment) -> list[tuple[str, int]]:
    if assignment == "all_to_one":
        return [(teacher, groups // 2) for teacher in teachers]
    if assignment == "cyclic":
        return [(teachers[group % len(teachers)], group) for group in range(groups)]
    heard = teachers[:-1] if assignment == "skip_last" and len(teachers) > 1 else teachers
    count = len(heard)
    if count >= groups:
        return [(teacher, place * groups // count) for place, teacher in enumerate(heard)]
    # Fewer teachers than groups: spread evenly, the last one to the deepest group.
    return [(teacher, (place + 1) * groups // count - 1) for place, teacher in enumerate(heard)]


def nearest_layer(dims: Dims, student_layer: str, teacher: str) -> str:
    """The teacher's layer whose resolution is closest to the student layer's."""
    rows = dims.student_maps[student_layer][1]
    maps: Mapping[str, MapShape] = dims.teacher_maps[teacher]
    return min(maps, key=lambda path: max(maps[path][1], rows) / min(maps[path][1], rows))


def _parse_pair(text: str, dims: Dims) -> HintPair:
    student_layer, _, rest = text.partition("=")
    teacher, _, teacher_layer = rest.partition(":")
    if teacher not in dims.teachers:
        raise UnknownNameError(f"teacher in the hint {text!r}", teacher, dims.teachers)
    if student_layer not in dims.student_maps:
        raise UnknownNameError(f"student layer in {text!r}", student_layer, dims.student_maps)
    if teacher_layer not in dims.teacher_maps[teacher]:
        known = dims.teacher_maps[teacher]
        raise UnknownNameError(f"teacher layer in {text!r}", teacher_layer, known)
    return HintPair(student_layer, teacher, teacher_layer)
