"""What a committee could reach: the mean, the best fixed mixture, a perfect choice by example.

Pure functions of the teachers' answers to one split. Accuracies are parts of 1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from collegium.weighting.posterior import posterior_weights

STEPS = 2000
"""Most steps of the mixture's fit."""
STILL = 1e-7
"""It ends when no share moves by more than this."""
Z_95 = 1.959964
"""Deviations of a normal distribution that hold 95 % of it."""


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
        """Whether it can be told from 0, and is above it."""
        return self.mean > self.half_width


@dataclass(frozen=True)
class HeadRoom:
    """What can be made of T teachers on N examples, without training anything.

    Attributes:
        single_T: accuracy of each teacher.
        best: place of the best of them.
        mean: accuracy of the mean of their probabilities.
        mean_of_logits: accuracy of the mean of their logits.
        mixture: accuracy of the best fixed mixture, cross-fitted: each half of the examples is
            answered by the shares that fit the other half best, so it is not optimistic.
        shares_T: of the mixture that fits all examples best; >= 0, sum 1.
        oracle: part of the examples on which at least one teacher is right: what choosing one of
            them for each example could reach. (A mixture may be right where nobody is, by several
            second choices; that is rare.)
        without_T: accuracy of the mean without each teacher; NaN where there is no other.
        posterior_T: what each teacher gets on average when its probability of the true class
            decides (`posterior_weights`).
        gain_of_oracle: the oracle minus the mean: the head-room of adaptive weighting.
        gain_of_mixture: the mixture minus the mean.
        gain_of_mean: the mean minus the best teacher.
        worth_T: the mean minus the mean without each teacher; empty for one teacher.
    """

    single_T: tuple[float, ...]
    best: int
    mean: float
    mean_of_logits: float
    mixture: float
    shares_T: tuple[float, ...]
    oracle: float
    without_T: tuple[float, ...]
    posterior_T: tuple[float, ...]
    gain_of_oracle: Difference
    gain_of_mixture: Difference
    gain_of_mean: Difference
    worth_T: tuple[Difference, ...]


def head_room(logits_NTC: Float[Tensor, "N T C"], labels_N: Int[Tensor, " N"]) -> HeadRoom:
    """What the mean, mixtures and a perfect choice reach on these examples.

    Args:
        logits_NTC: finite raw scores; a class a teacher does not know has a very low one.
        labels_N: true classes.

    >>> import torch
    >>> labels_N = torch.tensor([0, 1, 0, 1])
    >>> says_0, says_1 = [2.0, 0.0], [0.0, 1.0]
    >>> logits_NTC = torch.tensor([[says_0, says_1]] * 4)  # one says 0, the other, less sure, 1
    >>> found = head_room(logits_NTC, labels_N)
    >>> found.single_T, found.mean, found.oracle, found.without_T
    ((0.5, 0.5), 0.5, 1.0, (0.5, 0.5))
    """
    probabilities_NTC = logits_NTC.float().softmax(dim=2)
    right_NT = logits_NTC.argmax(dim=2) == labels_N[:, None]
    single_T = right_NT.double().mean(dim=0)
    best = int(single_T.argmax())
    mean = _is_right(probabilities_NTC.mean(dim=1), labels_N)
    mixture = _cross_fitted(probabilities_NTC, labels_N)
    oracle = right_NT.any(dim=1)
    without = _without_each(probabilities_NTC, labels_N)
    several = logits_NTC.shape[1] > 1
    return HeadRoom(
        single_T=tuple(single_T.tolist()),
        best=best,
        mean=_part(mean),
        mean_of_logits=_part(_is_right(logits_NTC.float().mean(dim=1), labels_N)),
        mixture=_part(mixture),
        shares_T=tuple(fit_shares(true_class(probabilities_NTC, labels_N)).tolist()),
        oracle=_part(oracle),
        without_T=tuple(_part(right) for right in without) if several else (math.nan,),
        posterior_T=tuple(posterior_weights(logits_NTC, labels_N).double().mean(dim=0).tolist()),
        gain_of_oracle=difference(oracle, mean),
        gain_of_mixture=difference(mixture, mean),
        gain_of_mean=difference(mean, right_NT[:, best]),
        worth_T=tuple(difference(mean, right) for right in without) if several else (),
    )


def difference(first_N: Bool[Tensor, " N"], second_N: Bool[Tensor, " N"]) -> Difference:
    """Accuracy of one minus accuracy of another, paired by example."""
    gap_N = first_N.double() - second_N.double()
    deviation = gap_N.std().item() if len(gap_N) > 1 else math.inf
    return Difference(gap_N.mean().item(), Z_95 * deviation / math.sqrt(len(gap_N)))


def half_width(accuracy: float, examples: int) -> float:
    """Half of the 95 % interval of an accuracy on so many examples (Wilson, JASA 1927).

    Unlike the textbook's it is not 0 where everything is right.

    >>> round(half_width(0.9, 100), 4), round(half_width(1.0, 100), 4)
    (0.0596, 0.0185)
    """
    spread = accuracy * (1 - accuracy) / examples + Z_95**2 / (4 * examples**2)
    return Z_95 * math.sqrt(spread) / (1 + Z_95**2 / examples)


def true_class(
    probabilities_NTC: Float[Tensor, "N T C"], labels_N: Int[Tensor, " N"]
) -> Float[Tensor, "N T"]:
    """What each teacher gives the true class, in float64."""
    places_NT1 = labels_N[:, None, None].expand(-1, probabilities_NTC.shape[1], 1)
    return probabilities_NTC.gather(2, places_NT1).squeeze(2).double()


def fit_shares(true_NT: Float[Tensor, "N T"]) -> Float[Tensor, " T"]:
    """The fixed mixture of probabilities with the largest likelihood.

    The log-likelihood is concave in the shares, so expectation-maximisation from equal shares finds
    the largest there is.

    Args:
        true_NT: what each teacher gives the true class.

    >>> import torch
    >>> fit_shares(torch.tensor([[0.8, 0.2]] * 3 + [[0.2, 0.8]], dtype=torch.float64)).tolist()[0]
    0.91666...
    """
    count = true_NT.shape[1]
    shares_T = torch.full((count,), 1 / count, dtype=torch.float64)
    tiny = torch.finfo(torch.float64).tiny
    for _ in range(STEPS):
        joint_NT = (true_NT.double() + tiny) * shares_T
        fitted_T = (joint_NT / joint_NT.sum(dim=1, keepdim=True)).mean(dim=0)
        if (fitted_T - shares_T).abs().max() < STILL:
            break
        shares_T = fitted_T
    return shares_T


def _cross_fitted(
    probabilities_NTC: Float[Tensor, "N T C"], labels_N: Int[Tensor, " N"]
) -> Bool[Tensor, " N"]:
    """Whether each example is right by the shares that the other half of the examples wants."""
    true_NT = true_class(probabilities_NTC, labels_N)

    def right(rows: Tensor, others: Tensor) -> Tensor:
        said_MTC = probabilities_NTC[rows]
        if not len(others):
            return _is_right(said_MTC.mean(dim=1), labels_N[rows])
        shares_T = fit_shares(true_NT[others]).float()
        return _is_right(torch.einsum("ntc,t->nc", said_MTC, shares_T), labels_N[rows])

    return halves(right, len(labels_N))


def halves(
    function: Callable[[Tensor, Tensor], Bool[Tensor, " M"]], count: int
) -> Bool[Tensor, " N"]:
    """A function of (positions of one half, positions of the other), both ways round."""
    order_N = shuffled(count)
    first, second = order_N[::2], order_N[1::2]
    found_N = torch.empty(count, dtype=torch.bool)
    found_N[first] = function(first, second)
    found_N[second] = function(second, first)
    return found_N


def shuffled(count: int) -> Int[Tensor, " N"]:
    """Positions in an order that has nothing to do with the data, and is always the same."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def _without_each(
    probabilities_NTC: Float[Tensor, "N T C"], labels_N: Int[Tensor, " N"]
) -> Sequence[Bool[Tensor, " N"]]:
    whole_NC = probabilities_NTC.sum(dim=1)
    return [_is_right(whole_NC - said_NC, labels_N) for said_NC in probabilities_NTC.unbind(dim=1)]


def _is_right(scores_NC: Float[Tensor, "N C"], labels_N: Int[Tensor, " N"]) -> Bool[Tensor, " N"]:
    return scores_NC.argmax(dim=1) == labels_N


def _part(right_N: Bool[Tensor, " N"]) -> float:
    return right_N.double().mean().item()
