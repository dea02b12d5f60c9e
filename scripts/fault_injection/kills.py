"""`kill -9` at random moments and in the middle of writing; then the command goes on."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts.fault_injection.attempt import PATIENCE, End, Tally, attempt
from scripts.fault_injection.fixtures import COMPARE, DISTIL, STORE, facts, going_on, words_of

IN_A_ROW = 4
"""Kills of one folder before it is left to end."""
WRITTEN = (
    "run.json",
    "teachers.json",
    "metrics.jsonl",
    "tensors",
    "state.json",
    "process-0",
    "manifest.json",
    "epoch-0",
    "view0",
    "weights.npz",
    "predictions.npz",
    "examples.npz",
    "student.safetensors",
    "summary.json",
    "report.html",
)
"""Parts of the names of what a training writes."""
TABLES = ("compare.json", "compare.md", "compare.csv", "summary.json", "report.html")

Kill = Callable[[list[str]], End]


def kills(count: int, draw: random.Random) -> Iterator[Tally]:
    """Killed, gone on with, killed again, until it is done."""
    rows: list[tuple[str, str, tuple[str, ...], float]] = [
        ("training, filling a store", DISTIL, (), 0.3),
        ("building a store", STORE, (), 0.15),
        ("comparing", COMPARE, (), 0.2),
        ("a training writes a file", DISTIL, WRITTEN, 0.2),
        ("a comparison writes a file", COMPARE, TABLES, 0.15),
    ]
    for what, text, names, share in rows if count >= len(rows) else draw.sample(rows, count):
        kill = _at_a_file(text, names, draw) if names else _at_a_moment(text, draw)
        yield _often(f"kill -9 while {what}", text, round(count * share), kill)


def _often(what: str, text: str, count: int, kill: Kill) -> Tally:
    tally, whole, tries = Tally(what), facts("whole"), 0
    while tally.tried < max(1, count):
        out, tries = f"cut-{tries}", tries + 1
        for _ in range(IN_A_ROW):
            cut = kill(going_on(text, out))
            if cut.code != -signal.SIGKILL:  # it came to its end before
                break
            tally.add(None)
        end = attempt(going_on(text, out))
        problem = cut.problem((0, -signal.SIGKILL)) if cut.code >= 0 else None
        problem = problem or end.problem((0,)) or _difference(whole, facts(out))
        if problem:
            tally.failed.append(f"{out}: {problem}")
        remove(out)
    remove("whole")
    tally.note = f"{tries} rounds to the end, each the same bits"
    return tally


def _difference(whole: dict[str, Any], found: dict[str, Any]) -> str | None:
    """Names of files that are not what an undisturbed command leaves."""
    names = [name for name in whole | found if whole.get(name) != found.get(name)]
    return f"not what an undisturbed command leaves: {', '.join(names)}" if names else None


def remove(out: str) -> None:
    """What a command has left, and its store."""
    for folder in (out, f"{out}-store"):
        shutil.rmtree(folder, ignore_errors=True)


def _undisturbed(text: str) -> float:
    """Seconds that a whole takes; what it leaves is in `whole`."""
    started = time.monotonic()
    end = attempt(words_of(text, "whole"))
    assert end.code == 0, end.said
    return time.monotonic() - started


def _at_a_moment(text: str, draw: random.Random) -> Kill:
    """Kills after some seconds, of as many as the whole takes."""
    seconds = _undisturbed(text)
    return lambda words: attempt(words, after=draw.uniform(0, seconds))


def _at_a_file(text: str, names: tuple[str, ...], draw: random.Random) -> Kill:
    """Kills when some file is written but not yet on the disk, or has its name to get."""
    _undisturbed(text)

    def kill(words: list[str]) -> End:
        name, time_ = draw.choice(names), draw.randint(1, 3)
        return attempt(words, PATIENCE, lambda: _die_writing(name, time_))

    return kill


def _die_writing(name: str, times: int) -> None:
    """Make this process kill itself the n-th time that a file of that name reaches the disk."""
    left = [times]

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(what: Any, *more: Any, **options: Any) -> Any:
            path = str(Path(f"/proc/self/fd/{what}").readlink() if isinstance(what, int) else what)
            left[0] -= name in path.rpartition("/")[2]
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(what, *more, **options)

        return call

    for write in ("fsync", "replace", "rename"):
        setattr(os, write, watched(getattr(os, write)))
