"""Validation after an epoch: the best student so far is kept."""

import time
from typing import Any

from lightning_fabric import Fabric

from collegium.data import ImageData
from collegium.models.network import Network
from collegium.training.checkpoint import State
from collegium.training.evaluate import predict


def validate(
    student: Network, data: ImageData, fabric: Fabric, state: State, step: int
) -> dict[str, Any]:
    """Measure a student after an epoch, and keep it if it is the best.

    Args:
        student: as the epoch has left it.
        data: what it is measured on.
        fabric: device and precision.
        state: its progress is that of the epoch's end, its best is updated.
        step: steps done in all.

    Returns:
        A line of metrics.jsonl.
    """
    started = time.perf_counter()
    found = predict(student, data, device=fabric.device, precision=fabric.autocast)
    progress = state.progress
    if found.accuracy > progress.best_accuracy:
        progress.best_accuracy, progress.best_epoch = found.accuracy, progress.epoch
        body = student.body.state_dict()
        state.best = {name: value.detach().clone() for name, value in body.items()}
    return {
        "epoch": progress.epoch,
        "step": step,
        "split": "validation",
        "accuracy": found.accuracy,
        "loss": found.loss,
        "seconds": time.perf_counter() - started,
    }
