"""How far an exported model differs from its original on real images, and how fast each is."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from collegium.data import ImageData
from collegium.errors import NumericsError
from collegium.evaluation.metrics import finite
from collegium.evaluation.predict import Predictions, collect_all
from collegium.export.model import Model
from collegium.export.options import TOLERANCE
from collegium.types import MapShape

BATCHES = (1, 64)
"""Sizes latency is measured at."""
TURNS, WARMING, CALLS = 3, 2, 12
"""Each model is called so many times in a row, in so many turns, after calls that do not count."""
SECONDS = 1.5
"""For each model at each size, about; slow models are called less often."""


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    Attributes:
        accuracy: of the exported one, 0..1.
        agreement: part of the images for which both predict the same class, 0..1.
        max_difference: the largest absolute difference of a logit.
        spread: standard deviation of the original's logits.
    """

    accuracy: float
    agreement: float
    max_difference: float
    spread: float

    @property
    def equal(self) -> bool:
        """Whether they differ by rounding only; False where a logit is NaN."""
        return self.max_difference <= TOLERANCE * self.spread


def compare(
    original: Model, others: Mapping[str, Model], data: ImageData, batch_size: int = 250
) -> tuple[float, dict[str, Comparison]]:
    """Accuracy of the original, and how each other model compares with it.

    Raises:
        NumericsError: the original gives NaN or infinite logits.
    """
    forwards = {
        name: lambda batch, model=model: model(batch.images_BDHW).float()
        for name, model in {"": original, **others}.items()
    }
    found = collect_all(forwards, data, batch_size=batch_size)
    truth = found.pop("")
    check_finite(truth.logits_NC)
    return truth.accuracy, {name: _compare(truth, other) for name, other in found.items()}


def check_finite(logits_NC: Tensor) -> None:
    """Refuse a student whose logits are not finite.

    Raises:
        NumericsError: some are NaN or infinite.
    """
    if not finite(logits_NC).all():
        raise NumericsError(
            "the student gives NaN or infinite logits: its weights are damaged, or it has diverged"
        )


def _compare(truth: Predictions, other: Predictions) -> Comparison:
    return Comparison(
        other.accuracy,
        truth.agreement(other),
        (truth.logits_NC - other.logits_NC).abs().max().item(),
        truth.logits_NC.std(correction=0).item(),
    )


@torch.no_grad()
def latency(models: Mapping[str, Model], shape: MapShape) -> dict[str, dict[str, float]]:
    """Median seconds of a call of each model by batch size, taken in turns; preparing left out."""
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    for size in BATCHES:
        views_BDHW = torch.rand(size, *shape, generator=torch.Generator().manual_seed(0))
        inputs = {name: model.prepare(views_BDHW) for name, model in models.items()}
        for name, times in _in_turns(models, inputs).items():
            found[name][str(size)] = statistics.median(times)
    return found


def _in_turns(models: Mapping[str, Model], inputs: Mapping[str, Tensor]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in models}
    started = time.perf_counter()
    for _ in range(TURNS):
        for name, model in models.items():
            # The threads of the one before still spin for a moment, and the first call allocates.
            for _ in range(WARMING):
                model.answer(inputs[name].clone())
            times[name] += _timed(model, inputs[name])
        if time.perf_counter() - started > SECONDS * len(models):
            break
    return times


def _timed(model: Model, inputs: Tensor) -> list[float]:
    times: list[float] = []
    while len(times) < CALLS and sum(times) < SECONDS / TURNS:
        given = inputs.clone()  # a network that writes over its images is given them again
        before = time.perf_counter()
        model.answer(given)
        times.append(time.perf_counter() - before)
    return times
