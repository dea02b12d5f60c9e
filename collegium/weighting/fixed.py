"""Fixed weightings: the same weights for every example."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from collegium.errors import RequestError, UnknownNameError
from collegium.types import Dims, StudentOutputs, TeacherOutputs
from collegium.weighting.base import AbstractWeighting


class FixedWeighting(AbstractWeighting):
    """Given shares, normalised to sum 1; equal shares are the uniform mean.

    Args:
        shares: one per teacher, >= 0, not all 0.
    """

    slug = "fixed"

    def __init__(self, shares: Sequence[float]) -> None:
        super().__init__()
        total = sum(shares)
        if min(shares) < 0 or not total > 0:
            raise ValueError(f"shares must be >= 0 and not all 0, got {list(shares)}")
        self.shares = [share / total for share in shares]

    @classmethod
    def make(cls, dims: Dims, options: Mapping[str, Any]) -> AbstractWeighting:
        """By the option `shares`: {teacher: share}; without shares, the uniform mean."""
        shares = options["shares"] or dict.fromkeys(dims.teachers, 1.0)
        for name in shares:
            if name not in dims.teachers:
                raise UnknownNameError("teacher in shares", name, dims.teachers)
        return cls([shares.get(name, 0.0) for name in dims.teachers])

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """The same row for every example."""
        # In the precision of the logits: in another, the row would not sum to 1.
        return teachers.logits_BTC.new_tensor(self.shares).expand(len(teachers.logits_BTC), -1)


class UniformWeighting(FixedWeighting):
    """The same weight for every teacher."""

    slug = "uniform"

    @classmethod
    def make(cls, dims: Dims, options: Mapping[str, Any]) -> AbstractWeighting:
        """1/T for each of the T teachers."""
        return cls([1.0] * len(dims.teachers))


class BestWeighting(FixedWeighting):
    """All weight on one teacher: the option `teacher`, which the method resolves to the best."""

    slug = "best"

    @classmethod
    def make(cls, dims: Dims, options: Mapping[str, Any]) -> AbstractWeighting:
        """Weight 1 for the teacher, 0 for the others."""
        names, chosen = dims.teachers, options["teacher"]
        if chosen not in names and len(names) > 1:
            raise RequestError(
                f"weighting=best uses one teacher; {len(names)} were given ({', '.join(names)}): "
                "name one by teacher=NAME"
            )
        return cls([float(name == (chosen or names[0])) for name in names])
