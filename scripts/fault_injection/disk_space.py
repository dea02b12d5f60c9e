"""A disk that is full, then is not: a small file system, or a limit on the size of files."""

import contextlib
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.fault_injection.attempt import Tally, attempt
from scripts.fault_injection.fixtures import COMPARE, DISTIL, STORE, facts, going_on, words_of
from scripts.fault_injection.kills import remove

SMALL = "small"
"""Where the small file system is mounted."""
AMPLE = 64 << 20


def disk(count: int, draw: random.Random) -> Iterator[Tally]:
    """Training, storing, comparing, reporting: each with too little room, then with enough."""
    with _small_disk() as mounted:
        for what, text in (("training", DISTIL), ("storing", STORE), ("comparing", COMPARE)):
            each = max(1, count // 4)
            assert attempt(words_of(text, "whole")).code == 0
            whole, taken = facts("whole"), _taken("whole") + _taken("whole-store")
            if mounted:
                yield _filled(f"a full disk while {what}", text, each, whole, taken, draw)
            yield _limited(f"files that cannot grow while {what}", text, each, whole, draw)
            remove("whole")
        if mounted:
            yield _page_on_full_disk(max(1, count // 4), draw)


@contextlib.contextmanager
def _small_disk() -> Iterator[bool]:
    """A file system in memory, where it can be had."""
    Path(SMALL).mkdir()
    mounted = _mount("size=1m")
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", SMALL], check=True)


def _mount(options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", SMALL]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


def _filled(
    what: str, text: str, count: int, whole: dict[str, Any], taken: int, draw: random.Random
) -> Tally:
    tally = Tally(what)
    for number in range(count):
        out, size = f"{SMALL}/{number}", int(taken * draw.uniform(0.02, 1.1))
        _resize(max(size, 8192))
        first = attempt(words_of(text, out))
        _resize(AMPLE)
        tally.add(_told_and_gone_on(first.problem(), text, out, whole, f"{size} bytes"))
        remove(out)
    return tally


def _resize(size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", SMALL], check=True)


def _told_and_gone_on(
    problem: str | None, text: str, out: str, whole: dict[str, Any], limit: str
) -> str | None:
    end = attempt(going_on(text, out))
    if "damaged" in end.said:
        problem = problem or f"a checkpoint was damaged: {end.said}"
    same = None if facts(out) == whole else "differs once there was room"
    found = problem or end.problem((0,)) or same
    return found and f"{limit}: {found}"


def _limited(what: str, text: str, count: int, whole: dict[str, Any], draw: random.Random) -> Tally:
    tally = Tally(what)
    for number in range(count):
        out, size = f"grown-{number}", int(10 ** draw.uniform(1, 5.5))

        def limit(size: int = size) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        first = attempt(words_of(text, out), prepare=limit)
        tally.add(_told_and_gone_on(first.problem(), text, out, whole, f"{size} bytes"))
        remove(out)
    return tally


def _page_on_full_disk(count: int, draw: random.Random) -> Tally:
    """The page that is there stays until there is room for the next."""
    tally, out = Tally("a full disk while reporting"), f"{SMALL}/run"
    _resize(AMPLE)
    shutil.copytree("whole-run", out)
    page = Path(out, "report.html")
    for _ in range(count):
        page.write_text("as it was")
        _resize(_taken(SMALL) + draw.randrange(0, 20_000))
        end = attempt(["report", out])
        kept = page.read_text() == "as it was" or end.code == 0
        _resize(AMPLE)
        again = attempt(["report", out])
        lost = None if kept else "the page that was there is gone"
        tally.add(end.problem((0, 1, 2)) or lost or again.problem((0,)))
    return tally


def _taken(folder: str) -> int:
    """Bytes of all files, in whole pages."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in paths)
