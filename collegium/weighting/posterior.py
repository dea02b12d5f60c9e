"""Posterior weightings: weights from each teacher's probability of the true class.

With a learned gate on the student's feature (gated) or without (posterior). Ours:
`collegium.methods.gated` has the derivation, LOG.md the measurements.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from collegium.types import Dims, StudentOutputs, TeacherOutputs
from collegium.weighting.base import AbstractWeighting, of_true_class
from collegium.weighting.latent import pool, unit_length
from collegium.weighting.masking import mask_and_renormalize, mask_scores


def true_class_probability(
    logits_BTC: Float[Tensor, "B T C"], labels_B: Int[Tensor, " B"]
) -> Float[Tensor, "B T"]:
    """Each teacher's probability of the true class, at temperature 1."""
    return of_true_class(torch.softmax(logits_BTC, dim=-1), labels_B)


def posterior_weights(
    logits_BTC: Float[Tensor, "B T C"],
    labels_B: Int[Tensor, " B"],
    power: float = 2.0,
    floor: float | None = None,
    prior_BT: Float[Tensor, "B T"] | None = None,
    known_BT: Bool[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T"]:
    """Proportional to prior * (p(true class) + floor)^power; equal teachers get equal weights.

    Args:
        logits_BTC: raw scores.
        labels_B: true classes.
        power: >= 0; 0 leaves the prior as it is.
        floor: >= 0, added to every probability; by default 1 / C, the probability of a guess.
        prior_BT: weights before the label is read; by default all equal.
        known_BT: which teachers know each example's class; None for all.

    >>> import torch
    >>> right, wrong = [100.0, 0.0], [0.0, 100.0]
    >>> logits_BTC = torch.tensor([[right, wrong]], dtype=torch.float64)
    >>> posterior_weights(logits_BTC, torch.tensor([0])).tolist()  # 1.5^2 to 0.5^2
    [[0.9, 0.1]]
    """
    added = 1 / logits_BTC.shape[2] if floor is None else floor
    score_BT = (true_class_probability(logits_BTC, labels_B) + added) ** power
    score_BT = score_BT if prior_BT is None else score_BT * prior_BT
    if known_BT is not None:
        return mask_and_renormalize(score_BT, known_BT)
    return score_BT / score_BT.sum(dim=1, keepdim=True)


class PosteriorWeighting(AbstractWeighting):
    """`posterior_weights` of the teachers' logits; it learns nothing.

    Args:
        power: exponent of the likelihood.
    """

    slug = "posterior"

    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        self.power = power

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """Weights by the label."""
        known_BT = teachers.known_mask(labels_B)
        return posterior_weights(teachers.logits_BTC, labels_B, self.power, known_BT=known_BT)


class GatedWeighting(AbstractWeighting):
    """`posterior_weights` whose prior is a learned gate on the student's feature.

    gate = softmax over teachers of bias_t + theta_t . beta, all zero at the start: equal weights.
    The gate learns from `own_loss` alone; the weights treat it as constant.

    Args:
        teachers: names, for their number.
        width: D, channels of the student's last map.
        power: exponent of the likelihood beside the gate.
        shrinkage: weight of the KL that pulls the gate towards equal weights.
        rate: learning rate relative to the student's.
    """

    slug = "gated"
    reads_student_map = True
    own_term = "gate"

    def __init__(
        self,
        teachers: Sequence[str],
        width: int,
        *,
        power: float = 2.0,
        shrinkage: float = 0.1,
        rate: float = 10.0,
    ) -> None:
        super().__init__()
        self.power, self.shrinkage, self.rate = power, shrinkage, rate
        self.theta_TD = nn.Parameter(torch.zeros(len(teachers), width))
        self.bias_T = nn.Parameter(torch.zeros(len(teachers)))

    @classmethod
    def make(cls, dims: Dims, options: Mapping[str, Any]) -> AbstractWeighting:
        """For these teachers and the width of the student's last map."""
        return cls(dims.teachers, dims.student_width)

    def log_gate(self, student: StudentOutputs) -> Float[Tensor, "B T"]:
        """Logarithm of each teacher's weight before the label is read."""
        beta_BD = unit_length(pool(student.last_map_BDHW, "avg").detach())
        return torch.log_softmax(beta_BD @ self.theta_TD.mT + self.bias_T, dim=1)

    def own_loss(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """-log of the gated mixture's true-class probability, + shrinkage * KL(equal || gate)."""
        log_gate_BT, known_BT = self.log_gate(student), teachers.known_mask(labels_B)
        true_BT = true_class_probability(teachers.logits_BTC, labels_B)
        tiny = torch.finfo(true_BT.dtype).tiny
        active_BT = log_gate_BT
        if known_BT is not None:
            active_BT = mask_scores(log_gate_BT, known_BT).log_softmax(dim=1)
        fit_B = -(active_BT + true_BT.clamp_min(tiny).log()).logsumexp(dim=1)
        if known_BT is not None:
            fit_B = torch.where(known_BT.any(dim=1), fit_B, 0)
        equal = torch.tensor(float(log_gate_BT.shape[1])).log()
        return fit_B - self.shrinkage * (log_gate_BT.mean(dim=1) + equal)

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """The gate, corrected by the label."""
        prior_BT = self.log_gate(student).detach().exp()
        known_BT = teachers.known_mask(labels_B)
        return posterior_weights(
            teachers.logits_BTC, labels_B, self.power, prior_BT=prior_BT, known_BT=known_BT
        )
