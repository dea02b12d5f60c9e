"""Remedies for wrong preprocessing: other normalisations, colours, directions and sizes."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from collegium.audit.change import Change
from collegium.audit.cost import Sample, fitting, measure_cost, right
from collegium.audit.finding import Finding, Kind
from collegium.audit.statistics import SETTLED, Misfit, misfit
from collegium.models.network import Network, Preprocess
from collegium.plots.words import listed, percent

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Means and standard deviations of one or three channels, of pixels in 0..1."""

STATISTICS: Mapping[str, Statistics] = {
    "pixels in 0..1 as they are": ((0.0,) * 3, (1.0,) * 3),
    "pixels in 0..255 as they are": ((0.0,) * 3, (1 / 255,) * 3),
    "pixels in -1..1": ((0.5,) * 3, (0.5,) * 3),
    "the ImageNet statistics": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "the CIFAR-10 statistics": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "the MNIST statistics": ((0.1307,) * 3, (0.3081,) * 3),
}
"""Common normalisations; the statistics of the data are tried too."""
LARGEST = 256
"""Rows and columns of the largest size that is tried."""
NEAR = 0.05
"""Changes of the first layer's misfit below this are no evidence."""
SMALLEST = 28
"""Smaller images are never enlarged to 224x224."""
FEWEST = 64
"""A size whose cost on so many images exceeds `WORK` is not tried."""
WORK = 1e12
"""FLOPs that one size may cost: about ten seconds of a slow core."""


@dataclass(frozen=True)
class Remedy:
    """Another way to prepare the images.

    Attributes:
        words: its description.
        preprocess: replaces the network's own.
        change: of the pixels before it.
        kind: of the finding, if it helps.
    """

    words: str
    preprocess: Preprocess
    change: Callable[[Tensor], Tensor] | None = None
    kind: Kind = "preprocessing"

    def show(self, images_BDHW: Tensor) -> Tensor:
        """The pixels, changed."""
        return images_BDHW if self.change is None else self.change(images_BDHW)


@dataclass(frozen=True)
class Trial:
    """The result of a remedy.

    Attributes:
        remedy: the remedy.
        change: of the accuracy by it.
        images: it was tried on.
    """

    remedy: Remedy
    change: Change
    images: int


def try_remedies(network: Network, sample: Sample, data: Statistics) -> Iterator[Finding]:
    """Try other normalisations, colours and directions of the images on a network.

    Args:
        network: as it was loaded.
        sample: the images.
        data: statistics of the data.

    Returns:
        The remedy that helps most, if one helps.
    """
    attempt = _attempts(network, sample)
    remedies = _pixel_remedies(network.preprocess, sample.images_BDHW, data)
    return _fixed_by(filter(None, (attempt(remedy, sample) for remedy in remedies)))


def try_sizes(network: Network, sample: Sample, enough: float = 1.0) -> Iterator[Finding]:
    """Try other sizes of the images, small ones first, within `WORK` for each.

    Args:
        network: as it was loaded.
        sample: the images.
        enough: an accuracy at which no further size is tried.

    Returns:
        The size that helps most; else those that were not tried.
    """
    attempt = _attempts(network, sample)
    tried: list[Remedy] = []
    found: list[Trial] = []
    left: list[str] = []
    for remedy in _size_remedies(network, sample.images_BDHW):
        try:
            cost = measure_cost(network, remedy.show(sample.images_BDHW[:1]))
        except _UNFIT:
            continue
        count = min(len(sample), int(WORK / max(cost.flops, 1)))
        if count < min(FEWEST, len(sample)):
            left.append(f"{remedy.words} ({cost.flops / 1e9:.3g} GFLOPs an image)")
            continue
        tried.append(remedy)
        few = replace(sample.first(count), block=fitting(cost))
        if (trial := attempt(remedy, few)) is not None:
            found.append(trial)
            if trial.change.accuracy >= enough:
                break
    ends = {}
    if tried and not any(trial.change.accuracy >= enough for trial in found):
        ends = {tried[0].words: "smallest", tried[-1].words: "largest"}
    yield from _fixed_by(found, ends)
    if left and not found:
        yield Finding("not-tried", f"not tried because of their cost: {listed(left)}")


_UNFIT = (RuntimeError, ValueError, AssertionError)
"""Errors of a network on images of a size that it cannot take."""


def _attempts(network: Network, sample: Sample) -> Callable[[Remedy, Sample], Trial | None]:
    """A function that tries a remedy on the first images; None where the remedy does not help."""
    own_B, known = right(network, sample), misfit(network, sample)

    def attempt(remedy: Remedy, few: Sample) -> Trial | None:
        shown = _with(network, remedy.preprocess)
        views = replace(few, images_BDHW=remedy.show(few.images_BDHW))
        try:
            change = Change.of(right(shown, views), own_B[: len(few)])
        except _UNFIT:
            return None
        fits = change.helps and _fits(misfit(shown, views), known, remedy)
        return Trial(remedy, change, len(few)) if fits else None

    return attempt


def _fits(then: Misfit, before: Misfit, remedy: Remedy) -> bool:
    """Whether the statistics of BatchNorm layers, if there are any, confirm the remedy.

    Another normalisation must reduce the misfit of the first layer; the other remedies, which
    hardly change it, must not increase it.
    """
    if not before.layers:
        return True
    settled = then.deep <= max(SETTLED, before.deep / 2)
    nearer = then.first < before.first + (0 if remedy.change is None else NEAR)
    return settled and nearer


def _with(network: Network, preprocess: Preprocess) -> Network:
    shown = Network(network.body, preprocess, network.classes, network.spec).eval()
    return shown.to(next(network.buffers()).device)


def _pixel_remedies(
    own: Preprocess, images_BDHW: Float[Tensor, "B D H W"], data: Statistics
) -> Iterator[Remedy]:
    """Every other normalisation, and other orders of channels, rows and columns."""
    for words, statistics in {**STATISTICS, "the statistics of these data": data}.items():
        mean, std = (_by_channel(values, own.channels) for values in statistics)
        if not np.allclose((mean, std), (own.mean, own.std), rtol=0, atol=1e-3):
            yield Remedy(words, replace(own, mean=mean, std=std))
    if images_BDHW.shape[1] == 3 and own.channels == 3:
        turned = replace(own, mean=own.mean[::-1], std=own.std[::-1])
        caffe = replace(own, mean=(0.406, 0.456, 0.485), std=(1 / 255,) * 3)
        yield Remedy("blue, green, red for red, green, blue", own, lambda b: b.flip(1))
        yield Remedy("blue, green, red, each with its own mean", turned, lambda b: b.flip(1))
        yield Remedy("blue, green, red in 0..255, mean taken off", caffe, lambda b: b.flip(1))
    yield from _misread(own)
    yield Remedy("dark and light exchanged", own, lambda b: 1 - b)
    if images_BDHW.shape[2] == images_BDHW.shape[3]:
        yield Remedy("rows and columns exchanged", own, lambda b: b.mT)
        yield Remedy("images turned by a quarter to the left", own, lambda b: b.rot90(1, (2, 3)))
        yield Remedy("images turned by a quarter to the right", own, lambda b: b.rot90(3, (2, 3)))
    yield Remedy("images upside down", own, lambda b: b.flip(2))
    yield Remedy("left and right exchanged", own, lambda b: b.flip(3))
    yield Remedy("images turned by a half", own, lambda b: b.flip(2, 3))


def _misread(own: Preprocess) -> Iterator[Remedy]:
    """Common mistakes in a normalisation: mean and std exchanged, or for pixels in 0..255."""
    if min(own.mean) > 0:
        yield Remedy("mean and std exchanged", replace(own, mean=own.std, std=own.mean))
    scales = {"divided by": 1 / 255, "multiplied by": 255.0}
    for words, scale in scales.items():
        mean, std = (tuple(value * scale for value in part) for part in (own.mean, own.std))
        yield Remedy(f"mean and std {words} 255", replace(own, mean=mean, std=std))


def _size_remedies(network: Network, images_BDHW: Float[Tensor, "B D H W"]) -> Iterator[Remedy]:
    """Half, twice and four times the size, and 224x224."""
    rows, columns = images_BDHW.shape[2:]
    seen = {network.prepare(images_BDHW[:1]).shape[2:]}
    wanted = [(int(rows * factor), int(columns * factor)) for factor in (0.5, 2, 4)]
    for size in (*wanted, *([(224, 224)] if min(rows, columns) >= SMALLEST else [])):
        resize = functools.partial(_resized, size=size)
        shape = network.prepare(resize(images_BDHW[:1])).shape[2:]
        if min(size) > 0 and shape not in seen and max(size) <= LARGEST:
            seen.add(shape)
            words = f"images of {size[0]}x{size[1]}"
            yield Remedy(words, network.preprocess, resize, "input-size")


def _resized(images_BDHW: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images_BDHW, size, mode="bilinear", antialias=True).clamp(0, 1)


def _by_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Values for a network of 1 or 3 channels; their mean where they are as many others."""
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _fixed_by(trials: Iterable[Trial], ends: Mapping[str, str] = {}) -> Iterator[Finding]:
    """The finding of the best remedy that helps a teacher.

    Args:
        trials: the remedies that help.
        ends: remedies beyond which others may be better still, by their words, and why.
    """
    ranked = sorted(trials, key=lambda trial: -trial.change.accuracy)
    if not ranked:
        return
    first, *others = ranked
    best, change = first.remedy, first.change
    close = [t.remedy.words for t in others if t.change.accuracy >= change.accuracy - 0.01]
    also = f" (as good: {', '.join(close)})" if close else ""
    text = (
        f"its preprocessing is not that of its training: given {best.words}{also} it is "
        f"right on {percent(change.accuracy, 1)} of {first.images} images instead of "
        f"{percent(change.before, 1)}{_how(best)}"
    )
    if end := ends.get(best.words):
        text += f"; that is the {end} size tried, so others may be better still"
    yield Finding(best.kind, text, change.accuracy)


def _how(remedy: Remedy) -> str:
    """The model string of a normalisation."""
    preprocess = remedy.preprocess
    if remedy.change is not None:
        return ""
    mean, std = (",".join(f"{v:.4g}" for v in part) for part in (preprocess.mean, preprocess.std))
    return f"; write MODEL?mean={mean}&std={std} (in quotes)"
