"""The metrics of logits against labels: each is defined here and nowhere else.

Pure functions of tensors. `Predictions` applies them to the outputs for a split; the training loop
and `audit` also apply them to single batches.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Groups = Sequence[int] | Int[Tensor, " C"]
"""Of each class the number of the group that it belongs to."""
BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017."""


def same_class(
    first_N: Int[Tensor, " N"], second_N: Int[Tensor, " N"], groups: Groups | None = None
) -> Bool[Tensor, " N"]:
    """Whether two classes are equal, or in the same group.

    Args:
        first_N: classes.
        second_N: classes.
        groups: of the classes; None where each is a group of its own.

    >>> same_class(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]), groups=[0, 0, 1]).tolist()
    [True, True, False]
    """
    if groups is None:
        return first_N == second_N
    groups_C = torch.as_tensor(groups)
    return groups_C[first_N] == groups_C[second_N]


def correct(
    logits_NC: Float[Tensor, "N C"], labels_N: Int[Tensor, " N"], groups: Groups | None = None
) -> Bool[Tensor, " N"]:
    """Whether the class with the largest logit is the label, or in the label's group.

    An example with a NaN or infinite logit is never correct.

    Args:
        logits_NC: raw scores.
        labels_N: true classes.
        groups: as in `same_class`.

    >>> correct(torch.tensor([[1.0, 0.0], [math.nan, 0.0]]), torch.tensor([0, 0])).tolist()
    [True, False]
    """
    return same_class(logits_NC.argmax(dim=1), labels_N, groups) & finite(logits_NC)


def finite(logits_NC: Float[Tensor, "N C"]) -> Bool[Tensor, " N"]:
    """Whether all logits of an example are finite."""
    return logits_NC.isfinite().all(dim=1)


def share(found_N: Bool[Tensor, " N"], among_N: Bool[Tensor, " N"] | None = None) -> float:
    """The part of examples for which something is true, 0..1; accuracy and agreement are this.

    Args:
        found_N: whether it is true of each example.
        among_N: the examples that count; None for all. Where none counts the share is 0.

    >>> right_N = torch.tensor([True, False, True])
    >>> share(right_N), share(right_N, among_N=torch.tensor([True, True, False]))
    (0.666..., 0.5)
    """
    if among_N is None:
        return found_N.double().mean().item()
    return int((found_N & among_N).sum()) / max(int(among_N.sum()), 1)


def cross_entropy(logits_NC: Float[Tensor, "N C"], labels_N: Int[Tensor, " N"]) -> float:
    """Mean cross entropy in nats."""
    return F.cross_entropy(logits_NC, labels_N).item()


def calibration_error(logits_NC: Float[Tensor, "N C"], labels_N: Int[Tensor, " N"]) -> float:
    """Expected calibration error, 0..1: |accuracy - confidence| over 15 bins of equal width.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017. NaN where a logit is
    not finite.
    """
    if not finite(logits_NC).all():
        return math.nan
    confidence_N, right_N, bins_N = _binned(logits_NC, labels_N)
    gaps = torch.zeros(BINS, dtype=torch.float64).index_add(0, bins_N, right_N - confidence_N)
    return gaps.abs().sum().item() / max(len(right_N), 1)


def reliability(
    logits_NC: Float[Tensor, "N C"], labels_N: Int[Tensor, " N"]
) -> list[dict[str, float]]:
    """Accuracy by confidence, in the bins of the calibration error; empty bins are left out.

    Returns:
        For each bin, from unsure to sure:
        share: of all examples, 0..1.
        confidence: its mean over the bin, 0..1.
        accuracy: part of the bin that is correct.
    """
    confidence_N, right_N, bins_N = _binned(logits_NC, labels_N)
    found = []
    for number in bins_N.unique().tolist():
        inside_N = bins_N == number
        confidence, accuracy = confidence_N[inside_N].mean(), right_N[inside_N].mean()
        means = {"confidence": confidence.item(), "accuracy": accuracy.item()}
        found.append({"share": share(inside_N), **means})
    return found


def _binned(logits_NC: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Confidence and correctness (float64) and the bin of each example."""
    confidence_N, classes_N = logits_NC.softmax(dim=1).double().max(dim=1)
    bins_N = (confidence_N * BINS).long().clamp_max(BINS - 1)
    return confidence_N, (classes_N == labels_N).double(), bins_N
