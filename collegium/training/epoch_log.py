"""Evaluates the student after an epoch; writes the metrics to the run folder and shows them."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from lightning_fabric import Fabric
from torch import Tensor

from collegium.build import Runtime
from collegium.data import ImageData
from collegium.evaluation.predict import Predictions, predict
from collegium.models.state import snapshot
from collegium.records.results import MetricsLine
from collegium.records.run_folder import METRICS, WATCHED, Record
from collegium.training.checkpoint import State
from collegium.training.metrics import collapse, epoch_line
from collegium.training.module import DistillBatch, DistillModule


def over_processes(fabric: Fabric, value: Tensor) -> float:
    """The sum of a number over all processes."""
    if fabric.world_size > 1:
        value = cast(Tensor, fabric.all_reduce(value, reduce_op="sum"))
    return value.item()


def measured_line(found: Predictions, split: str, epoch: int, step: int) -> MetricsLine:
    """The line of metrics.jsonl for the student's predictions on a split."""
    return MetricsLine(
        epoch=epoch, step=step, split=split, accuracy=found.accuracy, loss=found.loss
    )


@dataclass
class EpochLogger:
    """Writes the metrics lines of an epoch.

    Attributes:
        runtime: the processes, of which the first writes, and the display.
        module: student and objective.
        record: the run folder that receives the lines.
        validation: the split that chooses the best epoch; None if there is none.
        watched: the test split, if it is measured after every epoch; it does not choose the best
            epoch.
    """

    runtime: Runtime
    module: DistillModule
    record: Record
    validation: ImageData | None
    watched: ImageData | None = None
    _warned: bool = False
    _idle: set[str] = field(default_factory=set)

    def close(self, state: State, learning_rate: float, distill_batch: DistillBatch | None) -> None:
        """Write the metrics of an epoch after its last step.

        Args:
            state: the state after the last step.
            learning_rate: the learning rate of the last step.
            distill_batch: the batch of the last step; None if that step was skipped.
        """
        shares = self.module.gradient_shares(distill_batch) if distill_batch is not None else {}
        line = self._line(state, learning_rate, shares)
        for name in sorted({*self.module.idle} - self._idle if shares else ()):
            self._idle.add(name)
            what = f"term {name} is not 0 but its gradient is 0, so it has no effect"
            self.runtime.display.warn(f"epoch {line.epoch}: {what}")
        if self.runtime.fabric.is_global_zero:
            self._write(line, state, self._weights_may_collapse(distill_batch))

    def _line(
        self, state: State, learning_rate: float, gradient_share: Mapping[str, float]
    ) -> MetricsLine:
        progress, meter = state.progress, state.meter
        sums = {
            name: over_processes(self.runtime.fabric, value) for name, value in meter.sums().items()
        }
        step = (progress.epoch + 1) * progress.steps
        return replace(
            epoch_line(sums, meter.teachers, epoch=progress.epoch, step=step),
            lr=learning_rate,
            images_per_s=sums["count"] / progress.epoch_seconds,
            seconds=progress.epoch_seconds,
            teacher_seconds=progress.epoch_teacher_seconds,
            skipped=progress.skipped or None,
            gradient_share=gradient_share,
        )

    def _write(self, line: MetricsLine, state: State, may_collapse: bool) -> None:
        warning = collapse(line) if may_collapse else None
        if warning and not self._warned:
            self.runtime.display.warn(f"epoch {line.epoch}: {warning}")
            self._warned = True
        self._append(replace(line, warning=warning), state)
        found = None
        if self.validation is not None:
            found = self._validate(self.validation, state, line.step)
            self._append(found, state)
        if self.watched is not None:
            self._append(self._measure(self.watched, WATCHED, line.epoch, line.step), state)
        self.runtime.display.epoch(line, found)

    def _validate(self, data: ImageData, state: State, step: int) -> MetricsLine:
        """Evaluate the student, and keep its weights if it is the best so far."""
        progress = state.progress
        line = self._measure(data, "validation", progress.epoch, step)
        if line.accuracy > progress.best_accuracy:
            progress.best_accuracy, progress.best_epoch = line.accuracy, progress.epoch
            state.best = snapshot(self.module.student.body)
        return line

    def _measure(self, data: ImageData, split: str, epoch: int, step: int) -> MetricsLine:
        """Evaluate the student on a split, without changing any state."""
        started, fabric = time.perf_counter(), self.runtime.fabric
        student = self.module.student
        found = predict(student, data, device=fabric.device, precision=fabric.autocast)
        line = measured_line(found, split, epoch, step)
        return replace(line, seconds=time.perf_counter() - started)

    def _append(self, line: MetricsLine, state: State) -> None:
        self.record.append_metrics(line)
        state.metrics.append(line)

    def reopen(self, state: State) -> None:
        """Restore metrics.jsonl to its content at the time of a checkpoint.

        Removes the lines of later epochs, which will run again. If lines of finished epochs were
        lost or changed, replaces all lines by those of the checkpoint and shows a warning.
        """
        self.record.keep_metrics(state.progress.epoch)
        if json.dumps(self.record.metrics()) == json.dumps(state.metrics):
            return
        self.runtime.display.warn(
            f"{self.record.path(METRICS)} is not what was written: lines of finished epochs are "
            "lost or changed; they are put back as the checkpoint has them"
        )
        self.record.path(METRICS).unlink()
        for line in state.metrics:
            self.record.append_metrics(line)

    def _weights_may_collapse(self, distill_batch: DistillBatch | None) -> bool:
        """Whether weights on a single teacher would mean that something is wrong."""
        weighting = self.module.objective.weighting
        learns = weighting is not None and any(True for _ in weighting.parameters())
        # If only one teacher knows the class of an example, its weight 1 there is correct.
        return learns and distill_batch is not None and distill_batch.outputs.groups_TC is None
