"""Metric sums over the steps of an epoch, and their means for its line in metrics.jsonl."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from collegium.evaluation.metrics import correct
from collegium.objectives.objective import Terms
from collegium.records.results import MetricsLine
from collegium.types import Batch

UNIFORM, ONE_HOT = 1e-3, 0.05
"""Thresholds of the warnings: weights are uniform if their mean distance from uniform is below the
first, and on one teacher only if their normalised entropy is below the second."""


@dataclass
class Meter:
    """Sums metrics over an epoch on the device; the host reads the sums once, at the end.

    Args:
        teachers: names of the active teachers.
        keep_weights: also keep every example's weights, for weights.npz.
    """

    teachers: Sequence[str]
    keep_weights: bool = False
    _sums: dict[str, Tensor] = field(default_factory=dict)
    _kept: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(self, batch: Batch, terms: Terms, weights_BT: Tensor, logits_BC: Tensor) -> None:
        """Add the examples of one step."""
        right_B = correct(logits_BC, batch.labels_B)
        self._sum("count", torch.ones_like(right_B))
        self._sum("accuracy", right_B)
        for name, term_B in terms.items():
            self._sum(f"loss.{name}", term_B)
        self._sum("loss", torch.stack(list(terms.values())).sum(dim=0))
        if self.teachers:
            self._add_weights(weights_BT.detach())
        if self.keep_weights:
            self._kept.append((batch.index_B, weights_BT.detach()))

    def _add_weights(self, weights_BT: Tensor) -> None:
        for name, weight_B in zip(self.teachers, weights_BT.unbind(dim=1), strict=True):
            self._sum(f"weights.{name}", weight_B)
            self._sum(f"square.{name}", weight_B.double().square())
        self._sum("entropy", torch.special.entr(weights_BT).sum(dim=1))
        uniform = 1 / len(self.teachers)
        self._sum("from_uniform", (weights_BT - uniform).abs().sum(dim=1) / 2)

    def _sum(self, name: str, values_B: Tensor) -> None:
        value = values_B.detach().sum(dtype=torch.float64)
        self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value

    def sums(self) -> dict[str, Tensor]:
        """The sums so far, on the device, for a reduction over processes."""
        return self._sums

    def means(self) -> dict[str, float]:
        """Means of accuracy, loss and weights so far, and the count; synchronises once."""
        wanted = [k for k in self._sums if k in ("accuracy", "loss") or k.startswith("weights.")]
        if not wanted:
            return {}
        count, *values = torch.stack([self._sums[key] for key in ("count", *wanted)]).tolist()
        means = (value / count for value in values)
        return {"count": count, **dict(zip(wanted, means, strict=True))}

    def kept(self) -> tuple[Tensor, Tensor]:
        """Index (N,) and weights (N, T) of every example of the epoch so far."""
        index, weights = zip(*self._kept, strict=True)
        return torch.cat(index), torch.cat(weights)

    def state(self) -> dict[str, Tensor]:
        """The content as named tensors, for a checkpoint."""
        sums = {f"sum.{name}": value for name, value in self._sums.items()}
        if not self._kept:
            return sums
        index, weights = self.kept()
        return sums | {"kept.index": index, "kept.weights": weights}

    def load(self, shares: Sequence[Mapping[str, Tensor]], device: torch.device) -> None:
        """Replace the content by the results of `state` from one, several or no processes."""
        self._sums, self._kept = {}, []
        if not shares:
            nothing = torch.zeros(0, len(self.teachers), device=device)
            self._kept.append((nothing.new_zeros(0, dtype=torch.long), nothing))
        for share in shares:
            tensors = {name: value.to(device) for name, value in share.items()}
            for name, value in tensors.items():
                if name.startswith("sum."):
                    self._sum(name.removeprefix("sum."), value)
            if "kept.index" in tensors:
                self._kept.append((tensors["kept.index"], tensors["kept.weights"]))


def epoch_line(
    sums: Mapping[str, float], teachers: Sequence[str], *, epoch: int, step: int
) -> MetricsLine:
    """The training line of an epoch: means over its examples.

    Args:
        sums: the sums of a `Meter`, reduced over all processes.
        teachers: names of the active teachers.
        epoch: number of the epoch, from 0.
        step: number of steps since the start of training.
    """
    mean = {name: value / max(sums["count"], 1.0) for name, value in sums.items()}
    line = MetricsLine(
        epoch=epoch,
        step=step,
        split="train",
        accuracy=mean["accuracy"],
        terms=_named(mean, "loss."),
        loss=mean["loss"],
        weights=_named(mean, "weights."),
    )
    if len(teachers) < 2:
        return line
    variances = [mean[f"square.{n}"] - mean[f"weights.{n}"] ** 2 for n in teachers]
    return replace(
        line,
        weights_entropy=mean["entropy"] / math.log(len(teachers)),
        weights_variance=max(sum(variances) / len(teachers), 0.0),
        weights_from_uniform=mean["from_uniform"],
    )


def _named(values: Mapping[str, float], start: str) -> dict[str, float]:
    return {key[len(start) :]: value for key, value in values.items() if key.startswith(start)}


def collapse(line: MetricsLine) -> str | None:
    """A warning if the weights are almost uniform or on one teacher only, else None."""
    if line.weights_entropy is None or line.weights_from_uniform is None:
        return None
    if line.weights_from_uniform < UNIFORM:
        return "the weights have collapsed to uniform: this is the plain mean of the teachers"
    if line.weights_entropy < ONE_HOT:
        return "the weights have collapsed to one teacher for every example"
    return None
