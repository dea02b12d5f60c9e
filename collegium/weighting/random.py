"""Random weighting: the control that adaptive weightings must beat."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from collegium.types import Dims, StudentOutputs, TeacherOutputs
from collegium.weighting.base import AbstractWeighting, generator_for
from collegium.weighting.masking import mask_and_renormalize


class RandomWeighting(AbstractWeighting):
    """New weights for every example of every step, 1/T on average.

    Draws depend on the seed, the teacher's name and a step counter, which is saved with the
    objective; the global generator is not used. The counter does not advance in evaluation mode.

    Args:
        teachers: names.
        kind: "dirichlet" draws uniformly from the simplex, "one_hot" chooses one teacher.
        seed: of the draws.
    """

    slug = "random"
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

    @classmethod
    def make(cls, dims: Dims, options: Mapping[str, Any]) -> AbstractWeighting:
        """Of the option `kind`, where the method has it."""
        return cls(dims.teachers, options.get("kind", "dirichlet"), dims.seed)

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """Weights from the random draws alone."""
        step = int(self.steps)
        if self.training:
            self.steps += 1
        draws = [
            torch.rand(len(labels_B), generator=generator_for(f"{name}/{step}", self.seed))
            for name in self.teachers
        ]
        # Exponential draws divided by their sum are uniform over the simplex.
        spread_BT = -torch.log1p(-torch.stack(draws, dim=1)).double() + 1e-30
        weights_BT = spread_BT / spread_BT.sum(dim=1, keepdim=True)
        known_BT = teachers.known_mask(labels_B)
        weights_BT = mask_and_renormalize(weights_BT, None if known_BT is None else known_BT.cpu())
        if self.kind == "one_hot":
            weights_BT = torch.nn.functional.one_hot(weights_BT.argmax(1), len(self.teachers))
        return weights_BT.to(teachers.logits_BTC)
