"""Evaluates the student after an epoch, and keeps the best weights by validation accuracy."""

import time

from lightning_fabric import Fabric

from collegium.data import ImageData
from collegium.evaluation.predict import predict
from collegium.models.network import Network
from collegium.models.state import snapshot
from collegium.records.results import MetricsLine
from collegium.training.checkpoint import State


def validate(
    student: Network, data: ImageData, fabric: Fabric, state: State, step: int
) -> MetricsLine:
    """Evaluate the student after an epoch, and keep its weights if it is the best so far.

    Args:
        student: the student after the epoch.
        data: the validation split.
        fabric: device and precision.
        state: the state after the epoch's last step; `best` and `progress` are updated.
        step: number of steps since the start of training.
    """
    progress = state.progress
    line = measure(student, data, fabric, "validation", progress.epoch, step)
    if line.accuracy > progress.best_accuracy:
        progress.best_accuracy, progress.best_epoch = line.accuracy, progress.epoch
        state.best = snapshot(student.body)
    return line


def measure(
    student: Network, data: ImageData, fabric: Fabric, split: str, epoch: int, step: int
) -> MetricsLine:
    """Evaluate a student on a split, without changing any state."""
    started = time.perf_counter()
    found = predict(student, data, device=fabric.device, precision=fabric.autocast)
    return MetricsLine(
        epoch=epoch,
        step=step,
        split=split,
        accuracy=found.accuracy,
        loss=found.loss,
        seconds=time.perf_counter() - started,
    )
