"""Ctrl-C and termination: the step that goes on is finished, a second time ends at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulInterrupt:
    """Listens for SIGINT and SIGTERM while it is entered.

    The first one raises `KeyboardInterrupt`, but within `deferred` it is only noted in `wanted`,
    for whoever is patient to look at. The second one does what it does to any program.

    Python hears signals in its main thread alone; elsewhere this does nothing. What the process was
    told to ignore is ignored here too.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._patient = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "GracefulInterrupt":
        if threading.current_thread() is threading.main_thread():
            heard = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._hear) for number in heard}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A part that must not be torn apart."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.wanted = True
        if not self._patient:
            raise KeyboardInterrupt


def end_with_parent() -> None:
    """End this process soon after the one that started it, however that ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
