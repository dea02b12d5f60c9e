"""What else a machine does: processes that die, no permission, no memory, clocks that jump."""

import errno
import itertools
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import collegium
from scripts.fault_injection.attempt import Tally, attempt
from scripts.fault_injection.fixtures import COMPARE, DISTIL, facts, going_on, words_of
from scripts.fault_injection.kills import remove

NOBODY = 65534
TWO = (
    "train --data digits --model small:mlp --epochs 2000 --devices 2 --accelerator cpu "
    "--checkpoint-every 20 --out two"
)
SOON = 20.0
"""Seconds within which all processes of a run end when one has died."""


def mishaps(count: int, draw: random.Random) -> Iterator[Tally]:
    """Each a few times, at random moments."""
    assert attempt(words_of(DISTIL, "whole")).code == 0
    whole = facts("whole")
    for what, make, more, ends in (
        ("memory that runs out", _no_memory, "", (1,)),
        ("too many open files", _few_files, "", (0, 1, 2)),
        ("a clock that jumps", lambda draw: _jump, "", (0,)),
        ("no memory for 128 views (--teacher-batch auto)", _small, "--teacher-batch auto", (0,)),
    ):
        tally = Tally(what)
        for number in range(count):
            tally.add(_once(f"odd-{number}", make(draw), whole, more, ends))
        yield tally
    if os.getuid() == 0 and _others_may_read():  # who may do everything can become who may not
        yield _forbidden(count)
        yield _no_longer_allowed(count, draw, whole)
    remove("whole")
    for what, rank in (("a process of two that is killed", "1"), ("the first of two", "0")):
        tally = Tally(what)
        for _ in range(max(1, count // 2)):
            tally.add(_one_of_two(rank, draw))
        yield tally
    tally = Tally("a process of a comparison, killed")
    assert attempt(words_of(COMPARE, "whole")).code == 0
    for number in range(max(1, count // 2)):
        tally.add(_worker(f"several-{number}", facts("whole"), draw))
    remove("whole")
    yield tally
    tally = Tally("a process that decodes, killed")
    for _ in range(max(1, count // 2)):
        tally.add(_decoder())
    yield tally


def _once(
    out: str, prepare: Callable[[], object], whole: dict[str, Any], more: str, ends: tuple[int, ...]
) -> str | None:
    first = attempt([*words_of(DISTIL, out), *more.split()], prepare=prepare)
    end = attempt(going_on(DISTIL, out))
    problem = first.problem(ends) or end.problem((0,))
    same = facts(out) == whole
    remove(out)
    return problem or (None if same else "not what an undisturbed run leaves")


def _at_step(step: int, happens: Callable[[], object]) -> Callable[[], None]:
    """Something happens before the n-th step."""

    def prepare() -> None:
        from collegium.training.trainer import Trainer

        learn, calls = Trainer._learn, itertools.count(1)

        def counted(self: Trainer, *arguments: Any) -> Any:
            if next(calls) == step:
                happens()
            return learn(self, *arguments)

        Trainer._learn = counted  # type: ignore[method-assign]

    return prepare


def _no_memory(draw: random.Random) -> Callable[[], None]:
    def give_none() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used, used))
        torch.empty(1 << 30, dtype=torch.uint8)

    return _at_step(draw.randrange(1, 60), give_none)


def _few_files(draw: random.Random) -> Callable[[], None]:
    def limit() -> None:
        there = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as few calls as can be
        few = there + draw.randrange(0, 3)
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))

    return limit if draw.random() < 0.3 else _at_step(draw.randrange(1, 60), limit)


def _jump() -> None:
    """The clock that people read goes back and forth by years."""
    draw, now = random.Random(0), time.time
    time.time = lambda: now() + draw.uniform(-3e8, 3e8)


def _small(draw: random.Random) -> Callable[[], None]:
    """Teachers find no memory for more than 64 views at a time."""

    def small_blocks() -> None:
        from collegium.models.network import Network

        forward = Network.forward

        def limited(self: Network, images_BDHW: Any) -> Any:
            frozen = not any(p.requires_grad for p in self.parameters())
            if frozen and len(images_BDHW) > 64:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
            return forward(self, images_BDHW)

        Network.forward = limited  # type: ignore[method-assign]

    return small_blocks


def _others_may_read() -> bool:
    """Whether somebody else than its owner gets to the code: not where it lies in a closed home."""
    code = (Path(collegium.__file__), Path(torch.__file__))
    folders = {folder for path in code for folder in path.resolve().parents}
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in folders)


def _forbidden(count: int) -> Tally:
    """A folder that is read-only for whoever wants to write it."""
    tally = Tally("a read-only folder")
    for number in range(count):
        out = Path(f"shut-{number}")
        out.mkdir()
        out.chmod(0o755)
        Path("/proc/self/cwd").resolve().chmod(0o755)
        end = attempt(words_of(DISTIL, f"{out}/run"), prepare=lambda: os.setuid(NOBODY))
        left = list(out.iterdir())
        said = end.problem((1, 2)) or (None if "rmission" in end.said else end.said)
        tally.add(said or (f"left {left}" if left else None))
        shutil.rmtree(out)
    return tally


def _no_longer_allowed(count: int, draw: random.Random, whole: dict[str, Any]) -> Tally:
    """A run whose folder becomes read-only while it is written, and then is not any more."""
    tally = Tally("permission lost while training")
    for number in range(count):
        Path(f"lent-{number}").mkdir()
        os.chown(f"lent-{number}", NOBODY, NOBODY)
        out = f"lent-{number}/run"
        inner = Path(out, "checkpoint")
        lose = _at_step(draw.randrange(2, 60), lambda inner=inner: inner.chmod(0o500))

        def prepare(lose: Callable[[], None] = lose) -> None:
            os.setuid(NOBODY)
            lose()

        first = attempt(words_of(DISTIL, out), prepare=prepare)
        inner.chmod(0o755)
        end = attempt(going_on(DISTIL, out))
        told = None if "that is not permitted" in first.said else f"said {first.said}"
        same = None if facts(out) == whole else "not what an undisturbed run leaves"
        tally.add(first.problem((1,)) or told or end.problem((0,)) or same)
        shutil.rmtree(f"lent-{number}")
    return tally


def _one_of_two(rank: str, draw: random.Random) -> str | None:
    """Kill a process of a run of two: the other ends soon, and says why if it is the first."""
    shutil.rmtree("two", ignore_errors=True)
    run = _start(TWO.split())
    try:
        other = _wait_for_other(run.pid)
        time.sleep(draw.uniform(0, 1))
        os.kill(other if rank == "1" else run.pid, signal.SIGKILL)
        started = time.monotonic()
        _, said = run.communicate(timeout=SOON)
        while _alive(other) and time.monotonic() - started < SOON:
            time.sleep(0.1)
    except (subprocess.TimeoutExpired, TimeoutError) as error:
        run.kill()
        return f"hangs: {error}"
    if _alive(other):
        os.kill(other, signal.SIGKILL)
        return "the other process goes on"
    if rank == "0":
        return None
    last = said.strip().splitlines()[-1:]
    told = "Traceback" not in said and last and "another process of this run" in last[0]
    return None if run.returncode == 1 and told else f"ended with {run.returncode}: {said[-700:]}"


def _start(words: list[str]) -> "subprocess.Popen[str]":
    path = os.pathsep.join(place for place in sys.path if place)
    return subprocess.Popen(
        [sys.executable, "-m", "collegium.cli.main", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def _worker(out: str, whole: dict[str, Any], draw: random.Random) -> str | None:
    """Kill one of the two processes that carry out the runs of a comparison; then go on."""
    run = _start(words_of(COMPARE.replace("--jobs 1", "--jobs 2"), out))
    while run.poll() is None and not list(Path(out).glob("runs/*/seed-0/run.json")):
        time.sleep(0.05)
    time.sleep(draw.uniform(0, 0.3))
    for process in _children(run.pid):
        if b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes():
            os.kill(process, signal.SIGKILL)
            break
    told, said = run.communicate(timeout=120)
    end = attempt(words_of(COMPARE, out))
    same = facts(out) == whole
    remove(out)
    if "Traceback" in said or run.returncode not in (0, 1):
        return f"ended with {run.returncode}: {said[-700:]}"
    if run.returncode == 1 and "its process died" not in told:
        return f"does not say that a process died: {told[-700:]}"
    return end.problem((0,)) or (None if same else "not what an undisturbed comparison leaves")


def _children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(number) for number in found.read_text().split()] if found.exists() else []


def _wait_for_other(parent: int) -> int:
    """The number of the second process, once the run has its first checkpoint."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if list(Path("two/checkpoint").glob("epoch-*")):
            return _children(parent)[0]
        time.sleep(0.1)
    raise TimeoutError("no checkpoint within two minutes")


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.ESRCH):
            raise
        return False
    return state != "Z"


def _decoder() -> str | None:
    """Kill a process that decodes pictures for a training; then go on."""
    from tests.making import write_folder

    if not Path("album").exists():
        write_folder(Path("album"), each=20)
    words = "train --data folder:album --model small:mlp --epochs 3 --batch-size 8 --workers 1"
    words += " --checkpoint-every 1 --quiet --out decoded"
    first = attempt(words.split(), prepare=lambda: _stream(then_kill=True))
    end = attempt(["resume", "decoded", "--quiet"], prepare=_stream)
    shutil.rmtree("decoded", ignore_errors=True)
    said = None if "a process that decodes images died" in first.said else first.said
    return first.problem((1,)) or said or end.problem((0,))


def _stream(then_kill: bool = False) -> None:
    """Take the memory for too small to hold the pictures; kill a decoder in the fourth step."""
    from collegium.data.images import load as albums

    albums.free_memory = lambda: 0

    def kill() -> None:
        os.kill(_children(os.getpid())[-1], signal.SIGKILL)

    if then_kill:
        _at_step(4, kill)()
