"""Fixed weights: a control for adaptive weightings."""

from dataclasses import dataclass

from collegium.methods.choices import WeightingName
from collegium.methods.soft_target import AbstractSoftTarget


@dataclass(frozen=True)
class Fixed(AbstractSoftTarget):
    """Fixed weights: given shares of the teachers, the same for every example.

    Without shares it is the plain mean. A control: an adaptive weighting should beat the best fixed
    one, tuned on validation.

    Loss: label_weight CE(s, y) + alpha temperature^2 KL(sum_t share_t p_t || q).

    >>> import torch, collegium as cg
    >>> dims = cg.Dims(classes=2, teachers=("a", "b"))
    >>> objective = cg.Fixed(shares=("a=3", "b=1")).build(dims)
    >>> nothing = cg.StudentOutputs(torch.zeros(1, 2)), cg.TeacherOutputs(torch.zeros(1, 2, 2))
    >>> objective.weigh(*nothing, torch.tensor([0])).tolist()
    [[0.75, 0.25]]
    """

    slug = "fixed"

    weighting: WeightingName = "fixed"
    """How teachers are weighted; `fixed` reads `shares`."""
