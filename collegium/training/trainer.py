"""The loop: views in, terms out, one optimiser; nothing here knows a paper or a teacher's name."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor

from collegium.config.options import Machine, Optimisation, read_interval
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
from collegium.utils.progress import Display
from collegium.utils.signals import GracefulInterrupt


@dataclass
class Trainer:
    """One training, from its first step or from a checkpoint to its last epoch.

    Attributes:
        fabric: devices, precision and processes.
        module: student and objective.
        teachers: where answers come from.
        loader: this process's share of the training data.
        validation: what the best epoch is chosen on; None where there is none.
        options: epochs, batch size, optimiser.
        machine: parts of a batch, fused optimiser, checkpoints.
        record: where metrics and checkpoints go.
        display: what the user sees meanwhile.
        identity: SHA-256 of the teachers' weights by name; checkpoints of others are refused.
        interrupt: knows whether somebody wants to stop.
        watched: the test split, where it is to be looked at every epoch; nothing is chosen by it.
        run_ids: the identities of the run, as it is now first; checkpoints of others are refused.
    """

    fabric: Fabric
    module: DistillModule
    teachers: AbstractTeacherSource
    loader: Loader
    validation: ImageData | None
    options: Optimisation
    machine: Machine
    record: Record
    display: Display
    identity: Mapping[str, str] = field(default_factory=dict)
    interrupt: GracefulInterrupt = field(default_factory=GracefulInterrupt)
    watched: ImageData | None = None
    run_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.options.skip_nonfinite and self.fabric.world_size > 1:
            raise RequestError("--skip-nonfinite leaves out steps of one process: give --devices 1")
        optimizer = make_optimizer(self.module, self.options, self.machine.fused)
        self.wrapped, self.optimizer = self.fabric.setup(self.module, optimizer)
        scaler = self.fabric.strategy.precision
        progress = Progress(steps=len(self.loader))
        self.state = State(self.module, optimizer, progress, self._meter(0), scaler, self.identity)
        self.state.run = self.run_ids
        every = read_interval(self.machine.checkpoint_every)
        self.checkpoint_scheduler = CheckpointScheduler(
            self.record, every, self.fabric, self.interrupt
        )
        self.epoch_logger = EpochLogger(
            self.fabric, self.module, self.validation, self.record, self.display, self.watched
        )
        self._compiled = False

    @property
    def weights(self) -> tuple[Tensor, Tensor] | None:
        """Index and weights of every example of this process in the last epoch, once it is over."""
        over = self.state.progress.epoch == self.options.epochs
        return self.state.meter.kept() if over and self.teachers.names else None

    def resume(self) -> None:
        """Go on from the newest sound checkpoint, if there is one."""
        warn = self.display.warn if self.fabric.is_global_zero else _say_nothing
        if not checkpoint.load(self.record.path(CHECKPOINT), self.state, self.fabric, warn):
            warn(f"{self.record.folder} has no finished checkpoint: it starts again at epoch 1")
        progress = self.state.progress
        progress.steps = len(self.loader)
        if not progress.step and progress.epoch < self.options.epochs:
            # The measures of what was the last epoch, of a run that is to have more.
            self.state.meter = self._meter(progress.epoch)
        self.state.meter.keep_weights = self._meter(progress.epoch).keep_weights
        if self.fabric.is_global_zero:
            self.epoch_logger.reopen(self.state)

    def run(self) -> None:
        """Everything that is left; checkpoints in between.

        Raises:
            KeyboardInterrupt: somebody wants to stop.
        """
        done = self.state.progress
        with self.display.training(self.options.epochs, done.steps, done.epoch, done.step):
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
        self._expect(epoch)
        with self.interrupt.deferred():
            for batch in self.loader.epoch(epoch, progress.step):
                distill_batch = self._try(epoch * progress.steps + progress.step, batch)
                progress.step += 1
                progress.epoch_seconds = time.perf_counter() - began
                self.display.step(progress, self.state.meter.means)
                if progress.step < progress.steps:
                    self.checkpoint_scheduler.after_step(self.state)
            self._close_epoch(distill_batch)

    def _try(self, step: int, batch: Batch) -> DistillBatch | None:
        """A step; None where it was left out, for numbers that were none.

        Raises:
            NumericsError: it went wrong, and may not be left out.
        """
        skips = self.options.skip_nonfinite
        before = {n: b.clone() for n, b in self.module.named_buffers()} if skips else {}
        try:
            answers = self.ask(batch, step)
            self.step(step, batch, answers, self.state.meter)
        except NumericsError as error:
            self._leave_out(step, batch, error, before)
            return None
        self.state.progress.skipped_in_a_row = 0
        return DistillBatch(batch, answers)

    def _leave_out(
        self, step: int, batch: Batch, error: NumericsError, before: Mapping[str, Tensor]
    ) -> None:
        progress = self.state.progress
        progress.skipped, progress.skipped_in_a_row = (
            progress.skipped + 1,
            progress.skipped_in_a_row + 1,
        )
        about = {"error": str(error), "step": step, "epoch": progress.epoch}
        about["process"] = self.fabric.global_rank
        if not self.options.skip_nonfinite or progress.skipped_in_a_row > IN_A_ROW:
            said = self.teachers.outputs(batch).logits_BTC
            place = write_dump(self.record.folder, about, self.module, batch, said)
            lower = f"a lower --lr than {self.options.peak_lr:g} may help"
            raise NumericsError(f"{error}; {self._last_good()}; see {place}; {lower}") from None
        self.display.warn(f"step {step} is left out: {error}")
        for name, buffer in self.module.named_buffers():
            buffer.copy_(before[name])

    def ask(self, batch: Batch, step: int) -> TeacherOutputs:
        """What the teachers say of a batch, checked."""
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
        """One step of the optimiser."""
        started = time.perf_counter()
        progress = step / (self.options.epochs * len(self.loader))
        factor = learning_rate_factor(self.options.schedule, progress)
        set_learning_rate(self.optimizer, self.options.peak_lr * factor)
        self.optimizer.zero_grad()
        *early, last = DistillBatch(batch, answers).parts(self.machine.micro_batches)
        scale = self._scale(len(batch))
        learnt = []
        for part in early:
            with self.fabric.no_backward_sync(self.wrapped):
                learnt.append(self._learn(step, part, scale * (len(part.batch) / len(batch))))
        learnt.append(self._learn(step, last, scale * (len(last.batch) / len(batch))))
        self._move(step)
        for measures in learnt:
            meter.add(*measures)
        if self.module.dropped and not self._compiled:
            self.display.warn(f"student {self.module.dropped}")
            self._compiled = True
        if self.module.compiles and not self._compiled:
            seconds = time.perf_counter() - started
            self.display.say(f"student compiled, with the first step, in {seconds:.0f} s")
            self._compiled = True

    def _learn(
        self, step: int, distill_batch: DistillBatch, scale: float
    ) -> tuple[Batch, Terms, Tensor, Tensor]:
        """Gradients of a part of a batch; gives what its meter is to be told."""
        terms, weights_BT, logits_BC = self.wrapped(distill_batch)
        loss = total(terms)
        check_loss(loss, terms, logits_BC, distill_batch.batch, distill_batch.answers, step)
        self.fabric.backward(loss * scale)
        known = {name: term_B.detach() for name, term_B in terms.items()}
        return distill_batch.batch, known, weights_BT.detach(), logits_BC.detach()

    def _move(self, step: int) -> None:
        """Change the parameters, if the gradients are numbers; a scaler sees to that itself."""
        scaler = getattr(self.state.scaler, "scaler", None)
        if scaler is None:
            check_gradients(self.module, step)
        self.optimizer.step()
        check_scale(scaler, step)

    def _scale(self, share: int) -> float:
        """Makes the mean over processes the mean over the examples of the global batch."""
        if self.fabric.world_size == 1:
            return 1.0
        everybody = over_processes(self.fabric, torch.tensor(float(share)))
        return share * self.fabric.world_size / everybody

    def _close_epoch(self, distill_batch: DistillBatch | None) -> None:
        """Metrics, validation and a checkpoint; the lesson is that of the last step."""
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


def _say_nothing(text: str) -> None:
    """For processes that are not the first."""
