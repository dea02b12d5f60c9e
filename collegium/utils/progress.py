"""What the user sees while something long goes on: one line that changes, one line an epoch."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from collegium.errors import printable
from collegium.utils.progress_line import Moment, clock

TELL_EVERY = 10.0
"""Seconds between lines on something long."""
REFRESH = 0.5
"""Seconds between two looks at an epoch on a terminal: each waits for the device once."""
TELL_INSIDE = 60.0
"""Seconds between lines within an epoch where there is no terminal."""


@runtime_checkable
class Position(Protocol):
    """How far a training is: `collegium.training.checkpoint.Progress`."""

    epoch: int
    step: int
    steps: int
    epoch_seconds: float


class Display:
    """Progress on standard error: one line that changes on a terminal, plain lines elsewhere.

    Args:
        quiet: show nothing but warnings.
        label: what is being done, shown in front.
    """

    def __init__(self, quiet: bool = False, label: str = "train") -> None:
        self.quiet, self.label = quiet, label
        self.console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._asked_of, self._asked_from, self._told = ("", 0), (0.0, 0), 0.0
        self._epochs, self._done = 0, 0.0
        self._started, self._due = 0.0, 0.0

    @property
    def _changes(self) -> bool:
        """Whether a line can be written over where it is shown."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    @contextmanager
    def training(self, epochs: int, steps: int, epoch: int = 0, step: int = 0) -> Iterator[None]:
        """A training of `epochs` epochs of `steps` steps, from that step of that epoch on."""
        self._epochs, self._started = epochs, time.perf_counter()
        self._done = epoch + step / max(steps, 1)
        self._due = self._started + (0.0 if self._changes else TELL_INSIDE)
        if self.quiet or not self._changes:
            yield
            return
        # Without a thread of its own, which would take the interpreter from training.
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        with self._live:
            yield
        self._live = None

    def step(self, position: Position, means: Callable[[], Mapping[str, float]]) -> None:
        """One step is done; now and then it is shown what the epoch is like so far.

        Args:
            position: epoch and step of the training.
            means: gives the means of the epoch so far; called only when something is shown.
        """
        now = time.perf_counter()
        if self.quiet or now < self._due:
            return
        moment = self._within(position, means(), now)
        if moment is None:
            return
        if self._live is None:
            self.say(moment.plain())
            self._due = now + TELL_INSIDE
        else:
            self._live.update(self._line(moment), refresh=True)
            self._due = now + REFRESH

    def _within(self, position: Position, means: Mapping[str, float], now: float) -> Moment | None:
        if not means:  # every step so far was left out
            return None
        done = position.epoch + position.step / position.steps
        return Moment(
            self.label,
            position.epoch + 1,
            self._epochs,
            position.step / position.steps,
            means["loss"],
            means["accuracy"],
            None,
            _weights(means),
            means["count"] / max(position.epoch_seconds, 1e-9),
            self._left(done, now),
        )

    def _left(self, done: float, now: float) -> float:
        """Seconds until all epochs are done, at the rate of this session."""
        rate = (now - self._started) / max(done - self._done, 1e-9)
        return rate * (self._epochs - done)

    def _line(self, moment: Moment) -> Text:
        text = moment.fitted(max(self.console.width - 1, 1))
        return Text(text, no_wrap=True, overflow="ellipsis")

    def asked(self, name: str, done: int, of: int) -> None:
        """A teacher has answered `done` views of `of`, ahead of training."""
        now = time.perf_counter()
        if done == of or self._asked_of != (name, of):
            self._asked_of, self._asked_from, self._told = (name, of), (now, done), now
        elif now - self._told > TELL_EVERY and not self.quiet:
            self._told = now
            rate = (done - self._asked_from[1]) / (now - self._asked_from[0])
            left = clock((of - done) / rate)
            what = f"{self.label}  {name}: {done:,}/{of:,} views"
            self.say(f"{what}  {rate:.0f} images/s  {left} left")

    def epoch(self, line: Mapping[str, Any], validation: Mapping[str, Any] | None) -> None:
        """An epoch is done; its metrics."""
        if self.quiet:
            return
        now, done = time.perf_counter(), line["epoch"] + 1
        moment = Moment(
            self.label,
            done,
            self._epochs,
            None,
            line["loss"],
            line["accuracy"],
            validation["accuracy"] if validation else None,
            _weights(line),
            line["images_per_s"],
            self._left(float(done), now),
        )
        if self._live is None:
            self.say(moment.plain())
        else:
            self.console.print(self._line(moment))

    def say(self, text: str) -> None:
        """One plain line, if not quiet."""
        if not self.quiet:
            self.console.print(printable(text), soft_wrap=True, markup=False)

    def warn(self, text: str) -> None:
        """A warning, shown whatever was asked; where all else is quiet it says whose it is."""
        whose = f"{self.label}: " if self.quiet and self.label not in text else ""
        said = printable(f"warning: {whose}{text}")
        self.console.print(said, style="yellow", soft_wrap=True, markup=False)


def _weights(line: Mapping[str, Any]) -> dict[str, float]:
    return {key[8:]: value for key, value in line.items() if key.startswith("weights.")}
