"""The predictions of a network on a split, and what is measured of them.

`Predictions` is the one definition of accuracy, loss, agreement and calibration on a split. The
validation, the final evaluation, `evaluate`, `audit` and `export` all measure with it.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from collegium.data import ImageData, Loader
from collegium.errors import NumericsError, RequestError
from collegium.evaluation import metrics
from collegium.teachers.label_map import LabelMap
from collegium.types import Batch

Forward = Callable[[Batch], Tensor]
"""Gives logits (B, C) of a batch."""


@dataclass(frozen=True)
class Predictions:
    """A network's logits on a split.

    Attributes:
        logits_NC: raw scores, on the CPU.
        labels_N: true classes.
        index_N: positions in the official split.
        labels: maps the network's own classes to those of the data; None where they are the same.
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
        """Whether all logits of an example are finite."""
        return metrics.finite(self.logits_NC)

    @property
    def right_N(self) -> Bool[Tensor, " N"]:
        """Whether the class is correct, or in the group of the label if the network has groups.

        An example with a NaN or infinite logit is never correct.
        """
        return metrics.correct(self.logits_NC, self.labels_N, self._groups)

    @property
    def known_N(self) -> Bool[Tensor, " N"]:
        """Whether the example's class is one that the network knows."""
        if self._groups is None:
            return torch.ones_like(self.labels_N, dtype=torch.bool)
        return torch.tensor(self._groups)[self.labels_N] >= 0

    @property
    def _groups(self) -> tuple[int, ...] | None:
        return None if self.labels is None else tuple(self.labels.group_of)

    def same_N(self, other: "Predictions") -> Bool[Tensor, " N"]:
        """Whether two networks predict the same class of an example.

        Classes that one of the two does not distinguish are the same. An example with a NaN or
        infinite logit is the same as nothing.
        """
        pair = self.classes_N, other.classes_N
        same_N = metrics.same_class(*pair, self._groups) | metrics.same_class(*pair, other._groups)
        return same_N & self.finite_N & other.finite_N

    def agreement(self, other: "Predictions") -> float:
        """How often both predict the same class, 0..1, on examples whose class both know."""
        return metrics.share(self.same_N(other), among_N=self.known_N & other.known_N)

    def own(self) -> "Predictions":
        """The same predictions in the network's own classes.

        Only examples whose class it knows, and one class for each group that it distinguishes.
        """
        if self.labels is None or self.labels.whole:
            return self
        known_N, number_C = self.known_N, torch.tensor(self.labels.numbers)
        logits_MG = self.labels.own(self.logits_NC[known_N])
        return Predictions(logits_MG, number_C[self.labels_N[known_N]], self.index_N[known_N])

    def of_known(self) -> dict[str, Any]:
        """Number of examples whose class is known, and accuracy on these; empty if all are."""
        if self.labels is None or self.labels.whole:
            return {}
        known_N = self.known_N
        return {
            "images_known": int(known_N.sum()),
            "accuracy_known": metrics.share(self.right_N, among_N=known_N),
        }

    @property
    def accuracy(self) -> float:
        """Part of the examples whose class is correct, 0..1: see `right_N`."""
        return metrics.share(self.right_N)

    @property
    def top5(self) -> float | None:
        """Part whose class is among the five largest logits; None with five classes or fewer."""
        own = self.own()
        if own.logits_NC.shape[1] <= 5:
            return None
        among_M = (own.logits_NC.topk(5).indices == own.labels_N[:, None]).any(dim=1)
        return int((among_M & own.finite_N).sum()) / len(self.labels_N)

    @property
    def loss(self) -> float:
        """Mean cross entropy in nats, of the examples whose class is known."""
        known_N = self.known_N
        return metrics.cross_entropy(self.logits_NC[known_N], self.labels_N[known_N])

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1, see `metrics.calibration_error`.

        Of the examples whose class is known; classes that are not distinguished count as one.
        """
        own = self.own()
        return metrics.calibration_error(own.logits_NC, own.labels_N)


def predict(
    network: nn.Module,
    data: ImageData,
    *,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
    labels: LabelMap | None = None,
) -> Predictions:
    """Run a network in evaluation mode over the plain views of a split; its mode is restored.

    Args:
        network: takes pixels in 0..1, is on the device.
        data: the split.
        batch_size: changes speed and memory only.
        device: where it runs.
        precision: gives the context a forward runs in.
        labels: maps the network's classes to those of the data; None where they are the same.
    """

    def forward(batch: Batch) -> Tensor:
        with torch.no_grad(), precision():
            logits_BC: Tensor = network(batch.images_BDHW)
        return logits_BC.float() if labels is None else labels.read(logits_BC.float())

    was_training = network.training
    network.eval()
    found = collect(forward, data, batch_size=batch_size, device=device, labels=labels)
    network.train(was_training)
    return found


def collect(
    forward: Forward,
    data: ImageData,
    *,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
    labels: LabelMap | None = None,
) -> Predictions:
    """The predictions of a function on the plain views of a split.

    Args:
        forward: gives logits of a batch.
        data: the split.
        batch_size: of the views.
        device: where the views are made.
        labels: maps the function's classes to those of the data.
    """
    found = collect_all({"": forward}, data, batch_size=batch_size, device=device)[""]
    return Predictions(found.logits_NC, found.labels_N, found.index_N, labels)


def collect_all(
    forwards: Mapping[str, Forward],
    data: ImageData,
    *,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
) -> dict[str, Predictions]:
    """The predictions of several functions on the same split, in one pass over its views."""
    logits: dict[str, list[Tensor]] = {name: [] for name in forwards}
    for batch in Loader(data, batch_size, device=device).epoch(0):
        for name, forward in forwards.items():
            logits[name].append(forward(batch).cpu())
    truth = data.labels_N.cpu(), data.index_N.cpu()
    return {name: Predictions(torch.cat(parts), *truth) for name, parts in logits.items()}


def check_measurable(found: Predictions, split: str) -> None:
    """Refuse predictions that no accuracy can be measured of.

    Raises:
        NumericsError: some logits are NaN or infinite.
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
