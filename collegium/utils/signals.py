"""Handles Ctrl-C and SIGTERM: a run finishes its step first; a second signal ends it at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulInterrupt:
    """A context manager that handles SIGINT and SIGTERM.

    The first signal raises `KeyboardInterrupt`. Within `deferred` it only sets `wanted`, which the
    code in that block must check. The second signal has the system's default effect.

    Python handles signals only in its main thread; in other threads this class does nothing.
    Signals that the process ignores stay ignored.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._deferred = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "GracefulInterrupt":
        if threading.current_thread() is threading.main_thread():
            handled = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A context in which the first signal sets `wanted` and raises nothing."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.wanted = True
        if not self._deferred:
            raise KeyboardInterrupt


def end_with_parent() -> None:
    """End this process within a second after its parent has ended for any reason."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
