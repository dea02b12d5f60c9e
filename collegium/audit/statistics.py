"""Whether what BatchNorm remembers of its inputs is what it sees.

Wrong preprocessing shows in it, and so does a network that was stopped before it had settled: such
a one may be helped by some preprocessing by chance, which is no sign that it was loaded wrongly.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from collegium.audit.finding import Finding
from collegium.audit.headroom import difference
from collegium.models.network import Network

SETTLED = 0.25
"""Misfit below which statistics are those of the images, in deviations."""


def batch_norms(network: Network) -> list[_BatchNorm]:
    """The layers that normalise by statistics of their training."""
    kinds = (m for m in network.body.modules() if isinstance(m, _BatchNorm))
    return [norm for norm in kinds if norm.running_mean is not None]


def misfit(network: Network, images_BDHW: Float[Tensor, "B D H W"]) -> float:
    """Distance of the worst layer's inputs from its statistics; 0 where there are none.

    Of each channel: how far the mean is off, in deviations, and the logarithm of the ratio of the
    deviations; their root mean squares over channels, together.
    """
    found = [0.0]
    with _watched(network, found), torch.no_grad():
        network(images_BDHW)
    return max(found)


@contextmanager
def _watched(network: Network, found: list[float]) -> Iterator[None]:
    def watch(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        values_DP = inputs[0].transpose(0, 1).flatten(1)
        variance_D = norm.running_var + norm.eps
        off_D = (values_DP.mean(dim=1) - norm.running_mean) / variance_D.sqrt()
        ratio_D = (values_DP.var(dim=1, correction=0) + norm.eps) / variance_D
        squares = off_D.square().mean() + (ratio_D.log() / 2).square().mean()
        found.append(squares.sqrt().item())

    handles = [norm.register_forward_pre_hook(watch) for norm in batch_norms(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def unsettled(
    name: str,
    network: Network,
    images_BDHW: Float[Tensor, "B D H W"],
    labels_B: Int[Tensor, " B"],
) -> Iterator[Finding]:
    """A note on a network whose statistics are not those of the images, if that costs accuracy.

    Args:
        name: of the teacher.
        network: as it was loaded.
        images_BDHW: pixels in 0..1.
        labels_B: true classes.
    """
    far = misfit(network, images_BDHW)
    if far <= SETTLED:
        return
    relearned = copy.deepcopy(network)
    for norm in batch_norms(relearned):
        norm.train()
    with torch.no_grad():
        then_B = network(images_BDHW).argmax(dim=1) == labels_B
        now_B = relearned(images_BDHW).argmax(dim=1) == labels_B
    gain = difference(now_B, then_B)
    if gain.positive:
        accuracy = now_B.double().mean().item()
        text = (
            f"the statistics of its BatchNorm layers are {far:.1f} deviations off on these images; "
            f"with theirs it would be right on {100 * accuracy:.1f} % instead of "
            f"{100 * (accuracy - gain.mean):.1f} %: stopped before it had settled, or made for "
            "other images"
        )
        yield Finding(name, "unsettled-statistics", text, accuracy)
