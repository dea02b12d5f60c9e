"""Terms that train the weighting."""

import torch
from jaxtyping import Float
from torch import Tensor

from collegium.objectives.objective import AbstractTerm, TermInputs
from collegium.weighting import AbstractWeighting, LatentWeighting


class AdapterL2(AbstractTerm):
    """scale * (|v|^2 + sum over teachers of |theta_t|^2), repeated for every example."""

    trains_student = False

    def __init__(self, weighting: LatentWeighting, scale: float, until: float = 1.0) -> None:
        super().__init__()
        # In a tuple, so that the weighting is not registered (and saved) twice.
        self._weighting, self.scale, self.until = (weighting,), scale, until

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """A penalty on parameters has one value, repeated for every example."""
        (weighting,) = self._weighting
        penalty = weighting.v_D.square().sum() + weighting.theta_TD.square().sum()
        return (self.scale * penalty).expand(len(given.labels_B))


class MixtureLabel(AbstractTerm):
    """scale * -log of the mixture's probability of the true class; it trains the weighting."""

    trains_student = False

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """The loss of each example; it does not depend on the student."""
        target_BC = given.target(temperature=1.0)
        true_B = target_BC.gather(1, given.labels_B[:, None]).squeeze(1)
        loss_B = -self.scale * true_B.clamp_min(torch.finfo(true_B.dtype).tiny).log()
        known_B = given.known_by_any()
        return loss_B if known_B is None else torch.where(known_B, loss_B, 0)


class OwnLoss(AbstractTerm):
    """The loss that a weighting brings for itself (`AbstractWeighting.own_loss`)."""

    trains_student = False

    def __init__(self, weighting: AbstractWeighting) -> None:
        super().__init__()
        # In a tuple, so that the weighting is not registered (and saved) twice.
        self._weighting = (weighting,)

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """The loss of each example; it trains only the weighting."""
        (weighting,) = self._weighting
        return weighting.own_loss(given.student, given.teachers, given.labels_B)
