"""Terms that train the weighting."""

import torch
from jaxtyping import Float
from torch import Tensor

from collegium.objectives.objective import AbstractTerm, TermInputs
from collegium.weighting import GatedWeighting, LatentWeighting


class AdapterL2(AbstractTerm):
    """scale * (|v|^2 + sum over teachers of |theta_t|^2), repeated for every example."""

    trains_student = False

    def __init__(self, weighting: LatentWeighting, scale: float, until: float = 1.0) -> None:
        super().__init__()
        # In a tuple, so that the weighting is not registered (and saved) a second time.
        self._weighting, self.scale, self.until = (weighting,), scale, until

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """A penalty on parameters has one value; every example carries it."""
        (weighting,) = self._weighting
        penalty = weighting.v_D.square().sum() + weighting.theta_TD.square().sum()
        return (self.scale * penalty).expand(len(given.labels_B))


class MixtureLabel(AbstractTerm):
    """scale * -log of what the mixture gives the true class: a label signal for the weights."""

    trains_student = False

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """Trains the weighting alone; the student does not enter."""
        target_BC = given.target(temperature=1.0)
        true_B = target_BC.gather(1, given.labels_B[:, None]).squeeze(1)
        missed_B = -self.scale * true_B.clamp_min(torch.finfo(true_B.dtype).tiny).log()
        taught_B = given.taught()
        return missed_B if taught_B is None else torch.where(taught_B, missed_B, 0)


class GateLabel(AbstractTerm):
    """scale * what the gated mixture misses of the label: trains the gate alone."""

    trains_student = False

    def __init__(self, weighting: GatedWeighting, scale: float = 1.0) -> None:
        super().__init__()
        # In a tuple, so that the weighting is not registered (and saved) a second time.
        self._weighting, self.scale = (weighting,), scale

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """The student does not enter but by its feature, which is held constant."""
        (weighting,) = self._weighting
        return self.scale * weighting.gate_loss(given.student, given.teachers, given.labels_B)
