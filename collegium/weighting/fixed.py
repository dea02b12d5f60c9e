"""Weights that are the same for every example."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from collegium.types import StudentOutputs, TeacherOutputs
from collegium.weighting.base import AbstractWeighting


class FixedWeighting(AbstractWeighting):
    """Given shares, brought to sum 1; equal ones are the uniform mean.

    Args:
        shares: one per teacher, >= 0, not all 0.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        super().__init__()
        whole = sum(shares)
        if min(shares) < 0 or not whole > 0:
            raise ValueError(f"shares must be >= 0 and not all 0, got {list(shares)}")
        self.shares = [share / whole for share in shares]

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """The same row for every example."""
        # Made in the answers' own precision: in another, the row would not sum to 1.
        return teachers.logits_BTC.new_tensor(self.shares).expand(len(teachers.logits_BTC), -1)
