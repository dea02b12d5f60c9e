"""Weights that are the same for every example."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from collegium.types import StudentOutputs, TeacherOutputs
from collegium.weighting.base import AbstractWeighting


class FixedWeighting(AbstractWeighting):
    """Given shares, brought to sum 1; equal ones are the uniform mean.

    Args:
        shares: one per teacher, >= 0, not all 0.
    """

    shares_T: Tensor

    def __init__(self, shares: Sequence[float]) -> None:
        super().__init__()
        shares_T = torch.tensor(shares, dtype=torch.float64)
        if (shares_T < 0).any() or not shares_T.sum() > 0:
            raise ValueError(f"shares must be >= 0 and not all 0, got {list(shares)}")
        shares_T = (shares_T / shares_T.sum()).to(torch.get_default_dtype())
        self.register_buffer("shares_T", shares_T, persistent=False)

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """The same row for every example."""
        shares_T = self.shares_T.to(teachers.logits_BTC.dtype)
        return shares_T.expand(len(teachers.logits_BTC), -1)
