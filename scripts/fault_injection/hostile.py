"""Files of every kind that is read, each not what it says, given to the commands that read them."""

import contextlib
import hashlib
import io
import json
import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from collegium.records.run_folder import TEACHERS, Record
from scripts.fault_injection.attempt import End, Tally, attempt
from scripts.fault_injection.fixtures import DISTIL, STORE, snapshot, words_of
from scripts.fault_injection.mutations import (
    ESCAPES,
    MARK,
    SCRIPT,
    Bend,
    odd_archive,
    odd_idx,
    odd_image,
    odd_json,
    odd_tensors,
    text,
    torn,
)

GROWTH = 512 << 20
"""Bytes an attempt may take: what is absurd is refused before it is allocated."""
SPACE = 24 << 30
"""Address space of an attempt."""
SOUND = ("a", "b", "stopped", "finished", "sound-store", "sound-compare", "sound")
"""What no attempt may touch."""
START = "distill --data digits --student small:mlp --epochs 1 --quiet --out out"
ALONE = (
    "compare --data digits --student small:mlp --methods vanilla --seeds 1 --epochs 1 --jobs 1 "
    "--quiet --out OUT"
)
LEARN = "train --model small:mlp --epochs 1 --quiet --out out"


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        what: it is called.
        lay_out: puts one that is bent in its place, and gives the command that reads it.
        each: of how many attempts one is of this kind, as a share.
        check: looks at what came out, beside how it ended.
    """

    what: str
    lay_out: Callable[[random.Random], str]
    each: float = 1.0
    check: Callable[[], str | None] = lambda: None


def files(count: int, draw: random.Random) -> Iterator[Tally]:
    """Every kind in turn."""
    _make_victims()
    kinds, most = _kinds(), 0
    kinds = kinds if count >= len(kinds) else draw.sample(kinds, count)
    shares, sound = sum(kind.each for kind in kinds), snapshot(*SOUND)
    for kind in kinds:
        tally = Tally(f"hostile {kind.what}")
        for _ in range(max(1, round(count * kind.each / shares))):
            words = kind.lay_out(draw)
            end = attempt(words.split(), prepare=_limit_memory)
            problem = _problem(end) or kind.check()
            tally.add(problem and f"{words}: {problem}")
            most = max(most, end.grown)
            for left in ("out", "executed", "bad", "bad-store"):
                shutil.rmtree(left, ignore_errors=True)
        if snapshot(*SOUND) != sound:
            tally.failed.append("something that was there is not what it was")
        yield tally
    yield Tally("memory taken at most by a hostile file", note=f"{most / 2**20:.0f} MiB")


def _problem(end: End) -> str | None:
    if Path("executed").exists():
        return "code was run"
    if end.grown > GROWTH:
        return f"took {end.grown >> 20} MiB: {end.said[-200:]}"
    return end.problem((0, 1, 2))


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))


def _kinds() -> list[Kind]:
    weights = START + " --teacher t=small:mlp@{} avg_mkd"
    report = "report bad --out out.html"
    mnist = LEARN + " --data mnist:bad"
    return [
        Kind("weights .safetensors", _file("b/student.safetensors", odd_tensors, weights), 2),
        Kind("weights .pt, .pth, .bin, .ckpt", _weights_with_code, 2),
        Kind("run.json", _within("stopped", "run.json", odd_json, "resume bad --quiet"), 2),
        Kind("run.json", _within("finished", "run.json", odd_json, report)),
        Kind("teachers.json", _within("stopped", TEACHERS, odd_json, "resume bad --quiet")),
        Kind("metrics.jsonl", _within("stopped", "metrics.jsonl", text, "resume bad --quiet"), 2),
        Kind("metrics.jsonl", _within("finished", "metrics.jsonl", text, report)),
        Kind("summary.json", _within("finished", "summary.json", odd_json, report)),
        Kind("weights.npz", _within("finished", "weights.npz", odd_archive, report)),
        Kind("predictions.npz", _within("finished", "predictions.npz", odd_archive, report)),
        Kind("examples.npz", _within("finished", "examples.npz", odd_archive, report)),
        Kind("compare.json", _within("sound-compare", "compare.json", odd_json, report)),
        Kind("names in a run, for the page", _named_to_hurt, 1, _page_is_escaped),
        Kind("run folder as a teacher", _run_as_teacher),
        Kind("checkpoints", _bent_checkpoint, 2),
        Kind("stores", _bent_store, 2),
        Kind("label maps", _label_map),
        Kind("CIFAR binaries", _cifar),
        Kind("idx files", _any_of("sound/mnist", odd_idx, mnist), 2),
        Kind("images", _any_of("sound/pictures", odd_image, LEARN + " --data folder:bad"), 2),
        Kind("tiny-imagenet lists", _annotations),
        Kind("parquet", _file("sound/pets.parquet", torn, LEARN + " --data hf:{}"), 0.5),
        Kind("code beside data and models", _code_beside, 0.5),
    ]


def _file(source: str, bend: Bend, words: str) -> Callable[[random.Random], str]:
    """One file by itself."""
    target = f"bad/{Path(source).name}"

    def lay_out(draw: random.Random) -> str:
        Path("bad").mkdir()
        Path(target).write_bytes(bend(Path(source).read_bytes(), draw))
        return words.format(target)

    return lay_out


def _within(folder: str, part: str, bend: Bend, words: str) -> Callable[[random.Random], str]:
    """One part of a folder that is sound apart from it."""

    def lay_out(draw: random.Random) -> str:
        shutil.copytree(folder, "bad")
        path = Path("bad", part)
        path.write_bytes(bend(path.read_bytes(), draw))
        return words

    return lay_out


def _any_of(folder: str, bend: Bend, words: str) -> Callable[[random.Random], str]:
    """Any one file below a folder."""

    def lay_out(draw: random.Random) -> str:
        shutil.copytree(folder, "bad")
        victim = draw.choice(sorted(path for path in Path("bad").rglob("*") if path.is_file()))
        victim.write_bytes(bend(victim.read_bytes(), draw))
        return words

    return lay_out


def _weights_with_code(draw: random.Random) -> str:
    Path("bad").mkdir()
    path = Path("bad", f"w{draw.choice(('.pt', '.pth', '.bin', '.ckpt', '.th'))}")
    content = Path("sound/b.pt").read_bytes()
    path.write_bytes(draw.choice((odd_archive, torn, _poisoned))(content, draw))
    return f"{START} --teacher t=small:mlp@{path} avg_mkd"


def _poisoned(content: bytes, draw: random.Random) -> bytes:
    """The archive as it was, with a pickle that would run code."""
    from scripts.fault_injection.mutations import Hostile

    made = io.BytesIO()
    torch.save(draw.choice(({"weight": Hostile()}, [Hostile()], {"state_dict": Hostile()})), made)
    return made.getvalue()


def _named_to_hurt(draw: random.Random) -> str:
    shutil.copytree("finished", "bad")
    record = Record("bad")
    run, teachers = record.run, record.teachers
    teachers[0] |= {"name": SCRIPT, "spec": SCRIPT, "classes": [SCRIPT] * 10}
    for key in draw.sample(["student", "data", "method", "augment"], 2):
        run[key] = SCRIPT
    run["teachers"] = {SCRIPT: SCRIPT}
    record.write_json("run.json", run)
    record.write_json(TEACHERS, teachers)
    summary = record.summary
    record.write_json("summary.json", summary | {f"weights.{SCRIPT}": 1.0, "split": SCRIPT})
    return "report bad --out out.html"


def _page_is_escaped() -> str | None:
    page = Path("out.html").read_text() if Path("out.html").is_file() else ""
    return "a name became part of the page" if f"<script>{MARK}" in page else None


def _run_as_teacher(draw: random.Random) -> str:
    shutil.copytree("a", "bad")
    part = draw.choice(("run.json", "student.safetensors"))
    bend = odd_json if part == "run.json" else odd_tensors
    Path("bad", part).write_bytes(bend(Path("a", part).read_bytes(), draw))
    return f"{START} --teacher t=bad avg_mkd"


def _bent_checkpoint(draw: random.Random) -> str:
    """A file of a checkpoint; half of the time with a checksum that fits."""
    shutil.copytree("stopped", "bad")
    files = sorted(path for path in Path("bad/checkpoint").rglob("*") if path.is_file())
    victim = draw.choice(files)
    content, manifest = victim.read_bytes(), victim.parent / "manifest.json"
    bend = odd_json if victim.suffix == ".json" else odd_tensors
    victim.write_bytes(bend(content, draw))
    if victim == manifest:
        names = json.loads(content)
        for name in ESCAPES:
            names[name] = names["tensors"]
        victim.write_text(json.dumps(names)) if draw.random() < 0.5 else None
    elif draw.random() < 0.5:
        digests = json.loads(manifest.read_text())
        digests[victim.name] = hashlib.sha256(victim.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(digests))
    return "resume bad --quiet"


def _bent_store(draw: random.Random) -> str:
    shutil.copytree("sound-store", "bad-store")
    victim = draw.choice(sorted(path for path in Path("bad-store").rglob("*") if path.is_file()))
    bend = odd_json if victim.name == "manifest.json" else odd_tensors
    bend = text if victim.suffix == ".jsonl" else bend
    victim.write_bytes(bend(victim.read_bytes(), draw))
    use = (
        f"{START} --teacher a=a --teacher b=b --views 2 --augment crop --store bad-store avg_mkd",
        "store info bad-store",
        "store verify bad-store --quiet",
    )
    return draw.choice(use)


def _label_map(draw: random.Random) -> str:
    Path("bad").mkdir()
    content = json.dumps({str(place): str(place) for place in range(10)}).encode()
    Path("bad/map.json").write_bytes(odd_json(content, draw))
    return f"{START} --teacher a=a --labels a=bad/map.json avg_mkd"


def _cifar(draw: random.Random) -> str:
    """Sparse files of the right size or not, with labels that are none, or pickles."""
    folder = Path("bad/cifar-10-batches-bin")
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n")
    size = 10_000 * 3073
    names = [*(f"data_batch_{part}.bin" for part in range(1, 6)), "test_batch.bin"]
    for name in names:
        with (folder / name).open("wb") as file:
            file.truncate(size)
    victim, kind = folder / draw.choice([*names[:1], "batches.meta.txt"]), draw.randrange(4)
    with victim.open("r+b") as file:
        if kind == 0:
            file.truncate(draw.choice((0, 1, size - 1, size + 1, 1 << 40)))
        elif kind == 1:
            file.write(b"\xff" * 3073)
        else:
            file.truncate(0)
            file.write(torn(b"abc\n" * 9, draw))
    return LEARN + " --data cifar10:bad"


def _annotations(draw: random.Random) -> str:
    shutil.copytree("sound/tiny-imagenet-200", "bad")
    victim = draw.choice([Path("bad", *parts) for parts in _LISTS])
    if draw.random() < 0.5:
        victim.write_bytes(text(victim.read_bytes(), draw))
    else:
        lines = victim.read_text().splitlines()
        first, *rest = lines[-1].split("\t")
        escape = draw.choice(ESCAPES)
        lines[-1] = "\t".join([escape, *rest] if draw.random() < 0.5 else [first, escape])
        victim.write_text("\n".join(lines))
    return LEARN + " --data tiny-imagenet:bad"


_LISTS = (("wnids.txt",), ("words.txt",), ("val", "val_annotations.txt"))


def _code_beside(draw: random.Random) -> str:
    """Python files that a library would run if it were let."""
    harm = "import os\nos.mkdir('executed')\n"
    folder = Path("bad")
    folder.mkdir()
    (folder / "bad.py").write_text(harm)
    (folder / "modeling.py").write_text(harm + "class Net: pass\n")
    (folder / "conftest.py").write_text(harm)
    config = {"model_type": "harm", "auto_map": {"AutoConfig": "modeling.Net"}}
    config["auto_map"]["AutoModelForImageClassification"] = "modeling.Net"  # type: ignore[index]
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy("sound/b.pt", folder / "pytorch_model.bin")
    return draw.choice((f"{LEARN} --data hf:bad", f"{START} --teacher t=hf:bad avg_mkd"))


def _make_victims() -> None:
    words = words_of(DISTIL.replace("STORE", "stopped-store"), "stopped")
    attempt(words, prepare=_stop_late)
    assert len(list(Path("stopped/checkpoint").glob("epoch-*"))) == 2
    assert attempt(words_of(STORE, "sound-store")).code == 0
    shutil.copytree("whole-run", "finished")
    words = words_of(ALONE, "sound-compare")
    assert attempt(words).code == 0
    Path("sound").mkdir()
    torch.save(load_file("b/student.safetensors"), "sound/b.pt")
    _make_data(Path("sound"))


def _make_data(folder: Path) -> None:
    from tests.making import write_folder, write_idx, write_tiny_imagenet

    write_folder(folder / "pictures", each=6)
    for path in sorted((folder / "pictures").rglob("*.jpg"))[::2]:
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    write_idx(folder / "mnist", {"train": 40, "t10k": 10})
    write_tiny_imagenet(folder, each=4)
    with contextlib.suppress(ImportError):
        _make_parquet(folder / "pets.parquet")
    if not (folder / "pets.parquet").exists():
        (folder / "pets.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    os.environ["HF_DATASETS_CACHE"] = str(Path("cache").resolve())


def _make_parquet(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    pictures = []
    for place in range(20):
        content = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), 9 * place, np.uint8)).save(content, "PNG")
        pictures.append({"bytes": content.getvalue(), "path": None})
    table = {"image": pictures, "label": [place % 2 for place in range(20)]}
    parquet.write_table(pyarrow.table(table), path)


def _stop_late() -> None:
    from collegium.training.trainer import Trainer

    learn, calls = Trainer._learn, [0]

    def counted(self: Trainer, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 55:
            os._exit(9)
        return learn(self, *arguments)

    Trainer._learn = counted  # type: ignore[method-assign]
