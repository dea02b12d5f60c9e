"""Terms on answers: the label, and the soft target in all its forms."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from collegium.losses import (
    correlation,
    cross_entropy,
    decoupled,
    logit_error,
    merge_classes,
    soft_target,
    soften,
    standardise,
)
from collegium.objectives.objective import AbstractTerm, TermInputs, among_rows
from collegium.weighting import mixture


class HardLabel(AbstractTerm):
    """scale * cross entropy with the label.

    Attributes:
        weights_C: of each class; None for 1. No part of the state dict: run.json decides it.
        smoothing: part of the label that all classes share equally, 0 to 1.
    """

    weights_C: Tensor | None

    def __init__(self, scale: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        self.scale, self.temperature, self.smoothing = scale, temperature, 0.0
        self.register_buffer("weights_C", None, persistent=False)

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """Cross entropy per example."""
        logits_BC, labels_B = given.student.logits_BC, given.labels_B
        return self.scale * cross_entropy(
            logits_BC, labels_B, self.temperature, self.weights_C, self.smoothing
        )


LossName = Literal["kl", "dkd", "dist", "logits"]
Mix = Literal["probs", "logits", "loss"]
MIXES: dict[LossName, tuple[Mix, ...]] = {
    "kl": ("probs", "logits", "loss"),
    "dkd": ("loss", "probs", "logits"),
    "dist": ("probs", "logits", "loss"),
    "logits": ("logits", "loss"),
}
"""What each loss can take its target from; the first is its default."""

Compare = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Target, student's logits and labels to a loss: (B, C) to (B,), or (B, T, C) to (B, T)."""


@dataclass(frozen=True)
class SoftLoss:
    """How a student is compared with a soft target, and what the target is made of.

    Attributes:
        name: of the loss.
        temperature: > 0, the same on both sides.
        mix: one target of the teachers' mean probabilities or mean logits, or each teacher's own
            loss, weighted.
        standardised: bring all logits to mean 0 and deviation 1 first.
        factors: the two weights inside `dkd` and inside `dist`.
    """

    name: LossName = "kl"
    temperature: float = 4.0
    mix: Mix = "probs"
    standardised: bool = False
    factors: tuple[float, float] = (1.0, 8.0)

    @property
    def pointwise(self) -> bool:
        """Whether an example's value has nothing to do with the rest of the batch."""
        return self.name != "dist"

    def __call__(self, given: TermInputs) -> Float[Tensor, " B"]:
        """The loss of each example; its gradient reaches learned weights.

        Where a teacher does not know or not tell apart every class, each is compared with the
        student over what it knows, and the losses are weighed, whatever the mix; but a plain KL to
        the mean of the probabilities stays one.
        """
        if given.teachers.groups_TC is not None:
            return self._of_some_classes(given)
        logits_BC, teachers_BTC = given.student.logits_BC, given.teachers.logits_BTC
        if self.standardised:
            logits_BC, teachers_BTC = standardise(logits_BC), standardise(teachers_BTC)
        if self.mix == "loss":
            targets_BTC = self._soft(teachers_BTC)
            each_BT = self._compare(targets_BTC, logits_BC[:, None], given.labels_B[:, None])
            return (given.weights_BT * each_BT).sum(dim=1)
        if self.mix == "logits":
            target_BC = self._soft(mixture(given.weights_BT, teachers_BTC))
        else:
            target_BC = mixture(given.weights_BT, self._soft(teachers_BTC))
        return self._compare(target_BC, logits_BC, given.labels_B)

    def _of_some_classes(self, given: TermInputs) -> Tensor:
        if (self.name, self.mix, self.standardised) == ("kl", "probs", False):
            target_BC = given.target(self.temperature)
            return self._compare(target_BC, given.student.logits_BC, given.labels_B)
        losses = [self._of_one(given, place) for place in range(given.weights_BT.shape[1])]
        return (given.weights_BT * torch.stack(losses, dim=1)).sum(dim=1)

    def _of_one(self, given: TermInputs, place: int) -> Tensor:
        """The loss to one teacher over the classes it tells apart, 0 where it does not know."""
        groups_TC, rows_B = given.teachers.groups_TC, given.known_by(place)
        assert groups_TC is not None
        assert rows_B is not None
        groups_C = groups_TC[place]
        hot = 1.0 if self.name == "logits" else self.temperature
        both = (given.student.logits_BC, given.teachers.logits_BTC[:, place])
        student_BG, said_BG = (merge_classes(logits_BC, groups_C, hot) for logits_BC in both)
        if self.standardised:
            student_BG, said_BG = standardise(student_BG), standardise(said_BG)
        firsts_G = groups_C[groups_C >= 0].unique()
        labels_M = torch.searchsorted(firsts_G, groups_C[given.labels_B[rows_B]])

        def compare(student_MG: Tensor, said_MG: Tensor) -> Tensor:
            return self._compare(self._soft(said_MG), student_MG, labels_M)

        return among_rows(rows_B, compare, student_BG, said_BG)

    def _soft(self, logits: Tensor) -> Tensor:
        return logits if self.name == "logits" else soften(logits, self.temperature)

    def _compare(self, target: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        if self.name == "dkd":
            return decoupled(target, logits, labels, self.temperature, *self.factors)
        if self.name == "dist":
            return correlation(target, logits, self.temperature, *self.factors)
        if self.name == "logits":
            return logit_error(target, logits) / 2  # what soft_target tends to when it is hot
        return soft_target(target, logits, self.temperature)


class SoftTarget(AbstractTerm):
    """scale * what the student's answers lack of the teachers'.

    Args:
        loss: how they are compared; the plain one is temperature^2 KL(mixture || student).
        scale: alpha, the weight of distillation.
        over_classes: divide by the number of classes, as `KLDivLoss()` does by default.
        warmup: part of the epochs over which the term grows from nothing.
    """

    def __init__(
        self,
        loss: SoftLoss,
        scale: float,
        *,
        over_classes: bool = False,
        warmup: float = 0.0,
    ) -> None:
        super().__init__()
        self.loss, self.scale, self.over_classes, self.warmup = loss, scale, over_classes, warmup
        self.pointwise = loss.pointwise

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """Learned weights get their gradient here."""
        classes = given.student.logits_BC.shape[1]
        return self.scale / (classes if self.over_classes else 1) * self.loss(given)
