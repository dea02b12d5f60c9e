"""What a network costs: arithmetic, memory, time."""

import time
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from collegium.models.network import Network, parameter_count
from collegium.models.state import state_tensors


@dataclass(frozen=True)
class Cost:
    """Of one network.

    Attributes:
        parameters: trained values.
        flops: of a forward of one view; a multiplication and an addition are two.
        bytes: of its weights and buffers in memory.
        view_bytes: the most that a forward of one view holds at once beside them.
    """

    parameters: int
    flops: int
    bytes: int
    view_bytes: int


class _Held(TorchDispatchMode):
    """Follows the memory of the tensors that operations make, until they are gone."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        made = func(*args, **kwargs)
        for tensor in _tensors(made):
            if tensor.untyped_storage()._cdata not in given | self._known:
                self._follow(tensor.untyped_storage())
        return made

    def _follow(self, storage: torch.UntypedStorage) -> None:
        number, size = storage._cdata, storage.nbytes()
        self._known.add(number)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, number, size)

    def _forget(self, number: int, size: int) -> None:
        self._known.discard(number)
        self.now -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def measure_cost(network: Network, view_1DHW: Float[Tensor, "1 D H W"]) -> Cost:
    """Parameters, arithmetic of one view, memory of the weights and of a view's forward."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(view_1DHW)
    with _Held() as held_at_once, torch.no_grad():
        network(view_1DHW)
    held = state_tensors(network).values()
    return Cost(
        parameter_count(network),
        counter.get_total_flops(),
        sum(tensor.numel() * tensor.element_size() for tensor in held),
        held_at_once.most,
    )


def measure_rate(network: Network, images_BDHW: Float[Tensor, "B D H W"]) -> float:
    """Images a second, in evaluation mode; the first forward, which sets things up, not counted."""
    with torch.no_grad():
        network.eval()(images_BDHW)
        started = time.perf_counter()
        network(images_BDHW).cpu()  # waits for a device that answers later
    return len(images_BDHW) / max(time.perf_counter() - started, 1e-9)
