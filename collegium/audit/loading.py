"""Signs of a wrong load in the network itself: untrained weights, outputs that vary.

A wrong or incomplete weights file often leaves a part of a network at its random initial values.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from scipy.stats import kstest
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from collegium.audit.cost import Sample
from collegium.audit.finding import Finding
from collegium.audit.statistics import batch_norms
from collegium.errors import RequestError
from collegium.models.model_string import ModelString
from collegium.models.network import Network
from collegium.models.registry import STUDENT_FILE
from collegium.models.weights import read_weights

STEADY = 1e-3
"""Largest change of a logit between two calls, in standard deviations of the logits."""
_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
PROBED = 16
"""Images that the network sees twice."""


def examine_network(network: Network, sample: Sample, poor: bool) -> Iterator[Finding]:
    """Alarms on a network as it was loaded.

    Args:
        network: in evaluation mode.
        sample: images; a few are enough.
        poor: whether its predictions are far worse than its features allow; otherwise initial
            values may be intended.
    """
    norms = [m for m in network.body.modules() if isinstance(m, _NORMS) and m.weight is not None]
    batch = batch_norms(network)
    fresh_scales = bool(norms) and all(_initial(n.weight, n.bias) for n in norms)
    fresh_statistics = bool(batch) and all(_initial(n.running_var, n.running_mean) for n in batch)
    fresh = fresh_scales and (fresh_statistics or not batch)
    if fresh and poor:
        yield Finding("fresh-network", f"{_many(norms)} at their initial values: not trained")
    elif fresh_statistics and not fresh:
        text = (
            f"{_many(batch)} without statistics (mean 0, variance 1): did its weights file leave "
            "out running_mean and running_var?"
        )
        yield Finding("fresh-statistics", text)
    if poor and (head := fresh_head(network)) is not None:
        text = f"its last layer, {head}, has random initial values: was it trained, or left out?"
        yield Finding("fresh-head", text)
    yield from _unsteady(network, sample.images_BDHW[:PROBED])


def _initial(ones_D: object, zeros_D: object) -> bool:
    """Whether a norm layer has the values that it starts with; those it does not have fit, too."""
    starts = ((ones_D, 1), (zeros_D, 0))
    return all((values == start).all() for values, start in starts if isinstance(values, Tensor))


def _many(modules: Sequence[nn.Module]) -> str:
    kinds = {type(module).__name__.rstrip("123d") for module in modules}
    layers = f"{len(modules)} {' and '.join(sorted(kinds))} layers"
    return f"all its {layers} are" if len(modules) > 1 else f"its only {kinds.pop()} layer is"


def fresh_head(network: Network) -> str | None:
    """Path of the last linear layer, if its values are distributed like torch's initial ones.

    Initial weights and biases are uniform in +-1 / sqrt(inputs); trained ones leave that range.
    """
    linear = [(p, m) for p, m in network.body.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        return None
    path, last = linear[-1]
    bound = 1 / math.sqrt(last.in_features)
    values = [last.weight] if last.bias is None else [last.weight, last.bias]
    flat_P = torch.cat([value.detach().flatten() for value in values]).double() / bound
    if flat_P.abs().max() > 1 + 1e-6:
        return None
    return path if kstest(flat_P.cpu().numpy(), "uniform", args=(-1, 2)).pvalue > 0.01 else None


def _unsteady(network: Network, images_BDHW: Tensor) -> Iterator[Finding]:
    with torch.no_grad():
        first, second = network(images_BDHW), network(images_BDHW)
        alone = torch.cat([network(part) for part in images_BDHW.split(max(1, PROBED // 4))])
    if not first.isfinite().all():
        return
    if _change(first, second) > STEADY:
        text = "gives other outputs for the same images each time: does it draw random numbers?"
        yield Finding("unsteady", text)
    elif _change(first, alone) > STEADY:
        text = (
            "its output for an image depends on the rest of the batch: does a layer use the "
            "batch's statistics (track_running_stats=False)?"
        )
        yield Finding("batch-dependent", text)


def _change(first_BC: Tensor, second_BC: Tensor) -> float:
    spread = first_BC.std().clamp_min(1e-12)
    return ((first_BC - second_BC).abs().max() / spread).nan_to_num(math.inf).item()


def reported_accuracy(spec: str, data: str) -> float | None:
    """The accuracy that a weights file states for these data, 0..1; None where it states none.

    It reads `top1_test` or `top1`, as a part of 1 or in %, if `dataset` names these data.
    """
    metadata = _metadata(spec)
    text = metadata.get("top1_test") or metadata.get("top1")
    if text is None or _letters(metadata.get("dataset", "")) != _letters(data):
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value / 100 if value > 1 else value


def _metadata(spec: str) -> Mapping[str, str]:
    try:
        string = ModelString.read(spec)
        file = string.file or Path(string.name) / STUDENT_FILE
        return read_weights(file).metadata if string.file or string.is_run else {}
    except RequestError:
        return {}


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())
