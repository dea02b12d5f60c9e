"""When a checkpoint is written, and whether a run stops after this step: one answer for all."""

import time
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric

from collegium.config.options import Interval
from collegium.records.run_folder import CHECKPOINT, Record
from collegium.training import checkpoint
from collegium.training.checkpoint import State
from collegium.utils.signals import GracefulInterrupt

PATIENCE = 60
"""The end of an epoch is passed by for so many times as long as writing takes: below 2 %."""
FIRST = 0.05
"""Seconds that writing is taken to take before it was done once."""


@dataclass
class CheckpointScheduler:
    """Writes checkpoints at the ends of epochs, between them, and when somebody stops the run.

    Attributes:
        record: the run folder.
        every: what is asked for between the ends of epochs.
        fabric: the processes, which write together.
        interrupt: knows whether somebody wants to stop.
        written: checkpoints of this session.
    """

    record: Record
    every: Interval
    fabric: Fabric
    interrupt: GracefulInterrupt
    written: int = 0
    _last: float = field(default_factory=time.monotonic)
    _cost: float = FIRST

    def after_step(self, state: State) -> None:
        """Between two steps of an epoch.

        Raises:
            KeyboardInterrupt: somebody wants to stop; there is a checkpoint.
        """
        stop, due = self._agreed(self.interrupt.wanted, self._is_due(state))
        if stop or due:
            self.save(state)
        if stop:
            raise KeyboardInterrupt

    def after_epoch(self, state: State, last: bool) -> None:
        """At the end of an epoch; after the last one always, so that only looking at it is left.

        Raises:
            KeyboardInterrupt: somebody wants to stop; there is a checkpoint.
        """
        cheap = time.monotonic() - self._last >= PATIENCE * self._cost
        stop, due = self._agreed(self.interrupt.wanted, last or cheap or self._is_due(state))
        if stop or due:
            self.save(state)
        if stop:
            raise KeyboardInterrupt

    def save(self, state: State) -> None:
        """Write a checkpoint now, all processes together."""
        started = time.monotonic()
        checkpoint.save(self.record.path(CHECKPOINT), state, self.fabric)
        if not self.written and self.fabric.is_global_zero:
            self.record.drop_previous()
        self._last = time.monotonic()
        self._cost = self._last - started
        self.written += 1

    def _is_due(self, state: State) -> bool:
        if self.every.steps is not None:
            progress = state.progress
            return (progress.epoch * progress.steps + progress.step) % self.every.steps == 0
        return time.monotonic() - self._last >= (self.every.seconds or 0)

    def _agreed(self, stop: bool, due: bool) -> tuple[bool, bool]:
        """One process that stops is enough; when it is time, the first one says."""
        if self.fabric.world_size == 1:
            return stop, due
        first = due and self.fabric.is_global_zero
        votes = torch.tensor([float(stop), float(first)], device=self.fabric.device)
        stop_votes, due_votes = self.fabric.all_reduce(votes, reduce_op="sum").tolist()  # type: ignore[union-attr]
        return stop_votes > 0, due_votes > 0
