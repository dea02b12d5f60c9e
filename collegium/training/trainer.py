"""The training loop, the same for every method."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from collegium.config.options import read_interval
from collegium.config.same_run import known_ids
from collegium.errors import NumericsError, RequestError
from collegium.objectives.objective import Terms, total
from collegium.records.run_folder import CHECKPOINT, RUN, Record
from collegium.training import checkpoint, nan_guard
from collegium.training.checkpoint import Progress, State
from collegium.training.checkpoint_policy import CheckpointScheduler
from collegium.training.epoch_log import EpochLogger, over_processes
from collegium.training.metrics import Meter
from collegium.training.module import DistillBatch, make_optimizer
from collegium.training.prepared import PreparedRun
from collegium.training.schedule import learning_rate_factor
from collegium.types import Batch, TeacherOutputs
from collegium.utils.signals import GracefulInterrupt


class Trainer:
    """Trains one student, from the first step or from a checkpoint to the last epoch.

    Args:
        prepared: the run.
        record: the run folder.
        interrupt: knows whether the user wants to stop.

    Raises:
        RequestError: `skip_nonfinite` is set, and there are several processes.
    """

    def __init__(self, prepared: PreparedRun, record: Record, interrupt: GracefulInterrupt) -> None:
        self.prepared, self.record, self.module = prepared, record, prepared.module
        self.runtime, self.fabric = prepared.runtime, prepared.runtime.fabric
        self.loader, self.teachers = prepared.loader, prepared.source
        self.options, machine = prepared.run.optimisation, prepared.run.machine
        if self.options.skip_nonfinite and self.fabric.world_size > 1:
            raise RequestError("--skip-nonfinite leaves out steps of one process: give --devices 1")
        every = read_interval(machine.checkpoint_every)
        self.checkpoint_scheduler = CheckpointScheduler(record, every, self.fabric, interrupt)
        self.epoch_logger = EpochLogger(prepared, record)
        optimizer = make_optimizer(self.module, self.options, machine.fused)
        # As Fabric wraps them: synchronised over processes.
        self.wrapped, self.optimizer = self.fabric.setup(self.module, optimizer)
        self.state = State(
            self.module,
            optimizer,
            Progress(steps=len(self.loader)),
            self._meter(0),
            self.fabric.strategy.precision,
            {name: info.sha256 for name, info in prepared.teachers.ensemble.infos.items()},
            run=known_ids(record.run) if record.path(RUN).is_file() else (),
        )
        self._compiled = False

    @property
    def weights(self) -> tuple[Tensor, Tensor] | None:
        """Index and weights of this process's examples in the last epoch.

        None before the last epoch has ended, or if there are no active teachers.
        """
        over = self.state.progress.epoch == self.options.epochs
        return self.state.meter.kept() if over and self.teachers.names else None

    def resume(self) -> None:
        """Load the newest intact checkpoint, if there is one."""
        warn = self.runtime.display.warn if self.runtime.first else lambda text: None
        if not checkpoint.load(self.record.path(CHECKPOINT), self.state, self.fabric, warn):
            warn(f"{self.record.folder} has no finished checkpoint: it starts again at epoch 1")
        progress = self.state.progress
        progress.steps = len(self.loader)
        if not progress.step and progress.epoch < self.options.epochs:
            # If epochs were added, the checkpoint has the sums of the former last epoch.
            self.state.meter = self._meter(progress.epoch)
        self.state.meter.keep_weights = self._meter(progress.epoch).keep_weights
        if self.runtime.first:
            self.epoch_logger.reopen(self.state)

    def run(self) -> None:
        """Train the remaining epochs, and write checkpoints in between.

        Raises:
            KeyboardInterrupt: the user stops the run.
        """
        done = self.state.progress
        with self.runtime.display.training(self.options.epochs, done.steps, done.epoch, done.step):
            for epoch in range(self.state.progress.epoch, self.options.epochs):
                self._epoch(epoch)

    def _meter(self, epoch: int) -> Meter:
        last = epoch + 1 >= self.options.epochs
        return Meter(self.teachers.names, keep_weights=last and bool(self.teachers.names))

    def _epoch(self, epoch: int) -> None:
        progress, began = self.state.progress, time.perf_counter()
        began -= progress.epoch_seconds
        self.module.objective.start_epoch(epoch, self.options.epochs)
        self.wrapped.train()
        started = time.perf_counter()
        self.teachers.expect(*self.loader.keys(epoch))
        progress.epoch_teacher_seconds += time.perf_counter() - started
        with self.checkpoint_scheduler.interrupt.deferred():
            for batch in self.loader.epoch(epoch, progress.step):
                distill_batch = self._try(epoch * progress.steps + progress.step, batch)
                progress.step += 1
                progress.epoch_seconds = time.perf_counter() - began
                self.runtime.display.step(progress, self.state.meter.means)
                if progress.step < progress.steps:
                    self.checkpoint_scheduler.after_step(self.state)
            self._close_epoch(distill_batch)

    def _try(self, step: int, batch: Batch) -> DistillBatch | None:
        """Run a step; returns None if it gave a NaN or an infinity and is skipped.

        Raises:
            NumericsError: the step gave a NaN or an infinity, and may not be skipped.
        """
        skips = self.options.skip_nonfinite
        before = {n: b.clone() for n, b in self.module.named_buffers()} if skips else {}
        try:
            outputs = self.ask(batch, step)
            self.step(step, batch, outputs, self.state.meter)
        except NumericsError as error:
            self._skip(step, batch, error, before)
            return None
        self.state.progress.skipped_in_a_row = 0
        return DistillBatch(batch, outputs)

    def _skip(
        self, step: int, batch: Batch, error: NumericsError, before: Mapping[str, Tensor]
    ) -> None:
        progress = self.state.progress
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        about = {"error": str(error), "step": step, "epoch": progress.epoch}
        about["process"] = self.fabric.global_rank
        if not self.options.skip_nonfinite or progress.skipped_in_a_row > nan_guard.IN_A_ROW:
            logits_BTC = self.teachers.outputs(batch).logits_BTC
            place = nan_guard.write_dump(self.record.folder, about, self.module, batch, logits_BTC)
            lower = f"a lower --lr than {self.options.peak_lr:g} may help"
            raise NumericsError(f"{error}; {self._last_good()}; see {place}; {lower}") from None
        self.runtime.display.warn(f"step {step} is left out: {error}")
        for name, buffer in self.module.named_buffers():
            buffer.copy_(before[name])

    def ask(self, batch: Batch, step: int) -> TeacherOutputs:
        """The teachers' outputs for a batch, checked for NaN and infinities."""
        started = time.perf_counter()
        outputs = self.teachers.outputs(batch)
        self.state.progress.epoch_teacher_seconds += time.perf_counter() - started
        nan_guard.check_outputs(outputs, self.teachers.names, batch, step)
        return outputs

    def step(self, step: int, batch: Batch, outputs: TeacherOutputs, meter: Meter) -> None:
        """Run one optimiser step on a batch, and add its metrics to the meter."""
        started = time.perf_counter()
        progress = step / (self.options.epochs * len(self.loader))
        factor = learning_rate_factor(self.options.schedule, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.peak_lr * factor * group["rate"]
        self.optimizer.zero_grad()
        parts = DistillBatch(batch, outputs).parts(self.runtime.machine.micro_batches)
        scale = self._scale(len(batch))
        measures = []
        for part in parts:
            # Processes exchange their gradients once, with the last part.
            with self.fabric.no_backward_sync(self.wrapped, enabled=part is not parts[-1]):
                measures.append(self._learn(step, part, scale * (len(part.batch) / len(batch))))
        self._move(step)
        for measured in measures:
            meter.add(*measured)
        if not self._compiled:
            self._report_compiled(time.perf_counter() - started)

    def _report_compiled(self, seconds: float) -> None:
        """Show whether the student was compiled, if requested; called after the first step."""
        if self.module.dropped:
            self.runtime.display.warn(f"student {self.module.dropped}")
        elif self.module.compiles:
            text = f"student compiled, with the first step, in {seconds:.0f} s"
            self.runtime.display.say(text)
        self._compiled = bool(self.module.dropped or self.module.compiles)

    def _learn(
        self, step: int, distill_batch: DistillBatch, scale: float
    ) -> tuple[Batch, Terms, Tensor, Tensor]:
        """Compute the gradients of a part of a batch; returns the arguments of `Meter.add`."""
        terms, weights_BT, logits_BC = self.wrapped(distill_batch)
        loss = total(terms)
        nan_guard.check_loss(loss, terms, logits_BC, distill_batch, step)
        self.fabric.backward(loss * scale)
        known = {name: term_B.detach() for name, term_B in terms.items()}
        return distill_batch.batch, known, weights_BT.detach(), logits_BC.detach()

    def _move(self, step: int) -> None:
        """Run the optimiser step if the gradients are finite; a scaler checks this itself."""
        scaler = getattr(self.state.scaler, "scaler", None)
        if scaler is None:
            nan_guard.check_gradients(self.module, step)
        self.optimizer.step()
        nan_guard.check_scale(scaler, step)

    def _scale(self, share: int) -> float:
        """The factor that turns the mean over processes into the mean over the global batch."""
        if self.fabric.world_size == 1:
            return 1.0
        examples = over_processes(self.fabric, torch.tensor(float(share)))
        return share * self.fabric.world_size / examples

    def _close_epoch(self, distill_batch: DistillBatch | None) -> None:
        """Write metrics, validate and write a checkpoint; the batch is that of the last step."""
        progress = self.state.progress
        step = (progress.epoch + 1) * progress.steps
        if progress.skipped == progress.steps:
            raise NumericsError(f"every step of epoch {progress.epoch} was left out")
        self.epoch_logger.close(self.state, self.optimizer.param_groups[0]["lr"], distill_batch)
        try:
            nan_guard.check_state(self.module, step)
        except NumericsError as error:
            raise NumericsError(f"{error}; {self._last_good()}") from None
        progress.end_epoch()
        over = progress.epoch == self.options.epochs
        if not over:
            self.state.meter = self._meter(progress.epoch)
        self.checkpoint_scheduler.after_epoch(self.state, over)
        self.fabric.barrier()

    def _last_good(self) -> str:
        return checkpoint.last_good(self.record.path(CHECKPOINT))
