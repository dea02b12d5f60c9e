"""Losses on relations between the examples of a batch (Park et al. 2019, RKD).

Both compare what does not depend on the width of the embedding, so student and teacher may differ
in it. Both are taken over the local batch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_CHUNK_BYTES = 1 << 20
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
    @staticmethod
    def forward(ctx: Any, student_BP: Tensor, target_BP: Tensor) -> Tensor:
        size = len(student_BP)
        loss_B = student_BP.new_empty(size)
        pull_BBP = torch.empty(size, *student_BP.shape, dtype=loss_B.dtype, device=loss_B.device)
        for vertices in torch.arange(size).split(_vertices_per_chunk(student_BP, target_BP)):
            chunk = slice(int(vertices[0]), int(vertices[-1]) + 1)
            loss_B[chunk], pull_BBP[chunk] = _angles_at(chunk, student_BP, target_BP)
        ctx.save_for_backward(pull_BBP)
        return loss_B

    @staticmethod
    def backward(ctx: Any, gradient_B: Tensor) -> tuple[Tensor, None]:
        (pull_BBP,) = ctx.saved_tensors
        ends_BP = torch.einsum("b,bip->ip", gradient_B, pull_BBP)
        return ends_BP - gradient_B[:, None] * pull_BBP.sum(dim=1), None


def _vertices_per_chunk(student_BP: Tensor, target_BP: Tensor) -> int:
    width = max(len(student_BP), student_BP.shape[1], target_BP.shape[1])
    return max(1, _CHUNK_BYTES // (len(student_BP) * width * student_BP.element_size()))


def _angles_at(chunk: slice, student_BP: Tensor, target_BP: Tensor) -> tuple[Tensor, Tensor]:
    """Loss at some vertices, and its derivative by the end points of each (vertex, end) pair."""
    toward_VBP, length_VB1 = _directions(chunk, student_BP)
    target_VBP, _ = _directions(chunk, target_BP)
    gap_VBB = toward_VBP @ toward_VBP.mT
    gap_VBB.baddbmm_(target_VBP, target_VBP.mT, alpha=-1)
    slope_VBB = gap_VBB.clamp(-1, 1)  # the derivative of smooth L1
    triples = len(student_BP) ** 2
    # smooth L1 of gap is slope * (gap - slope / 2), on both of its branches.
    gap_VBB.sub_(slope_VBB, alpha=0.5)
    loss_V = torch.linalg.vecdot(slope_VBB.flatten(1), gap_VBB.flatten(1)) / triples
    pull_VBP = (slope_VBB @ toward_VBP).mul_(2 / triples)
    pull_VBP -= toward_VBP * torch.linalg.vecdot(pull_VBP, toward_VBP)[..., None]
    return loss_V, torch.where(length_VB1 > 0, pull_VBP / length_VB1, 0)


def _directions(chunk: slice, points_BP: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors from the vertices of a chunk to every point, and their lengths."""
    steps_VBP = points_BP[None] - points_BP[chunk, None]
    length_VB1 = torch.linalg.vector_norm(steps_VBP, dim=2, keepdim=True)
    return steps_VBP.div_(length_VB1.clamp_min(1e-12)), length_VB1
