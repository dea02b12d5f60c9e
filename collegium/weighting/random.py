"""Weights drawn by chance: the control that adaptive weights must beat."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from collegium.types import StudentOutputs, TeacherOutputs
from collegium.weighting.base import AbstractWeighting, generator_for
from collegium.weighting.masking import mask_and_renormalize


class RandomWeighting(AbstractWeighting):
    """New weights for every example of every step, 1/T on average.

    Draws belong to the teachers' names and to a counter, which is saved with the objective; the
    global generator is not touched. In evaluation the counter stands still.

    Args:
        teachers: names.
        kind: "dirichlet" draws evenly from all weights there are, "one_hot" one teacher.
        seed: of the draws.
    """

    by_example = False
    steps: Tensor

    def __init__(
        self,
        teachers: Sequence[str],
        kind: Literal["dirichlet", "one_hot"] = "dirichlet",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.teachers, self.kind, self.seed = tuple(teachers), kind, seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """Weights by chance alone."""
        step = int(self.steps)
        if self.training:
            self.steps += 1
        draws = [
            torch.rand(len(labels_B), generator=generator_for(f"{name}/{step}", self.seed))
            for name in self.teachers
        ]
        # Exponential draws divided by their sum are evenly spread over the simplex.
        spread_BT = -torch.log1p(-torch.stack(draws, dim=1)).double() + 1e-30
        weights_BT = spread_BT / spread_BT.sum(dim=1, keepdim=True)
        known_BT = teachers.known_mask(labels_B)
        weights_BT = mask_and_renormalize(weights_BT, None if known_BT is None else known_BT.cpu())
        if self.kind == "one_hot":
            weights_BT = torch.nn.functional.one_hot(weights_BT.argmax(1), len(self.teachers))
        return weights_BT.to(teachers.logits_BTC)
