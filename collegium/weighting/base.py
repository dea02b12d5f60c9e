"""What every weighting of teachers is, and what is done with weights."""

import hashlib
from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from collegium.types import StudentOutputs, TeacherOutputs


class AbstractWeighting(nn.Module, ABC):
    """Gives each teacher its share of each example.

    What it learns are its parameters; they are trained by the one optimiser, without weight decay,
    `rate` times as fast as the student.
    """

    reads_student_map: bool = False
    rate: float = 1.0
    by_example: bool = True
    """Whether an example's weights depend on the batch alone, not on chance."""

    @abstractmethod
    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """Weights of shape (B, T), >= 0, summing to 1 over T.

        The caller removes teachers that do not know an example's class
        (`mask_and_renormalize`); a weighting that compares outputs leaves them out itself.
        """

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Learn what time it is: epoch `epoch` (from 0) of `epochs` begins."""


def mixture(
    weights_BT: Float[Tensor, "B T"], probabilities_BTC: Float[Tensor, "B T C"]
) -> Float[Tensor, "B C"]:
    """The integrated soft target: the weighted mean of the teachers' distributions.

    >>> import torch
    >>> mixture(torch.tensor([[0.25, 0.75]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])).tolist()
    [[0.25, 0.75]]
    """
    return torch.einsum("bt,btc->bc", weights_BT, probabilities_BTC)


def complement(
    share_BT: Float[Tensor, "B T"], known_BT: Bool[Tensor, "B T"] | None = None
) -> Float[Tensor, "B T"]:
    """(1 - share) / (T - 1): much for whoever has a small share of something bad, sum 1.

    One teacher gets 1. Where not everybody knows the example's class, T counts those who do, and
    the others get 0.
    """
    if known_BT is not None:
        others_B1 = known_BT.sum(dim=1, keepdim=True) - 1
        weights_BT = torch.where(others_B1 > 0, (1 - share_BT) / others_B1.clamp_min(1), 1)
        return torch.where(known_BT, weights_BT, 0)
    teachers = share_BT.shape[1]
    return (1 - share_BT) / (teachers - 1) if teachers > 1 else torch.ones_like(share_BT)


def generator_for(name: str, seed: int) -> torch.Generator:
    """A source of random numbers that belongs to a name, not to a place in a list.

    Reordering the teachers then reorders what was drawn for them and changes nothing else.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
