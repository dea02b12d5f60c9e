"""A user's Python file: it works beside its neighbours, and its source is part of what it is."""

import copy
import json
import pickle
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from collegium.errors import RequestError, UnknownNameError
from collegium.models.input_spec import InputSpec
from collegium.models.registry import build_network
from collegium.models.source_code import code_digest, code_of_module
from collegium.models.user_file import user_file

INPUT_SPEC = InputSpec(("a", "b", "c"), (1, 8, 8), (0.5,), (0.5,))
NET = "nn.Sequential(nn.Flatten(), nn.Linear(64, {}))"
BUILD = f"def build(classes):\n    return {NET.format('classes')}\n"
HEAD = "from torch import nn\n"

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files and gives the model string of the first one's `build`."""

    def go(function: str = "build", **files: str) -> str:
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("/init/", "/__init__")
            path = path.with_name(path.name + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        first = tmp_path / (next(iter(files)).replace("__", "/") + ".py")
        return f"{first}:{function}"

    return go


FUTURE = (
    "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    "@dataclass\nclass Sizes:\n    width: int = 5\n"
)
IN_FUNCTION = "def build(classes):\n    import parts\n    return parts.build(classes)\n"
DYNAMIC = (
    "import importlib\ndef build(classes):\n"
    "    return importlib.import_module('parts').build(classes)\n"
)
IN_FORWARD = (
    HEAD + "class Net(nn.Module):\n"
    "    def __init__(self, classes):\n        super().__init__()\n"
    "        self.line = nn.Linear(64, classes)\n"
    "    def forward(self, x):\n        from parts import flat\n        return self.line(flat(x))\n"
    "build = Net\n"
)
WORKS: dict[str, Mapping[str, str]] = {
    "a dataclass with postponed annotations": {"net": FUTURE + HEAD + BUILD},
    "a neighbour": {"net": "from parts import build\n", "parts": HEAD + BUILD},
    "a neighbour's dataclass": {"net": "from parts import build\n", "parts": FUTURE + HEAD + BUILD},
    "a neighbour in a function": {"net": IN_FUNCTION, "parts": HEAD + BUILD},
    "a neighbour by name": {"net": DYNAMIC, "parts": HEAD + BUILD},
    "a neighbour in the forward": {
        "net": IN_FORWARD,
        "parts": "def flat(x):\n    return x.flatten(1)\n",
    },
    "a package below": {
        "net": "from below.parts import build\n",
        "below____init__": "",
        "below__parts": HEAD + "from .more import *\n" + BUILD,
        "below__more": "",
    },
    "a folder below": {
        "net": "import below.parts as p\nbuild = p.build\n",
        "below__parts": HEAD + BUILD,
    },
    "inside of a package": {
        "pack__net": "from .parts import build\n",
        "pack____init__": "from .net import build\n",
        "pack__parts": "from pack.more import build\n",
        "pack__more": HEAD + BUILD,
    },
    "a package whose start fails, not needed": {
        "pack__net": HEAD + BUILD,
        "pack____init__": "raise RuntimeError('no')\n",
    },
    "a path put in front": {
        "net": "import os, sys\nsys.path.insert(0, os.path.dirname(__file__))\n"
        "from parts import build\n",
        "parts": HEAD + BUILD,
    },
    "a name of a library's": {"net": "from datasets import build\n", "datasets": HEAD + BUILD},
    "what prints": {"net": HEAD + "print('hello')\n" + BUILD},
    "a class": {
        "net": IN_FORWARD.replace("from parts import flat", "flat = lambda x: x.flatten(1)")
    },
    "default values": {
        "net": HEAD + "def build(classes=7, width=3):\n    return " + NET.format("classes")
    },
    "classes by name": {
        "net": HEAD
        + "def build(pretrained=False, num_classes=7):\n    return "
        + NET.format("num_classes")
    },
    "classes by name alone": {
        "net": HEAD + "def build(*, num_classes):\n    return " + NET.format("num_classes")
    },
    "no classes": {"net": HEAD + "def build(deep=False):\n    return " + NET.format("3")},
    "a class without an initialiser": {
        "net": HEAD + "class build(nn.Flatten):\n    pass\nclass build(nn.Module):\n"
        "    def forward(self, x):\n        return x.flatten(1)[:, :3]\n"
    },
}


@pytest.mark.parametrize("files", WORKS.values(), ids=WORKS)
def test_it_works_and_every_file_counts(write: Write, tmp_path: Path, files, capsys) -> None:
    before, path = set(sys.modules), list(sys.path)
    string = write(**files)
    network = build_network(string, INPUT_SPEC)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    copy.deepcopy(network)
    pickle.loads(pickle.dumps(network.body))
    own = {name for name in set(sys.modules) - before if not name.startswith("collegium_user_")}
    assert not {name for name in own if name.partition(".")[0] in ("parts", "below", "pack", "net")}
    assert [entry for entry in sys.path if entry not in path] in ([], [str(tmp_path)])
    sys.path[:] = path
    was = network.origin.code
    not_run = {"pack____init__"} if "RuntimeError" in str(files) else set()
    assert len(was) == len(set(files) - not_run)
    for name, content in files.items():
        if name in not_run:
            continue
        # What does not count changes nothing, what does changes the digest of that file.
        same = f'"""Words."""\n\n# more\n{content}'
        write(**{name: content + "\n# more\n" if "__future__" in content else same})
        assert build_network(string, INPUT_SPEC).origin.code == was, name
        write(**{name: content + "\nOTHER = 1\n"})
        now = build_network(string, INPUT_SPEC).origin.code
        assert len([key for key in was if was[key] != now[key]]) == 1, name
        write(**{name: content})


def test_files_of_one_name_in_two_folders_do_not_meet(tmp_path: Path) -> None:
    networks = []
    for folder, width in (("one", 5), ("two", 6)):
        place = tmp_path / folder
        place.mkdir()
        (place / "net.py").write_text("from parts import build\n")
        layers = f"nn.Flatten(), nn.Linear(64, {width}), nn.Linear({width}, classes)"
        (place / "parts.py").write_text(
            f"{HEAD}def build(classes):\n    return nn.Sequential({layers})\n"
        )
        networks.append(build_network(f"{place}/net.py:build", INPUT_SPEC))
    assert [network.body[1].out_features for network in networks] == [5, 6]
    assert networks[0].origin.code != networks[1].origin.code


def test_an_edit_of_the_same_size_in_the_same_second_is_seen(write: Write) -> None:
    source = (
        HEAD
        + "def build(classes):\n    return nn.Sequential(nn.ReLU(), "
        + NET.format("classes")
        + ")\n"
    )
    string = write(net=source)
    first = build_network(string, INPUT_SPEC)
    write(net=source.replace("ReLU", "GELU"))
    other = build_network(string, INPUT_SPEC)
    assert type(other.body[0]) is nn.GELU
    assert first.origin.code != other.origin.code
    # Unchanged, it is the same file still: two networks of it share their classes.
    assert user_file(Path(string.rpartition(":")[0])) is user_file(Path(string.rpartition(":")[0]))


FAILS = {
    "import": ("\n\nimport nothing_of_this_name\n", "at net.py:3: ModuleNotFoundError"),
    "syntax": ("x = 1\ndef build(:\n", "at net.py:2: SyntaxError"),
    "raises": ("x = 1\nraise ValueError('no\\nmore')\n", "at net.py:2: ValueError: no"),
    "ends": ("import sys\nsys.exit(3)\n", "at net.py:2: it ended the program (exit code 3)"),
    "neighbour": ("import parts\n", "at parts.py:2: ZeroDivisionError"),
    "builds": ("def build(n):\n    return n.wrong\n", "at net.py:2: AttributeError"),
    "no module": ("def build(n):\n    return n\n", "returned a int, expected an nn.Module"),
    "a network": (HEAD + "build = nn.ReLU()\n", "is a network and no function that makes one"),
}


@pytest.mark.parametrize(("source", "says"), FAILS.values(), ids=FAILS)
def test_what_fails_is_told_in_one_line_with_its_place(
    write: Write, source: str, says: str
) -> None:
    string = write(net=source, parts="x = 1\nx / 0\n")
    before = set(sys.modules)
    with pytest.raises(RequestError) as told:
        build_network(string, INPUT_SPEC)
    assert says in str(told.value)
    assert "\n" not in str(told.value)
    assert "collegium_user_" not in str(told.value)
    if source.startswith(("\n", "x", "import")):
        assert not {name for name in set(sys.modules) - before if "collegium_user_" in name}


def test_a_name_that_is_not_there_names_those_that_are(write: Write) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'build'"):
        build_network(write("biuld", net=HEAD + BUILD), INPUT_SPEC)


SAME = ["x = 1  # one", "\n\nx = 1\n", '"""A module."""\nx = 1', "x = 1   \r\n", "\ufeffx = 1"]
OTHER = [
    "x = 2",
    "x = '''\n\n'''",
    "x = '''\n# not a comment\n'''",
    "x = f'''\n  # {1}\n'''",
    "if x:\n  x = 1",
]


def test_comments_blank_lines_and_docstrings_do_not_count() -> None:
    assert len({code_digest(text.encode()) for text in SAME}) == 1
    assert len({code_digest(text.encode()) for text in [SAME[0], *OTHER]}) == 1 + len(OTHER)
    docs = 'def f():\n    """One."""\n    return 1\n'
    assert code_digest(docs.encode()) == code_digest(docs.replace("One", "Two").encode())
    assert code_digest(docs.encode()) != code_digest(docs.replace("1", "2").encode())
    assert code_digest(b"def (:") != code_digest(b"def  (:")  # whatever it is


class Own(nn.Module):
    """A class that is somebody's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Three of the pixels."""
        return x.flatten(1)[:, :3]


def test_of_a_module_from_python_its_own_classes_count() -> None:
    found = code_of_module(nn.Sequential(Own(), nn.ReLU()))
    assert [name.rpartition(".")[2] for name in found] == ["Own"]
    assert all(len(digest) == 64 for digest in found.values())
    assert not code_of_module(nn.Linear(2, 2))


def test_classes_of_a_script_and_those_typed_in_are_somebodys_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python train.py` has its classes in `__main__`, as an interpreter has those typed in."""
    script = tmp_path / "train.py"
    script.write_text(HEAD + "class Net(nn.Module):\n    size = 1\n")
    main = types.ModuleType("__main__")
    main.__file__ = str(script)
    exec(compile(script.read_text(), str(script), "exec"), vars(main))
    monkeypatch.setitem(sys.modules, "__main__", main)
    (digest,) = code_of_module(main.Net()).values()
    assert len(digest) == 64
    del main.__file__
    assert set(code_of_module(main.Net())) == {"__main__.Net"}


def test_weights_know_the_code_that_trained_them(write: Write, tmp_path: Path) -> None:
    from collegium.models.weights import network_bytes

    string = write(net=HEAD + BUILD)
    network = build_network(string, INPUT_SPEC)
    said = json.dumps(dict(network.origin.code))
    (tmp_path / "w.safetensors").write_bytes(network_bytes(network, code=said))
    weights = f"{string}@{tmp_path}/w.safetensors"
    assert not build_network(weights, INPUT_SPEC).origin.doubts
    write(net=HEAD + BUILD + "# a comment\nOTHER = 1\n")
    (doubt,) = build_network(weights, INPUT_SPEC).origin.doubts
    assert doubt == "its code is not what its weights were trained with: net.py"
