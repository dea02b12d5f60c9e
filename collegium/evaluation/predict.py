"""What a network makes of a data set.

`Predictions` defines accuracy, loss and calibration; every command measures by it.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from collegium.data import ImageData, Loader
from collegium.errors import NumericsError, RequestError
from collegium.teachers.label_map import LabelMap

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
    def finite_N(self) -> Bool[Tensor, " N"]:
        """Whether all logits of an example are numbers."""
        return self.logits_NC.isfinite().all(dim=1)

    @property
    def right_N(self) -> Bool[Tensor, " N"]:
        """Whether the class is right; where several are not told apart, whether it is of them.

        Logits that are NaN or infinite are never right.
        """
        return self.names(self.labels_N)

    def names(self, classes_N: Int[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Whether the network says these classes, or ones that it does not tell from them."""
        if self.labels is None:
            return (self.classes_N == classes_N) & self.finite_N
        groups_C = torch.tensor(self.labels.group_of)
        return (groups_C[self.classes_N] == groups_C[classes_N]) & self.finite_N

    def own(self) -> "Predictions":
        """The same in the network's own terms, for looking at it alone.

        Only examples whose class it knows, and one class for each group that it tells apart.
        """
        if self.labels is None or self.labels.whole:
            return self
        known_N, number_C = self.known_N, torch.tensor(self.labels.numbers)
        logits_MG = self.labels.own(self.logits_NC[known_N])
        return Predictions(logits_MG, number_C[self.labels_N[known_N]], self.index_N[known_N])

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
        """Part of the examples whose class is right, 0..1: see `right_N`."""
        return self.right_N.double().mean().item()

    @property
    def top5(self) -> float | None:
        """Part whose class is among the five largest logits; None where there are but five."""
        own = self.own()
        if own.logits_NC.shape[1] <= 5:
            return None
        among_M = (own.logits_NC.topk(5).indices == own.labels_N[:, None]).any(dim=1)
        return int((among_M & own.finite_N).sum()) / len(self.labels_N)

    @property
    def loss(self) -> float:
        """Mean cross entropy in nats, of the examples whose class is known."""
        return F.cross_entropy(self.logits_NC[self.known_N], self.labels_N[self.known_N]).item()

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1: confidence against accuracy over 15 equal bins.

        Of the examples whose class is known; classes that are not told apart count as one. NaN
        where a logit is no number.
        """
        own = self.own()
        if not own.finite_N.all():
            return math.nan
        confidence_N, classes_N = own.logits_NC.softmax(dim=1).double().max(dim=1)
        right_N = (classes_N == own.labels_N).double()
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


def check_measurable(found: Predictions, split: str) -> None:
    """Refuse logits that no accuracy can be measured on.

    Raises:
        NumericsError: some are NaN or infinite.
        RequestError: the network knows the class of no image.
    """
    if broken := int((~found.finite_N).sum()):
        raise NumericsError(
            f"the model gives NaN or infinite logits for {broken:,} of {len(found.finite_N):,} "
            f"images of the {split} split: its weights are damaged, or its numbers are too large "
            "for this precision (try --precision 32)"
        )
    if not found.known_N.any():
        raise RequestError(f"the model knows the class of no image of the {split} split")
