"""Terms on relations between the examples of a batch."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from collegium.losses import soften
from collegium.objectives.objective import AbstractTerm, TermInputs, among_rows

Relation = Callable[[Tensor, Tensor], Tensor]
RelationInput = Literal["probs", "logits", "log_probs"]


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
