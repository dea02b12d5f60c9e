"""The base class of all weightings of teachers, and functions on weights."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from collegium.types import Dims, StudentOutputs, TeacherOutputs


class AbstractWeighting(nn.Module, ABC):
    """Gives each teacher its weight for each example.

    Its parameters are trained by the student's optimiser, without weight decay, at `rate` times the
    student's learning rate.
    """

    slug: ClassVar[str]
    """Name on the command line: `--weighting SLUG`."""
    reads_student_map: bool = False
    """Whether it needs the student's last feature map."""
    rate: float = 1.0
    """Learning rate of its parameters, as a multiple of the student's."""
    by_example: bool = True
    """Whether an example's weights depend on the batch alone, not on random draws."""
    own_term: ClassVar[str] = ""
    """Name of the loss term that trains this weighting (see `own_loss`); empty for none."""

    @classmethod
    def make(cls, dims: Dims, options: Mapping[str, Any]) -> "AbstractWeighting":
        """A new weighting for these teachers.

        Args:
            dims: names of the teachers, and shapes of all networks.
            options: the method's hyperparameters by name; a weighting reads those that it knows.

        Raises:
            RequestError: an option that makes no sense for these teachers.
        """
        return cls()

    def own_loss(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """The loss of `own_term` for each example; it must not reach the student.

        A weighting that names an `own_term` defines it; for others it is never called.

        Raises:
            NotImplementedError: the weighting names a term and does not define its loss.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss of its own")

    @abstractmethod
    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """Weights of shape (B, T), >= 0, summing to 1 over T.

        The caller removes teachers that do not know an example's class
        (`mask_and_renormalize`); a weighting that compares outputs leaves them out itself.
        """

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Called when epoch `epoch` (from 0) of `epochs` begins."""


def mixture(
    weights_BT: Float[Tensor, "B T"], probabilities_BTC: Float[Tensor, "B T C"]
) -> Float[Tensor, "B C"]:
    """The integrated soft target: the weighted mean of the teachers' distributions.

    >>> import torch
    >>> mixture(torch.tensor([[0.25, 0.75]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])).tolist()
    [[0.25, 0.75]]
    """
    return torch.einsum("bt,btc->bc", weights_BT, probabilities_BTC)


def of_true_class(
    values_BTC: Float[Tensor, "B T C"], labels_B: Int[Tensor, " B"]
) -> Float[Tensor, "B T"]:
    """Each teacher's value of the true class."""
    return values_BTC.take_along_dim(labels_B[:, None, None], dim=2).squeeze(2)


def complement(
    share_BT: Float[Tensor, "B T"], known_BT: Bool[Tensor, "B T"] | None = None
) -> Float[Tensor, "B T"]:
    """(1 - share) / (T - 1): a small share of an error becomes a large weight; the sum is 1.

    A single teacher gets 1. Where some teachers do not know the example's class, T counts only
    those that do, and the others get 0.
    """
    if known_BT is not None:
        others_B1 = known_BT.sum(dim=1, keepdim=True) - 1
        weights_BT = torch.where(others_B1 > 0, (1 - share_BT) / others_B1.clamp_min(1), 1)
        return torch.where(known_BT, weights_BT, 0)
    teachers = share_BT.shape[1]
    return (1 - share_BT) / (teachers - 1) if teachers > 1 else torch.ones_like(share_BT)


def generator_for(name: str, seed: int) -> torch.Generator:
    """A random generator that depends on a name, not on a position in a list.

    So reordering the teachers reorders their draws and changes nothing else.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
