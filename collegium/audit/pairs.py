"""Who agrees with whom, and who errs with whom."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from collegium.evaluation.predict import Predictions

Square = tuple[tuple[float, ...], ...]
"""T rows of T parts of 1, teachers in their order."""


@dataclass(frozen=True)
class Pairs:
    """Teachers two by two; row i, column j.

    Attributes:
        agreement: part of the examples that i and j put into the same class.
        shared_errors: part of i's errors on which j errs too; NaN where i never errs.
        same_errors: part of i's errors on which j says the very same wrong class.
        double_fault: part of all examples on which both err (Giacinto and Roli, Image and Vision
            Computing 2001).
    """

    agreement: Square
    shared_errors: Square
    same_errors: Square
    double_fault: Square


def compare_pairs(said: Sequence[Predictions]) -> Pairs:
    """Agreement and common errors of T teachers on the same examples.

    Classes that one of two teachers does not tell apart are the same to both; NaN agrees with
    nothing.

    >>> import torch
    >>> labels_N, index_N = torch.tensor([0, 0, 1]), torch.arange(3)
    >>> one_NC, other_NC = torch.eye(2)[[0, 1, 1]], torch.eye(2)[[1, 1, 1]]
    >>> both = [Predictions(logits_NC, labels_N, index_N) for logits_NC in (one_NC, other_NC)]
    >>> found = compare_pairs(both)
    >>> found.agreement[0][1], found.shared_errors[0][1], found.shared_errors[1][0]
    (0.666..., 1.0, 0.5)
    """
    wrong_NT = torch.stack([~one.right_N for one in said], dim=1).double()
    same_TNT = torch.stack([_same(one, said) for one in said])
    both_TT = wrong_NT.mT @ wrong_NT
    same_wrong_TT = (same_TNT * (wrong_NT.mT[:, :, None] * wrong_NT)).sum(dim=1)
    errors_T1 = wrong_NT.sum(dim=0)[:, None]
    return Pairs(
        agreement=_square(same_TNT.double().mean(dim=1)),
        shared_errors=_square(both_TT / errors_T1),
        same_errors=_square(same_wrong_TT / errors_T1),
        double_fault=_square(both_TT / len(wrong_NT)),
    )


def _same(one: Predictions, said: Sequence[Predictions]) -> Bool[Tensor, "N T"]:
    """Where others name the class that one names."""
    columns = [
        (one.names(other.classes_N) & other.finite_N) | (other.names(one.classes_N) & one.finite_N)
        for other in said
    ]
    return torch.stack(columns, dim=1)


def _square(values_TT: Float[Tensor, "T T"]) -> Square:
    return tuple(tuple(row) for row in torch.as_tensor(values_TT).tolist())
