"""Running a network over images in blocks that fit into memory, and its cost."""

import time
import weakref
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from collegium.evaluation.metrics import correct
from collegium.models.network import Network, parameter_count
from collegium.models.state import state_tensors

BLOCK = 128
"""Most images at once."""
MEMORY = 512 << 20
"""Approximate limit of the bytes that the activations of a block take."""


@dataclass(frozen=True)
class Cost:
    """The cost of one network.

    Attributes:
        parameters: number of trained values.
        flops: of a forward of one view; a multiplication and an addition are two.
        bytes: of its weights and buffers in memory.
        view_bytes: most bytes that a forward of one view holds at once beside them.
    """

    parameters: int
    flops: int
    bytes: int
    view_bytes: int


class _PeakMemory(TorchDispatchMode):
    """Tracks the memory of the tensors that operations allocate."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._alive = weakref.WeakSet[torch.UntypedStorage]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _storages((args, kwargs))
        made = func(*args, **(kwargs or {}))
        self._alive |= _storages(made) - given
        self.most = max(self.most, sum(storage.nbytes() for storage in self._alive))
        return made


def _storages(tree: Any) -> set[torch.UntypedStorage]:
    leaves = tree_leaves(tree)
    return {leaf.untyped_storage() for leaf in leaves if isinstance(leaf, Tensor)}


def measure_cost(network: Network, view_1DHW: Float[Tensor, "1 D H W"]) -> Cost:
    """Parameters, arithmetic of one view, memory of the weights and of a view's forward."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(view_1DHW)
    with _PeakMemory() as peak, torch.no_grad():
        network(view_1DHW)
    stored = state_tensors(network).values()
    return Cost(
        parameter_count(network),
        counter.get_total_flops(),
        sum(tensor.numel() * tensor.element_size() for tensor in stored),
        peak.most,
    )


def measure_rate(network: Network, images_BDHW: Float[Tensor, "B D H W"]) -> float:
    """Images a second, in evaluation mode; a first forward warms up and does not count."""
    with torch.no_grad():
        network.eval()(images_BDHW)
        started = time.perf_counter()
        network(images_BDHW).cpu()  # waits for an asynchronous device
    return len(images_BDHW) / max(time.perf_counter() - started, 1e-9)


@dataclass(frozen=True)
class Sample:
    """Images that a network is examined on.

    Attributes:
        images_BDHW: pixels in 0..1.
        labels_B: true classes.
        block: images at a time.
    """

    images_BDHW: Float[Tensor, "B D H W"]
    labels_B: Int[Tensor, " B"]
    block: int = BLOCK

    def __len__(self) -> int:
        return len(self.labels_B)

    def first(self, count: int) -> "Sample":
        """The first images."""
        return replace(self, images_BDHW=self.images_BDHW[:count], labels_B=self.labels_B[:count])


def fitting(cost: Cost) -> int:
    """How many images at once stay within `MEMORY`; at least two."""
    return max(2, min(BLOCK, MEMORY // max(cost.view_bytes, 1)))


def in_blocks(network: Network, sample: Sample) -> Float[Tensor, "B C"]:
    """Logits of a sample, without gradients.

    Blocks are of nearly equal size and have at least two images where there are two, which
    BatchNorm layers need to measure their statistics.
    """
    count = -(-len(sample) // sample.block)
    parts = sample.images_BDHW.tensor_split(max(1, min(count, len(sample) // 2)))
    with torch.no_grad():
        return torch.cat([network(part) for part in parts])


def right(network: Network, sample: Sample) -> Bool[Tensor, " B"]:
    """Whether a network is right on each image."""
    return correct(in_blocks(network, sample), sample.labels_B)
