"""What a network costs: arithmetic, memory, time."""

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from collegium.models.network import Network, parameter_count


@dataclass(frozen=True)
class Cost:
    """Of one network.

    Attributes:
        parameters: trained values.
        flops: of a forward of one view; a multiplication and an addition are two.
        bytes: of its weights and buffers in memory.
    """

    parameters: int
    flops: int
    bytes: int


def measure_cost(network: Network, view_1DHW: Float[Tensor, "1 D H W"]) -> Cost:
    """Parameters, arithmetic of one view, and memory of the weights."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(view_1DHW)
    held = network.state_dict().values()
    return Cost(
        parameter_count(network),
        counter.get_total_flops(),
        sum(tensor.numel() * tensor.element_size() for tensor in held),
    )


def measure_rate(network: Network, images_BDHW: Float[Tensor, "B D H W"]) -> float:
    """Images a second, in evaluation mode; the first forward, which sets things up, not counted."""
    with torch.no_grad():
        network.eval()(images_BDHW)
        started = time.perf_counter()
        network(images_BDHW).cpu()  # waits for a device that answers later
    return len(images_BDHW) / max(time.perf_counter() - started, 1e-9)
