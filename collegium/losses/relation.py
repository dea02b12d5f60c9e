"""Losses on relations between the examples of a batch.

Distances and similarities do not depend on the width of the embedding, so the student's may differ
from the teacher's. All are taken over the local batch. Angles are in `angles`.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def distance(
    student_BP: Float[Tensor, "B P"], target_BP: Float[Tensor, "B Q"]
) -> Float[Tensor, " B"]:
    """Distance-wise relation (Park et al. 2019, eq. 4-6), the mean over each example's pairs.

    Pair distances are divided by their mean over distinct pairs and compared by a smooth L1 of
    transition 1; the mean counts all B entries of a row, the zero diagonal included. Coinciding
    examples count with distance 1e-6. A single example has no pair and the loss 0.

    Args:
        student_BP: embeddings of any width.
        target_BP: the teacher's; no gradient reaches it.
    """
    return distance_to_each(student_BP, [target_BP])[:, 0]


def distance_to_each(
    student_BP: Float[Tensor, "B P"], targets: Sequence[Float[Tensor, "B _"]]
) -> Float[Tensor, "B T"]:
    """`distance` to each of several targets; the student's own distances are computed once.

    Args:
        student_BP: embeddings of any width.
        targets: those of T teachers, each (B, Q) of a width of its own.
    """
    own_BB = _relative_distances(student_BP)
    others = [_relative_distances(target_BP.detach()) for target_BP in targets]
    errors = [F.smooth_l1_loss(own_BB, other_BB, reduction="none") for other_BB in others]
    return torch.stack([error_BB.mean(dim=1) for error_BB in errors], dim=1)


def _relative_distances(points_BP: Tensor) -> Tensor:
    pairs_BB = torch.cdist(points_BP, points_BP, compute_mode="donot_use_mm_for_euclid_dist")
    off_diagonal_BB = 1 - torch.eye(len(points_BP), dtype=pairs_BB.dtype, device=pairs_BB.device)
    pairs_BB = pairs_BB.clamp_min(1e-6) * off_diagonal_BB
    return pairs_BB / (pairs_BB.sum() / off_diagonal_BB.sum().clamp_min(1)).clamp_min(1e-12)


def similarity(
    student_BP: Float[Tensor, "B P"], target_BP: Float[Tensor, "B Q"]
) -> Float[Tensor, " B"]:
    """Similarity preserving (Tung, Mori 2019, eq. 1-3): similarities of each example to all others.

    The products of each example's features with those of the batch, normalised to length 1; their
    squared difference, summed over the row and divided by B, so that the mean over the batch is the
    published sum over B^2. Taken over the local batch.

    Args:
        student_BP: features (maps flattened) of any width.
        target_BP: the teacher's; no gradient reaches it.
    """
    return similarity_to_each(student_BP, [target_BP])[:, 0]


def similarity_to_each(
    student_BP: Float[Tensor, "B P"], targets: Sequence[Float[Tensor, "B _"]]
) -> Float[Tensor, "B T"]:
    """`similarity` to each of several targets; the student's own similarities are computed once.

    Args:
        student_BP: features (maps flattened) of any width.
        targets: those of T teachers, each (B, Q) of a width of its own.
    """
    own_BB = _similarities(student_BP)
    gaps = [own_BB - _similarities(target_BP.detach()) for target_BP in targets]
    return torch.stack([gap_BB.square().sum(dim=1) for gap_BB in gaps], dim=1) / len(student_BP)


def _similarities(points_BP: Tensor) -> Tensor:
    products_BB = _Products.apply(points_BP)
    return F.normalize(products_BB, dim=1)


class _Products(torch.autograd.Function):
    """Every row with every row; by hand, the backward is one product and not two."""

    @staticmethod
    def forward(ctx: Any, points_BP: Tensor) -> Tensor:
        ctx.save_for_backward(points_BP)
        return points_BP @ points_BP.T

    @staticmethod
    def backward(ctx: Any, gradient_BB: Tensor) -> Tensor:
        (points_BP,) = ctx.saved_tensors
        return (gradient_BB + gradient_BB.T) @ points_BP
