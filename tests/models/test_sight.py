"""Every teacher sees the same view in its own terms; where they come from; model strings."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from collegium.errors import RequestError, WeightsError
from collegium.models.architectures import has_weights
from collegium.models.input_spec import InputSpec
from collegium.models.model_string import ModelString
from collegium.models.network import Network, Preprocess
from collegium.models.registry import build_network, wrap_module
from collegium.models.weights import network_bytes
from collegium.models.zoo.small import SMALL_MODELS

GREY = InputSpec(("a", "b", "c"), (1, 8, 8), (0.3,), (0.4,))
PLAIN = ((0.0,) * 3, (1.0,) * 3)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resized(how: str, view_DHW: Tensor, size: tuple[int, int]) -> Tensor:
    network = Network(nn.Identity(), Preprocess(*PLAIN, size=size, interpolation=how), "abc")
    return network.prepare(view_DHW[None])[0]


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(20, 20), (64, 48)], ids=["smaller", "larger"])
def test_views_are_resized_as_the_libraries_resize_pictures(how: str, size: tuple) -> None:
    """Pillow is what networks are trained with: equal to the rounding of its bytes."""
    # No black and no white: it cuts off between rows and columns too, where curves overshoot.
    pixels = np.random.default_rng(0).integers(90, 166, (40, 40, 3), np.uint8)
    rows, columns = size
    expected = np.asarray(Image.fromarray(pixels).resize((columns, rows), FILTERS[how]))
    found = resized(how, torch.from_numpy(pixels).permute(2, 0, 1) / 255, size)
    difference = found.permute(1, 2, 0) * 255 - torch.from_numpy(expected.astype(np.float32))
    assert difference.abs().max() <= 1.5
    assert found.min() >= 0
    assert found.max() <= 1


def test_nearest_takes_pixels_as_they_are() -> None:
    view_DHW = torch.rand(3, 4, 4)
    assert torch.equal(resized("nearest", view_DHW, (8, 8))[:, ::2, ::2], view_DHW)


def test_the_centre_of_a_resized_view_is_cut_out() -> None:
    cut = Preprocess(*PLAIN, size=(6, 4), resize=(12,))
    assert cut.resizing == "6x4 bilinear, the centre of 12 (shorter side)"
    view_DHW = torch.rand(3, 8, 16)
    whole = resized("bilinear", view_DHW, (12, 24))
    found = Network(nn.Identity(), cut, "abc").prepare(view_DHW[None])[0]
    assert torch.equal(found, whole[:, 3:9, 10:14])
    both = Preprocess(*PLAIN, size=(6, 4), resize=(12, 10))
    assert both.resizing == "6x4 bilinear, the centre of 12x10"
    found = Network(nn.Identity(), both, "abc").prepare(view_DHW[None])[0]
    assert torch.equal(found, resized("bilinear", view_DHW, (12, 10))[:, 3:9, 3:7])
    assert both.metadata()["resize"] == "12 10"


def test_views_that_are_squares_have_one_way_to_say_it() -> None:
    """So that a teacher of before is the same teacher."""
    assert Preprocess(*PLAIN, size=(6, 6), resize=(6,)).for_views(9, 9).resizing == "6x6 bilinear"
    assert Preprocess(*PLAIN, size=(6, 6), resize=(8,)).for_views(9, 9).resize == (8, 8)
    kept = Preprocess(*PLAIN, size=(6, 6), resize=(6,))
    assert kept.for_views(9, 8) == kept


def test_a_crop_by_the_string_and_by_the_file(tmp_path: Path) -> None:
    state = SMALL_MODELS["cnn"](3).state_dict()
    said = {"mean": "0.1", "std": "0.2", "size": "12", "resize": "16"}
    save_file(state, tmp_path / "net.safetensors", said)
    spec = f"small:cnn@{tmp_path / 'net.safetensors'}"
    network = build_network(spec, GREY)
    assert network.preprocess == Preprocess((0.1,), (0.2,), size=(12, 12), resize=(16, 16))
    assert network.origin.notes == ("looks at every view as 12x12 bilinear, the centre of 16x16",)
    assert build_network(f"{spec}?size=10", GREY).preprocess.resize is None
    assert build_network(f"{spec}?resize=20", GREY).preprocess.resize == (20, 20)
    with pytest.raises(RequestError, match="cannot be cut out of"):
        build_network(f"{spec}?resize=8", GREY)
    # A student learns from the whole view, which is all that its files could say.
    assert build_network(spec, GREY, trainable=True).preprocess.resize is None
    with pytest.raises(RequestError, match="exported student cannot store"):
        build_network(f"{spec}?resize=20", GREY, trainable=True)
    with pytest.raises(RequestError, match="exported student cannot store"):
        wrap_module(network, GREY, trainable=True)


@pytest.mark.parametrize("trainable", [False, True])
def test_one_output_is_told_plainly(trainable: bool) -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    input_spec = replace(GREY, classes=("a", "b"), any_classes=not trainable)
    with pytest.raises(RequestError, match=r"one output.*binary classifier"):
        wrap_module(body, input_spec, trainable=trainable)


def test_a_view_of_the_right_size_is_left_alone_and_copies_see_the_same() -> None:
    view_DHW = torch.rand(3, 16, 16)
    assert torch.equal(resized("bicubic", view_DHW, (16, 16)), view_DHW)
    network = Network(nn.Identity(), Preprocess(*PLAIN, size=(8, 8)), "abc")
    views_BDHW = torch.rand(2, 3, 16, 16)
    assert torch.equal(copy.deepcopy(network).prepare(views_BDHW), network.prepare(views_BDHW))


@pytest.mark.parametrize(
    ("words", "says"),
    [({"size": (0, 8)}, "at least 1"), ({"interpolation": "cubic"}, "did you mean 'bicubic'")],
)
def test_a_resizing_that_cannot_be(words: dict, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        Preprocess(*PLAIN, **words)


def test_the_string_comes_before_the_file_before_the_data(tmp_path: Path) -> None:
    state = SMALL_MODELS["cnn"](3).state_dict()
    save_file(state, tmp_path / "bare.safetensors")
    save_file(state, tmp_path / "said.safetensors", {"mean": "0.1", "std": "0.2", "size": "12 10"})
    bare, said = (f"small:cnn@{tmp_path / name}.safetensors" for name in ("bare", "said"))
    assert build_network(bare, GREY).preprocess == Preprocess((0.3,), (0.4,))
    assert "nothing says how it wants its pixels" in build_network(bare, GREY).origin.notes[0]
    network = build_network(said, GREY)
    assert network.preprocess == Preprocess((0.1,), (0.2,), size=(12, 10))
    assert network.origin.notes == ("looks at every view as 12x10 bilinear",)
    network = build_network(f"{said}?mean=0.5&size=16&interpolation=bicubic", GREY)
    wanted = Preprocess((0.5,), (0.2,), size=(16, 16), interpolation="bicubic")
    assert network.preprocess == wanted
    # What was decided is written down with the network, and read again.
    (tmp_path / "student.safetensors").write_bytes(network_bytes(network))
    assert build_network(str(tmp_path), GREY).preprocess == wanted


def test_one_number_stands_for_three_channels() -> None:
    colour = InputSpec(("a", "b"), (3, 32, 32), (0.4,) * 3, (0.2,) * 3)
    network = build_network("cifar:resnet8?mean=0.5&std=0.25", colour)
    assert network.preprocess == Preprocess((0.5,) * 3, (0.25,) * 3, smallest=32)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("small:cnn?sise=3", "did you mean 'size'"),
        ("small:cnn?size", "KEY=VALUE"),
        ("small:cnn?size=big", "not numbers"),
        ("small:cnn?mean=1,2&std=1,1", "one or three means"),
        ("small:cnn@pretrained", "no weights of its own; give small:cnn@FILE"),
        ("tim:resnet18", "timm:NAME, torchvision:NAME"),
    ],
)
def test_a_string_that_cannot_be_read(spec: str, says: str) -> None:
    with pytest.raises(RequestError, match=says.replace("?", r"\?")):
        build_network(spec, GREY)


@pytest.mark.parametrize("mean", ["much", "0.1 x 0.2"])
def test_metadata_that_are_no_numbers(tmp_path: Path, mean: str) -> None:
    state = SMALL_MODELS["cnn"](3).state_dict()
    save_file(state, tmp_path / "net.safetensors", {"mean": mean, "std": "1"})
    with pytest.raises(WeightsError, match="not numbers"):
        build_network(f"small:cnn@{tmp_path / 'net.safetensors'}", GREY)


def test_which_strings_bring_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with_weights = ["timm:resnet18@a.pth", "timm:resnet18@pretrained", "hf:a/b", "net.py:f"]
    without = ["timm:resnet18", "torchvision:vgg11", "hf:a/b@random", "cifar:resnet20"]
    assert [has_weights(spec) for spec in with_weights] == [True] * 4
    assert [has_weights(spec) for spec in [*without, f"hf:{tmp_path}"]] == [False] * 5
    (tmp_path / "model.safetensors").touch()
    assert has_weights(f"hf:{tmp_path}")
    assert has_weights(str(tmp_path))
    assert has_weights("onnx:a.onnx?mean=0.5")


def test_a_folder_with_an_at_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "run@home").mkdir()
    assert ModelString.read(f"{tmp_path}/run@home").is_run
    assert ModelString.read(f"hf:{tmp_path}/run@home").weights == ""
    (tmp_path / "run?x").mkdir()
    assert ModelString.read(f"{tmp_path}/run?x").is_run


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("(x, x)", "a tuple of (1, 64), (1, 64)"),
        ("{'a': x, 'b': x}", "a dict with a: (1, 64), b: (1, 64)"),
        ("'no'", "returned str"),
        ("{'logits': x[:, :3]}", ""),
        ("(x[:, :3], None, x[:, None])", ""),
        ("type('Output', (), {'logits': x[:, :3]})()", ""),
        ("[x[:, :3]]", ""),
    ],
)
def test_what_a_network_returns(tmp_path: Path, returned: str, says: str) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n"
        f"    def forward(self, x):\n        x = x.flatten(1)\n        return {returned}\n"
        "def build():\n    return Net()\n"
    )
    spec = f"{tmp_path / 'net.py'}:build"
    if not says:
        assert build_network(spec, GREY)(torch.rand(2, 1, 8, 8)).shape == (2, 3)
        return
    with pytest.raises(RequestError) as refused:
        build_network(spec, GREY)
    assert says in str(refused.value)
