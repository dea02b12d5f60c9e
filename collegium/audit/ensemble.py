"""Teachers with fixed weights as one classifier, and the weights that make it most accurate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from collegium.evaluation.metrics import correct

STEPS = 2000
"""Most steps of the maximum-likelihood fit."""
STILL = 1e-7
"""The fit ends when no share changes by more than this."""


@dataclass(frozen=True)
class Ensemble:
    """T teachers' outputs for N examples.

    Attributes:
        logits_NTC: finite raw scores; a class a teacher does not know has a very low one.
        labels_N: true classes.
        groups_TC: for each teacher and class the first of the classes that it merges with it, -1
            where it does not know the class; None where no teacher merges classes.
        known_mask: count for each example only the teachers that know its class, as training does.
    """

    logits_NTC: Float[Tensor, "N T C"]
    labels_N: Int[Tensor, " N"]
    groups_TC: Int[Tensor, "T C"] | None = None
    known_mask: bool = False

    @property
    def teachers(self) -> int:
        """T."""
        return self.logits_NTC.shape[1]

    @cached_property
    def probabilities_NTC(self) -> Float[Tensor, "N T C"]:
        """Softmax of the logits."""
        return self.logits_NTC.float().softmax(dim=2)

    @cached_property
    def true_NT(self) -> Float[Tensor, "N T"]:
        """Each teacher's probability of the true class, in float64."""
        rows_N = torch.arange(len(self.labels_N))
        return self.probabilities_NTC[rows_N, :, self.labels_N].double()

    @cached_property
    def known_NT(self) -> Bool[Tensor, "N T"]:
        """Whether each teacher knows each example's class."""
        if self.groups_TC is None:
            return torch.ones(self.logits_NTC.shape[:2], dtype=torch.bool)
        return (self.groups_TC >= 0)[:, self.labels_N].mT

    @cached_property
    def single_right_NT(self) -> Bool[Tensor, "N T"]:
        """Whether each teacher is right, as `Predictions.right_N` defines it."""
        groups = [None] * self.teachers if self.groups_TC is None else self.groups_TC
        columns = [
            correct(logits_NC, self.labels_N, groups_C)
            for logits_NC, groups_C in zip(self.logits_NTC.unbind(dim=1), groups, strict=True)
        ]
        return torch.stack(columns, dim=1)

    def rows(self, rows: Int[Tensor, " M"]) -> "Ensemble":
        """The same on some of the examples."""
        return replace(self, logits_NTC=self.logits_NTC[rows], labels_N=self.labels_N[rows])

    def equal(self) -> Float[Tensor, " T"]:
        """Equal shares."""
        return torch.full((self.teachers,), 1 / self.teachers, dtype=torch.float64)

    def without(self, teacher: int) -> Float[Tensor, " T"]:
        """Equal shares of all others."""
        shares_T = self.equal().index_fill(0, torch.tensor(teacher), 0.0)
        return shares_T / shares_T.sum()

    def right(self, shares_T: Float[Tensor, " T"]) -> Bool[Tensor, " N"]:
        """Whether the mixture of probabilities names the class.

        Naming a class that all teachers with a share merge with it counts, too.
        """
        if (shares_T > 0).sum() == 1 and not self.known_mask:  # bit for bit the teacher alone
            return self.single_right_NT[:, int(shares_T.argmax())]
        return self._names(self.probabilities_NTC, shares_T)

    def right_by_logits(self) -> Bool[Tensor, " N"]:
        """The same for the mean of the logits."""
        return self._names(self.logits_NTC.float(), self.equal())

    def _weights(self, shares_T: Float[Tensor, " T"]) -> Float[Tensor, "N T"]:
        shares_NT = shares_T.expand(len(self.labels_N), -1)
        if not self.known_mask:
            return shares_NT
        masked_NT = shares_NT * self.known_NT
        # Where no teacher with a share knows the class, those that know it count equally.
        none_N1 = (masked_NT.sum(dim=1) == 0)[:, None]
        return torch.where(none_N1, self.known_NT.to(masked_NT), masked_NT)

    def _names(self, values_NTC: Tensor, shares_T: Tensor) -> Bool[Tensor, " N"]:
        """Whether the weighted mean of these values is largest for the class."""
        weights_NT = self._weights(shares_T).to(values_NTC)
        scores_NC = torch.einsum("ntc,nt->nc", values_NTC, weights_NT)
        if self.groups_TC is None:
            return correct(scores_NC, self.labels_N)
        return self._same(self.groups_TC, shares_T > 0)[self.labels_N, scores_NC.argmax(dim=1)]

    def _same(self, groups_TC: Tensor, used_T: Tensor) -> Bool[Tensor, "C C"]:
        """The classes (columns) that all teachers that count merge with a class (rows)."""
        known_TC = groups_TC >= 0
        counts_TC = used_T[:, None].expand_as(known_TC)
        if self.known_mask:
            masked_TC = counts_TC & known_TC
            counts_TC = torch.where(masked_TC.any(dim=0), masked_TC, known_TC)
        same_CC = torch.ones(2 * groups_TC.shape[1:], dtype=torch.bool)
        for groups_C, counts_C in zip(groups_TC, counts_TC, strict=True):
            same_CC &= (groups_C[:, None] == groups_C) | ~counts_C[:, None]
        return same_CC


def fit_shares(true_NT: Float[Tensor, "N T"]) -> Float[Tensor, " T"]:
    """The fixed mixture of probabilities with the largest likelihood.

    The log-likelihood is concave in the shares, so expectation-maximisation from equal shares finds
    its maximum.

    Args:
        true_NT: each teacher's probability of the true class.

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


def best_shares(ensemble: Ensemble) -> Float[Tensor, " T"]:
    """The most accurate of several sets of fixed weights on these examples.

    It is at least as good on them as equal weights and as each teacher alone. Among equally good
    sets the simplest wins: equal weights first, then one teacher, then a fit.
    """
    # Of equals `max` gives the first.
    return max(_candidates(ensemble), key=lambda shares_T: int(ensemble.right(shares_T).sum()))


def _candidates(ensemble: Ensemble) -> Iterator[Float[Tensor, " T"]]:
    equal_T, count = ensemble.equal(), ensemble.teachers
    yield equal_T
    yield from torch.eye(count, dtype=torch.float64)  # each teacher alone
    if count > 2:
        yield from (ensemble.without(teacher) for teacher in range(count))
    # Floors, since a teacher that is sure and wrong once has almost no likelihood.
    for floor in (0.0, 0.01, 1 / ensemble.logits_NTC.shape[2]):
        fitted_T = fit_shares(ensemble.true_NT + floor)
        yield from (fitted_T, (fitted_T + equal_T) / 2)


def cross_fitted(ensemble: Ensemble) -> Bool[Tensor, " N"]:
    """Whether each example is right by the shares that are best on the other half of them."""

    def right(rows: Tensor, others: Tensor) -> Tensor:
        shares_T = best_shares(ensemble.rows(others)) if len(others) else ensemble.equal()
        return ensemble.rows(rows).right(shares_T)

    return halves(right, len(ensemble.labels_N))


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
    """Positions in a random order that is always the same."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))
