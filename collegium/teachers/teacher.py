"""One frozen teacher network and its outputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from collegium.models.features.hooks import FeatureHooks
from collegium.models.network import Network
from collegium.models.user_modules import freeze
from collegium.teachers.label_map import LabelMap
from collegium.utils.memory import ran_out

Precision = Callable[[], AbstractContextManager[object]]
"""Returns the context in which a forward pass runs: autocast, or a null context."""

BLOCKS = (8, 16, 32, 64, 128)
"""Possible numbers of views in one forward pass; an incomplete block is padded.

Rounding depends on the batch size, because the size determines the kernels and the division of work
among threads. Therefore a teacher uses only block sizes whose outputs were checked to be
bit-identical to those of its largest block.
"""


@dataclass(frozen=True)
class Answer:
    """The outputs of one teacher for some views, in float32.

    Attributes:
        logits_BC: raw scores of the student's classes.
        maps: features by module path.
    """

    logits_BC: Float[Tensor, "B C"]
    maps: Mapping[str, Float[Tensor, "B _ _ _"]]


@dataclass
class OptimizedTeacher:
    """A network that runs in blocks of views, with the settings for its fastest inference.

    Attributes:
        network: is frozen.
        compiled: the compiled network; None if it is not compiled.
        precision: context of its forward pass.
        layout: memory layout of its input images.
        blocks: allowed numbers of views in one forward pass, from small to large.
        changes: the optimizations that were applied, in order.
        notes: the optimizations that were rejected, and why.
        images_per_s: speed after all optimizations; 0 where it was not measured.
        shrunk: called with a message when memory ran out and blocks become smaller; None raises the
            error instead.
    """

    network: Network
    compiled: Callable[[Tensor], Tensor] | None = None
    precision: Precision = nullcontext
    layout: torch.memory_format = torch.contiguous_format
    blocks: tuple[int, ...] = BLOCKS[-1:]
    changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    images_per_s: float = 0.0
    shrunk: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        freeze(self.network)

    def ask(self, images_BDHW: Tensor) -> Tensor:
        """Compute logits (B, C) block by block, in float32."""
        return torch.cat([logits_BC for logits_BC, _ in self.ask_blocks(images_BDHW)])

    def ask_blocks(self, images_BDHW: Tensor) -> Iterator[tuple[Tensor, int]]:
        """Yield the logits of each block, without padding, and the number of its views."""
        self.network.eval()  # a caller may have called train() on the module
        ask = self.network if self.compiled is None else self.compiled
        while len(images_BDHW):
            size = max((n for n in self.blocks if n <= len(images_BDHW)), default=self.blocks[0])
            try:
                block_BDHW, count = _block(images_BDHW, size, self.layout)
                with torch.no_grad(), self.precision():
                    logits_BC = ask(block_BDHW)
            except (RuntimeError, MemoryError) as error:
                if self.shrunk is None or size == 1 or not ran_out(error):
                    raise
                count = 0
            if count:
                # Copy, because a network may return the same buffer for every block.
                yield logits_BC[:count].to(torch.float32, copy=True), count
            else:  # outside the except block: the error keeps tensors of the forward alive
                self._shrink(size, images_BDHW.device)
            images_BDHW = images_BDHW[count:]

    def _shrink(self, size: int, device: torch.device) -> None:
        """Limit blocks to less than `size`: to the smaller checked sizes, otherwise to half."""
        same = tuple(n for n in self.blocks if n < size)
        self.blocks = same or (size // 2,)
        if device.type != "cpu":
            torch.get_device_module(device).empty_cache()
        exact = "" if same else ", which may differ in their last bits"
        assert self.shrunk is not None
        self.shrunk(
            f"out of memory for {size} views at a time; going on with {self.blocks[-1]}{exact}"
        )


def _block(images_BDHW: Tensor, size: int, layout: torch.memory_format) -> tuple[Tensor, int]:
    """The first `size` images, padded with black images, and the number that are not padding."""
    count = min(size, len(images_BDHW))
    padded_BDHW = F.pad(images_BDHW[:count], (0, 0, 0, 0, 0, 0, 0, size - count))
    # Always copy: where a dimension is 1, two layouts look the same but results may differ.
    return padded_BDHW.clone(memory_format=layout), count


class Teacher:
    """A network in evaluation mode, without gradients, whose features can be read.

    An image gets the same outputs in any batch: bit for bit on one CPU with the same number of
    threads. Stored outputs can therefore replace live ones.

    Args:
        prepared: the network.
        paths: layers whose features are read.
        labels: maps its classes to the student's; None where they are the same.
    """

    def __init__(
        self, prepared: OptimizedTeacher, paths: Sequence[str] = (), labels: LabelMap | None = None
    ) -> None:
        self._prepared, self._paths, self.labels = prepared, tuple(paths), labels
        self.network = prepared.network
        whose = f"the teacher {prepared.network.spec}".rstrip()
        self._hooks = FeatureHooks(prepared.network.body, paths, whose)

    def answer(self, images_BDHW: Float[Tensor, "B D H W"]) -> Answer:
        """Compute logits and features of views, given as pixels in 0..1."""
        logits: list[Tensor] = []
        maps: dict[str, list[Tensor]] = {path: [] for path in self._paths}
        self._hooks.forget()
        for logits_BC, count in self._prepared.ask_blocks(images_BDHW):
            logits.append(logits_BC)
            whole = count == len(images_BDHW)  # torch.cat below copies it
            for path, map_BDHW in self._hooks.take().items():
                maps[path].append(map_BDHW[:count].to(torch.float32, copy=not whole))
        logits_BC = torch.cat(logits)
        if self.labels is not None:
            logits_BC = self.labels.read(logits_BC)
        return Answer(logits_BC, {path: torch.cat(parts) for path, parts in maps.items()})

    def close(self) -> None:
        """Remove the hooks that read features; the network itself is unchanged."""
        self._hooks.close()
