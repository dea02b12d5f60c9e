"""What a student can do after an epoch; on validation the best so far is kept."""

import time
from typing import Any

from lightning_fabric import Fabric

from collegium.data import ImageData
from collegium.evaluation.predict import predict
from collegium.models.network import Network
from collegium.models.state import snapshot
from collegium.training.checkpoint import State


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
    progress = state.progress
    line = measure(student, data, fabric, "validation", progress.epoch, step)
    if line["accuracy"] > progress.best_accuracy:
        progress.best_accuracy, progress.best_epoch = line["accuracy"], progress.epoch
        state.best = snapshot(student.body)
    return line


def measure(
    student: Network, data: ImageData, fabric: Fabric, split: str, epoch: int, step: int
) -> dict[str, Any]:
    """A line of metrics.jsonl about some data; nothing is kept."""
    started = time.perf_counter()
    found = predict(student, data, device=fabric.device, precision=fabric.autocast)
    return {
        "epoch": epoch,
        "step": step,
        "split": split,
        "accuracy": found.accuracy,
        "loss": found.loss,
        "seconds": time.perf_counter() - started,
    }
