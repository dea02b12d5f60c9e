"""Gradient weighting (AE-KD): the weights under which the teachers' gradients conflict least.

Du et al., Agree to disagree: adaptive ensemble knowledge distillation in gradient space,
NeurIPS 2020, equations 5 to 9. One set of weights for the whole (local) batch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from collegium.types import Dims, StudentOutputs, TeacherOutputs
from collegium.weighting.base import AbstractWeighting
from collegium.weighting.masking import fill_unknown

Vector = NDArray[np.float64]


def mean_gradients(
    logits_BTC: Float[Tensor, "B T C"],
    student_BC: Float[Tensor, "B C"],
    temperature: float,
    known_BT: Bool[Tensor, "B T"] | None = None,
    groups_TC: Int[Tensor, "T C"] | None = None,
) -> Float[Tensor, "T C"]:
    """Mean over the batch of each teacher's gradient of temperature^2 KL by the student's logits.

    In closed form, temperature * (q - p_t): no backward pass is needed. A teacher that does
    not know an example's class (`known_BT`) has no gradient there, nor by classes it does not know
    (`groups_TC`).
    """
    q_B1C = torch.softmax(student_BC / temperature, dim=-1)[:, None]
    p_BTC = torch.softmax(logits_BTC / temperature, dim=-1)
    if known_BT is None or groups_TC is None:
        return temperature * (q_B1C - p_BTC).mean(dim=0)
    gaps_BTC = q_B1C - fill_unknown(p_BTC, q_B1C[:, 0], groups_TC)
    return temperature * torch.where(known_BT[:, :, None], gaps_BTC, 0).mean(dim=0)


def gradient_weights(
    gradients_TC: Float[Tensor, "T C"], tolerance: float = 0.6, normalise: bool = False
) -> Float[Tensor, " T"]:
    """The convex combination of gradients of least length, no weight above the tolerance.

    Args:
        gradients_TC: one gradient per teacher, as of `mean_gradients`.
        tolerance: largest weight; below 1/T all weights are 1/T, 1 is no limit.
        normalise: bring every gradient to length 1 first, and divide each weight by that length
            afterwards (as the public code does; the limit then holds before the division).

    Returns:
        Weights >= 0, sum 1. Where they are not unique, those nearest to equal.

    >>> import torch
    >>> gradient_weights(torch.tensor([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])).tolist()
    [0.5, 0.5, 0.0]
    """
    # Exact arithmetic on a T x T matrix: a few numbers, so on the CPU and in float64.
    gradients = gradients_TC.detach().double().cpu().numpy()
    lengths = np.maximum(np.linalg.norm(gradients, axis=1), 1e-30) if normalise else np.ones(1)
    gradients = gradients / lengths[:, None]
    weights = _least_norm(gradients @ gradients.T, tolerance) / lengths
    return gradients_TC.new_tensor(weights / weights.sum())


def _least_norm(gram: Vector, most: float) -> Vector:
    """Argmin of w' gram w over 0 <= w <= most, sum w = 1: a primal active-set method."""
    count = len(gram)
    weights = np.full(count, 1 / count)
    if count * most <= 1:
        return weights
    scale = np.trace(gram) / count
    # A ridge makes the solution unique: two copies of one teacher get equal weights.
    plain = gram / scale if scale > 0 else np.eye(count)
    gram = plain + 1e-10 * np.eye(count)
    free = np.ones(count, bool)
    for _ in range(20 * count):
        goal, level = _stationary(gram, weights, free)
        step, blocked = _longest_step(weights, goal, most, free)
        weights = weights + step * (goal - weights)
        if blocked is not None:
            weights[blocked] = 0.0 if goal[blocked] < 0 else most
            free[blocked] = False
        elif not _release(gram @ weights - level, weights, most, free):
            break
    polished = _polished(plain, weights, free)
    # For teachers that are almost copies, the system without the ridge is ill-conditioned.
    if polished.min() >= -1e-9 and polished.max() <= most + 1e-9:
        weights = polished
    return np.clip(weights, 0, most) / np.clip(weights, 0, most).sum()


def _stationary(gram: Vector, weights: Vector, free: NDArray[np.bool_]) -> tuple[Vector, float]:
    """The optimum over the free weights alone, and the common slope of its objective."""
    inside, bound = np.flatnonzero(free), np.flatnonzero(~free)
    system = _system(gram, inside)
    right = np.append(-gram[np.ix_(inside, bound)] @ weights[bound], 1 - weights[bound].sum())
    solution = np.linalg.solve(system, right)
    goal = weights.copy()
    goal[inside] = solution[:-1]
    return goal, float(solution[-1])


def _polished(gram: Vector, weights: Vector, free: NDArray[np.bool_]) -> Vector:
    """The free weights without the ridge's effect; unchanged where they are not unique."""
    inside = np.flatnonzero(free)
    slope = (gram @ weights)[inside]
    system = _system(gram, inside)
    right = np.append(slope.mean() - slope, 1 - weights.sum())
    weights = weights.copy()
    weights[inside] += np.linalg.lstsq(system, right, rcond=1e-11)[0][:-1]
    return weights


def _system(gram: Vector, inside: NDArray[np.int_]) -> Vector:
    """Equal slopes of all weights that are free, and the sum of all weights."""
    system = np.zeros((len(inside) + 1, len(inside) + 1))
    system[:-1, :-1], system[:-1, -1], system[-1, :-1] = gram[np.ix_(inside, inside)], -1, 1
    return system


def _longest_step(
    weights: Vector, goal: Vector, most: float, free: NDArray[np.bool_]
) -> tuple[float, int | None]:
    """How far towards the goal all weights stay in their range, and which weight stops there."""
    step, blocked = 1.0, None
    if free.sum() == 1:  # the sum of all determines it: only rounding could stop it
        return step, blocked
    for place in np.flatnonzero(free):
        gap = goal[place] - weights[place]
        room = (most if gap > 0 else 0.0) - weights[place]
        if abs(gap) > abs(room) and room / gap < step:
            step, blocked = room / gap, int(place)
    return step, blocked


def _release(slope: Vector, weights: Vector, most: float, free: NDArray[np.bool_]) -> bool:
    """Free the weight at a limit that gains most by leaving it; says whether there is one."""
    gain = np.where(weights > most / 2, slope, -slope)
    gain[free] = -np.inf
    place = int(gain.argmax())
    if gain[place] <= 1e-12:
        return False
    free[place] = True
    return True


class GradientWeighting(AbstractWeighting):
    """`gradient_weights` of the plain soft-target loss, repeated for every example.

    Args:
        temperature: of the soft target, > 0.
        tolerance: largest weight.
        normalise: compare directions only.
    """

    slug = "gradient"

    def __init__(self, temperature: float, tolerance: float = 0.6, normalise: bool = False) -> None:
        super().__init__()
        self.temperature, self.tolerance, self.normalise = temperature, tolerance, normalise

    @classmethod
    def make(cls, dims: Dims, options: Mapping[str, Any]) -> AbstractWeighting:
        """At the method's temperature; by AEKD's options, where the method has them."""
        normalise = options.get("normalise_gradients", False)
        return cls(options["temperature"], options.get("tolerance", 0.6), normalise)

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """One row for all examples, without gradient."""
        known_BT = teachers.known_mask(labels_B)
        with torch.no_grad():
            gradients_TC = mean_gradients(
                teachers.logits_BTC,
                student.logits_BC,
                self.temperature,
                known_BT,
                teachers.groups_TC,
            )
            weights_T = gradient_weights(gradients_TC, self.tolerance, self.normalise)
        if known_BT is not None:  # a teacher of weight 0 may be the only one that knows a class
            weights_T = weights_T.clamp_min(1e-9)
        return weights_T.expand(len(labels_B), -1)
