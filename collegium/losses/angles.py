"""Angle-wise relation between the examples of a batch (Park et al. 2019, RKD, eq. 7-9).

Angles over all triples are B^3 numbers for each teacher. They are computed in chunks of vertices,
with a backward written by hand, so that neither they nor their gradient are ever held whole.
Narrow embeddings take their cosines as products of directions, wide ones from the distances of the
pairs, where the cost does not depend on the width.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from collegium.losses.derivatives import derivative

_CHUNK_BYTES = 1 << 21
"""Largest temporary of one chunk of vertices: keeps chunks in the cache."""
_BLOCK_BYTES = 1 << 21
"""Largest float32 temporary of one block of pairs."""
_KEPT_BYTES = 1 << 26
"""Cosines are kept for the backward where those of all triples would be no more than this."""
_NARROW = 24
"""Widest embedding for which products of directions are the faster way."""


def angle(student_BP: Float[Tensor, "B P"], target_BP: Float[Tensor, "B Q"]) -> Float[Tensor, " B"]:
    """Angle-wise relation (Park et al. 2019, eq. 7-9), the mean over the triples with vertex b.

    The cosine of the angle at b between the directions to i and to k, compared by a smooth L1 of
    transition 1 over all (i, k). Directions of length 0 give 0 on both sides; fewer than three
    examples give 0.

    Args:
        student_BP: embeddings of any width.
        target_BP: the teacher's; no gradient reaches it.
    """
    return angle_to_each(student_BP, [target_BP])[:, 0]


def angle_to_each(
    student_BP: Float[Tensor, "B P"], targets: Sequence[Float[Tensor, "B _"]]
) -> Float[Tensor, "B T"]:
    """`angle` to each of several targets; the student's own angles are computed once for all.

    Args:
        student_BP: embeddings of any width.
        targets: those of T teachers, each (B, Q) of a width of its own.
    """
    if len(student_BP) < 3:
        return (student_BP.sum(dim=1) * 0)[:, None].expand(-1, len(targets))
    targets = [target_BP.detach() for target_BP in targets]
    narrow = max(points_BP.shape[1] for points_BP in (student_BP, *targets)) <= _NARROW
    if narrow:
        each = [_ByDirections.apply(student_BP, target_BP) for target_BP in targets]
        return torch.stack(each, dim=1)
    return _ByDistances.apply(student_BP, *targets)


class _ByDirections(torch.autograd.Function):
    """Points lie along the last axis, so that the large products are wide."""

    @staticmethod
    def forward(ctx: Any, student_BP: Tensor, target_BP: Tensor) -> Tensor:
        student, target = _Directions.between(student_BP), _Directions.between(target_BP)
        loss_B = student_BP.new_empty(len(student_BP))
        pull_BPB = student.points_PB.new_empty(len(student_BP), *student.points_PB.shape)
        for chunk in _chunks(student_BP):
            loss_B[chunk], pull_BPB[chunk] = _angles_at(chunk, student, target)
        ctx.save_for_backward(student_BP, target_BP, pull_BPB.mul_(2 / len(student_BP) ** 2))
        return loss_B / len(student_BP) ** 2

    @staticmethod
    def backward(ctx: Any, gradient_B: Tensor) -> tuple[Tensor, None]:
        student_BP, target_BP, pull_BPB = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph
            return derivative(_plain(student_BP, [target_BP])[:, 0], student_BP, gradient_B), None
        ends_BP = torch.einsum("b,bpi->ip", gradient_B, pull_BPB)
        return ends_BP - gradient_B[:, None] * pull_BPB.sum(dim=2), None


class _Directions(NamedTuple):
    """Embeddings and the reciprocal distance of every pair, 0 where they coincide."""

    points_BP: Tensor
    points_PB: Tensor
    nearness_BB: Tensor

    @classmethod
    def between(cls, points_BP: Tensor) -> "_Directions":
        distance_BB = _pair_distances(points_BP)
        return cls(points_BP, points_BP.T.contiguous(), _reciprocal(distance_BB))

    def at(self, chunk: slice) -> Tensor:
        """Unit vectors (V, P, B) from the vertices of a chunk to every point."""
        steps_VPB = self.points_PB[None] - self.points_BP[chunk, :, None]
        return steps_VPB.mul_(self.nearness_BB[chunk, None])


def _angles_at(chunk: slice, student: _Directions, target: _Directions) -> tuple[Tensor, Tensor]:
    """Summed loss at some vertices, and half its derivative by the end points of each pair."""
    toward_VPB, target_VPB = student.at(chunk), target.at(chunk)
    # One product for the difference of both sides' cosines.
    left = torch.cat([toward_VPB, target_VPB], dim=1)
    right = torch.cat([toward_VPB, -target_VPB], dim=1)
    gap_VBB = left.mT @ right
    loss_V = _smooth(gap_VBB, gap_VBB.new_zeros(()).expand_as(gap_VBB))
    pull_VPB = toward_VPB @ gap_VBB.clamp_(-1, 1)  # symmetric: from either end
    pull_VPB -= toward_VPB * (pull_VPB * toward_VPB).sum(dim=1, keepdim=True)
    return loss_V, pull_VPB.mul_(student.nearness_BB[chunk, None])


class _ByDistances(torch.autograd.Function):
    """Block of pairs by block of pairs, all vertices at once: half of the pairs mirror the others.

    With c the cosines, n the reciprocal distances, g the gradient of each loss and s the slopes of
    the smooth L1, the derivative by x_i - x_b is

        sum over k of m_bik (x_k - x_b) - w_bi (x_i - x_b),
        m_bik = 2 / B^2 sum over t of g_bt s_tbik n_bi n_bk,
        w_bi  = 2 / B^2 n_bi^2 sum over t and k of g_bt s_tbik c_bik,

    which, summed over b, is a B x B matrix times x whose rows sum to 0.
    """

    @staticmethod
    def forward(ctx: Any, student_BP: Tensor, *targets: Tensor) -> Tensor:
        sides = [_Distances.between(points_BP) for points_BP in (student_BP, *targets)]
        loss_BT = student_BP.new_zeros(len(student_BP), len(targets))
        ctx.save_for_backward(student_BP, *targets)
        ctx.sides, ctx.blocks, ctx.kept = sides, _blocks(student_BP), []
        triples = len(student_BP) ** 3 * student_BP.element_size()
        keeps = triples * len(sides) <= _KEPT_BYTES
        for block in ctx.blocks:
            own_BIK, *others = cosines = [side.cosines(block) for side in sides]
            for place, other_BIK in enumerate(others):
                loss_BT[:, place] += block.times * _smooth(own_BIK, other_BIK)
            ctx.kept.append(cosines if keeps else None)
        return loss_BT / len(student_BP) ** 2

    @staticmethod
    def backward(ctx: Any, gradient_BT: Tensor) -> tuple[Tensor | None, ...]:
        student_BP, *targets = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph
            plain_BT = _plain(student_BP, targets)
            return derivative(plain_BT, student_BP, gradient_BT), *[None for _ in targets]
        gradient_BT = gradient_BT * (2 / len(student_BP) ** 2)
        near_BB = ctx.sides[0].nearness_BB
        between_BB = torch.zeros_like(near_BB)  # sum over b of m_bik
        along_BB = torch.zeros_like(near_BB)  # sum over k of m_bik
        inward_BB = torch.zeros_like(near_BB)  # sum over k of m_bik c_bik, short of n
        for block, kept in zip(ctx.blocks, ctx.kept, strict=True):
            own_BIK, *others = kept or [side.cosines(block) for side in ctx.sides]
            slopes = [
                _smooth_backward(gradient_B, own_BIK, other_BIK)
                for other_BIK, gradient_B in zip(others, gradient_BT.T, strict=True)
            ]
            m_BIK = functools.reduce(Tensor.add_, slopes)
            block.add_sums(inward_BB, m_BIK * own_BIK)
            m_BIK.mul_(near_BB[:, None, block.ends]).mul_(near_BB[:, block.starts, None])
            block.add_sums(along_BB, m_BIK)
            between_BB[block.starts, block.ends] = m_BIK.sum(dim=0)
        between_BB = between_BB.triu() + between_BB.triu(1).T
        outward_BB = along_BB - inward_BB * near_BB**2
        return _pull(between_BB, outward_BB, student_BP), *[None for _ in gradient_BT.T]


class _Block(NamedTuple):
    """Pairs (i, k) of points, i from one stretch and k from the same or a later one."""

    starts: slice
    ends: slice

    @property
    def times(self) -> int:
        """How often its values count: those off the diagonal for their mirror image too."""
        return 1 if self.starts == self.ends else 2

    def add_sums(self, sums_BB: Tensor, values_BIK: Tensor) -> None:
        """Add the sums over k to the rows of i, and those over i, mirrored, to the rows of k."""
        sums_BB[:, self.starts] += values_BIK.sum(dim=2)
        if self.times == 2:
            sums_BB[:, self.ends] += values_BIK.sum(dim=1)


class _Distances(NamedTuple):
    """Of every pair: the squared distance in float64, the reciprocal one, 0 where they coincide."""

    squared_BB: Tensor
    nearness_BB: Tensor

    @classmethod
    def between(cls, points_BP: Tensor) -> "_Distances":
        distance_BB = _pair_distances(points_BP.double())
        return cls(distance_BB.square(), _reciprocal(distance_BB).to(points_BP))

    def cosines(self, block: _Block) -> Tensor:
        """Those of the angles at every vertex between the pairs of a block, by the law of cosines.

        The sum of squares is taken in float64: where one side is short beside the others it would
        drown in their rounding.
        """
        to_first_BI1 = self.squared_BB[:, block.starts, None]
        to_second_B1K = self.squared_BB[:, None, block.ends]
        sum_BIK = (to_second_B1K - self.squared_BB[block.starts, block.ends]).add_(to_first_BI1)
        near_BI1 = self.nearness_BB[:, block.starts, None]
        near_B1K = self.nearness_BB[:, None, block.ends]
        return sum_BIK.to(near_BI1.dtype).mul_(near_B1K).mul_(near_BI1 / 2)


def _pull(between_BB: Tensor, outward_BB: Tensor, points_BP: Tensor) -> Tensor:
    """The gradient by the points; in float64, since near points pull hard in opposite ways."""
    matrix_BB = (between_BB - outward_BB - outward_BB.T).double().fill_diagonal_(0)
    matrix_BB -= matrix_BB.sum(dim=1).diag()
    return (matrix_BB @ points_BP.double()).to(points_BP)


def _plain(student_BP: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """`angle_to_each` written in operations that torch can differentiate more than once.

    It holds the angles of all triples: of 128 examples 8 MB in float32, several times.
    """
    own_BBB, *others = (_cosines(points_BP) for points_BP in (student_BP, *targets))
    errors = [F.smooth_l1_loss(own_BBB, other_BBB, reduction="none") for other_BBB in others]
    return torch.stack([error_BBB.mean(dim=(1, 2)) for error_BBB in errors], dim=1)


def _cosines(points_BP: Tensor) -> Tensor:
    """Of the angle at each vertex between every two points; 0 where a direction has no length."""
    steps_BBP = points_BP[None] - points_BP[:, None]
    apart_BB1 = steps_BBP.detach().ne(0).any(dim=2, keepdim=True)
    # The root's gradient at 0 is infinite: where points coincide, of another number.
    length_BB1 = torch.where(apart_BB1, steps_BBP, 1).square().sum(dim=2, keepdim=True).sqrt()
    toward_BBP = torch.where(apart_BB1, steps_BBP / length_BB1.clamp_min(1e-12), 0)
    return toward_BBP @ toward_BBP.mT


def _smooth(first_VBB: Tensor, second_VBB: Tensor) -> Tensor:
    return F.smooth_l1_loss(first_VBB, second_VBB, reduction="none").sum(dim=(1, 2))


def _smooth_backward(gradient_V: Tensor, first_VBB: Tensor, second_VBB: Tensor) -> Tensor:
    """The derivative of `_smooth` by its first argument, in one pass."""
    each_VBB = gradient_V[:, None, None].expand_as(first_VBB)
    return torch.ops.aten.smooth_l1_loss_backward(each_VBB, first_VBB, second_VBB, 0, 1.0)


def _pair_distances(points_BP: Tensor) -> Tensor:
    mode = "donot_use_mm_for_euclid_dist"  # the other one is inexact for near points
    return torch.cdist(points_BP, points_BP, compute_mode=mode)


def _reciprocal(distance_BB: Tensor) -> Tensor:
    # As `torch.nn.functional.normalize` has it: never more than 1e12.
    return torch.where(distance_BB > 0, 1 / distance_BB.clamp_min(1e-12), 0)


def _chunks(points_BP: Tensor) -> list[slice]:
    """The vertices in parts whose temporaries stay small."""
    rows = len(points_BP) * max(len(points_BP), points_BP.shape[1]) * points_BP.element_size()
    return _stretches(len(points_BP), max(1, _CHUNK_BYTES // rows))


def _blocks(points_BP: Tensor) -> list[_Block]:
    """All pairs, those above the diagonal for those below too, in parts that stay small."""
    rows = max(1, _BLOCK_BYTES // (len(points_BP) * points_BP.element_size()))
    stretches = _stretches(len(points_BP), max(1, math.isqrt(rows)))
    return [_Block(*pair) for pair in itertools.combinations_with_replacement(stretches, 2)]


def _stretches(count: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
