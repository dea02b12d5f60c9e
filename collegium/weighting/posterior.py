"""Weights by what a teacher gives the true class, with and without a gate on the student's feature.

Ours: see `collegium.methods.gated` for the derivation and LOG.md for what it is measured to do.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from collegium.types import StudentOutputs, TeacherOutputs
from collegium.weighting.base import AbstractWeighting
from collegium.weighting.latent import pool, unit_length
from collegium.weighting.masking import mask_and_renormalize, mask_scores


def true_class_probability(
    logits_BTC: Float[Tensor, "B T C"], labels_B: Int[Tensor, " B"]
) -> Float[Tensor, "B T"]:
    """What each teacher gives the true class, at temperature 1."""
    places_BT1 = labels_B[:, None, None].expand(-1, logits_BTC.shape[1], 1)
    return torch.softmax(logits_BTC, dim=-1).gather(2, places_BT1).squeeze(2)


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
        floor: >= 0, added to every probability; by default 1 / C, what a guess would give.
        prior_BT: weights before the label is looked at; by default all equal.
        known_BT: who knows each example's class; None for all.

    >>> import torch
    >>> right, wrong = [100.0, 0.0], [0.0, 100.0]
    >>> logits_BTC = torch.tensor([[right, wrong]], dtype=torch.float64)
    >>> posterior_weights(logits_BTC, torch.tensor([0])).tolist()  # 1.5^2 to 0.5^2
    [[0.9, 0.1]]
    """
    least = 1 / logits_BTC.shape[2] if floor is None else floor
    score_BT = (true_class_probability(logits_BTC, labels_B) + least) ** power
    score_BT = score_BT if prior_BT is None else score_BT * prior_BT
    if known_BT is not None:
        return mask_and_renormalize(score_BT, known_BT)
    return score_BT / score_BT.sum(dim=1, keepdim=True)


class PosteriorWeighting(AbstractWeighting):
    """`posterior_weights` of the teachers' answers; it learns nothing.

    Args:
        power: how much the label counts.
    """

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
    The gate learns from `gate_loss` alone; the weights hold it constant.

    Args:
        teachers: names, for their number.
        width: D, channels of the student's last map.
        power: how much the label counts beside the gate.
        shrinkage: pull of the gate towards equal weights.
        rate: learning rate relative to the student's.
    """

    reads_student_map = True

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

    def log_gate(self, student: StudentOutputs) -> Float[Tensor, "B T"]:
        """Logarithm of what each teacher gets before the label is looked at."""
        beta_BD = unit_length(pool(student.last_map_BDHW, "avg").detach())
        return torch.log_softmax(beta_BD @ self.theta_TD.mT + self.bias_T, dim=1)

    def gate_loss(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """-log of what the gated mixture gives the true class, + shrinkage * KL(equal || gate)."""
        log_gate_BT, known_BT = self.log_gate(student), teachers.known_mask(labels_B)
        right_BT = true_class_probability(teachers.logits_BTC, labels_B)
        tiny = torch.finfo(right_BT.dtype).tiny
        heard_BT = log_gate_BT
        if known_BT is not None:
            heard_BT = mask_scores(log_gate_BT, known_BT).log_softmax(dim=1)
        fit_B = -(heard_BT + right_BT.clamp_min(tiny).log()).logsumexp(dim=1)
        if known_BT is not None:
            fit_B = torch.where(known_BT.any(dim=1), fit_B, 0)
        even = torch.tensor(float(log_gate_BT.shape[1])).log()
        return fit_B - self.shrinkage * (log_gate_BT.mean(dim=1) + even)

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """The gate, corrected by the label."""
        prior_BT = self.log_gate(student).detach().exp()
        known_BT = teachers.known_mask(labels_B)
        return posterior_weights(
            teachers.logits_BTC, labels_B, self.power, prior_BT=prior_BT, known_BT=known_BT
        )
