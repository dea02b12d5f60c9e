"""Messages and progress: one line that changes on a terminal, one line an epoch elsewhere.

Messages go through the logger `collegium`. It prints them on standard error, unless the host
program gave it a handler before the first message; a host that raises its level silences them.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from collegium.errors import printable
from collegium.utils.progress_line import Moment, clock

NOTIFY_EVERY = 10.0
"""Seconds between lines on work ahead of training."""
REFRESH = 0.5
"""Seconds between updates of the line on a terminal: each waits for the device once."""
WITHIN_EPOCH = 60.0
"""Seconds between lines within an epoch if there is no terminal."""
LOGGER = logging.getLogger("collegium")
"""The logger of all messages."""


@runtime_checkable  # the tests check types at run time
class Position(Protocol):
    """Epoch and step of a training: `collegium.training.checkpoint.Progress`."""

    epoch: int
    step: int
    steps: int
    epoch_seconds: float


class ConsoleHandler(logging.Handler):
    """Print messages on standard error; the handler of the logger by default."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True, highlight=False)

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message; warnings are yellow."""
        warns = record.levelno >= logging.WARNING
        start, style = ("warning: ", "yellow") if warns else ("", None)
        self.console.print(start + record.getMessage(), style=style, soft_wrap=True, markup=False)

    @property
    def can_rewrite(self) -> bool:
        """Whether messages go to a terminal on which a line can be written over."""
        shown = self in LOGGER.handlers and LOGGER.isEnabledFor(logging.INFO)
        return shown and self.console.is_terminal and not self.console.is_dumb_terminal


CONSOLE = ConsoleHandler()


class Display:
    """Progress and messages of one piece of work.

    Args:
        quiet: show nothing but warnings.
        label: the work's name, at the start of its lines.
    """

    def __init__(self, quiet: bool = False, label: str = "train") -> None:
        # Messages from INFO on are printed, where the host program configured nothing.
        if not LOGGER.handlers:
            LOGGER.addHandler(CONSOLE)
            LOGGER.propagate = False
        if LOGGER.level == logging.NOTSET:
            LOGGER.setLevel(logging.INFO)
        self.quiet, self.label = quiet, label
        self._live: Live | None = None
        self._teacher, self._teacher_start, self._notified = ("", 0), (0.0, 0), 0.0
        self._epochs, self._done = 0, 0.0
        self._started, self._due = 0.0, 0.0

    @contextmanager
    def training(self, epochs: int, steps: int, epoch: int = 0, step: int = 0) -> Iterator[None]:
        """Show a training of `epochs` epochs of `steps` steps that starts at a step of an epoch."""
        self._epochs, self._started = epochs, time.perf_counter()
        self._done = epoch + step / max(steps, 1)
        self._due = self._started + (0.0 if CONSOLE.can_rewrite else WITHIN_EPOCH)
        if self.quiet or not CONSOLE.can_rewrite:
            yield
            return
        # Without a thread of its own, which would take the interpreter from training.
        self._live = Live(console=CONSOLE.console, auto_refresh=False, transient=True)
        with self._live:
            yield
        self._live = None

    def step(self, position: Position, means: Callable[[], Mapping[str, float]]) -> None:
        """One step is done; now and then the means of the epoch so far are shown.

        Args:
            position: epoch and step of the training.
            means: gives the means of the epoch so far; called only when something is shown.
        """
        now = time.perf_counter()
        if self.quiet or now < self._due:
            return
        line = means()
        if not line:  # every step so far was skipped
            return
        part = position.step / position.steps
        rate = line["count"] / max(position.epoch_seconds, 1e-9)
        moment = self._moment(line, rate, position.epoch, part)
        if self._live is None:
            self.say(moment.plain())
            self._due = now + WITHIN_EPOCH
        else:
            self._live.update(self._line(moment), refresh=True)
            self._due = now + REFRESH

    def _moment(
        self, line: Mapping[str, Any], rate: float, epoch: int, part: float | None = None
    ) -> Moment:
        """The state of the training in an epoch; None for the part of one that is done."""
        weights = {key[8:]: value for key, value in line.items() if key.startswith("weights.")}
        done = epoch + (1.0 if part is None else part)
        seconds = time.perf_counter() - self._started
        left = seconds / max(done - self._done, 1e-9) * (self._epochs - done)
        means = line["loss"], line["accuracy"], None, weights
        return Moment(self.label, epoch + 1, self._epochs, part, *means, rate, left)

    def _line(self, moment: Moment) -> Text:
        text = moment.fitted(max(CONSOLE.console.width - 1, 1))
        return Text(text, no_wrap=True, overflow="ellipsis")

    def teacher_views(self, name: str, done: int, of: int) -> None:
        """A teacher has computed `done` views of `of`, ahead of training."""
        now = time.perf_counter()
        if done == of or self._teacher != (name, of):
            self._teacher, self._teacher_start, self._notified = (name, of), (now, done), now
        elif now - self._notified > NOTIFY_EVERY:
            self._notified = now
            rate = (done - self._teacher_start[1]) / (now - self._teacher_start[0])
            self.say(
                f"{self.label}  {name}: {done:,}/{of:,} views  {rate:.0f} images/s  "
                f"{clock((of - done) / rate)} left"
            )

    def epoch(self, line: Mapping[str, Any], validation: Mapping[str, Any] | None) -> None:
        """An epoch is done; its metrics."""
        if self.quiet:
            return
        moment = self._moment(line, line["images_per_s"], line["epoch"])
        if validation:
            moment = dataclasses.replace(moment, validation=validation["accuracy"])
        if self._live is None:
            self.say(moment.plain())
        else:
            CONSOLE.console.print(self._line(moment))

    def say(self, text: str) -> None:
        """One plain line, if not quiet."""
        if not self.quiet:
            LOGGER.info("%s", printable(text))

    def warn(self, text: str) -> None:
        """A warning, even if quiet; then it names the work, whose other lines are not shown."""
        source = f"{self.label}: " if self.quiet and self.label not in text else ""
        LOGGER.warning("%s", printable(source + text))
