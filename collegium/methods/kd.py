"""Soft-target distillation from one teacher."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collegium.errors import UnknownNameError
from collegium.method import AbstractMethod, check_soft_target, require

if TYPE_CHECKING:
    from collegium.objective import Objective
    from collegium.types import Dims


@dataclass(frozen=True)
class KD(AbstractMethod):
    """One teacher's softened answers: the best on validation, or the one named.

    Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, arXiv 1503.02531,
    section 2.

    Loss: (1 - alpha) CE(s, y) + alpha temperature^2 KL(p || q), softened on both sides.

    >>> import torch, collegium as cg
    >>> dims = cg.Dims(classes=2, teachers=("t",))
    >>> objective = cg.KD(temperature=1.0, alpha=1.0).build(dims)
    >>> student = cg.StudentOutputs(torch.zeros(1, 2))
    >>> sure = cg.TeacherOutputs(torch.tensor([[[100.0, 0.0]]]))  # KL of (1, 0) from (1/2, 1/2)
    >>> round(objective(student, sure, torch.tensor([0]))["kd"].item(), 4)  # ln 2
    0.6931
    """

    slug = "kd"
    bibtex = """
        @misc{hinton2015distilling,
          title = {Distilling the Knowledge in a Neural Network},
          author = {Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff},
          year = {2015}, eprint = {1503.02531}, archivePrefix = {arXiv}
        }"""

    teacher: str | None = None
    """Name of the teacher to hear; by default the most accurate on the validation split."""
    temperature: float = 4.0
    """Softmax temperature of both sides, > 0."""
    alpha: float = 0.9
    """Weight of the soft target, 0 to 1; the label has the rest."""

    def __post_init__(self) -> None:
        check_soft_target(self.temperature, self.alpha)

    def heard(self, teachers: tuple[str, ...], accuracy: Mapping[str, float]) -> "KD":
        """Settle on one teacher: the named one, or the best on validation (first of equals).

        Raises:
            UnknownNameError: no teacher has the name.
            RequestError: several teachers, none named, and no accuracies to choose by.
        """
        if self.teacher is not None and self.teacher not in teachers:
            raise UnknownNameError("teacher", self.teacher, teachers)
        require(
            self.teacher is not None or len(teachers) == 1 or bool(accuracy),
            f"kd hears the teacher that is best on validation, and there is no validation split: "
            f"name one of {', '.join(teachers)} by `kd --teacher NAME`, or hold some data out",
        )
        best = self.teacher or max(teachers, key=lambda name: accuracy.get(name, 0.0))
        return dataclasses.replace(self, teacher=best)

    def listens_to(self, teachers: tuple[str, ...]) -> tuple[str, ...]:
        """Only the chosen teacher is run."""
        return (self.teacher,) if self.teacher else teachers

    def build(self, dims: "Dims") -> "Objective":
        """Terms `ce` and `kd`.

        Raises:
            RequestError: an option out of range, or several teachers and none named.
        """
        from collegium.objective import Objective
        from collegium.terms import HardLabel, SoftTarget
        from collegium.weighting import FixedWeighting

        require(
            len(dims.teachers) == 1 or self.teacher in dims.teachers,
            f"kd hears one teacher; {len(dims.teachers)} were given "
            f"({', '.join(dims.teachers)}): name one by teacher=NAME",
        )
        chosen = self.teacher or dims.teachers[0]
        return Objective(
            {
                "ce": HardLabel(1 - self.alpha),
                "kd": SoftTarget(self.temperature, self.alpha),
            },
            FixedWeighting([float(name == chosen) for name in dims.teachers]),
        )
