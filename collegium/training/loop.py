"""The loop: views in, terms out, one optimiser; nothing here knows a paper or a teacher's name."""

import time
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from collegium.data import ImageData, Loader
from collegium.objective import total
from collegium.record import CHECKPOINT, Record
from collegium.teachers import AbstractTeacherSource
from collegium.training import checkpoint
from collegium.training.checkpoint import Progress, State
from collegium.training.evaluate import predict
from collegium.training.guard import check_answers, check_loss, check_state
from collegium.training.learner import Learner, Lesson, make_optimizer, set_learning_rate
from collegium.training.meter import Meter, collapse, epoch_line
from collegium.training.options import Machine, Optimisation
from collegium.training.progress import Display
from collegium.training.schedule import learning_rate_factor
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
        machine: parts of a batch, fused optimiser.
        record: where metrics and checkpoints go.
        display: what the user sees meanwhile.
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

    def __post_init__(self) -> None:
        optimizer = make_optimizer(self.learner, self.options, self.machine.fused)
        self.module, self.optimizer = self.fabric.setup(self.learner, optimizer)
        self.state = State(self.learner, optimizer, Progress())
        self.weights: tuple[Tensor, Tensor] | None = None
        self._warned = self._compiled = False
        self._all_know = True

    def resume(self) -> None:
        """Go on from the newest checkpoint that leaves an epoch to run, if there is one.

        The last epoch is run again where it was the end that was missed: what it gave to
        weights.npz is in no checkpoint.
        """
        saved = checkpoint.checkpoints(self.record.path(CHECKPOINT))
        usable = [path for path in saved if checkpoint.epoch_of(path) < self.options.epochs]
        if usable:
            checkpoint.load(usable[-1], self.state)
        if self.fabric.is_global_zero:
            self.record.keep_metrics(self.state.progress.epoch)

    def run(self) -> None:
        """Every epoch that is left, each followed by validation, metrics and a checkpoint."""
        with self.display.training(self.options.epochs, len(self.loader)):
            for epoch in range(self.state.progress.epoch, self.options.epochs):
                self._epoch(epoch)

    def _epoch(self, epoch: int) -> None:
        started, teacher_seconds = time.perf_counter(), self.state.progress.teacher_seconds
        self.learner.objective.start_epoch(epoch, self.options.epochs)
        self.module.train()
        last = epoch + 1 == self.options.epochs
        meter = Meter(self.teachers.names, keep_weights=last and bool(self.teachers.names))
        self._expect(epoch)
        for step, batch in enumerate(self.loader.epoch(epoch), epoch * len(self.loader)):
            answers = self.ask(batch, step)
            self.step(step, batch, answers, meter)
            self.display.step()
        seconds = time.perf_counter() - started
        line = self._line(epoch, meter, seconds)
        line["teacher_seconds"] = self.state.progress.teacher_seconds - teacher_seconds
        line |= self._shares(batch, answers)
        self.weights = meter.kept() if last and self.teachers.names else None
        self.state.progress.seconds += seconds
        self._close_epoch(epoch, line)

    def ask(self, batch: Batch, step: int) -> TeacherOutputs:
        """What the teachers say of a batch, checked."""
        started = time.perf_counter()
        answers = self.teachers.outputs(batch)
        self.state.progress.teacher_seconds += time.perf_counter() - started
        check_answers(answers, self.teachers.names, batch, step)
        # Of specialists one alone may know an example: its weight is 1 then, and nothing is wrong.
        self._all_know = answers.groups_TC is None
        return answers

    def _expect(self, epoch: int) -> None:
        started = time.perf_counter()
        self.teachers.expect(*self.loader.keys(epoch))
        self.state.progress.teacher_seconds += time.perf_counter() - started

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
        return share * self.fabric.world_size / self._over_processes(torch.tensor(float(share)))

    def _line(self, epoch: int, meter: Meter, seconds: float) -> dict[str, Any]:
        sums = {name: self._over_processes(value) for name, value in meter.sums().items()}
        return {
            "epoch": epoch,
            "step": (epoch + 1) * len(self.loader),
            "split": "train",
            **epoch_line(sums, self.teachers.names),
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_s": sums["count"] / seconds,
            "seconds": seconds,
        }

    def _over_processes(self, value: Tensor) -> float:
        if self.fabric.world_size > 1:
            value = cast(Tensor, self.fabric.all_reduce(value, reduce_op="sum"))
        return value.item()

    def _shares(self, batch: Batch, answers: TeacherOutputs) -> dict[str, float]:
        shares = self.learner.gradient_shares(Lesson(batch, answers))
        return {f"gradient_share.{name}": share for name, share in shares.items()}

    def _close_epoch(self, epoch: int, line: dict[str, Any]) -> None:
        if self.fabric.is_global_zero:
            warning = collapse(line) if self._learns_weights() and self._all_know else None
            if warning and not self._warned:
                self.display.warn(f"epoch {epoch}: {warning}")
                self._warned = True
            self.record.append_metrics(line | ({"warning": warning} if warning else {}))
            validation = self._validate(epoch, line["step"])
            self.display.epoch(line, validation)
        check_state(self.learner, line["step"], self._last_good())
        self.state.progress.epoch = epoch + 1
        if self.fabric.is_global_zero:
            checkpoint.save(self.record.path(CHECKPOINT), self.state)
        self.fabric.barrier()

    def _last_good(self) -> str:
        kept = checkpoint.checkpoints(self.record.path(CHECKPOINT))
        return f"the last good checkpoint is {kept[-1]}" if kept else "no epoch was completed"

    def _learns_weights(self) -> bool:
        weighting = self.learner.objective.weighting
        return weighting is not None and any(True for _ in weighting.parameters())

    def _validate(self, epoch: int, step: int) -> dict[str, Any] | None:
        if self.validation is None:
            return None
        started = time.perf_counter()
        found = predict(
            self.learner.student,
            self.validation,
            device=self.fabric.device,
            precision=self.fabric.autocast,
        )
        if found.accuracy > self.state.progress.best_accuracy:
            self.state.progress.best_accuracy = found.accuracy
            self.state.progress.best_epoch = epoch
            body = self.learner.student.body.state_dict()
            self.state.best = {name: value.detach().clone() for name, value in body.items()}
        line = {
            "epoch": epoch,
            "step": step,
            "split": "validation",
            "accuracy": found.accuracy,
            "loss": found.loss,
            "seconds": time.perf_counter() - started,
        }
        self.record.append_metrics(line)
        return line
