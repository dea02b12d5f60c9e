"""What a network makes of a data set."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from collegium.data import ImageData, Loader
from collegium.errors import NumericsError
from collegium.teachers.labels import LabelMap

BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True)
class Predictions:
    """A network's logits on a data set.

    Attributes:
        logits_NC: raw scores, on the CPU.
        labels_N: true classes.
        index_N: positions in the official split.
        labels: how the network's own classes are these; None where they are the same.
    """

    logits_NC: Float[Tensor, "N C"]
    labels_N: Int[Tensor, " N"]
    index_N: Int[Tensor, " N"]
    labels: LabelMap | None = None

    @property
    def classes_N(self) -> Int[Tensor, " N"]:
        """The class with the largest logit."""
        return self.logits_NC.argmax(dim=1)

    @property
    def right_N(self) -> Bool[Tensor, " N"]:
        """Whether the class is right; where several are not told apart, whether it is of them."""
        if self.labels is None:
            return self.classes_N == self.labels_N
        groups_C = torch.tensor(self.labels.group_of)
        return groups_C[self.classes_N] == groups_C[self.labels_N]

    @property
    def known_N(self) -> Bool[Tensor, " N"]:
        """Whether the network knows the example's class at all."""
        if self.labels is None:
            return torch.ones_like(self.labels_N, dtype=torch.bool)
        return torch.tensor(self.labels.group_of)[self.labels_N] >= 0

    def of_known(self) -> dict[str, Any]:
        """Number of examples whose class is known, and accuracy on these; empty if all are."""
        if self.labels is None or self.labels.whole:
            return {}
        known_N = self.known_N
        accuracy = self.right_N[known_N].double().mean().item() if known_N.any() else 0.0
        return {"images_known": int(known_N.sum()), "accuracy_known": accuracy}

    @property
    def accuracy(self) -> float:
        """Part of the examples whose class is right, 0..1."""
        return self.right_N.double().mean().item()

    @property
    def loss(self) -> float:
        """Mean cross entropy in nats, of the examples whose class is known."""
        return F.cross_entropy(self.logits_NC[self.known_N], self.labels_N[self.known_N]).item()

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1: confidence against accuracy over 15 equal bins.

        Of the examples whose class is known.
        """
        known_N = self.known_N
        confidence_N, classes_N = self.logits_NC[known_N].softmax(dim=1).double().max(dim=1)
        right_N = (classes_N == self.labels_N[known_N]).double()
        bins_N = (confidence_N * BINS).long().clamp_max(BINS - 1)
        gaps = torch.zeros(BINS, dtype=torch.float64).index_add(0, bins_N, right_N - confidence_N)
        return gaps.abs().sum().item() / max(len(right_N), 1)


def predict(
    network: nn.Module,
    data: ImageData,
    *,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
    labels: LabelMap | None = None,
) -> Predictions:
    """Run a network, in evaluation mode, over plain views of a data set; leaves its mode as it was.

    Args:
        network: takes pixels in 0..1, is on the device.
        data: what it looks at.
        batch_size: changes speed and memory only.
        device: where it runs.
        precision: gives the context a forward runs in.
        labels: how the network's classes are those of the data; None where they are the same.
    """

    def ask(images_BDHW: Tensor) -> Tensor:
        with torch.no_grad(), precision():
            logits_BC: Tensor = network(images_BDHW)
        return logits_BC.float() if labels is None else labels.read(logits_BC.float())

    was_training = network.training
    network.eval()
    found = collect(ask, data, batch_size=batch_size, device=device, labels=labels)
    network.train(was_training)
    return found


def collect(
    ask: Callable[[Tensor], Tensor],
    data: ImageData,
    *,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
    labels: LabelMap | None = None,
) -> Predictions:
    """What someone says of plain views of a data set.

    Args:
        ask: gives logits (B, C) of pixels in 0..1 (B, D, H, W).
        data: what it looks at.
        batch_size: of the views.
        device: where they are made.
        labels: how the classes of who is asked are those of the data.
    """
    batches = Loader(data, batch_size, device=device).epoch(0)
    logits_NC = torch.cat([ask(batch.images_BDHW).cpu() for batch in batches])
    return Predictions(logits_NC, data.labels_N.cpu(), data.index_N.cpu(), labels)


def check_numbers(found: Predictions, spec: str, split: str) -> None:
    """Refuse logits that are no numbers, of which no accuracy could be told.

    Raises:
        NumericsError: there are some; says how many and of which example first.
    """
    bad_N = ~found.logits_NC.isfinite().all(dim=1)
    if bad_N.any():
        raise NumericsError(
            f"{spec} gives NaN or infinite logits for {int(bad_N.sum())} of {len(bad_N)} images of "
            f"the {split} split, first for example {int(found.index_N[bad_N][0])}"
        )
