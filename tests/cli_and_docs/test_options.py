"""An option is one field: every place that shows, reads or writes options follows from it."""

import dataclasses
import json
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import torch

import collegium as cg
from collegium.cli.main import VERBS, read
from collegium.cli.parser import help_of, slots_of
from collegium.comparison.run import _jobs
from collegium.config.option import Field
from collegium.config.run import Run, every_option
from collegium.config.same_run import differences, run_id
from collegium.errors import RequestError, UnknownNameError
from collegium.methods.avg_mkd import AvgMKD
from collegium.methods.method_string import read_rows
from collegium.records.results import MetricsLine, Summary
from collegium.records.run_folder import Record
from collegium.report.comparison import kinds
from collegium.runner.resume_check import recorded_threads
from collegium.utils.threads import TORCHS_NUMBER
from scripts.options import END, PAGE, START, table

OPTIONS = list(every_option())
NAMES = [item.name for _, item in OPTIONS]
TRAINING = {"train", "distill", "compare"}
HEEDED: dict[str, set[str]] = {
    "data": {"evaluate", "audit", "layers", "store build", "store verify", "export", *TRAINING},
    "image_size": {"evaluate", "audit", "layers", "store build", "store verify", *TRAINING},
    "corrupt": {"evaluate", "audit", "layers", "store build", "store verify", *TRAINING},
    "classes": {"evaluate", "audit", "layers", "store build", *TRAINING},
    "validation": {"evaluate", "audit", *TRAINING},
    "seed": {"evaluate", "audit", *TRAINING},
    "student": {"distill", "compare", "audit"},
    "teachers": {"distill", "compare", "audit", "store build", "store verify"},
    "labels": {"distill", "compare", "evaluate", "audit", "store build", "store verify"},
    "augment": {"store build", *TRAINING},
    "views": {"store build", *TRAINING},
    "view_seed": {"store build", *TRAINING},
    "epochs": {"resume", *TRAINING},
    "batch_size": {"evaluate", "store build", *TRAINING},
    "threads": {"demo", "export", "resume", "evaluate", "audit", "store build", "store verify"}
    | TRAINING,
    "store": {"distill", "compare", "audit"},
    "store_logits": {"distill", "compare", "store build"},
    "store_hints": {"distill", "compare", "store build"},
}
"""The commands that can use an option; other options of a group as `_usual` says."""
OLD: dict[str, Any] = {
    "format": 1,
    "data": "digits",
    "student": "small:cnn",
    "teachers": {"wide": "runs/wide"},
    "method": "avg_mkd",
    "options": {"temperature": 4.0, "alpha": 0.9, "label_weight": 0.1},
    "optimisation": {
        "epochs": 2,
        "batch_size": 128,
        "optimizer": "sgd",
        "lr": None,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "schedule": "cosine",
        "skip_nonfinite": False,
    },
    "machine": {
        "precision": "32",
        "devices": 1,
        "accelerator": "auto",
        "strategy": "auto",
        "threads": None,
        "workers": None,
        "micro_batches": 1,
        "channels_last": True,
        "fold": True,
        "fused": True,
        "compile": "auto",
        "teacher_memory": "resident",
        "teacher_batch": "128",
        "checkpoint_every": "10min",
    },
    "storage": {"store": "store", "store_logits": "fp16", "store_hints": "none"},
    "seed": 0,
    "validation": 0.1,
    "augment": None,
    "views": 1,
    "view_seed": 0,
    "image_size": None,
    "watch_test": False,
    "classes": ["3", "8"],
    "labels": {},
    "class_weights": None,
    "label_smoothing": 0.0,
    "fingerprint": "f",
    "identity": {"view recipe": "crop"},
    "environment": {"torch": "2"},
}
"""A run.json of format 1, as 223643d wrote it."""
OLD_ID = "15d5a67471a9ad06e942f85954b5f7c6a1b2277e31a4fde85b3b26298dc2e46f"
"""The `id` that 223643d gave it."""


def _usual(group: str, item: Field) -> set[str]:
    """The commands that can use an option that HEEDED does not name."""
    if group != "machine":
        return TRAINING
    resumed = set() if item.option.decides else {"resume"}
    return {"demo", "evaluate", "audit", "store build", "store verify", *TRAINING} | resumed


@pytest.mark.parametrize("place", range(len(OPTIONS)), ids=NAMES)
def test_an_option_is_in_run_json_the_help_python_and_the_documentation(place: int) -> None:
    group, item = OPTIONS[place]
    content = Run("digits", "small:cnn").to_json()
    assert item.name in (content[group] if group else content)
    assert item.help.endswith(".")
    name = (item.option.name or item.name).replace("_", "-")
    users = {verb for verb in VERBS if any(name in slot.names for slot in slots_of(VERBS[verb]))}
    assert users == HEEDED.get(item.name, _usual(group, item))
    for verb in users:
        shown = help_of(verb, VERBS[verb], []).split()
        assert {f"--{name}", f"--{name},"} & set(shown), (verb, name)
    parts = {"data": "digits", "student": "small:cnn"}
    value = parts.pop(item.name, item.default)
    run = Run.from_options({item.name: value}, **parts)
    assert getattr(getattr(run, group) if group else run, item.name) == value
    key = f"{group}.{item.name}" if group else item.name
    assert f"| `{key}` |" in PAGE.read_text()


def test_the_table_of_options_is_current() -> None:
    assert START + table() + END in PAGE.read_text()


def test_names_of_options_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for verb, command in VERBS.items():
        names = [name for slot in slots_of(command) for name in slot.names]
        assert len(set(names)) == len(names), verb


def test_python_refuses_an_unknown_option_and_a_value_of_another_type() -> None:
    parts = {"data": "digits", "student": "small:cnn"}
    with pytest.raises(UnknownNameError, match="did you mean 'epochs'"):
        Run.from_options({"epoch": 3}, **parts)
    with pytest.raises(RequestError, match="epochs 'three'"):
        Run.from_options({"epochs": "three"}, **parts)


@pytest.mark.parametrize("place", range(len(OPTIONS)), ids=NAMES)
def test_two_runs_are_the_same_unless_an_option_that_decides_differs(place: int) -> None:
    group, item = OPTIONS[place]
    base = Run("digits", "small:cnn", {"a": "b"}, AvgMKD()).to_json()
    base["storage"]["store"] = "store"
    changed = json.loads(json.dumps(base))
    (changed[group] if group else changed)[item.name] = _another(item)
    assert bool(differences(base, changed)) == item.option.decides
    assert (run_id(base) != run_id(changed)) == item.option.decides
    by_name = differences(base, changed, names=True)
    assert bool(by_name) == (item.option.decides or item.option.hashed)


def _another(item: Field) -> Any:
    """A value other than the default."""
    kinds = typing.get_args(item.kind) or (item.kind,)
    default = None if item.default is dataclasses.MISSING else item.default
    if default is None:
        return "another" if str in kinds else 3
    if isinstance(default, bool):
        return not default
    return {"a": "c"} if default == {} else ["a"] if default == () else f"{default}1"


def test_how_outputs_are_stored_decides_only_where_they_are() -> None:
    base = Run("digits", "small:cnn").to_json()
    other = json.loads(json.dumps(base))
    other["storage"]["store_logits"] = "fp32"
    assert not differences(base, other)
    assert run_id(base) == run_id(other)


def test_a_run_of_format_1_is_the_same_run() -> None:
    assert run_id(OLD) == OLD_ID
    again = Run.complete(json.loads(json.dumps(OLD)))
    again["options"] = OLD["options"]
    assert run_id(again | {"threads": 2}) == OLD_ID
    assert not differences(OLD, again, names=True)
    assert (again["format"], again["corrupt"]) == (2, None)
    older = {key: value for key, value in OLD.items() if key not in ("class_weights", "labels")}
    assert not differences(Run.complete(older), Run.complete(OLD))
    with pytest.raises(RequestError, match="not of format 2"):
        Run.from_json(OLD | {"format": 3})
    with pytest.raises(RequestError, match="threads is damaged"):
        Run.from_json(OLD | {"threads": "2"})
    with pytest.raises(RequestError, match="1 to 4096"):
        Run.from_json(OLD | {"threads": 10**9})


def test_a_resumed_run_keeps_its_threads(tmp_path: Path) -> None:
    record = Record(tmp_path)
    older = OLD | {"machine": OLD["machine"] | {"threads": 3}}
    assert recorded_threads(record) is None
    for content, threads in ((OLD, TORCHS_NUMBER), (OLD | {"threads": 7}, 7), (older, 3)):
        (tmp_path / "run.json").write_text(json.dumps(content))
        assert recorded_threads(record) == threads


def test_compare_takes_classes_a_store_and_a_first_seed() -> None:
    words = "--data digits --student small:cnn --teacher a=b --methods kd --out table --store kept"
    command: Any = read("compare", [*words.split(), "--classes", "3, 8", "--seed", "5"])
    base = command.base()
    assert (base.classes, base.seed, base.storage.store) == (("3", "8"), 5, "kept")
    assert base.storage.store_hints == "fp16"
    alone, taught = _jobs(base, read_rows("kd", 4.0, 0.9), 5, Path("table"), 1)
    assert (alone.run.storage.store, taught.run.storage.store) == (None, "kept")


def test_options_of_a_method_and_common_ones_of_the_same_name() -> None:
    start = "--data digits --student small:cnn --teacher a=x"
    command: Any = read("distill", [*start.split(), "kd", "--teacher", "a", "--teacher", "b=y"])
    assert command.method.teacher == "a"
    assert command.teachers.teachers == {"a": "x", "b": "y"}
    words = f"{start} fixed --shares a=1 b=2 --no-fold --batch_size=4 --lr -1".split()
    with pytest.raises(RequestError, match="--lr must be > 0, got -1"):
        read("distill", words)
    command = read("distill", words[:-2])
    assert command.method.shares == ("a=1", "b=2")
    assert (command.machine.fold, command.optimisation.batch_size) == (False, 4)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("train --data digits", "--model is missing"),
        ("train --data", "--data: expected one argument"),
        ("train --data --model x", "--data: expected one argument"),
        ("train --data digits --model x --quiet=yes", "--quiet: ignored explicit argument 'yes'"),
        ("train --data digits --model x y", "unexpected word 'y'"),
        ("train --data digits --model x --lr fast", "--lr: invalid float value: 'fast'"),
        ("train --data digits --model x --optimizer sdg", "'sdg' .choose from '?sgd"),
        ("distill --teacher a=x kd gated", "unexpected word 'gated'"),
        ("distill --preset figure", "method's own options come after its name"),
        ("train --preset figure", "unknown option '--preset'"),
        ("cite", "SLUG is missing"),
    ],
)
def test_words_that_make_no_sense(words: str, complaint: str) -> None:
    verb, *rest = words.split()
    with pytest.raises(RequestError, match=complaint):
        read(verb, rest)


def test_none_is_a_value_where_an_option_may_have_none() -> None:
    words = ["--data", "digits", "--model", "small:cnn", "--corrupt", "None", "--lr", "None"]
    command: Any = read("train", words)
    assert (command.data.corrupt, command.optimisation.lr) == (None, None)


DISTIL = "distill --data digits --student smal:cnn --teacher a=small:cnn"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 0),
        ("distill --help", 0),
        ("train --epochs x", 2),
        ("train --data digit --model small:cnn --corrupt skip", 2),
        ("store verify no-store --data foldr:x", 2),
        ("train --data digits --model smal:cnn", 2),
        ("evaluate --data digits --model smal:cnn@a", 2),
        ("compare --data digits --student smal:cnn --methods vanilla --out a", 2),
        ("audit --data digits --teacher a=small:cnn --student smal:cnn", 2),
        ("layers --data digits --model smal:cnn", 2),
        ("store build --data digits --teacher a=smal:cnn@a --out a", 2),
        (DISTIL, 2),
        (f"{DISTIL} kd", 2),
    ],
)
def test_help_and_refusals_import_no_large_library(words: str, code: int) -> None:
    program = (
        "import sys; from collegium.cli.main import main\n"
        f"assert main({words.split()!r}) == {code}\n"
        "assert not {'torch', 'numpy', 'rich', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_options_from_python_are_refused_where_they_would_be_ignored(tmp_path: Path) -> None:
    images = torch.zeros(8, 1, 8, 8), torch.arange(8) % 2
    start: dict[str, Any] = {"student": "small:cnn", "teachers": {}, "method": AvgMKD()}
    for train, option, reason in (
        (images, {"corrupt": "skip"}, "corrupt is for data strings"),
        ("digits", {"data": "digits"}, "option 'data' cannot be given"),
        ("digits", {"epoch": 3}, "did you mean 'epochs'"),
    ):
        with pytest.raises(RequestError, match=reason):
            cg.distill(train=train, out=tmp_path / "run", **start, **option)
    assert not (tmp_path / "run").exists()


def test_values_that_are_never_written_are_damaged() -> None:
    line = {"epoch": 0, "step": 1, "split": "train", "accuracy": 0.5, "loss": 1.0}
    assert MetricsLine.wrong_keys(line) == []
    assert MetricsLine.wrong_keys(line | {"weights_entropy": None}) == ["weights_entropy"]
    assert Summary.wrong_keys({"best_epoch": None}) == []


def test_seeds_of_one_request_are_one_row() -> None:
    run = Run.from_json(OLD).to_json()
    others = {"seed": 1, "id": "b", "threads": 2, "format": 1}
    assert len(set(kinds([run | {"id": "a"}, run | others], ["one", "two"]))) == 1
    assert len(set(kinds([run, run | {"views": 3}], ["one", "two"]))) == 2
