"""Whether the running statistics of BatchNorm layers fit their inputs.

Wrong preprocessing changes the fit, and so do weights of another network. A network that stopped
early is no such case, although its statistics lag behind its weights: some preprocessing may help
it by chance.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from collegium.audit.change import Change
from collegium.audit.cost import Sample, in_blocks, right
from collegium.audit.finding import Finding
from collegium.models.network import Network
from collegium.models.user_modules import copied
from collegium.plots.words import percent

SETTLED = 0.25
"""Misfit below which deeper layers count as fitting; healthy ResNets have 0.1 to 0.2."""
STRANGE = 0.5
"""Misfit of the first layer above which pixels differ from training; healthy ones have 0.25."""
YOUNG = 0.01
"""Part of the initial value in the statistics that marks a network that stopped early."""
FOREIGN_FIRST, FOREIGN, SCALED = 0.3, 1.0, 0.5
"""Limits that training stays below: misfit of the first layer, of deeper ones, a layer's scale."""
SHRUNK = -0.15
"""Logarithm of a scale that training never leaves in the first layer, as weights grow at first."""
EVEN = 0.1
"""Standard deviation between channels below which all have the same scale."""
Moments = tuple[int, Tensor, Tensor]
"""Number of values, and for each channel their mean and the mean of their squares."""


def batch_norms(network: Network) -> list[_BatchNorm]:
    """The layers that normalise by running statistics."""
    norms = (module for module in network.body.modules() if isinstance(module, _BatchNorm))
    return [norm for norm in norms if norm.running_mean is not None]


@dataclass(frozen=True)
class Layer:
    """One BatchNorm layer: its inputs against its running statistics.

    Attributes:
        path: of the layer.
        misfit: for each channel the difference of the means in standard deviations, and the
            logarithm of the ratio of the standard deviations; the root of the sum of both mean
            squares over channels.
        scale: mean over channels of that logarithm; this and the next two without the part of
            the statistics that is still their initial value.
        uneven: its standard deviation between channels.
        off: root mean square distance of the means from `exp(scale)` times the running means.
        fresh: part of the statistics that is still their initial value, 0..1.
    """

    path: str
    misfit: float
    scale: float
    uneven: float
    off: float
    fresh: float

    @property
    def scaled(self) -> bool:
        """Whether its inputs are those of its training times one number."""
        return abs(self.scale) > EVEN and self.uneven < EVEN and self.off < EVEN


@dataclass(frozen=True)
class Misfit:
    """Distance of the inputs of BatchNorm layers from their statistics, 0 without such layers.

    Attributes:
        layers: in the order of the forward.
    """

    layers: tuple[Layer, ...] = ()

    @property
    def first(self) -> float:
        """Misfit of the first layer, which depends on the pixels."""
        return self.layers[0].misfit if self.layers else 0.0

    @property
    def deep(self) -> float:
        """Root mean square over the deeper half of the layers."""
        deep = [layer.misfit**2 for layer in self.layers[len(self.layers) // 2 :]]
        return math.sqrt(sum(deep) / len(deep)) if deep else 0.0

    @property
    def young(self) -> bool:
        """Whether the network stopped so early that its statistics are partly initial ones."""
        return any(layer.fresh > YOUNG for layer in self.layers)

    @property
    def foreign(self) -> Layer | None:
        """The first layer whose statistics cannot come from training with these weights.

        In a network that stopped early only the first layer is evidence.
        """
        layers = self.layers if self.deep > FOREIGN and not self.young else self.layers[:1]
        for place, layer in enumerate(layers):
            bound = FOREIGN if place else STRANGE if self.young else FOREIGN_FIRST
            if layer.misfit > bound or (self.young and layer.scale < SHRUNK):
                return layer
        scaled = (layer for layer in self.layers if layer.scaled and abs(layer.scale) > SCALED)
        return None if self.young else next(scaled, None)


def misfit(network: Network, sample: Sample) -> Misfit:
    """How well a network's statistics fit these images."""
    seen: dict[_BatchNorm, list[Moments]] = {}

    def watch(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        values_DP = inputs[0].transpose(0, 1).flatten(1).double()
        moments = values_DP.mean(dim=1), values_DP.square().mean(dim=1)
        seen.setdefault(norm, []).append((values_DP.shape[1], *moments))

    with ExitStack() as hooks:
        for norm in batch_norms(network):
            hooks.enter_context(norm.register_forward_pre_hook(watch))
        in_blocks(network, sample)
    paths = {module: path for path, module in network.body.named_modules()}
    return Misfit(tuple(_layer(paths[norm], norm, parts) for norm, parts in seen.items()))


def _layer(path: str, norm: _BatchNorm, parts: Sequence[Moments]) -> Layer:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    count = sum(size for size, _, _ in parts)
    mean_D = torch.stack([size * mean_D for size, mean_D, _ in parts]).sum(dim=0) / count
    square_D = torch.stack([size * square_D for size, _, square_D in parts]).sum(dim=0) / count
    variance_D = (square_D - mean_D.square()).clamp_min(0) + norm.eps
    known_D, spread_D = norm.running_mean.double(), norm.running_var.double() + norm.eps
    off_D, ratio_D = (mean_D - known_D) / spread_D.sqrt(), (variance_D / spread_D).log() / 2
    total = (off_D.square().mean() + ratio_D.square().mean()).sqrt().item()
    fresh = _fresh(norm)
    rest = max(1 - fresh, 1e-3)
    known_D, spread_D = known_D / rest, ((spread_D - fresh) / rest).clamp_min(1e-9)
    scale_D = (variance_D / spread_D).log() / 2
    scale = scale_D.mean().item()
    off = ((mean_D - math.exp(scale) * known_D) / variance_D.sqrt()).square().mean().sqrt().item()
    return Layer(path, total, scale, scale_D.std(correction=0).item(), off, fresh)


def _fresh(norm: _BatchNorm) -> float:
    """Part of the statistics that is still mean 0 and variance 1; 0 where the steps are unknown."""
    steps = 0 if norm.num_batches_tracked is None else int(norm.num_batches_tracked)
    return (1 - norm.momentum) ** steps if steps and norm.momentum else 0.0


def relearned(network: Network, sample: Sample) -> Network:
    """A copy with the statistics of these images, as `torch.optim.swa_utils.update_bn` makes."""
    other = copied(network, "the teacher")
    for norm in batch_norms(other):
        norm.train().reset_running_stats()
        norm.momentum = None  # the mean over all blocks
    in_blocks(other, sample)
    return other.eval()


def examine_statistics(
    network: Network, sample: Sample, far: Misfit, weak: bool
) -> Iterator[Finding]:
    """Findings where a network's statistics do not fit its weights and these images.

    Args:
        network: as it was loaded, in evaluation mode.
        sample: at least two images.
        far: its misfit on them.
        weak: whether it is far less accurate than others, or than its weights file states.
    """
    if far.first <= STRANGE and far.deep <= SETTLED and far.foreign is None:
        return
    try:
        now_B = right(relearned(network, sample), sample)
    except ValueError:  # a layer with a single value per image
        return
    change, layer = Change.of(now_B, right(network, sample)), far.foreign
    if layer is not None and (change.helps or (weak and layer.misfit > STRANGE)):
        yield _foreign(layer, layer is far.layers[0], change)
    elif change.gain.positive:
        yield _unsettled(far, change)


def _foreign(layer: Layer, first: bool, change: Change) -> Finding:
    before = "the weights before it, or the pixels," if first else "the weights before it"
    what = (
        f"receives {math.exp(layer.scale):.3g} times what its statistics say, in every channel "
        f"alike: {before} are scaled"
        if layer.scaled
        else f"receives values {layer.misfit:.1f} standard deviations off its statistics: "
        f"{before} are not those it was trained with"
    )
    cure = (
        "load weights and statistics (running_mean, running_var) from the same file, or measure "
        "the statistics again on training images (torch.optim.swa_utils.update_bn)"
        if change.helps
        else "new statistics alone do not repair it: load the weights file again, whole"
    )
    text = f"its BatchNorm layer {layer.path} {what}; {_instead(change)}; {cure}"
    mended = change.accuracy if change.gain.positive else None
    return Finding("foreign-statistics", text, mended)


def _instead(change: Change) -> str:
    return (
        f"with statistics of these images it is right on {percent(change.accuracy, 1)} instead of "
        f"{percent(change.before, 1)}"
    )


def _unsettled(far: Misfit, change: Change) -> Finding:
    off = f"{max(far.first, far.deep):.1f} standard deviations"
    why = (
        f"lag behind its weights ({off}), as after training that stopped early"
        if far.young
        else f"do not quite fit its weights or these images ({off})"
    )
    text = (
        f"its BatchNorm statistics {why}: {_instead(change)}; to measure them again on "
        "training images: torch.optim.swa_utils.update_bn"
    )
    return Finding("unsettled-statistics", text, change.accuracy)
