"""Terms on logits: cross entropy with the label, the soft target, and relations of examples."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from collegium.errors import RequestError
from collegium.losses import (
    AbstractLogitLoss,
    KLLoss,
    Mix,
    cross_entropy,
    merge_classes,
    soften,
    standardise,
)
from collegium.objectives.objective import AbstractTerm, TermInputs, among_rows
from collegium.weighting import mixture

Relation = Callable[[Tensor, Tensor], Tensor]
RelationInput = Literal["probs", "logits", "log_probs"]


class HardLabel(AbstractTerm):
    """scale * cross entropy with the label.

    Attributes:
        weights_C: of each class; None for 1. Not in the state dict: run.json has it.
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


@dataclass(frozen=True)
class SoftLoss:
    """A loss, and what its soft target is made of.

    Attributes:
        loss: compares the student with the target.
        mix: one target of the teachers' mean probabilities or mean logits, or each teacher's own
            loss, weighted; None for the loss's default.
        standardised: bring all logits to mean 0 and standard deviation 1 first.

    Raises:
        RequestError: a mix that the loss cannot be used with.
    """

    loss: AbstractLogitLoss = field(default_factory=KLLoss)
    mix: Mix | None = None
    standardised: bool = False

    def __post_init__(self) -> None:
        mixes, mix = self.loss.mixes, self.mix or self.loss.mixes[0]
        if mix not in mixes:
            allowed = " or ".join(f"mix={name}" for name in mixes)
            raise RequestError(f"loss={self.loss.slug} takes {allowed}, not mix={mix}")
        object.__setattr__(self, "mix", mix)  # the dataclass is frozen

    def __call__(self, given: TermInputs) -> Float[Tensor, " B"]:
        """The loss of each example; its gradient reaches learned weights.

        Where a teacher does not know or distinguish every class, each teacher is compared with the
        student over the classes it knows, and the losses are weighted, whatever the mix. Only the
        KL to the mean of the probabilities stays a single loss.
        """
        if given.teachers.groups_TC is not None:
            return self._of_some_classes(given)
        logits_BC, teachers_BTC = given.student.logits_BC, given.teachers.logits_BTC
        if self.standardised:
            logits_BC, teachers_BTC = standardise(logits_BC), standardise(teachers_BTC)
        if self.mix == "loss":
            targets_BTC = self._soft(teachers_BTC)
            each_BT = self.loss(targets_BTC, logits_BC[:, None], given.labels_B[:, None])
            return (given.weights_BT * each_BT).sum(dim=1)
        if self.mix == "logits":
            target_BC = self._soft(mixture(given.weights_BT, teachers_BTC))
        else:
            target_BC = mixture(given.weights_BT, self._soft(teachers_BTC))
        return self.loss(target_BC, logits_BC, given.labels_B)

    def _of_some_classes(self, given: TermInputs) -> Tensor:
        if self.loss.ignores_filled_classes and self.mix == "probs" and not self.standardised:
            target_BC = given.target(self.loss.temperature)
            return self.loss(target_BC, given.student.logits_BC, given.labels_B)
        losses = [self._of_one(given, place) for place in range(given.weights_BT.shape[1])]
        return (given.weights_BT * torch.stack(losses, dim=1)).sum(dim=1)

    def _of_one(self, given: TermInputs, place: int) -> Tensor:
        """The loss to one teacher over the classes it distinguishes, 0 where it does not know."""
        groups_TC, rows_B = given.teachers.groups_TC, given.known_by(place)
        assert groups_TC is not None
        assert rows_B is not None
        groups_C = groups_TC[place]
        temperature = self.loss.temperature if self.loss.softened else 1.0
        both = (given.student.logits_BC, given.teachers.logits_BTC[:, place])
        student_BG, teacher_BG = (merge_classes(logits, groups_C, temperature) for logits in both)
        if self.standardised:
            student_BG, teacher_BG = standardise(student_BG), standardise(teacher_BG)
        firsts_G = groups_C[groups_C >= 0].unique()
        labels_M = torch.searchsorted(firsts_G, groups_C[given.labels_B[rows_B]])

        def compare(student_MG: Tensor, teacher_MG: Tensor) -> Tensor:
            return self.loss(self._soft(teacher_MG), student_MG, labels_M)

        return among_rows(rows_B, compare, student_BG, teacher_BG)

    def _soft(self, logits: Tensor) -> Tensor:
        return soften(logits, self.loss.temperature) if self.loss.softened else logits


class SoftTarget(AbstractTerm):
    """scale * the loss of the student against the soft target.

    Args:
        loss: by default temperature^2 KL(mixture || student).
        scale: alpha, the weight of distillation.
        over_classes: divide by the number of classes, as `KLDivLoss()` does by default.
        warmup: part of the epochs over which the term grows from nothing.
    """

    def __init__(
        self, loss: SoftLoss, scale: float, *, over_classes: bool = False, warmup: float = 0.0
    ) -> None:
        super().__init__()
        self.loss, self.scale, self.over_classes, self.warmup = loss, scale, over_classes, warmup
        self.pointwise = loss.loss.pointwise

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """The loss of each example; learned weights get their gradient here."""
        classes = given.student.logits_BC.shape[1]
        return self.scale / (classes if self.over_classes else 1) * self.loss(given)


class RelationToTarget(AbstractTerm):
    """scale * RKD between the student's outputs and the integrated target.

    Args:
        relation: `angle` or `distance` of collegium.losses.
        temperature: of the target and, softened, of the student.
        scale: its weight.
        student_side: the student's embedding; with "probs" a perfect student has loss 0.
    """

    pointwise = False

    def __init__(
        self,
        relation: Relation,
        temperature: float,
        scale: float,
        student_side: RelationInput = "probs",
    ) -> None:
        super().__init__()
        self.relation, self.student_side = relation, student_side
        self.temperature, self.scale = temperature, scale

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """The loss of each example; only the student gets a gradient."""
        target_BC = given.target(self.temperature).detach()
        student_BP = self._embed(given.student.logits_BC)
        return self.scale * among_rows(given.known_by_any(), self.relation, student_BP, target_BC)

    def _embed(self, logits_BC: Tensor) -> Tensor:
        if self.student_side == "logits":
            return logits_BC
        if self.student_side == "probs":
            return soften(logits_BC, self.temperature)
        return torch.log_softmax(logits_BC / self.temperature, dim=1)
