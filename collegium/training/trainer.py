"""The training loop, the same for every method."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor

from collegium.build import Runtime
from collegium.config.options import Optimisation
from collegium.data import ImageData, Loader
from collegium.errors import NumericsError, RequestError
from collegium.objectives.objective import Terms, total
from collegium.records.run_folder import CHECKPOINT, Record
from collegium.teachers import AbstractTeacherSource
from collegium.training import checkpoint
from collegium.training.checkpoint import Progress, State
from collegium.training.checkpoint_policy import CheckpointScheduler
from collegium.training.epoch_log import EpochLogger, over_processes
from collegium.training.metrics import Meter
from collegium.training.module import (
    DistillBatch,
    DistillModule,
    make_optimizer,
    set_learning_rate,
)
from collegium.training.nan_guard import (
    IN_A_ROW,
    check_answers,
    check_gradients,
    check_loss,
    check_scale,
    check_state,
    write_dump,
)
from collegium.training.schedule import learning_rate_factor
from collegium.types import Batch, TeacherOutputs


@dataclass(frozen=True)
class TrainingData:
    """The splits that training reads.

    Attributes:
        loader: this process's part of the training data.
        validation: the split that chooses the best epoch; None if there is none.
        watched: the test split, if it is measured every epoch; it does not choose the best epoch.
    """

    loader: Loader
    validation: ImageData | None = None
    watched: ImageData | None = None


@dataclass(frozen=True)
class Identity:
    """What must be equal in a checkpoint and in the run that loads it.

    Attributes:
        teachers: SHA-256 of the teachers' weights, by name.
        run: the identities of the run, the current one first; empty to accept any.
    """

    teachers: Mapping[str, str] = field(default_factory=dict)
    run: tuple[str, ...] = ()


@dataclass
class Trainer:
    """Trains one student, from the first step or from a checkpoint to the last epoch.

    Use `make_trainer` to build one.

    Attributes:
        runtime: devices, processes, display.
        data: the splits.
        teachers: gives the teachers' outputs.
        options: epochs, batch size, optimiser.
        state: the content of a checkpoint, including the module.
        wrapped: the module as Fabric wraps it, synchronised over processes.
        optimizer: the optimiser, as Fabric wraps it.
        checkpoint_scheduler: writes checkpoints.
        epoch_logger: writes metrics.
    """

    runtime: Runtime
    data: TrainingData
    teachers: AbstractTeacherSource
    options: Optimisation
    state: State
    wrapped: _FabricModule
    optimizer: torch.optim.Optimizer
    checkpoint_scheduler: CheckpointScheduler
    epoch_logger: EpochLogger
    _compiled: bool = False

    @property
    def fabric(self) -> Fabric:
        """Devices, precision and processes."""
        return self.runtime.fabric

    @property
    def module(self) -> DistillModule:
        """Student and objective."""
        return self.epoch_logger.module

    @property
    def loader(self) -> Loader:
        """This process's part of the training data."""
        return self.data.loader

    @property
    def record(self) -> Record:
        """The run folder."""
        return self.checkpoint_scheduler.record

    @property
    def weights(self) -> tuple[Tensor, Tensor] | None:
        """Index and weights of this process's examples in the last epoch.

        None before the last epoch has ended, or if there are no active teachers.
        """
        over = self.state.progress.epoch == self.options.epochs
        return self.state.meter.kept() if over and self.teachers.names else None

    def resume(self) -> None:
        """Load the newest intact checkpoint, if there is one."""
        warn = self.runtime.display.warn if self.runtime.first else _show_nothing
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
        return _meter(self.teachers, epoch, self.options.epochs)

    def _epoch(self, epoch: int) -> None:
        progress, began = self.state.progress, time.perf_counter()
        began -= progress.epoch_seconds
        self.module.objective.start_epoch(epoch, self.options.epochs)
        self.wrapped.train()
        self._expect(epoch)
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
            answers = self.ask(batch, step)
            self.step(step, batch, answers, self.state.meter)
        except NumericsError as error:
            self._skip(step, batch, error, before)
            return None
        self.state.progress.skipped_in_a_row = 0
        return DistillBatch(batch, answers)

    def _skip(
        self, step: int, batch: Batch, error: NumericsError, before: Mapping[str, Tensor]
    ) -> None:
        progress = self.state.progress
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        about = {"error": str(error), "step": step, "epoch": progress.epoch}
        about["process"] = self.fabric.global_rank
        if not self.options.skip_nonfinite or progress.skipped_in_a_row > IN_A_ROW:
            logits_BTC = self.teachers.outputs(batch).logits_BTC
            place = write_dump(self.record.folder, about, self.module, batch, logits_BTC)
            lower = f"a lower --lr than {self.options.peak_lr:g} may help"
            raise NumericsError(f"{error}; {self._last_good()}; see {place}; {lower}") from None
        self.runtime.display.warn(f"step {step} is left out: {error}")
        for name, buffer in self.module.named_buffers():
            buffer.copy_(before[name])

    def ask(self, batch: Batch, step: int) -> TeacherOutputs:
        """The teachers' outputs for a batch, checked for NaN and infinities."""
        started = time.perf_counter()
        answers = self.teachers.outputs(batch)
        self.state.progress.epoch_teacher_seconds += time.perf_counter() - started
        check_answers(answers, self.teachers.names, batch, step)
        return answers

    def _expect(self, epoch: int) -> None:
        started = time.perf_counter()
        self.teachers.expect(*self.loader.keys(epoch))
        self.state.progress.epoch_teacher_seconds += time.perf_counter() - started

    def step(self, step: int, batch: Batch, answers: TeacherOutputs, meter: Meter) -> None:
        """Run one optimiser step on a batch, and add its metrics to the meter."""
        started = time.perf_counter()
        progress = step / (self.options.epochs * len(self.loader))
        factor = learning_rate_factor(self.options.schedule, progress)
        set_learning_rate(self.optimizer, self.options.peak_lr * factor)
        self.optimizer.zero_grad()
        *early, last = DistillBatch(batch, answers).parts(self.runtime.machine.micro_batches)
        scale = self._scale(len(batch))
        measures = []
        for part in early:
            with self.fabric.no_backward_sync(self.wrapped):
                measures.append(self._learn(step, part, scale * (len(part.batch) / len(batch))))
        measures.append(self._learn(step, last, scale * (len(last.batch) / len(batch))))
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
        check_loss(loss, terms, logits_BC, distill_batch.batch, distill_batch.answers, step)
        self.fabric.backward(loss * scale)
        known = {name: term_B.detach() for name, term_B in terms.items()}
        return distill_batch.batch, known, weights_BT.detach(), logits_BC.detach()

    def _move(self, step: int) -> None:
        """Run the optimiser step if the gradients are finite; a scaler checks this itself."""
        scaler = getattr(self.state.scaler, "scaler", None)
        if scaler is None:
            check_gradients(self.module, step)
        self.optimizer.step()
        check_scale(scaler, step)

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
            check_state(self.module, step)
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


def make_trainer(
    runtime: Runtime,
    data: TrainingData,
    teachers: AbstractTeacherSource,
    module: DistillModule,
    options: Optimisation,
    scheduler: CheckpointScheduler,
    identity: Identity,
) -> Trainer:
    """A trainer for a module, before its first step.

    Raises:
        RequestError: `skip_nonfinite` is set, and there are several processes.
    """
    fabric, record = runtime.fabric, scheduler.record
    if options.skip_nonfinite and fabric.world_size > 1:
        raise RequestError("--skip-nonfinite leaves out steps of one process: give --devices 1")
    optimizer = make_optimizer(module, options, runtime.machine.fused)
    wrapped, wrapped_optimizer = fabric.setup(module, optimizer)
    state = State(
        module,
        optimizer,
        Progress(steps=len(data.loader)),
        _meter(teachers, 0, options.epochs),
        fabric.strategy.precision,
        identity.teachers,
        run=identity.run,
    )
    logger = EpochLogger(fabric, module, data.validation, record, runtime.display, data.watched)
    return Trainer(
        runtime, data, teachers, options, state, wrapped, wrapped_optimizer, scheduler, logger
    )


def _meter(teachers: AbstractTeacherSource, epoch: int, epochs: int) -> Meter:
    last = epoch + 1 >= epochs
    return Meter(teachers.names, keep_weights=last and bool(teachers.names))


def _show_nothing(text: str) -> None:
    """Ignore a message; used in all processes but the first."""
