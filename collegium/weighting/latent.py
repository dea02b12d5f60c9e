"""Latent weighting (AMTML-KD's adapter): teacher vectors are scored against the student's feature.

Liu, Zhang, Wang, Adaptive multi-teacher multi-level knowledge distillation, Neurocomputing 415
(2020) 106-113, arXiv 2103.04062, section 3 and Figure 2.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from collegium.types import Dims, StudentOutputs, TeacherOutputs
from collegium.weighting.base import AbstractWeighting, generator_for

Pool = Literal["max", "avg"]


def pool(map_BDHW: Float[Tensor, "B D H W"], kind: Pool = "max") -> Float[Tensor, "B D"]:
    """Global pooling over all positions: what Figure 2 draws as "MaxPooling", or the mean."""
    if kind == "avg":
        return map_BDHW.mean(dim=(2, 3))
    return map_BDHW.flatten(2).max(dim=2).values  # of equal values the first gets the gradient


def unit_length(beta_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Scale each feature to length 1.

    A score is a sum over D products. With unit features, neither pooling nor width changes the
    scores' initial spread or the size of their gradients.
    """
    return torch.nn.functional.normalize(beta_BD, dim=1, eps=1e-6)


def latent_weights(
    beta_BD: Float[Tensor, "B D"], theta_TD: Float[Tensor, "T D"], v_D: Float[Tensor, "D ..."]
) -> Float[Tensor, "B T"]:
    """Softmax over teachers of v . (theta_t * beta_b); no temperature.

    Args:
        beta_BD: the student's pooled feature of each example.
        theta_TD: a latent vector for each teacher.
        v_D: the global vector all teachers share, (D,) or (D, 1).

    >>> import torch
    >>> theta_TD = torch.tensor([[1.0], [3.0]], dtype=torch.float64).log()
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> [round(weight, 6) for weight in latent_weights(one[None], theta_TD, one)[0].tolist()]
    [0.25, 0.75]
    """
    return torch.softmax((beta_BD * v_D.flatten()) @ theta_TD.mT, dim=1)


class LatentWeighting(AbstractWeighting):
    """Learned weights: softmax over teachers of the score of `latent_weights`.

    Args:
        teachers: names; each latent vector is drawn for its name, so the order is irrelevant.
        width: D, channels of the student's last map.
        beta_pool: pooling of the student's last map into the feature.
        normalise_beta: scale each feature to length 1.
        detach_beta: keep the weights' gradient out of the student.
        init_std: standard deviation of v's entries (and of the scores, if normalised) at the start.
        learn_from: part of the epochs before the adapter begins to learn.
        learn_until: part of the epochs after which it is frozen.
        rate: learning rate relative to the student's.
        seed: of the initial vectors.
    """

    slug = "latent"
    reads_student_map = True

    def __init__(
        self,
        teachers: Sequence[str],
        width: int,
        *,
        beta_pool: Pool = "max",
        normalise_beta: bool = True,
        detach_beta: bool = True,
        init_std: float = 0.3,
        learn_from: float = 0.0,
        learn_until: float = 1.0,
        rate: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.beta_pool: Pool = beta_pool
        self.normalise_beta, self.detach_beta = normalise_beta, detach_beta
        self.learn_from, self.learn_until = learn_from, learn_until
        self.rate, self.learns = rate, True
        self.v_D = nn.Parameter(init_std * torch.randn(width, generator=generator_for("", seed)))
        draws = [torch.randn(width, generator=generator_for(name, seed)) for name in teachers]
        self.theta_TD = nn.Parameter(torch.stack(draws))

    @classmethod
    def make(cls, dims: Dims, options: Mapping[str, Any]) -> AbstractWeighting:
        """By AMTML's options `beta_...` and `adapter_...`; other methods get their defaults."""
        return cls(
            dims.teachers,
            dims.student_width,
            beta_pool=options.get("beta_pool", "max"),
            normalise_beta=options.get("normalise_beta", True),
            detach_beta=options.get("detach_beta", True),
            init_std=options.get("adapter_init_std", 0.3),
            learn_from=options.get("adapter_start", 0.3),
            learn_until=options.get("adapter_share", 1.0),
            rate=options.get("adapter_rate", 10.0),
            seed=dims.seed,
        )

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Train the adapter only in its part of the epochs."""
        self.learns = self.learn_from * epochs <= epoch < self.learn_until * epochs

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """Weights from the student's last map alone; labels and teacher outputs are not read."""
        beta_BD = pool(student.last_map_BDHW, self.beta_pool)
        beta_BD = beta_BD.detach() if self.detach_beta else beta_BD
        beta_BD = unit_length(beta_BD) if self.normalise_beta else beta_BD
        if not self.learns:
            return latent_weights(beta_BD, self.theta_TD.detach(), self.v_D.detach())
        return latent_weights(beta_BD, self.theta_TD, self.v_D)
