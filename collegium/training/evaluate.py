"""What a network makes of a data set."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from collegium.data import ImageData, Loader

BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True)
class Predictions:
    """A network's logits on a data set.

    Attributes:
        logits_NC: raw scores, on the CPU.
        labels_N: true classes.
        index_N: positions in the official split.
    """

    logits_NC: Float[Tensor, "N C"]
    labels_N: Int[Tensor, " N"]
    index_N: Int[Tensor, " N"]

    @property
    def classes_N(self) -> Int[Tensor, " N"]:
        """The class with the largest logit."""
        return self.logits_NC.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """Part of the examples whose class is right, 0..1."""
        return (self.classes_N == self.labels_N).double().mean().item()

    @property
    def loss(self) -> float:
        """Mean cross entropy in nats."""
        return F.cross_entropy(self.logits_NC, self.labels_N).item()

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1: confidence against accuracy over 15 equal bins."""
        confidence_N, classes_N = self.logits_NC.softmax(dim=1).double().max(dim=1)
        right_N = (classes_N == self.labels_N).double()
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
) -> Predictions:
    """Run a network, in evaluation mode, over plain views of a data set; leaves its mode as it was.

    Args:
        network: takes pixels in 0..1, is on the device.
        data: what it looks at.
        batch_size: changes speed and memory only.
        device: where it runs.
        precision: gives the context a forward runs in.
    """

    def ask(images_BDHW: Tensor) -> Tensor:
        with torch.no_grad(), precision():
            logits_BC: Tensor = network(images_BDHW)
        return logits_BC.float()

    was_training = network.training
    network.eval()
    found = collect(ask, data, batch_size=batch_size, device=device)
    network.train(was_training)
    return found


def collect(
    ask: Callable[[Tensor], Tensor],
    data: ImageData,
    *,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
) -> Predictions:
    """What someone says of plain views of a data set.

    Args:
        ask: gives logits (B, C) of pixels in 0..1 (B, D, H, W).
        data: what it looks at.
        batch_size: of the views.
        device: where they are made.
    """
    batches = Loader(data, batch_size, device=device).epoch(0)
    logits_NC = torch.cat([ask(batch.images_BDHW).cpu() for batch in batches])
    return Predictions(logits_NC, data.labels_N.cpu(), data.index_N.cpu())
