"""One frozen network that answers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from collegium.models.features.hooks import FeatureHooks
from collegium.models.network import Network, freeze
from collegium.teachers.label_map import LabelMap
from collegium.utils.memory import ran_out

Precision = Callable[[], AbstractContextManager[object]]
"""Gives the context a forward runs in: autocast, or nothing."""

BLOCKS = (8, 16, 32, 64, 128)
"""Numbers of views one forward may have; what is left over is filled up.

How a processor rounds depends on the size of a batch, which decides on kernels and on how threads
share the work. So only sizes are used whose bits have been seen to be those of the largest.
"""


@dataclass(frozen=True)
class Answer:
    """What one teacher says of some views, in float32.

    Attributes:
        logits_BC: raw scores of the student's classes.
        maps: hidden layers by module path.
    """

    logits_BC: Float[Tensor, "B C"]
    maps: Mapping[str, Float[Tensor, "B _ _ _"]]


@dataclass
class OptimizedTeacher:
    """A network that is asked in blocks, and how it is asked best.

    Attributes:
        network: frozen.
        compiled: the same, compiled; None if it is not.
        precision: what to ask it in.
        layout: of the images it is given.
        blocks: numbers of views one forward may have, from small to large.
        changes: what was done to make it fast, in order.
        notes: what was not done, and why.
        images_per_s: measured when all was done; 0 where it was not.
        shrunk: told when memory ran out and smaller blocks are asked; None to give up then.
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
        """Logits (B, C), block by block, in float32."""
        return torch.cat([logits_BC for logits_BC, _ in self.ask_blocks(images_BDHW)])

    def ask_blocks(self, images_BDHW: Tensor) -> Iterator[tuple[Tensor, int]]:
        """Logits of each block in turn, and how many of its views were asked for."""
        self.network.eval()  # whoever holds the module may have called train() on it
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
                # A copy: a network may have one buffer for the answers to every block.
                yield logits_BC[:count].to(torch.float32, copy=True), count
            else:  # not where the error is known: it holds on to what the forward had made
                self._shrink(size, images_BDHW.device)
            images_BDHW = images_BDHW[count:]

    def _shrink(self, size: int, device: torch.device) -> None:
        """Ask in blocks of less than `size`: of those that give the same bits, else of half."""
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
    """The first `size` images, filled up with black ones, and how many are images."""
    count = min(size, len(images_BDHW))
    # Always a copy: where a dimension is 1 two layouts look the same and compute otherwise.
    block_BDHW = torch.empty(
        (size, *images_BDHW.shape[1:]),
        dtype=images_BDHW.dtype,
        device=images_BDHW.device,
        memory_format=layout,
    )
    block_BDHW[:count] = images_BDHW[:count]
    block_BDHW[count:] = 0
    return block_BDHW, count


class Teacher:
    """A network in evaluation mode, without gradients, whose hidden layers can be read.

    An image gets the same answer in any batch: bit for bit on one CPU with as many threads, which
    is what lets a stored answer stand for a live one.

    Args:
        prepared: the network.
        paths: hidden layers to read.
        labels: how its classes are the student's; None where they are the same.
    """

    def __init__(
        self, prepared: OptimizedTeacher, paths: Sequence[str] = (), labels: LabelMap | None = None
    ) -> None:
        self._prepared, self._paths, self.labels = prepared, tuple(paths), labels
        whose = f"the teacher {prepared.network.spec}".rstrip()
        self._hooks = FeatureHooks(prepared.network.body, paths, whose)

    @property
    def network(self) -> Network:
        """Who answers."""
        return self._prepared.network

    def answer(self, images_BDHW: Float[Tensor, "B D H W"]) -> Answer:
        """Logits and maps of views given as pixels in 0..1."""
        logits: list[Tensor] = []
        maps: dict[str, list[Tensor]] = {path: [] for path in self._paths}
        self._hooks.forget()
        for logits_BC, count in self._prepared.ask_blocks(images_BDHW):
            logits.append(logits_BC)
            whole = count == len(images_BDHW)  # which is copied below
            for path, map_BDHW in self._hooks.take().items():
                maps[path].append(map_BDHW[:count].to(torch.float32, copy=not whole))
        logits_BC = torch.cat(logits)
        if self.labels is not None:
            logits_BC = self.labels.read(logits_BC)
        return Answer(logits_BC, {path: torch.cat(parts) for path, parts in maps.items()})

    def close(self) -> None:
        """Stop reading hidden layers; the network is as it was."""
        self._hooks.close()
