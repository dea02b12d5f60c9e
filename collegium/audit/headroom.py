"""What teachers reach together: the mean, fixed weights, a perfect choice; and who errs with whom.

Pure functions of the teachers' outputs for one split. Accuracies are parts of 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from collegium.audit.ensemble import Ensemble, best_shares, cross_fitted
from collegium.evaluation.metrics import share
from collegium.evaluation.predict import Predictions
from collegium.weighting.posterior import posterior_weights

Z_95 = 1.959964
"""Standard deviations of a normal distribution that contain 95 % of it."""
Square = list[list[float]]
"""T rows of T parts of 1, teachers in their order."""


@dataclass(frozen=True)
class Difference:
    """One accuracy minus another on the same examples.

    Attributes:
        mean: -1..1.
        half_width: half of a 95 % interval, from the examples on which the two differ.
    """

    mean: float
    half_width: float

    @property
    def positive(self) -> bool:
        """Whether it is significantly above 0."""
        return self.mean > self.half_width

    @property
    def negative(self) -> bool:
        """Whether it is significantly below 0."""
        return self.mean < -self.half_width


@dataclass(frozen=True)
class HeadRoom:
    """What T teachers reach on N examples, without training anything.

    A teacher that merges some classes is right when it names one of them; a mixture is right when
    none of its teachers distinguishes the class that it names from the true one.

    Attributes:
        examples: N.
        known_T: number of examples whose class each teacher knows.
        single_T: accuracy of each teacher; of `known_mask` on the examples whose class it knows.
        best: place of the best of them.
        mean: accuracy of the mean of their probabilities.
        mean_of_logits: accuracy of the mean of their logits.
        mixture: accuracy of the best fixed weights found, on the very examples on which they were
            chosen for it: optimistic, and at least that of equal weights and of each teacher.
        mixture_cross_fitted: accuracy when they are chosen on one half of the examples and measured
            on the other, and the reverse: not optimistic.
        shares_T: these weights; >= 0, sum 1.
        oracle: part of the examples on which at least one teacher is right: what choosing one of
            them for each example could reach. (A mixture may rarely be right where no teacher is,
            by several second choices.)
        only_T: part of the examples on which each teacher is the only one that is right.
        without_T: accuracy of the mean without each teacher; NaN where there is no other.
        posterior_T: mean weight of each teacher in proportion to its probability of the true class
            (`posterior_weights`).
        gain_of_oracle: the oracle minus the mean: the head-room of adaptive weighting.
        gain_of_mixture: `mixture_cross_fitted` minus the mean.
        gain_of_mean: the mean minus the best teacher, on the examples that `single_T` is of.
        worth_T: the mean minus the mean without each teacher; empty for one teacher.
    """

    examples: int
    known_T: tuple[int, ...]
    single_T: tuple[float, ...]
    best: int
    mean: float
    mean_of_logits: float
    mixture: float
    mixture_cross_fitted: float
    shares_T: tuple[float, ...]
    oracle: float
    only_T: tuple[float, ...]
    without_T: tuple[float, ...]
    posterior_T: tuple[float, ...]
    gain_of_oracle: Difference
    gain_of_mixture: Difference
    gain_of_mean: Difference
    worth_T: tuple[Difference, ...]


def head_room(
    logits_NTC: Float[Tensor, "N T C"],
    labels_N: Int[Tensor, " N"],
    groups_TC: Int[Tensor, "T C"] | None = None,
    *,
    known_mask: bool = False,
) -> HeadRoom:
    """What the mean, fixed weights and a perfect choice reach on these examples.

    Args:
        logits_NTC: finite raw scores; a class a teacher does not know has a very low one.
        labels_N: true classes; at least one.
        groups_TC: for each teacher and class the first of the classes that it merges with it, -1
            where it does not know the class; None where no teacher merges classes.
        known_mask: count for each example only the teachers that know its class, as training does;
            at least one must.

    >>> import torch
    >>> labels_N = torch.tensor([0, 1, 0, 1])
    >>> first, second = [2.0, 0.0], [0.0, 1.0]
    >>> logits_NTC = torch.tensor([[first, second]] * 4)  # one predicts 0, the other, less sure, 1
    >>> found = head_room(logits_NTC, labels_N)
    >>> found.single_T, found.mean, found.oracle, found.without_T
    ((0.5, 0.5), 0.5, 1.0, (0.5, 0.5))
    """
    ensemble = Ensemble(logits_NTC, labels_N, groups_TC, known_mask)
    right_NT = ensemble.single_right_NT
    counted_NT = ensemble.known_NT if known_mask else torch.ones_like(right_NT)
    single_T = (right_NT & counted_NT).sum(dim=0).double() / counted_NT.sum(dim=0).clamp_min(1)
    best, shares_T = int(single_T.argmax()), best_shares(ensemble)
    mean, mixed = ensemble.right(ensemble.equal()), cross_fitted(ensemble)
    oracle, rows = right_NT.any(dim=1), counted_NT[:, best]
    left_out = range(ensemble.teachers) if ensemble.teachers > 1 else ()
    without = [ensemble.right(ensemble.without(teacher)) for teacher in left_out]
    only_NT = right_NT & (right_NT.sum(dim=1, keepdim=True) == 1)
    known_NT = ensemble.known_NT if known_mask else None
    posterior_NT = posterior_weights(logits_NTC, labels_N, known_BT=known_NT)
    return HeadRoom(
        examples=len(labels_N),
        known_T=tuple(ensemble.known_NT.sum(dim=0).tolist()),
        single_T=tuple(single_T.tolist()),
        best=best,
        mean=share(mean),
        mean_of_logits=share(ensemble.right_by_logits()),
        mixture=share(ensemble.right(shares_T)),
        mixture_cross_fitted=share(mixed),
        shares_T=tuple(shares_T.tolist()),
        oracle=share(oracle),
        only_T=tuple(only_NT.double().mean(dim=0).tolist()),
        without_T=tuple(share(right) for right in without) or (math.nan,),
        posterior_T=tuple(posterior_NT.double().mean(dim=0).tolist()),
        gain_of_oracle=difference(oracle, mean),
        gain_of_mixture=difference(mixed, mean),
        gain_of_mean=difference(mean[rows], right_NT[rows, best]),
        worth_T=tuple(difference(mean, right) for right in without),
    )


def difference(first_N: Bool[Tensor, " N"], second_N: Bool[Tensor, " N"]) -> Difference:
    """Accuracy of one minus accuracy of another, paired by example."""
    gap_N = first_N.double() - second_N.double()
    deviation = gap_N.std().item() if len(gap_N) > 1 else math.inf
    return Difference(gap_N.mean().item(), Z_95 * deviation / math.sqrt(max(len(gap_N), 1)))


def half_width(accuracy: float, examples: int) -> float:
    """Half of the 95 % interval of an accuracy on so many examples (Wilson, JASA 1927).

    Unlike the normal approximation it is not 0 where all predictions are right.

    >>> round(half_width(0.9, 100), 4), round(half_width(1.0, 100), 4)
    (0.0596, 0.0185)
    """
    spread = accuracy * (1 - accuracy) / examples + Z_95**2 / (4 * examples**2)
    return Z_95 * math.sqrt(spread) / (1 + Z_95**2 / examples)


def compare_pairs(predictions: Sequence[Predictions]) -> dict[str, Square]:
    """Agreement and common errors of T teachers on the same examples.

    Classes that one of two teachers merges count as the same class; NaN agrees with nothing.

    Returns:
        For row i and column j:
        agreement: part of the examples for which i and j predict the same class.
        shared_errors: part of i's errors on which j is wrong too; NaN where i has no errors.
        same_errors: part of i's errors on which j predicts the same wrong class.
        double_fault: part of all examples on which both are wrong (Giacinto and Roli, Image and
            Vision Computing 2001).

    >>> import torch
    >>> labels_N, index_N = torch.tensor([0, 0, 1]), torch.arange(3)
    >>> one_NC, other_NC = torch.eye(2)[[0, 1, 1]], torch.eye(2)[[1, 1, 1]]
    >>> both = [Predictions(logits_NC, labels_N, index_N) for logits_NC in (one_NC, other_NC)]
    >>> found = compare_pairs(both)
    >>> found["agreement"][0][1], found["shared_errors"][0][1], found["shared_errors"][1][0]
    (0.666..., 1.0, 0.5)
    """
    wrong_NT = torch.stack([~one.right_N for one in predictions], dim=1).double()
    same_TNT = torch.stack(
        [torch.stack([one.same_N(other) for other in predictions], dim=1) for one in predictions]
    )
    both_TT = wrong_NT.mT @ wrong_NT
    same_wrong_TT = (same_TNT * (wrong_NT.mT[:, :, None] * wrong_NT)).sum(dim=1)
    errors_T1 = wrong_NT.sum(dim=0)[:, None]
    return {
        "agreement": same_TNT.double().mean(dim=1).tolist(),
        "shared_errors": (both_TT / errors_T1).tolist(),
        "same_errors": (same_wrong_TT / errors_T1).tolist(),
        "double_fault": (both_TT / len(wrong_NT)).tolist(),
    }
