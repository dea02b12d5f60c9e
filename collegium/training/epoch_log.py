"""What an epoch was like, told and written down: metrics and validation."""

import json
from dataclasses import dataclass
from typing import Any, cast

from lightning_fabric import Fabric
from torch import Tensor

from collegium.data import ImageData
from collegium.records.run_folder import METRICS, WATCHED, Json, Record
from collegium.training.checkpoint import State
from collegium.training.metrics import collapse, epoch_line
from collegium.training.module import DistillBatch, DistillModule
from collegium.training.validate import measure, validate
from collegium.utils.progress import Display


def over_processes(fabric: Fabric, value: Tensor) -> float:
    """The sum of a number over all processes."""
    if fabric.world_size > 1:
        value = cast(Tensor, fabric.all_reduce(value, reduce_op="sum"))
    return value.item()


@dataclass
class EpochLogger:
    """Writes the lines of an epoch.

    Attributes:
        fabric: the processes; the first one writes.
        module: what is trained.
        validation: what the best epoch is chosen on; None where there is none.
        record: where lines go.
        display: what the user sees of them.
        watched: the test split, where somebody wants to see it after every epoch; nothing is chosen
            by it.
    """

    fabric: Fabric
    module: DistillModule
    validation: ImageData | None
    record: Record
    display: Display
    watched: ImageData | None = None

    def __post_init__(self) -> None:
        self._warned = False
        self._idle: set[str] = set()

    def close(self, state: State, learning_rate: float, distill_batch: DistillBatch | None) -> None:
        """Write down an epoch whose steps are all done.

        Args:
            state: as its last step has left it.
            learning_rate: of that step.
            distill_batch: of that step; None if it was left out.
        """
        line = self._line(state, learning_rate)
        shares = self.module.gradient_shares(distill_batch) if distill_batch is not None else {}
        line |= {f"gradient_share.{name}": share for name, share in shares.items()}
        for name in sorted({*self.module.idle} - self._idle if shares else ()):
            self._idle.add(name)
            self.display.warn(
                f"epoch {line['epoch']}: term {name} is not 0 and moves nothing: its gradient is 0"
            )
        if self.fabric.is_global_zero:
            self._write(line, state, self._judges(distill_batch))

    def _line(self, state: State, learning_rate: float) -> dict[str, Any]:
        progress, meter = state.progress, state.meter
        sums = {name: over_processes(self.fabric, value) for name, value in meter.sums().items()}
        return {
            "epoch": progress.epoch,
            "step": (progress.epoch + 1) * progress.steps,
            "split": "train",
            **epoch_line(sums, meter.teachers),
            "lr": learning_rate,
            "images_per_s": sums["count"] / progress.epoch_seconds,
            "seconds": progress.epoch_seconds,
            "teacher_seconds": progress.epoch_teacher_seconds,
            **({"skipped": progress.skipped} if progress.skipped else {}),
        }

    def _write(self, line: dict[str, Any], state: State, judged: bool) -> None:
        warning = collapse(line) if judged else None
        if warning and not self._warned:
            self.display.warn(f"epoch {line['epoch']}: {warning}")
            self._warned = True
        self._append(line | ({"warning": warning} if warning else {}), state)
        found = None
        if self.validation is not None:
            student = self.module.student
            found = validate(student, self.validation, self.fabric, state, line["step"])
            self._append(found, state)
        if self.watched is not None:
            at = state.progress.epoch, line["step"]
            seen = measure(self.module.student, self.watched, self.fabric, WATCHED, *at)
            self._append(seen, state)
        self.display.epoch(line, found)

    def _append(self, line: Json, state: State) -> None:
        self.record.append_metrics(line)
        state.metrics.append(line)

    def reopen(self, state: State) -> None:
        """Bring metrics.jsonl to where a checkpoint is, whatever has become of the file.

        What came after will come again. Lines of finished epochs that were lost or changed are
        taken from the checkpoint, and said so.
        """
        self.record.keep_metrics(state.progress.epoch)
        if json.dumps(self.record.metrics()) == json.dumps(state.metrics):
            return
        self.display.warn(
            f"{self.record.path(METRICS)} is not what was written: lines of finished epochs are "
            "lost or changed; they are put back as the checkpoint has them"
        )
        self.record.path(METRICS).unlink()
        for line in state.metrics:
            self.record.append_metrics(line)

    def _judges(self, distill_batch: DistillBatch | None) -> bool:
        """Whether weights of one teacher alone would be a sign that something is wrong."""
        weighting = self.module.objective.weighting
        learns = weighting is not None and any(True for _ in weighting.parameters())
        # Of specialists one alone may know an example: its weight is 1 then, and nothing is wrong.
        return learns and distill_batch is not None and distill_batch.answers.groups_TC is None
