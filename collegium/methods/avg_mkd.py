"""The uniform mean of the teachers: the control every adaptive weighting must beat."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from collegium.method import AbstractMethod, check_soft_target

if TYPE_CHECKING:
    from collegium.objective import Objective
    from collegium.types import Dims


@dataclass(frozen=True)
class AvgMKD(AbstractMethod):
    """The mean of the teachers' softened answers, each teacher heard equally.

    AMTML-KD's Figure 3 calls it AvgMKD, CA-MKD calls it AVER; that a mean of posteriors is a good
    committee: Dietterich, Ensemble Methods in Machine Learning, MCS 2000.

    Loss: (1 - alpha) CE(s, y) + alpha temperature^2 KL(mean_t p_t || q).

    >>> import torch, collegium as cg
    >>> dims = cg.Dims(classes=2, teachers=("a", "b"))
    >>> objective = cg.AvgMKD(temperature=1.0, alpha=1.0).build(dims)
    >>> student = cg.StudentOutputs(torch.zeros(1, 2))
    >>> torn = cg.TeacherOutputs(torch.tensor([[[100.0, 0.0], [0.0, 100.0]]]))
    >>> round(objective(student, torn, torch.tensor([0]))["kd"].item(), 4)  # (1/2, 1/2) both
    0.0
    """

    slug = "avg_mkd"
    bibtex = """
        @inproceedings{dietterich2000ensemble,
          title = {Ensemble Methods in Machine Learning},
          author = {Dietterich, Thomas G.},
          booktitle = {Multiple Classifier Systems}, year = {2000}
        }"""

    temperature: float = 4.0
    """Softmax temperature of both sides, > 0."""
    alpha: float = 0.9
    """Weight of the soft target, 0 to 1; the label has the rest."""

    def __post_init__(self) -> None:
        check_soft_target(self.temperature, self.alpha)

    def build(self, dims: "Dims") -> "Objective":
        """Terms `ce` and `kd`, uniform weights."""
        from collegium.objective import Objective
        from collegium.terms import HardLabel, SoftTarget
        from collegium.weighting import FixedWeighting

        return Objective(
            {
                "ce": HardLabel(1 - self.alpha),
                "kd": SoftTarget(self.temperature, self.alpha),
            },
            FixedWeighting([1.0] * len(dims.teachers)),
        )
