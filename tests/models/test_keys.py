"""Weights files of other people's scripts: wrappers, nesting, averages, leftovers; refusals."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from collegium.errors import WeightsError
from collegium.models.architectures import find_design
from collegium.models.build import make_body
from collegium.models.input_spec import InputSpec
from collegium.models.key_matching import match_keys
from collegium.models.model_string import ModelString
from collegium.models.network import Network, Preprocess, weights_hash
from collegium.models.registry import build_network, name_classes
from collegium.models.weights import read_weights
from collegium.models.zoo.small import SMALL_MODELS

GREY = InputSpec(("a", "b", "c"), (1, 8, 8), (0.3,), (0.4,))
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A network whose weights are saved in many ways."""
    torch.manual_seed(5)
    return SMALL_MODELS["resnet"](3)


def load(content: object, folder: Path) -> Network:
    """A network of `small:resnet` with what was saved."""
    torch.save(content, folder / "net.pth")
    return build_network(f"small:resnet@{folder / 'net.pth'}", GREY)


def under(*prefixes: str) -> Callable[[State], State]:
    return lambda state: {f"{p}{name}": value for p in prefixes for name, value in state.items()}


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("module.", "'module.' removed"),
        ("model.", "'model.' removed"),
        ("_orig_mod.", "'_orig_mod.' removed"),
        ("backbone.", "'backbone.' removed"),
        ("_orig_mod.module.model.", "'_orig_mod.module.model.' removed"),
    ],
)
def test_a_wrapper_is_taken_off_and_reported(
    trained: nn.Module, tmp_path: Path, prefix: str, said: str
) -> None:
    network = load(under(prefix)(trained.state_dict()), tmp_path)
    assert weights_hash(network.body) == weights_hash(trained)
    count = len(trained.state_dict())
    assert f"{count} of {count} keys renamed: {said}" in network.origin.notes
    assert network.origin.loading is not None
    assert network.origin.loading.match.renamed["linear.bias"] == f"{prefix}linear.bias"


def test_parts_that_were_compiled_one_by_one(trained: nn.Module, tmp_path: Path) -> None:
    state = trained.state_dict()
    names = {name: name.replace("layer1.", "layer1._orig_mod.") for name in state}
    network = load({names[name]: value for name, value in state.items()}, tmp_path)
    assert weights_hash(network.body) == weights_hash(trained)


def test_a_wrapper_of_the_network_itself(trained: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom collegium.models.zoo.small import SMALL_MODELS\n"
        "class Own(nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n"
        "        self.inner = SMALL_MODELS['resnet'](classes)\n"
        "    def forward(self, x):\n"
        "        return {'logits': self.inner(x), 'more': x}\n"
    )
    torch.save(trained.state_dict(), tmp_path / "net.pth")
    network = build_network(f"{tmp_path / 'net.py'}:Own@{tmp_path / 'net.pth'}", GREY)
    assert weights_hash(network.body.inner) == weights_hash(trained)
    assert "'inner.' added" in network.origin.notes[0]
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize(
    ("keys", "taken"),
    [
        (["state_dict"], "state_dict"),
        (["model"], "model"),
        (["net", "state_dict"], "net.state_dict"),
        (["model_ema"], "model_ema"),
    ],
)
def test_a_checkpoint_of_a_training_script(
    trained: nn.Module, tmp_path: Path, keys: list[str], taken: str
) -> None:
    content: object = under("module.")(trained.state_dict())
    for key in reversed(keys):
        content = {key: content, "epoch": 3}
    network = load(content, tmp_path)
    assert weights_hash(network.body) == weights_hash(trained)
    assert f"took {taken!r} of" in network.origin.notes[0]
    assert "epoch" in network.origin.notes[0]


def test_the_averaged_weights_come_first(trained: nn.Module, tmp_path: Path) -> None:
    last = {name: torch.zeros_like(value) for name, value in trained.state_dict().items()}
    whole = {"state_dict": last, "state_dict_ema": trained.state_dict()}
    network = load(whole, tmp_path)
    assert weights_hash(network.body) == weights_hash(trained)
    assert "took 'state_dict_ema'" in network.origin.notes[0]
    flat = under("model.")(last) | under("model_ema.module.")(trained.state_dict())
    network = load(flat | {"model_ema.n_averaged": torch.tensor(3)}, tmp_path)
    assert weights_hash(network.body) == weights_hash(trained)
    assert "'model_ema.module.' removed" in network.origin.notes[0]


def test_what_stands_beside_the_network_is_left_and_said(
    trained: nn.Module, tmp_path: Path
) -> None:
    state = trained.state_dict() | {"projector.weight": torch.rand(4, 4)}
    network = load({n: v for n, v in state.items() if "num_batches" not in n}, tmp_path)
    assert "1 keys of the file not used: projector.weight" in network.origin.notes
    assert any("computed keys not in the file" in note for note in network.origin.notes)
    report = network.origin.loading
    assert report is not None
    assert report.match.unused == ("projector.weight",)
    assert "bn1.num_batches_tracked" in report.match.left_out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: {n: v for n, v in s.items() if n != "conv1.weight"}, "1 missing (conv1.weight"),
        (
            lambda s: {n.replace("linear.", "linaer."): v for n, v in s.items()},
            "2 missing (linear.weight, nearest linaer.weight, linear.bias, nearest linaer.bias)",
        ),
        (lambda s: s | {"layer1.7.conv1.weight": torch.rand(16, 16, 3, 3)}, "1 unexpected (layer1"),
        (lambda s: s | {"conv1.weight": torch.rand(16, 3, 3, 3)}, "16x3x3x3 for 16x1x3x3"),
        (under("student.", "teacher."), "holds 2 networks that fit, under student., teacher."),
    ],
    ids=["missing", "renamed", "deeper", "shape", "two"],
)
def test_what_does_not_fit_is_refused_with_what_is_nearest(
    trained: nn.Module, tmp_path: Path, change: Callable[[State], State], says: str
) -> None:
    with pytest.raises(WeightsError) as refused:
        load(change(trained.state_dict()), tmp_path)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_archive_that_is_cut_short(trained: nn.Module, tmp_path: Path) -> None:
    torch.save(trained.state_dict(), tmp_path / "net.pt")
    content = (tmp_path / "net.pt").read_bytes()
    for end in (0, 10, len(content) // 2):
        (tmp_path / "cut.pt").write_bytes(content[:end])
        with pytest.raises(WeightsError, match=r"cut\.pt: refused"):
            build_network(f"small:resnet@{tmp_path / 'cut.pt'}", GREY)


def test_a_teacher_is_built_with_the_classes_of_its_weights(tmp_path: Path) -> None:
    state = SMALL_MODELS["resnet"](5).state_dict()
    save_file(state, tmp_path / "five.safetensors")
    string = ModelString.read(f"small:resnet@{tmp_path / 'five.safetensors'}")
    file = read_weights(tmp_path / "five.safetensors")
    design = find_design(string, {})
    body, origin = make_body(design, string, file, GREY.classes, trainable=False)
    assert torch.equal(body.state_dict()["linear.bias"], state["linear.bias"])
    assert origin.classes == ()
    network = Network(body, Preprocess((0.0,), (1.0,)), GREY.classes)
    name_classes(network, 5, origin.classes, GREY)
    assert network.classes == ("output 0", "output 1", "output 2", "output 3", "output 4")
    with pytest.raises(WeightsError, match="knows 5 classes, the data has 3"):
        build_network(f"small:resnet@{tmp_path / 'five.safetensors'}", GREY, trainable=True)


def test_names_are_matched_in_any_depth() -> None:
    own = {"0.weight": (2, 2), "0.bias": (2,)}
    theirs = {f"a.b.c.{name}": shape for name, shape in own.items()}
    match = match_keys(own, theirs, "file")
    assert match.fits
    assert match.removed == "a.b.c."
    assert match.found == {name: f"a.b.c.{name}" for name in own}
