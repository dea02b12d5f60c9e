"""The loop: views in, terms out, one optimiser; nothing here knows a paper or a teacher's name."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor

from collegium.data import ImageData, Loader
from collegium.objective import total
from collegium.record import CHECKPOINT, Record
from collegium.teachers import AbstractTeacherSource
from collegium.training import checkpoint
from collegium.training.checkpoint import Progress, State
from collegium.training.guard import check_answers, check_loss, check_state
from collegium.training.keeper import Keeper
from collegium.training.learner import Learner, Lesson, make_optimizer, set_learning_rate
from collegium.training.ledger import Ledger, over_processes
from collegium.training.meter import Meter
from collegium.training.options import Machine, Optimisation, read_interval
from collegium.training.progress import Display
from collegium.training.schedule import learning_rate_factor
from collegium.training.signals import Stopper
from collegium.types import Batch, TeacherOutputs


@dataclass
class Training:
    """One training, from its first step or from a checkpoint to its last epoch.

    Attributes:
        fabric: devices, precision and processes.
        learner: student and objective.
        teachers: where answers come from.
        loader: this process's share of the training data.
        validation: what the best epoch is chosen on; None where there is none.
        options: epochs, batch size, optimiser.
        machine: parts of a batch, fused optimiser, checkpoints.
        record: where metrics and checkpoints go.
        display: what the user sees meanwhile.
        identity: SHA-256 of the teachers' weights by name; checkpoints of others are refused.
        stopper: knows whether somebody wants to stop.
    """

    fabric: Fabric
    learner: Learner
    teachers: AbstractTeacherSource
    loader: Loader
    validation: ImageData | None
    options: Optimisation
    machine: Machine
    record: Record
    display: Display
    identity: Mapping[str, str] = field(default_factory=dict)
    stopper: Stopper = field(default_factory=Stopper)

    def __post_init__(self) -> None:
        optimizer = make_optimizer(self.learner, self.options, self.machine.fused)
        self.module, self.optimizer = self.fabric.setup(self.learner, optimizer)
        scaler = self.fabric.strategy.precision
        progress = Progress(steps=len(self.loader))
        self.state = State(self.learner, optimizer, progress, self._meter(0), scaler, self.identity)
        every = read_interval(self.machine.checkpoint_every)
        self.keeper = Keeper(self.record, every, self.fabric, self.stopper)
        self.ledger = Ledger(self.fabric, self.learner, self.validation, self.record, self.display)
        self._compiled = False

    @property
    def weights(self) -> tuple[Tensor, Tensor] | None:
        """Index and weights of every example of this process in the last epoch, once it is over."""
        over = self.state.progress.epoch == self.options.epochs
        return self.state.meter.kept() if over and self.teachers.names else None

    def resume(self) -> None:
        """Go on from the newest sound checkpoint, if there is one."""
        warn = self.display.warn if self.fabric.is_global_zero else _say_nothing
        checkpoint.load(self.record.path(CHECKPOINT), self.state, self.fabric, warn)
        self.state.progress.steps = len(self.loader)
        self.state.meter.keep_weights = self._meter(self.state.progress.epoch).keep_weights
        if self.fabric.is_global_zero:
            self.record.keep_metrics(self.state.progress.epoch)

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
        self.learner.objective.start_epoch(epoch, self.options.epochs)
        self.module.train()
        self._expect(epoch)
        with self.stopper.patience():
            for batch in self.loader.epoch(epoch, progress.step):
                step = epoch * progress.steps + progress.step
                answers = self.ask(batch, step)
                self.step(step, batch, answers, self.state.meter)
                progress.step += 1
                progress.epoch_seconds = time.perf_counter() - began
                self.display.step()
                if progress.step < progress.steps:
                    self.keeper.after_step(self.state)
            self._close_epoch(batch, answers)

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
        *early, last = Lesson(batch, answers).parts(self.machine.micro_batches)
        scale = self._scale(len(batch))
        for part in early:
            with self.fabric.no_backward_sync(self.module):
                self._learn(step, part, scale * (len(part.batch) / len(batch)), meter)
        self._learn(step, last, scale * (len(last.batch) / len(batch)), meter)
        self.optimizer.step()
        if self.learner.compiles and not self._compiled:
            seconds = time.perf_counter() - started
            self.display.say(f"student compiled, with the first step, in {seconds:.0f} s")
            self._compiled = True

    def _learn(self, step: int, lesson: Lesson, scale: float, meter: Meter) -> None:
        terms, weights_BT, logits_BC = self.module(lesson)
        loss = total(terms)
        check_loss(loss, terms, logits_BC, step, self._last_good(), self.options.peak_lr)
        self.fabric.backward(loss * scale)
        meter.add(lesson.batch, terms, weights_BT, logits_BC)

    def _scale(self, share: int) -> float:
        """Makes the mean over processes the mean over the examples of the global batch."""
        if self.fabric.world_size == 1:
            return 1.0
        everybody = over_processes(self.fabric, torch.tensor(float(share)))
        return share * self.fabric.world_size / everybody

    def _close_epoch(self, batch: Batch, answers: TeacherOutputs) -> None:
        """Metrics, validation and a checkpoint; `batch` is the last one."""
        progress = self.state.progress
        rate = self.optimizer.param_groups[0]["lr"]
        self.ledger.close(self.state, rate, Lesson(batch, answers))
        check_state(self.learner, (progress.epoch + 1) * progress.steps, self._last_good())
        progress.end_epoch()
        if progress.epoch < self.options.epochs:
            self.state.meter = self._meter(progress.epoch)
        self.keeper.after_epoch(self.state)
        self.fabric.barrier()

    def _last_good(self) -> str:
        return checkpoint.last_good(self.record.path(CHECKPOINT))


def _say_nothing(text: str) -> None:
    """For processes that are not the first."""
