"""Measures the student after an epoch, and keeps the best one on validation."""

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
    """Measure a student after an epoch, and keep it if it is the best.

    Args:
        student: as the epoch has left it.
        data: what it is measured on.
        fabric: device and precision.
        state: its progress is that of the epoch's end, its best is updated.
        step: steps done in all.
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
    """Measure a student on a split, and keep nothing."""
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
