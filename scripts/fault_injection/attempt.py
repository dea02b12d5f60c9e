"""One attempt: a command in a process of its own, how it ended, and whether that is as promised."""

import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from collegium.cli.main import main
from collegium.utils.memory import return_freed_memory

PATIENCE = 90.0
"""Seconds after which a command that should have ended counts as hanging."""


@dataclass
class Tally:
    """One row of the table.

    Attributes:
        what: was tried.
        tried: how often.
        failed: what went wrong, one text each.
        note: what else was measured.
    """

    what: str
    tried: int = 0
    failed: list[str] = field(default_factory=list)
    note: str = ""

    def add(self, problem: str | None) -> None:
        """Count one attempt."""
        self.tried += 1
        if problem:
            self.failed.append(problem)

    def __str__(self) -> str:
        row = f"{self.what:<52}{self.tried:>7}{self.tried - len(self.failed):>10}"
        return f"{row}  {self.note}".rstrip()


@dataclass(frozen=True)
class End:
    """How an attempt ended.

    Attributes:
        code: its exit code, negative for a signal.
        said: on both outputs.
        grown: bytes of memory it took at its peak, more than where it began.
    """

    code: int
    said: str
    grown: int = 0

    def problem(self, allowed: tuple[int, ...] = (0, 1, 2)) -> str | None:
        """What is wrong with it, or None."""
        if "Traceback" in self.said:
            return f"a traceback: {self.said[-700:]}"
        if self.code not in allowed:
            return f"ended with {self.code}: {self.said[-600:]}"
        lines = [line for line in self.said.splitlines() if line.startswith("collegium ")]
        # `store verify` and `compare` tell in their answer what they found.
        told = len(lines) == 1 or "not intact" in self.said or "\nFailed:" in self.said
        return None if told or not self.code else f"said {len(lines)} lines: {self.said[-600:]}"


def attempt(
    words: list[str], after: float | None = None, prepare: Callable[[], object] = lambda: None
) -> End:
    """Run a command in a copy of this process, which is killed after some seconds, if any.

    Args:
        words: of the command.
        after: seconds until it is killed; None to let it end.
        prepare: called in the copy before the command.
    """
    return_freed_memory()  # else what an attempt takes may have been there before
    begun = _resident()
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            _be(words, prepare)
        status, peak = _wait(child, PATIENCE if after is None else after)
        said.seek(0)
        text = said.read().decode(errors="replace")
    return End(os.waitstatus_to_exitcode(status), text, max(0, peak - begun))


def _resident() -> int:
    # Of files' pages a copy of this process has none at first.
    _, pages, files, *_ = Path("/proc/self/statm").read_text().split()
    return (int(pages) - int(files)) * os.sysconf("SC_PAGE_SIZE")


def _be(words: list[str], prepare: Callable[[], object]) -> None:
    code = 99
    try:
        # Whoever started this may hold them for itself.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        prepare()
        code = main(words)
    except BaseException:
        with contextlib.suppress(Exception):
            traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _wait(child: int, seconds: float) -> tuple[int, int]:
    """Exit status and peak of the memory in bytes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return status, usage.ru_maxrss << 10
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return status, usage.ru_maxrss << 10
