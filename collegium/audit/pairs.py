"""Who agrees with whom, and who errs with whom."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

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


def compare_pairs(classes_NT: Int[Tensor, "N T"], labels_N: Int[Tensor, " N"]) -> Pairs:
    """Agreement and common errors of predicted classes.

    >>> import torch
    >>> found = compare_pairs(torch.tensor([[0, 1], [1, 1], [1, 1]]), torch.tensor([0, 0, 1]))
    >>> found.agreement[0][1], found.shared_errors[0][1], found.shared_errors[1][0]
    (0.666..., 1.0, 0.5)
    """
    wrong_NT = (classes_NT != labels_N[:, None]).double()
    same_NTT = classes_NT[:, :, None] == classes_NT[:, None]
    both_TT = wrong_NT.mT @ wrong_NT
    same_wrong_TT = (same_NTT * wrong_NT[:, :, None]).sum(dim=0)
    errors_T1 = wrong_NT.sum(dim=0)[:, None]
    return Pairs(
        agreement=_square(same_NTT.double().mean(dim=0)),
        shared_errors=_square(both_TT / errors_T1),
        same_errors=_square(same_wrong_TT / errors_T1),
        double_fault=_square(both_TT / len(labels_N)),
    )


def _square(values_TT: Float[Tensor, "T T"]) -> Square:
    return tuple(tuple(row) for row in torch.as_tensor(values_TT).tolist())
