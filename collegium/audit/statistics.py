"""Whether what BatchNorm remembers of its inputs is what it sees.

Wrong preprocessing shows in it, and so does a network that was stopped before it had settled: such
a one may be helped by some preprocessing by chance, which is no sign that it was loaded wrongly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from collegium.audit.finding import Finding
from collegium.audit.headroom import difference
from collegium.models.given import copied
from collegium.models.network import Network

SETTLED = 0.25
"""Misfit below which deeper layers have settled; sound ResNets have 0.1 to 0.2."""
STRANGE = 0.5
"""Misfit of the first layer above which pixels are not those of the training; sound ones: 0.25."""


def batch_norms(network: Network) -> list[_BatchNorm]:
    """The layers that normalise by statistics of their training."""
    kinds = (m for m in network.body.modules() if isinstance(m, _BatchNorm))
    return [norm for norm in kinds if norm.running_mean is not None]


@dataclass(frozen=True)
class Misfit:
    """Distance of what BatchNorm layers see from what they remember, 0 where there are none.

    Of each channel: how far the mean is off, in deviations, and the logarithm of the ratio of the
    deviations; of a layer: the root mean squares of both over channels, together.

    Attributes:
        first: of the first layer, which tells of the pixels.
        deep: root mean square over the deeper half of the layers.
    """

    first: float = 0.0
    deep: float = 0.0


def misfit(network: Network, images_BDHW: Float[Tensor, "B D H W"]) -> Misfit:
    """How well a network's statistics fit what it sees of these images."""
    found: list[float] = []
    with _watched(network, found), torch.no_grad():
        network(images_BDHW)
    deep = [value * value for value in found[len(found) // 2 :]]
    return Misfit(found[0], (sum(deep) / len(deep)) ** 0.5) if found else Misfit()


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
    """A network whose statistics are not those of the images, if that costs accuracy.

    Args:
        name: of the teacher.
        network: as it was loaded, in evaluation mode.
        images_BDHW: pixels in 0..1.
        labels_B: true classes.
    """
    far = misfit(network, images_BDHW)
    if far.first <= STRANGE and far.deep <= SETTLED:
        return
    relearned = copied(network, f"teacher {name}")
    for norm in batch_norms(relearned):
        norm.train()
    with torch.no_grad():
        then_B = network(images_BDHW).argmax(dim=1) == labels_B
        now_B = relearned(images_BDHW).argmax(dim=1) == labels_B
    gain = difference(now_B, then_B)
    if gain.positive:
        accuracy = now_B.double().mean().item()
        yield _unsettled(name, far, accuracy, accuracy - gain.mean)


def _unsettled(name: str, far: Misfit, accuracy: float, before: float) -> Finding:
    instead = f"right on {100 * accuracy:.1f} % instead of {100 * before:.1f} %"
    if far.first > STRANGE:
        text = (
            f"does not see the pixels it was trained on: its first BatchNorm layer is "
            f"{far.first:.1f} deviations off, and with statistics of these images it would be "
            f"{instead}; none of the common normalisations is the right one"
        )
        return Finding(name, "preprocessing", text, accuracy)
    text = (
        f"its deeper BatchNorm layers are {far.deep:.1f} deviations off, and with statistics of "
        f"these images it would be {instead}: stopped before it had settled, or made for others"
    )
    return Finding(name, "unsettled-statistics", text, accuracy)
