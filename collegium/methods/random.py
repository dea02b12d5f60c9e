"""Weights by chance: a control."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from collegium.methods.soft_target import AbstractSoftTarget, WeightingName

if TYPE_CHECKING:
    from collegium.types import Dims
    from collegium.weighting import AbstractWeighting


@dataclass(frozen=True)
class Random(AbstractSoftTarget):
    """Weights drawn anew for every example of every step, 1/T on average.

    A control: an adaptive weighting that is no better has shown nothing.

    Loss: label_weight CE(s, y) + alpha temperature^2 KL(sum_t w_t p_t || q), w drawn evenly from
    all weights there are (Dirichlet(1, ..., 1)), or one teacher at a time.

    >>> import torch, collegium as cg
    >>> dims = cg.Dims(classes=2, teachers=("a", "b"))
    >>> objective = cg.Random(kind="one_hot").build(dims)
    >>> nothing = cg.StudentOutputs(torch.zeros(1, 2)), cg.TeacherOutputs(torch.zeros(1, 2, 2))
    >>> sorted(objective.weigh(*nothing, torch.tensor([0]))[0].tolist())
    [0.0, 1.0]
    """

    slug = "random"

    weighting: WeightingName = "random"
    """Who is heard how much; `kind` belongs to `random`."""
    kind: Literal["dirichlet", "one_hot"] = "dirichlet"
    """Shares drawn evenly from the simplex, or one teacher alone."""

    def make_weighting(self, dims: "Dims") -> "AbstractWeighting":
        """Random ones, of the kind that was asked for."""
        from collegium.weighting import RandomWeighting

        if self.weighting != "random":
            return super().make_weighting(dims)
        return RandomWeighting(dims.teachers, self.kind, dims.seed)
