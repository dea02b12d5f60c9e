"""What the user sees while something long goes on: rate, time left, one line an epoch."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

TELL_EVERY = 10.0
"""Seconds between lines on something long."""


class Display:
    """Progress on standard error; a bar on a terminal, plain lines elsewhere, nothing if quiet.

    Args:
        quiet: show nothing but warnings.
        label: what is being done, shown in front.
    """

    def __init__(self, quiet: bool = False, label: str = "train") -> None:
        self.quiet, self.label = quiet, label
        self.console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._asked_of, self._asked_from, self._told = ("", 0), (0.0, 0), 0.0
        self._epochs, self._done = 0, 0.0
        self._started = 0.0

    @contextmanager
    def training(self, epochs: int, steps: int, epoch: int = 0, step: int = 0) -> Iterator[None]:
        """A training of `epochs` epochs of `steps` steps, from that step of that epoch on."""
        self._epochs, self._started = epochs, time.perf_counter()
        self._done = epoch + step / max(steps, 1)
        if self.quiet or not self.console.is_terminal:
            yield
            return
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("steps, left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        done = epoch * steps + step
        self._task = self._bar.add_task(self.label, total=epochs * steps, completed=done)
        with self._bar:
            yield
        self._bar = None

    def step(self) -> None:
        """One step is done."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

    def asked(self, name: str, done: int, of: int) -> None:
        """A teacher has answered `done` views of `of`, ahead of training."""
        now = time.perf_counter()
        if done == of or self._asked_of != (name, of):
            self._asked_of, self._asked_from, self._told = (name, of), (now, done), now
        elif now - self._told > TELL_EVERY and not self.quiet:
            self._told = now
            rate = (done - self._asked_from[1]) / (now - self._asked_from[0])
            left = _clock((of - done) / rate)
            what = f"{self.label}  {name}: {done:,}/{of:,} views"
            self.say(f"{what}  {rate:.0f} images/s  {left} left")

    def epoch(self, line: Mapping[str, Any], validation: Mapping[str, Any] | None) -> None:
        """An epoch is done; its metrics."""
        if self.quiet:
            return
        done = line["epoch"] + 1
        rate = (time.perf_counter() - self._started) / (done - self._done)
        left = rate * (self._epochs - done)
        parts = [
            f"{self.label}  epoch {done}/{self._epochs}",
            f"loss {line['loss']:.3f}",
            f"train {100 * line['accuracy']:.1f} %",
        ]
        if validation:
            parts.append(f"val {100 * validation['accuracy']:.1f} %")
        heard = [f"{k[8:]} {v:.2f}" for k, v in line.items() if k.startswith("weights.")]
        if len(heard) > 1:
            parts.append("weights " + " ".join(heard))
        parts += [f"{line['images_per_s']:.0f} images/s", f"{_clock(left)} left"]
        self.say("  ".join(parts))

    def say(self, text: str) -> None:
        """One plain line, if not quiet."""
        if not self.quiet:
            self.console.print(text, soft_wrap=True, markup=False)

    def warn(self, text: str) -> None:
        """A warning, shown whatever was asked; where all else is quiet it says whose it is."""
        whose = f"{self.label}: " if self.quiet and self.label not in text else ""
        self.console.print(f"warning: {whose}{text}", style="yellow", soft_wrap=True, markup=False)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
