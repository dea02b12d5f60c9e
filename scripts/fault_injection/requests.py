"""Command lines and run.json files that nobody would write, up to the first step."""

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import collegium.runner.carry_out
from collegium.cli.main import VERBS, main
from collegium.methods import all_methods
from collegium.records.run_folder import Record
from scripts.fault_injection.attempt import End, Tally
from scripts.fault_injection.fixtures import snapshot

ODD = """0 -1 1 2 nan inf 1e400 999999999999999999999999999999 digits small:cnn a b a=a b=b a= =
folder:nowhere cifar10:/ mnist:. hf:nowhere onnx:a @ small:cnn@a ../.. -- ä net.py:build net.py:
none crop True [] {} on auto 4 10min kd:teacher=a kd:weighting= amtml,kd whole-run fp32 top3"""
FLAGS = """--data --student --model --teacher --epochs --batch-size --lr --seed --validation --views
--augment --store --out --threads --workers --micro-batches --precision --optimizer --schedule
--image-size --preset --temperature --alpha --checkpoint-every --skip-nonfinite --json --help
--methods --seeds --control --overwrite --weighting --teacher-batch --labels --classes --corrupt
--store-logits --store-hints --teacher-memory --split --probe --sample --layers --maps --format
--hint-pairs --jobs --quiet --bogus"""
STARTS = (
    "",
    "--data digits --model small:mlp --epochs 1 --out out",
    "--data digits --student small:mlp --teacher a=a --teacher b=b --epochs 1 --out out",
    "--data digits --student small:mlp --teacher a=a --methods kd --seeds 1 --epochs 1 --out out",
    "--data digits --teacher a=a --out out",
    "whole-run",
    "amtml",
    "kd avg_mkd",
)
SOUND = (
    "train --data digits --model small:mlp --out out",
    "distill --data digits --student small:cnn --teacher a=a --teacher b=b --out out",
    "evaluate --data digits --model a",
    "methods",
    "store info",
    "report whole-run --out out.html",
)
"""Commands that make sense, and options that do for most of them."""
PROPER = (
    "--epochs 2",
    "--batch-size 32",
    "--lr 0.01",
    "--seed 3",
    "--validation 0.2",
    "--views 2",
    "--augment crop",
    "--optimizer adamw",
    "--schedule step",
    "--threads 1",
    "--precision bf16",
    "--micro-batches 2",
    "--teacher-batch 8",
    "--checkpoint-every 5",
    "--classes 1,2,3",
    "--quiet",
    "--json",
)
LONG = ("demo", "doctor")
"""Verbs that take no request worth bending, and their time."""
METHODS = sorted(all_methods())
REAL = 10
"""Of so many generated lines one is also given to the command itself."""


def requests(count: int, draw: random.Random) -> Iterator[Tally]:
    """Command lines, run.json files, and some lines through the command in a process of its own."""
    lines, number = _command_lines(), draw.randrange(2**32)
    with _up_to_the_first_step():
        yield _generated("generated command lines", lines, -(-count // 2), number)
        yield _generated("generated run.json", _run_files(), -(-count // 2), number)
    tally = Tally("generated lines, the command itself")
    shutil.rmtree("out", ignore_errors=True)
    for words in _examples(lines, count // REAL, number + 1) if count >= REAL else ():
        tally.add(_ask_command([word.replace("\x00", "") for word in words]))  # none can have it
    yield tally


@contextlib.contextmanager
def _up_to_the_first_step() -> Iterator[None]:
    """A run is prepared, which checks all of a request, and not carried out."""
    carry_out = collegium.runner.carry_out.carry_out
    collegium.runner.carry_out.carry_out = lambda prepared, out, **_: Record(out)
    try:
        yield
    finally:
        collegium.runner.carry_out.carry_out = carry_out


def _generated(what: str, words: st.SearchStrategy[list[str]], count: int, number: int) -> Tally:
    tally, accepted = Tally(what), [0]

    def ask(words: list[str]) -> None:
        code, problem = _in_process(words)
        tally.add(problem)
        accepted[0] += code == 0

    _each(words, count, number, ask)
    tally.note = f"{accepted[0]} of them made sense"
    return tally


def _examples(lines: st.SearchStrategy[list[str]], count: int, number: int) -> list[list[str]]:
    found: list[list[str]] = []
    _each(lines, count, number, found.append)
    return found


def _each(
    words: st.SearchStrategy[list[str]],
    count: int,
    number: int,
    do: Callable[[list[str]], object],
) -> None:
    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(words)
    def ask(words: list[str]) -> None:
        do(words)

    ask()


def _in_process(words: list[str]) -> tuple[int, str | None]:
    shutil.rmtree("out", ignore_errors=True)
    said, sound = io.StringIO(), snapshot("a", "whole-run")
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words)
        except BaseException as error:
            return 99, f"{words}: {type(error).__name__}: {error}"
    problem = End(code, said.getvalue()).problem()
    if snapshot("a", "whole-run") != sound:
        problem = "a run that was there is not what it was"
    return code, problem and f"{words}: {problem}"


def _ask_command(words: list[str]) -> str | None:
    """The command in a process of its own, in a copy of the folder: it may do what it is told."""
    shutil.rmtree("room", ignore_errors=True)
    shutil.copytree(".", "room", ignore=shutil.ignore_patterns("room"))
    command = [sys.executable, "-m", "collegium.cli.main", *words]
    path = os.pathsep.join(place for place in sys.path if place)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd="room",
        env={**os.environ, "PYTHONPATH": path},
    )
    problem = End(done.returncode, done.stderr).problem()
    if "--overwrite" not in words and snapshot("a") != _moved(snapshot("room/a")):
        problem = "a run that was there is not what it was"
    return problem and f"{words}: {problem}"


def _moved(found: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("room/"): digest for name, digest in found.items()}


def _command_lines() -> st.SearchStrategy[list[str]]:
    odd, flags = st.sampled_from(["", "\x00", *ODD.split()]), st.sampled_from(FLAGS.split())
    word = st.one_of(st.tuples(flags, odd), st.tuples(odd), st.tuples(flags))
    verbs = st.sampled_from([verb for verb in sorted(VERBS) if verb not in LONG])
    odd_lines = st.builds(
        lambda verb, start, words: [*verb.split(), *start.split(), *(w for p in words for w in p)],
        verbs,
        st.sampled_from(STARTS),
        st.lists(word, max_size=5),
    )
    nearly = st.builds(
        lambda start, proper, words: [*start.split(), *" ".join(proper).split(), *words],
        st.sampled_from(SOUND),
        st.lists(st.sampled_from(PROPER), max_size=4, unique=True),
        st.one_of(st.just(()), word, st.sampled_from(METHODS).map(lambda slug: (slug,))),
    )
    return st.one_of(odd_lines, nearly)


def _run_files() -> st.SearchStrategy[list[str]]:
    """`resume` of a folder whose run.json has one or two values that are others."""
    sound = json.loads(Path("whole-run/run.json").read_text())
    places = [(key,) for key in sound]
    places += [(k, inner) for k, v in sound.items() if isinstance(v, dict) for inner in v]
    json_value = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(st.text(max_size=5), deeper),
        max_leaves=5,
    )
    change = st.tuples(st.sampled_from(places), json_value)
    return st.lists(change, min_size=1, max_size=2).map(lambda changes: _bent(sound, changes))


def _bent(sound: Any, changes: list[tuple[tuple[str, ...], Any]]) -> list[str]:
    content = json.loads(json.dumps(sound))
    for place, value in changes:
        inner = content
        for key in place[:-1]:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[place[-1]] = value
    Path("bent").mkdir(exist_ok=True)
    Path("bent/run.json").write_text(json.dumps(content))
    return ["resume", "bent", "--quiet"]
