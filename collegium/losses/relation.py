"""Losses on relations between the examples of a batch (Park et al. 2019, RKD).

Both compare what does not depend on the width of the embedding, so student and teacher may differ
in it. Both are taken over the local batch.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_CHUNK_BYTES = 1 << 21
"""Largest temporary of one chunk of vertices: keeps B^3 out of memory, and chunks in the cache."""


def distance(
    student_BP: Float[Tensor, "B P"], target_BP: Float[Tensor, "B Q"]
) -> Float[Tensor, " B"]:
    """Distance-wise relation (Park et al. 2019, eq. 4-6), the mean over each example's pairs.

    Pair distances are divided by their mean over distinct pairs and compared by a smooth L1 of
    transition 1; the mean counts all B entries of a row, the zero diagonal included. Coinciding
    examples count with distance 1e-6. One example has no pair: 0.

    Args:
        student_BP: embeddings of any width.
        target_BP: the teacher's; no gradient reaches it.
    """
    with torch.no_grad():
        target_BB = _relative_distances(target_BP)
    error_BB = F.smooth_l1_loss(_relative_distances(student_BP), target_BB, reduction="none")
    return error_BB.mean(dim=1)


def _relative_distances(points_BP: Tensor) -> Tensor:
    pairs_BB = torch.cdist(points_BP, points_BP, compute_mode="donot_use_mm_for_euclid_dist")
    off_diagonal_BB = 1 - torch.eye(len(points_BP), dtype=pairs_BB.dtype, device=pairs_BB.device)
    pairs_BB = pairs_BB.clamp_min(1e-6) * off_diagonal_BB
    return pairs_BB / (pairs_BB.sum() / off_diagonal_BB.sum().clamp_min(1)).clamp_min(1e-12)


def angle(student_BP: Float[Tensor, "B P"], target_BP: Float[Tensor, "B Q"]) -> Float[Tensor, " B"]:
    """Angle-wise relation (Park et al. 2019, eq. 7-9), the mean over the triples with vertex b.

    The cosine of the angle at b between the directions to i and to k, compared by a smooth L1 of
    transition 1 over all (i, k). Directions of length 0 give 0 on both sides; fewer than three
    examples give 0.

    Computed in chunks of vertices with its backward written by hand: neither the B x B x B cosines
    nor their gradient is ever held whole.

    Args:
        student_BP: embeddings of any width.
        target_BP: the teacher's; no gradient reaches it.
    """
    if len(student_BP) < 3:
        return student_BP.sum(dim=1) * 0
    loss_B: Tensor = _Angle.apply(student_BP, target_BP.detach())
    return loss_B


class _Angle(torch.autograd.Function):
    """Points lie along the last axis, so that the large products are wide."""

    @staticmethod
    def forward(ctx: Any, student_BP: Tensor, target_BP: Tensor) -> Tensor:
        size = len(student_BP)
        student, target = _Points.of(student_BP), _Points.of(target_BP)
        loss_B = student_BP.new_empty(size)
        pull_BPB = student_BP.new_empty(size, student_BP.shape[1], size)
        for start in range(0, size, step := _vertices_per_chunk(student_BP, target_BP)):
            chunk = slice(start, start + step)
            loss_B[chunk], pull_BPB[chunk] = _angles_at(chunk, student, target)
        ctx.save_for_backward(pull_BPB.mul_(2 / size**2))
        return loss_B / size**2

    @staticmethod
    def backward(ctx: Any, gradient_B: Tensor) -> tuple[Tensor, None]:
        (pull_BPB,) = ctx.saved_tensors
        ends_BP = torch.einsum("b,bpi->ip", gradient_B, pull_BPB)
        return ends_BP - gradient_B[:, None] * pull_BPB.sum(dim=2), None


class _Points(NamedTuple):
    """Embeddings and the reciprocal distance of every pair, 0 where they coincide."""

    points_BP: Tensor
    points_PB: Tensor
    nearness_BB: Tensor

    @classmethod
    def of(cls, points_BP: Tensor) -> "_Points":
        mode = "donot_use_mm_for_euclid_dist"  # the other one is inexact for near points
        distance_BB = torch.cdist(points_BP, points_BP, compute_mode=mode)
        nearness_BB = torch.where(distance_BB > 0, 1 / distance_BB, 0)
        return cls(points_BP, points_BP.T.contiguous(), nearness_BB)

    def directions(self, chunk: slice) -> Tensor:
        """Unit vectors (V, P, B) from the vertices of a chunk to every point."""
        steps_VPB = self.points_PB[None] - self.points_BP[chunk, :, None]
        return steps_VPB.mul_(self.nearness_BB[chunk, None])


def _vertices_per_chunk(student_BP: Tensor, target_BP: Tensor) -> int:
    width = max(len(student_BP), student_BP.shape[1], target_BP.shape[1])
    return max(1, _CHUNK_BYTES // (len(student_BP) * width * student_BP.element_size()))


def _angles_at(chunk: slice, student: _Points, target: _Points) -> tuple[Tensor, Tensor]:
    """Summed loss at some vertices, and half its derivative by the end points of each pair."""
    toward_VPB, target_VPB = student.directions(chunk), target.directions(chunk)
    # One product for the difference of both sides' cosines.
    left = torch.cat([toward_VPB, target_VPB], dim=1)
    right = torch.cat([toward_VPB, -target_VPB], dim=1)
    gap_VBB = left.mT @ right
    slope_VBB = gap_VBB.clamp(-1, 1)  # the derivative of smooth L1
    # smooth L1 of gap is slope * (gap - slope / 2), on both of its branches.
    slope_VQ, gap_VQ = slope_VBB.flatten(1), gap_VBB.flatten(1)
    loss_V = torch.linalg.vecdot(slope_VQ, gap_VQ) - torch.linalg.vecdot(slope_VQ, slope_VQ) / 2
    pull_VPB = toward_VPB @ slope_VBB  # symmetric: from either end
    pull_VPB -= toward_VPB * (pull_VPB * toward_VPB).sum(dim=1, keepdim=True)
    return loss_V, pull_VPB.mul_(student.nearness_BB[chunk, None])


def similarity(
    student_BP: Float[Tensor, "B P"], target_BP: Float[Tensor, "B Q"]
) -> Float[Tensor, " B"]:
    """Similarity preserving (Tung, Mori 2019, eq. 1-3): who is like whom, example by example.

    The products of each example's features with everybody's, brought to length 1; the squared
    difference, summed over the row and divided by B, so that the mean over the batch is the
    published sum over B^2. Taken over the local batch.

    Args:
        student_BP: features (maps flattened) of any width.
        target_BP: the teacher's; no gradient reaches it.
    """
    gap_BB = _similarities(student_BP) - _similarities(target_BP.detach())
    return gap_BB.square().sum(dim=1) / len(student_BP)


def _similarities(points_BP: Tensor) -> Tensor:
    return F.normalize(points_BP @ points_BP.T, dim=1)
