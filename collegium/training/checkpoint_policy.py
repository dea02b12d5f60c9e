"""Decides when to write a checkpoint and when to stop, the same for all processes."""

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
"""No checkpoint is written at the end of an epoch until this many times the duration of the last
write have passed. So writing takes less than 2 % of the time."""
FIRST = 0.05
"""Assumed duration of a write in seconds, before the first one was measured."""


@dataclass
class CheckpointScheduler:
    """Writes checkpoints during epochs, at their ends, and when the user stops the run.

    Attributes:
        record: the run folder.
        every: the interval that the user requested, in steps or seconds.
        fabric: the processes, all of which take part in a write.
        interrupt: knows whether the user wants to stop.
        written: number of checkpoints that this session has written.
    """

    record: Record
    every: Interval
    fabric: Fabric
    interrupt: GracefulInterrupt
    written: int = 0
    _last: float = field(default_factory=time.monotonic)
    _cost: float = FIRST

    def after_step(self, state: State) -> None:
        """Between two steps of an epoch: write a checkpoint if it is due.

        Raises:
            KeyboardInterrupt: the user wants to stop; a checkpoint was written.
        """
        self._save_if(self._is_due(state), state)

    def after_epoch(self, state: State, last: bool) -> None:
        """At the end of an epoch: write a checkpoint if it is due.

        The last epoch always gets one, so that a resumed run needs only the final evaluation.

        Raises:
            KeyboardInterrupt: the user wants to stop; a checkpoint was written.
        """
        cheap = time.monotonic() - self._last >= PATIENCE * self._cost
        self._save_if(last or cheap or self._is_due(state), state)

    def _save_if(self, due: bool, state: State) -> None:
        """Write a checkpoint if one is due or the user wants to stop."""
        stop, due = self._agreed(self.interrupt.wanted, due)
        if stop or due:
            self.save(state)
        if stop:
            raise KeyboardInterrupt

    def save(self, state: State) -> None:
        """Write a checkpoint now; every process must call this."""
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
        """The common decision: stop if any process stops; only the first decides if one is due."""
        if self.fabric.world_size == 1:
            return stop, due
        first = due and self.fabric.is_global_zero
        votes = torch.tensor([float(stop), float(first)], device=self.fabric.device)
        stop_votes, due_votes = self.fabric.all_reduce(votes, reduce_op="sum").tolist()  # type: ignore[union-attr]
        return stop_votes > 0, due_votes > 0
