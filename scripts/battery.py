"""What `scripts/faults` runs: every attempt in a process of its own, which is then looked at.

An attempt is survived if the command ends as it promises (0 done, 1 failed, 2 refused, and one line
that says why, no traceback, no signal), runs nothing from data, and what is there afterwards is
what an undisturbed run leaves, to the last bit.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from collegium.cli import VERBS, main
from collegium.record import STUDENT, Record
from collegium.session import Session

TIMES = ("seconds", "teacher_seconds", "images_per_s", "inference_images_per_s", "store_hits")
MEMORY = 24 << 30
"""Address space of an attempt on hostile files: what is absurd does not fit."""
COUNTS = {"kills": 100, "files": 200, "requests": 1000, "disk": 20}
NET = """
from torch import nn

def build(classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(144, classes),
    )
"""
DISTIL = (
    "distill --data digits --student net.py:build --teacher a=a --teacher b=b --epochs 4 "
    "--batch-size 64 --augment crop --checkpoint-every 5 --views 2 --store STORE --store-logits "
    "fp32 --store-hints fp16 --quiet --out OUT"
)
COMPARE = (
    "compare --data digits --student net.py:build --teacher a=a --teacher b=b --methods "
    "avg_mkd,amtml --seeds 1 --epochs 3 --jobs 1 --checkpoint-every 5 --quiet --out OUT"
)
STORE = (
    "store build --out OUT --data digits --teacher a=a --teacher b=b --views 4 --augment crop "
    "--quiet"
)
ODD = """0 -1 1 2 nan inf 1e400 999999999999999999999999999999 digits small:cnn a b a=a b=b a= =
folder:nowhere cifar10:/ @ small:cnn@a ../.. -- ä net.py:build net.py: none crop True [] {} on
fp32"""
FLAGS = """--data --student --model --teacher --epochs --batch-size --lr --seed --validation --views
--augment --store --out --threads --workers --micro-batches --precision --optimizer --schedule
--image-size --preset --temperature --alpha --checkpoint-every --skip-nonfinite --json --help
--methods --seeds --control --overwrite --weighting --bogus"""


@dataclass
class Tally:
    """One row of the table.

    Attributes:
        what: was tried.
        tried: how often.
        failed: what went wrong, one text each.
    """

    what: str
    tried: int = 0
    failed: list[str] = field(default_factory=list)

    def note(self, problem: str | None) -> None:
        """Count one attempt."""
        self.tried += 1
        if problem:
            self.failed.append(problem)

    def __str__(self) -> str:
        return f"{self.what:<42}{self.tried:>8}{self.tried - len(self.failed):>10}"


@dataclass(frozen=True)
class End:
    """How an attempt ended: its exit code (negative for a signal), and what it said."""

    code: int
    said: str

    def problem(self, allowed: tuple[int, ...] = (0, 1, 2)) -> str | None:
        """What is wrong with it."""
        if self.code not in allowed:
            return f"ended with {self.code}: {self.said[-600:]}"
        lines = [line for line in self.said.splitlines() if line.startswith("collegium ")]
        told = len(lines) == 1 or "not sound" in self.said  # what `store verify` is there to say
        if self.code and not told:
            return f"said {len(lines)} lines: {self.said[-600:]}"
        return "a traceback" if "Traceback" in self.said else None


def attempt(
    words: list[str], after: float | None = None, prepare: Callable[[], None] = lambda: None
) -> End:
    """Run a command in a process of its own, which is killed after some seconds, if any."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            _be(words, prepare)
        deadline = time.monotonic() + (60 if after is None else after)
        status = _wait(child, deadline)
        said.seek(0)
        return End(os.waitstatus_to_exitcode(status), said.read().decode(errors="replace"))


def _be(words: list[str], prepare: Callable[[], None]) -> None:
    code = 99
    try:
        prepare()
        code = main(words)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(code)


def _wait(child: int, deadline: float) -> int:
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def facts(folder: Path) -> Any:
    """Everything below a folder that has no time in it."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.startswith("view") or path.suffix == ".npz" or path.name == STUDENT:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "metrics.jsonl":
            found[name] = [_timeless(line) for line in Record(path.parent).metrics()]
        elif path.name == "summary.json":
            found[name] = _timeless(json.loads(path.read_text()))
    return found


def _timeless(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in TIMES}


def words_of(text: str, out: str) -> list[str]:
    """The words of a command that writes there."""
    return text.replace("OUT", out).replace("STORE", f"{out}-store").split()


def kills(count: int, draw: random.Random) -> Iterator[Tally]:
    """Killed at random moments, gone on with, killed again, until it is done."""
    for what, text, share in (
        ("kill -9 while training, filling a store", DISTIL, 0.6),
        ("kill -9 while building a store", STORE, 0.2),
        ("kill -9 while comparing", COMPARE, 0.2),
    ):
        yield _kill_often(Tally(what), text, max(1, round(count * share)), draw)


def _kill_often(tally: Tally, text: str, count: int, draw: random.Random) -> Tally:
    started = time.monotonic()
    end = attempt(words_of(text, "whole"))
    assert end.code == 0, end.said
    seconds, round_ = time.monotonic() - started, 0
    whole = facts(Path("whole")) | facts(Path("whole-store"))
    while tally.tried < count:
        out, round_ = f"cut-{round_}", round_ + 1
        for _ in range(min(4, count - tally.tried)):
            end = attempt(_next(text, out), after=draw.uniform(0, 1.1 * seconds))
            tally.note(None if end.code in (0, -signal.SIGKILL) else end.problem((0,)))
        end = attempt(_next(text, out))
        same = facts(Path(out)) | facts(Path(f"{out}-store")) == whole
        if end.problem((0,)) or not same:
            tally.failed.append(end.problem((0,)) or f"{out} is not what an undisturbed run leaves")
        else:
            shutil.rmtree(out)
            shutil.rmtree(f"{out}-store", ignore_errors=True)
    shutil.rmtree("whole")
    shutil.rmtree("whole-store", ignore_errors=True)
    return tally


def _next(text: str, out: str) -> list[str]:
    """The command that goes on."""
    begun = Path(out, "run.json").is_file()
    return ["resume", out, "--quiet"] if begun else words_of(text, out)


class Hostile:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def _bent(content: bytes, draw: random.Random) -> bytes:
    """A file that is not what it was."""
    kind = draw.randrange(9)
    if kind == 0:
        return content[: draw.randrange(len(content))]
    if kind == 1:
        flipped = bytearray(content)
        for _ in range(draw.choice((1, 8, 64))):
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
        return bytes(flipped)
    if kind == 2:
        return draw.choice((2**63 - 1, 10**12, 0, 2**64 - 1)).to_bytes(8, "little") + content[8:]
    if kind == 3:
        shape = draw.choice(("[4294967296, 4294967296]", "[-1]", "[1e30]", '["a"]', "{}", "[]"))
        header = f'{{"x": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 8]}}}}'.encode()
        return len(header).to_bytes(8, "little") + header + bytes(8)
    if kind == 4:
        return draw.randbytes(draw.randrange(1, 4096))
    if kind == 5:
        return pickle.dumps({"weight": Hostile()})
    if kind == 6:
        return b"[" * 100_000 + b"]" * 100_000
    if kind == 7:
        return draw.choice((b"", b"null", b"[]", b"{}", b"1e999", b'"\xff"', b"\x00" * 64))
    return content + draw.randbytes(100)


def _bent_json(content: bytes, draw: random.Random) -> bytes:
    """JSON with one value that is another."""
    if draw.random() < 0.3:
        return _bent(content, draw)
    whole = json.loads(content)
    inner, values = whole, (None, -1, 0, 1e308, 2**70, "", "x" * 5000, [], {}, True, "../../etc")
    while isinstance(inner, dict) and inner:
        key = draw.choice(sorted(inner))
        if not isinstance(inner[key], dict) or draw.random() < 0.3:
            inner[key] = draw.choice(values)
            break
        inner = inner[key]
    return json.dumps(whole).encode()


def files(count: int, draw: random.Random) -> Iterator[Tally]:
    """Files that are not what they say."""
    _make_victims()
    start = "distill --data digits --student small:mlp --epochs 1 --quiet --out out"
    weights = f"{start} --teacher t=small:mlp@FILE avg_mkd"
    run = "resume bad --quiet"
    victims = {
        "weights .safetensors": ("b/student.safetensors", "bad.safetensors", weights, _bent),
        "weights .pt": ("b.pt", "bad.pt", weights, _bent),
        "run.json": ("stopped/run.json", "bad/run.json", run, _bent_json),
        "teachers.json": ("stopped/teachers.json", "bad/teachers.json", run, _bent),
        "metrics.jsonl": ("stopped/metrics.jsonl", "bad/metrics.jsonl", run, _bent),
        "checkpoints": ("", "bad", run, _bent),
        "answers": ("", "bad-store", "store verify bad-store", _bent),
        "images": (
            "",
            "pictures",
            "train --data folder:pictures --model small:mlp --epochs 1 --quiet --out out",
            _bent,
        ),
    }
    for what, (source, target, words, bend) in victims.items():
        tally = Tally(f"hostile {what}")
        for _ in range(-(-count // len(victims))):
            _lay_out(source, target, bend, draw)
            end = attempt(words.replace("FILE", target).split(), prepare=_limit_memory)
            problem = "code was run" if Path("executed").exists() else end.problem((0, 1, 2))
            tally.note(problem and f"{target}: {problem}")
            for left in ("out", "executed"):
                shutil.rmtree(left, ignore_errors=True)
        yield tally


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _make_victims() -> None:
    from safetensors.torch import load_file

    torch.save(load_file("b/student.safetensors"), "b.pt")
    words = words_of(DISTIL.replace("STORE", "stopped-store"), "stopped")
    attempt(words, after=60, prepare=_stop_late)
    assert len(list(Path("stopped/checkpoint").glob("epoch-*"))) == 2
    assert attempt(words_of(STORE, "sound-store")).code == 0
    for split, number in (("train", 12), ("val", 4)):
        for place in range(number):
            path = Path("sound-pictures", split, "ab"[place % 2], f"{place}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (10, 10), (place * 9, 0, 90)).save(path)


def _stop_late() -> None:
    from collegium.training.loop import Training

    learn, calls = Training._learn, [0]

    def counted(self: Training, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 55:
            os._exit(9)
        return learn(self, *arguments)

    Training._learn = counted  # type: ignore[method-assign]


def _lay_out(
    source: str, target: str, bend: Callable[[bytes, random.Random], bytes], draw: random.Random
) -> None:
    """Sound files with one among them that is not."""
    for folder, sound in (("bad", "stopped"), ("bad-store", "sound-store")):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sound, folder)
    shutil.rmtree("pictures", ignore_errors=True)
    shutil.copytree("sound-pictures", "pictures")
    if source:
        Path(target).write_bytes(bend(Path(source).read_bytes(), draw))
        return
    below = Path(target, "checkpoint") if target == "bad" else Path(target)
    victim = draw.choice(sorted(path for path in below.rglob("*") if path.is_file()))
    bend = _bent_json if victim.suffix == ".json" else bend
    victim.write_bytes(bend(victim.read_bytes(), draw))
    if draw.random() < 0.5:  # with a checksum that fits
        _sign(victim)


def _sign(victim: Path) -> None:
    manifest = victim.parent / "manifest.json"
    if victim != manifest and manifest.is_file() and (victim.parent / "tensors").is_file():
        digests = json.loads(manifest.read_text())
        digests[victim.name] = hashlib.sha256(victim.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(digests))


def requests(count: int, draw: random.Random) -> Iterator[Tally]:
    """Generated command lines and run.json files, in this process, up to the first step."""
    carry_out = Session.carry_out
    Session.carry_out = lambda self, **_: Record(self.out)  # type: ignore[method-assign]
    try:
        yield _generated("generated command lines", _command_lines(), -(-count // 2))
        yield _generated("generated run.json", _run_files(), -(-count // 2))
    finally:
        Session.carry_out = carry_out  # type: ignore[method-assign]
    tally, lines = Tally("generated lines, the real command"), _command_lines()
    for _ in range(count // 20):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            words = lines.example()
        tally.note(_ask_command([*words, "--epochs", "1"]))
    yield tally


def _ask_command(words: list[str]) -> str | None:
    import subprocess

    command = [sys.executable, "-m", "collegium.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return End(done.returncode, done.stderr).problem()


def _generated(what: str, words: st.SearchStrategy[list[str]], count: int) -> Tally:
    tally = Tally(what)

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(words)
    def ask(words: list[str]) -> None:
        shutil.rmtree("out", ignore_errors=True)
        tally.note(_in_process(words))

    ask()
    return tally


def _in_process(words: list[str]) -> str | None:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words)
        except BaseException as error:
            return f"{words}: {type(error).__name__}: {error}"
    problem = End(code, said.getvalue()).problem()
    return problem and f"{words}: {problem}"


def _command_lines() -> st.SearchStrategy[list[str]]:
    odd, flags = st.sampled_from(["", "\x00", *ODD.split()]), st.sampled_from(FLAGS.split())
    word = st.one_of(st.tuples(flags, odd), st.tuples(odd), st.tuples(flags))
    verbs = st.sampled_from([v for v in sorted(VERBS) if v not in ("demo", "doctor")])
    sound = st.sampled_from(
        [
            "",
            "--data digits --model small:mlp --epochs 1 --out out",
            "--data digits --student small:mlp --teacher a=a --teacher b=b --epochs 1 --out out",
            "amtml",
            "kd avg_mkd",
        ]
    )
    return st.builds(
        lambda verb, start, words: [*verb.split(), *start.split(), *(w for p in words for w in p)],
        verbs,
        sound,
        st.lists(word, max_size=5),
    ).filter(lambda words: words[0] != "bench")


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

    def bend(changes: list[tuple[tuple[str, ...], Any]]) -> list[str]:
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

    change = st.tuples(st.sampled_from(places), json_value)
    return st.lists(change, min_size=1, max_size=2).map(bend)


def disk(count: int, draw: random.Random) -> Iterator[Tally]:
    """No file may grow beyond a size, then it may: as a disk that is full, then is not."""
    tally = Tally("files that cannot grow, then can")
    assert attempt(words_of(DISTIL, "whole")).code == 0
    whole = facts(Path("whole")) | facts(Path("whole-store"))
    for number in range(count):
        out, size = f"full-{number}", int(10 ** draw.uniform(1, 5.5))

        def limit(size: int = size) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        problem = attempt(words_of(DISTIL, out), prepare=limit).problem()
        end = attempt(_next(DISTIL, out))
        same = facts(Path(out)) | facts(Path(f"{out}-store")) == whole
        tally.note(problem or end.problem((0,)) or (None if same else f"{out} differs at {size}"))
    yield tally


PARTS = {"kills": kills, "files": files, "requests": requests, "disk": disk}


def run(parts: list[str], count: int | None, seed: int) -> list[Tally]:
    """Try these parts in a folder that is removed afterwards."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            _make_teachers()
            return [
                _tell(tally)
                for part in parts
                for tally in PARTS[part](count or COUNTS[part], random.Random(seed))
            ]
        finally:
            os.chdir(before)


def _make_teachers() -> None:
    torch.set_num_threads(1)
    Path("net.py").write_text(NET)
    for name, model in {"a": "small:cnn", "b": "small:mlp"}.items():
        words = f"train --data digits --model {model} --epochs 1 --quiet --out {name}"
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(words.split()) == 0  # here, so that attempts find all imported
    words = "distill --data digits --student small:mlp --teacher a=a --epochs 1 --quiet --out"
    assert attempt([*words.split(), "whole-run"]).code == 0


def _tell(tally: Tally) -> Tally:
    print(tally, flush=True)
    for problem in tally.failed[:5]:
        print("   ", " ".join(problem.split())[:700], flush=True)
    return tally


def entry() -> int:
    """The table; 1 if anything was not survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", default=list(PARTS), choices=[*PARTS, []])
    parser.add_argument("--count", type=int, help="attempts of each part")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'what':<42}{'tried':>8}{'survived':>10}", flush=True)
    tallies = run(list(options.part), options.count, options.seed)
    return int(any(tally.failed for tally in tallies))


if __name__ == "__main__":
    sys.exit(entry())
