"""Checkpoints of public training scripts: plain values are read, code never runs, what is not
PyTorch's is named."""

import argparse
import collections
import datetime
import enum
import json
import pathlib
import pickle
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from collegium.errors import WeightsError
from collegium.models.input_spec import InputSpec
from collegium.models.network import weights_hash
from collegium.models.registry import build_network
from collegium.models.weights import read_weights
from collegium.models.zoo.small import SMALL_MODELS

GREY = InputSpec(("a", "b", "c"), (1, 8, 8), (0.3,), (0.4,))
State = dict[str, Tensor]
BESIDE: dict[str, Any] = {
    "namespace": argparse.Namespace(lr=0.1, out=pathlib.Path("runs/a"), nested={"a": [1, None]}),
    "simple": types.SimpleNamespace(a=1),
    "path": pathlib.Path("/data/imagenet"),
    "windows": pathlib.PureWindowsPath("C:/data"),
    "float64": np.float64(0.5),
    "float32": np.float32(0.5),
    "int64": np.int64(3),
    "bool": np.bool_(True),
    "dtype": np.dtype("float32"),
    "array": np.arange(6.0).reshape(2, 3),
    "random": np.random.RandomState(0).get_state(),
    "text": np.array(["a", "bc"]),
    "counts": collections.defaultdict(list, a=[1]),
    "ordered": collections.OrderedDict(a=1),
    "counter": collections.Counter("aab"),
    "date": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
    "day": datetime.date(2020, 1, 2),
    "span": datetime.timedelta(3),
    "size": torch.Size([1, 2]),
    "torch dtype": torch.float16,
    "device": torch.device("cpu"),
    "set": {1, 2},
    "frozen": frozenset((1,)),
    "slice": slice(1, 3),
    "range": range(4),
    "complex": 1j,
    "bytes": b"abc",
    "none": None,
    "generator": torch.get_rng_state(),
}
"""What scripts keep beside a network's tensors."""


class Mode(enum.Enum):
    TRAIN = 1


class Ran:
    """Code that a pickle would run."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return exec, ("open('ran', 'w')",)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(5)
    return SMALL_MODELS["cnn"](3)


def load(file: Path, trained: nn.Module) -> None:
    network = build_network(f"small:cnn@{file}", GREY)
    assert weights_hash(network.body) == weights_hash(trained)


def optimiser(trained: nn.Module) -> dict[str, Any]:
    made = torch.optim.Adam(trained.parameters())
    return made.state_dict()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_plain_values_beside_the_tensors_are_read(
    trained: nn.Module, tmp_path: Path, legacy: bool
) -> None:
    content = {"epoch": 3, **BESIDE, "optimizer": optimiser(trained)}
    content["state_dict"] = {f"module.{k}": v for k, v in trained.state_dict().items()}
    for name in ("a.pth.tar", "a.pt", "checkpoint", "best.model"):
        file = tmp_path / name
        torch.save(content, file, _use_new_zipfile_serialization=not legacy)
        load(file, trained)
    for value in BESIDE.values():  # each by itself, so that one culprit hides no other
        torch.save({"model": trained.state_dict(), "x": value}, tmp_path / "one.pt")
        load(tmp_path / "one.pt", trained)


@pytest.mark.parametrize("key", ["state_dict", "model", "net", "model_ema", "ema_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "backbone.", "model._orig_mod."])
def test_wrappers_of_any_kind(trained: nn.Module, tmp_path: Path, key: str, prefix: str) -> None:
    state = {prefix + name: value for name, value in trained.state_dict().items()}
    torch.save({key: state, "optimizer": optimiser(trained), "epoch": 2}, tmp_path / "n.pth.tar")
    load(tmp_path / "n.pth.tar", trained)


def refusal(file: Path) -> str:
    with pytest.raises(WeightsError) as refused:
        read_weights(file)
    assert refused.value.exit_code == 2
    assert str(refused.value).isprintable(), "one line, and nothing that a terminal obeys"
    return str(refused.value)


@pytest.mark.parametrize(
    ("value", "culprit"),
    [
        (Mode.TRAIN, "test_checkpoints.Mode"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear, a whole module"),
        (Ran(), "exec"),
        (np.random.RandomState(0), "numpy.random"),
        (np.array([Ran()], object), "ObjectDType"),
        (torch.nn.functional.relu, "torch.nn.functional.relu"),
    ],
    ids=["enum", "module", "code", "generator", "objects", "function"],
)
def test_the_culprit_is_named_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object, culprit: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a.b": torch.zeros(1)}, "extra": value}, tmp_path / "x.pt")
    assert culprit in refusal(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


def test_no_escape_code_of_a_file_reaches_the_terminal(tmp_path: Path) -> None:
    code = "\x1b[31mred\x1b[0m"
    content = f"cos\n{code}\n.".encode()
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + content)
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", "little")
    refusal(tmp_path / "a.pt")
    torch.save({code: 1, "\x07bell": 2}, tmp_path / "b.pt")
    assert "\\x1b[31mred" in refusal(tmp_path / "b.pt")
    save_file({f"{code}.weight": torch.zeros(2)}, tmp_path / "c.safetensors")
    with pytest.raises(WeightsError) as refused:
        build_network(f"small:cnn@{tmp_path / 'c.safetensors'}", GREY)
    assert str(refused.value).isprintable()


def other_kinds(folder: Path) -> dict[str, str]:
    """Files of other frameworks under PyTorch's names, and what they are called."""
    (folder / "keras.pth").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    np.savez(folder / "flax.npz", a=np.zeros(2))
    (folder / "flax.npz").rename(folder / "flax.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.14 will give TorchScript up
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), folder / "script.pt")
    (folder / "old.pth.tar").write_bytes(bytes(257) + b"ustar" + bytes(300))
    (folder / "four.pt").write_bytes(pickle.dumps({"a.b": np.zeros(2)}, protocol=4))
    with zipfile.ZipFile(folder / "text.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    return {
        "keras.pth": "HDF5",
        "flax.pth": "numpy arrays",
        "script.pt": "TorchScript",
        "old.pth.tar": "tar archive",
        "four.pt": "refused",
        "text.pt": "archive of other things",
    }


@pytest.mark.filterwarnings("ignore:.*jit:DeprecationWarning")
def test_files_of_others_are_named(tmp_path: Path) -> None:
    for name, says in other_kinds(tmp_path).items():
        assert says in refusal(tmp_path / name), name
    (tmp_path / "weights.msgpack").write_bytes(b"\x82abc")
    assert "unknown kind" in refusal(tmp_path / "weights.msgpack")


def test_a_header_with_one_key_twice_is_refused(tmp_path: Path) -> None:
    body = '"dtype":"F32","shape":[1],"data_offsets":[0,4]'
    for header in (f'{{"a":{{{body}}},"a":{{{body}}}}}', '{"__metadata__":{"b":"1","b":"2"}}'):
        content = header.encode()
        file = tmp_path / "twice.safetensors"
        file.write_bytes(len(content).to_bytes(8, "little") + content + bytes(4))
        assert "twice" in refusal(file)


@pytest.mark.parametrize(
    "said", ["not json", '"abc"', "3", '{"a": 1}', "[[1]]", "null", "[" * 10000]
)
def test_class_names_that_cannot_be_read_give_way_to_labels(
    trained: nn.Module, tmp_path: Path, said: str
) -> None:
    from collegium.build import make_teacher

    file = tmp_path / "n.safetensors"
    save_file(trained.state_dict(), file, {"classes": said, "mean": "0.5", "std": "0.5"})
    with pytest.raises(WeightsError, match="list of classes cannot be read"):
        make_teacher("t", f"small:cnn@{file}", GREY)
    teacher = make_teacher("t", f"small:cnn@{file}", GREY, ["x", "y", "z"])
    assert teacher.classes == ("x", "y", "z")
    assert json.dumps(teacher.preprocess.mean) == "[0.5]"
    assert any("classes" in note for note in teacher.origin.notes)
