"""Evaluates the student after an epoch; writes the metrics to the run folder and shows them."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from lightning_fabric import Fabric
from torch import Tensor

from collegium.data import ImageData
from collegium.evaluation.predict import Predictions, predict
from collegium.models.state import snapshot
from collegium.records.results import MetricsLine
from collegium.records.run_folder import METRICS, WATCHED, Record
from collegium.training.checkpoint import State
from collegium.training.metrics import collapse, epoch_line
from collegium.training.module import DistillBatch
from collegium.training.prepared import PreparedRun


def over_processes(fabric: Fabric, value: Tensor) -> float:
    """The sum of a number over all processes."""
    return cast(Tensor, fabric.all_reduce(value, reduce_op="sum")).item()


def measured_line(found: Predictions, split: str, epoch: int, step: int) -> MetricsLine:
    """The line of metrics.jsonl for the student's predictions on a split."""
    return MetricsLine(
        epoch=epoch, step=step, split=split, accuracy=found.accuracy, loss=found.loss
    )


@dataclass
class EpochLogger:
    """Writes the metrics lines of an epoch.

    Attributes:
        prepared: the run. The validation split chooses the best epoch; the test split, if it is
            watched, is measured after every epoch and does not choose.
        record: the run folder that receives the lines; the first process writes them.
    """

    prepared: PreparedRun
    record: Record
    _warned: bool = False
    _idle: set[str] = field(default_factory=set)

    def close(self, state: State, learning_rate: float, distill_batch: DistillBatch | None) -> None:
        """Write the metrics of an epoch after its last step.

        Args:
            state: the state after the last step.
            learning_rate: the learning rate of the last step.
            distill_batch: the batch of the last step; None if that step was skipped.
        """
        runtime, module = self.prepared.runtime, self.prepared.module
        shares = module.gradient_shares(distill_batch) if distill_batch is not None else {}
        line = self._line(state, learning_rate, shares)
        for name in sorted({*module.idle} - self._idle if shares else ()):
            self._idle.add(name)
            what = f"term {name} is not 0 but its gradient is 0, so it has no effect"
            runtime.display.warn(f"epoch {line.epoch}: {what}")
        if runtime.first:
            self._write(line, state, self._weights_may_collapse(distill_batch))

    def _line(
        self, state: State, learning_rate: float, gradient_share: Mapping[str, float]
    ) -> MetricsLine:
        progress, meter, fabric = state.progress, state.meter, self.prepared.runtime.fabric
        sums = {name: over_processes(fabric, value) for name, value in meter.sums().items()}
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
            self.prepared.runtime.display.warn(f"epoch {line.epoch}: {warning}")
            self._warned = True
        self._append(replace(line, warning=warning), state)
        found = None
        splits = self.prepared.splits
        if splits.validation is not None:
            found = self._validate(splits.validation, state, line.step)
            self._append(found, state)
        if splits.test is not None and self.prepared.run.watch_test:
            self._append(self._measure(splits.test, WATCHED, line.epoch, line.step), state)
        self.prepared.runtime.display.epoch(line, found)

    def _validate(self, data: ImageData, state: State, step: int) -> MetricsLine:
        """Evaluate the student, and keep its weights if it is the best so far."""
        progress = state.progress
        line = self._measure(data, "validation", progress.epoch, step)
        if line.accuracy > progress.best_accuracy:
            progress.best_accuracy, progress.best_epoch = line.accuracy, progress.epoch
            state.best = snapshot(self.prepared.module.student.body)
        return line

    def _measure(self, data: ImageData, split: str, epoch: int, step: int) -> MetricsLine:
        """Evaluate the student on a split, without changing any state."""
        started, fabric = time.perf_counter(), self.prepared.runtime.fabric
        student = self.prepared.module.student
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
        self.prepared.runtime.display.warn(
            f"{self.record.path(METRICS)} is not what was written: lines of finished epochs are "
            "lost or changed; they are put back as the checkpoint has them"
        )
        self.record.path(METRICS).unlink()
        for line in state.metrics:
            self.record.append_metrics(line)

    def _weights_may_collapse(self, distill_batch: DistillBatch | None) -> bool:
        """Whether weights on a single teacher would mean that something is wrong."""
        weighting = self.prepared.module.objective.weighting
        learns = weighting is not None and any(True for _ in weighting.parameters())
        # If only one teacher knows the class of an example, its weight 1 there is correct.
        return learns and distill_batch is not None and distill_batch.outputs.groups_TC is None
