"""Given weights: a control."""

from dataclasses import dataclass

from collegium.methods.soft_target import AbstractSoftTarget, WeightingName


@dataclass(frozen=True)
class Fixed(AbstractSoftTarget):
    """The same given share of each teacher for every example; without shares the plain mean.

    A control: an adaptive weighting that is no better than the best fixed one (tuned on
    validation) has shown nothing.

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
    """Who is heard how much; `shares` belong to `fixed`."""
