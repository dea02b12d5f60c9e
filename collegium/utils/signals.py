"""Ctrl-C and termination: the current step is finished first; a second signal ends at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulInterrupt:
    """Handles SIGINT and SIGTERM while it is entered.

    The first signal raises `KeyboardInterrupt`. Within `deferred` it only sets `wanted`, which the
    code inside checks. The second signal has the system's default effect.

    Python handles signals in its main thread alone; in other threads this does nothing. Signals
    that the process ignores stay ignored.
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
        """Inside, the first signal does not interrupt."""
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
    """End this process within a second after its parent has ended, for whatever reason."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
