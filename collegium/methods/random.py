"""Random weights: a control for adaptive weightings."""

from dataclasses import dataclass
from typing import Literal

from collegium.methods.choices import WeightingName
from collegium.methods.soft_target import AbstractSoftTarget


@dataclass(frozen=True)
class Random(AbstractSoftTarget):
    """Random weights: drawn anew for every example of every step, 1/T on average.

    A control: an adaptive weighting should beat it.

    Loss: label_weight CE(s, y) + alpha temperature^2 KL(sum_t w_t p_t || q), w drawn
    uniformly from the simplex (Dirichlet(1, ..., 1)), or one teacher at a time.

    >>> import torch, collegium as cg
    >>> dims = cg.Dims(classes=2, teachers=("a", "b"))
    >>> objective = cg.Random(kind="one_hot").build(dims)
    >>> nothing = cg.StudentOutputs(torch.zeros(1, 2)), cg.TeacherOutputs(torch.zeros(1, 2, 2))
    >>> sorted(objective.weigh(*nothing, torch.tensor([0]))[0].tolist())
    [0.0, 1.0]
    """

    slug = "random"

    weighting: WeightingName = "random"
    """How teachers are weighted; `random` reads `kind`."""
    kind: Literal["dirichlet", "one_hot"] = "dirichlet"
    """Weights drawn uniformly from the simplex, or one teacher alone."""
