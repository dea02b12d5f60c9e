"""Where it happens: teachers, a student with dropout, and the commands that are disturbed."""

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from collegium.cli.main import main
from collegium.records.run_folder import STUDENT
from scripts.fault_injection.attempt import attempt

TIMES = ("seconds", "teacher_seconds", "images_per_s", "inference_images_per_s", "store_hits")
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


@contextlib.contextmanager
def scene() -> Iterator[Path]:
    """A folder of its own with two teachers, `a` and `b`, and a finished run, `whole-run`."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.chdir(folder)
        try:
            _make_teachers()
            yield Path(folder)
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
    end = attempt([*words.split(), "whole-run"])
    assert end.code == 0, end.said


def words_of(text: str, out: str) -> list[str]:
    """The words of a command that writes there."""
    return text.replace("OUT", out).replace("STORE", f"{out}-store").split()


def going_on(text: str, out: str) -> list[str]:
    """The command that goes on, or begins."""
    begun = Path(out, "run.json").is_file()
    return ["resume", out, "--quiet"] if begun else words_of(text, out)


def facts(out: str) -> dict[str, Any]:
    """Everything that a command has left which has no time in it."""
    return _facts(Path(out)) | _facts(Path(f"{out}-store"))


def _facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.startswith("view") or path.suffix == ".npz" or path.name == STUDENT:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "metrics.jsonl":  # a torn line is no JSON
            lines = path.read_text().splitlines()
            found[name] = [_timeless(json.loads(line)) for line in lines]
        elif path.name in ("summary.json", "compare.json"):
            found[name] = _timeless(json.loads(path.read_text()))
        elif path.name == "report.html":
            found[name] = "</html>" in path.read_text()
    return found


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _timeless(value) for key, value in content.items() if key not in TIMES}
    return [_timeless(value) for value in content] if isinstance(content, list) else content


def snapshot(*folders: str) -> dict[str, str]:
    """Every file of some folders, by its content."""
    paths = (path for folder in folders for path in sorted(Path(folder).rglob("*")))
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.is_file() and path.name != ".lock"
    }
