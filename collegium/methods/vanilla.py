"""Training on labels only: the first control of every comparison."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from collegium.methods.base import AbstractMethod

if TYPE_CHECKING:
    from collegium.objectives.objective import Objective
    from collegium.types import Dims


@dataclass(frozen=True)
class Vanilla(AbstractMethod):
    """Supervised training: cross entropy with the labels, without teachers.

    Loss: CE(s, y).

    >>> import torch, collegium as cg
    >>> objective = cg.Vanilla().build(cg.Dims(classes=2))
    >>> student = cg.StudentOutputs(torch.zeros(1, 2))
    >>> none = cg.TeacherOutputs(torch.empty(1, 0, 2))
    >>> round(cg.total(objective(student, none, torch.tensor([0]))).item(), 4)  # ln 2
    0.6931
    """

    slug = "vanilla"
    needs = "labels only"
    uses_teachers = False

    def build(self, dims: "Dims") -> "Objective":
        """One term, `ce`."""
        from collegium.objectives import HardLabel
        from collegium.objectives.objective import Objective

        return Objective({"ce": HardLabel()})
