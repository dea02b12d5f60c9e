"""ONNX files as exporters leave them: layouts, types, several outputs, probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from collegium.errors import CollegiumError
from collegium.models.input_spec import InputSpec
from collegium.models.network import Network
from collegium.models.registry import build_network

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra dev")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

FLOAT, HALF, BYTES = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.UINT8
COLOUR = InputSpec(("cat", "dog", "owl"), (3, 6, 6), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2))
TEACHER = InputSpec(COLOUR.classes, COLOUR.image_shape, COLOUR.mean, COLOUR.std, any_classes=True)


def weights() -> tuple[Any, Any]:
    draw = np.random.default_rng(1)
    return draw.normal(size=(3, 3)).astype(np.float32), draw.normal(size=3).astype(np.float32)


def export(
    path: Path,
    *,
    last: bool = False,
    kind: int = FLOAT,
    end: str = "",
    batch: int | str = "batch",
    outputs: tuple[str, ...] = ("logits",),
    map_out: bool = False,
    inputs: int = 1,
    opset: int = 17,
) -> None:
    """The mean over rows and columns through a linear layer, in one of the ways it is exported."""
    weight, bias = weights()
    tensors = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    nodes = [helper.make_node("Cast", ["images"], ["floats"], to=FLOAT)]
    axes = [1, 2] if last else [2, 3]
    nodes += [helper.make_node("ReduceMean", ["floats"], ["means"], axes=axes, keepdims=0)]
    nodes += [helper.make_node("Gemm", ["means", "w", "b"], ["raw"], transB=1)]
    nodes += [helper.make_node(end or "Identity", ["raw"], ["ended"])]
    if map_out:
        tensors += [numpy_helper.from_array(np.array([2, 3]), "ones")]
        nodes += [helper.make_node("Unsqueeze", ["ended", "ones"], [outputs[0]])]
    else:
        nodes += [helper.make_node("Identity", ["ended"], [outputs[0]])]
    nodes += [helper.make_node("Identity", ["means"], [name]) for name in outputs[1:]]
    shape = [batch, 6, 6, 3] if last else [batch, 3, 6, 6]
    images = [helper.make_tensor_value_info("images", kind, shape)]
    more = [helper.make_tensor_value_info(f"in{n}", FLOAT, [1]) for n in range(1, inputs)]
    shapes = [[batch, 3, 1, 1] if map_out else [batch, 3], *[[batch, 3]] * (len(outputs) - 1)]
    ends = [
        helper.make_tensor_value_info(n, FLOAT, s) for n, s in zip(outputs, shapes, strict=True)
    ]
    graph = helper.make_graph(nodes, "net", [*images, *more], ends, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(made, path)


def expected(pixels_BDHW: torch.Tensor) -> torch.Tensor:
    weight, bias = weights()
    return pixels_BDHW.mean(dim=(2, 3)) @ torch.from_numpy(weight).T + torch.from_numpy(bias)


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "channels last": {"last": True},
    "half": {"kind": HALF},
    "fixed batch": {"batch": 2},
    "channels last, fixed batch": {"last": True, "batch": 4},
    "features too": {"outputs": ("logits", "features")},
    "a map of 1x1": {"map_out": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["", "Softmax", "LogSoftmax"])
def test_however_it_was_exported_it_says_the_same(tmp_path: Path, way: str, end: str) -> None:
    export(tmp_path / "net.onnx", end=end, **WAYS[way])
    teacher = build_network(f"onnx:{tmp_path / 'net.onnx'}?mean=0&std=1", TEACHER)
    views_BDHW = torch.rand(3, 3, 6, 6)
    wanted = expected(views_BDHW).softmax(1)
    assert torch.allclose(teacher(views_BDHW).softmax(1), wanted, atol=2e-3)
    notes = " ".join(teacher.origin.notes)
    assert ("gives probabilities" in notes) == (end == "Softmax")


@pytest.mark.parametrize("last", [False, True])
def test_bytes_are_given_where_bytes_are_taken(tmp_path: Path, last: bool) -> None:
    export(tmp_path / "net.onnx", kind=BYTES, last=last)
    teacher = build_network(f"onnx:{tmp_path / 'net.onnx'}", TEACHER)
    views_BDHW = torch.randint(0, 256, (3, 3, 6, 6)) / 255
    assert torch.allclose(teacher(views_BDHW), expected(views_BDHW * 255), atol=1e-3)
    with pytest.raises(CollegiumError, match="takes bytes"):
        build_network(f"onnx:{tmp_path / 'net.onnx'}?mean=0.5&std=0.5", TEACHER)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"inputs": 2}, "expected one input, of images, found 2"),
        ({"outputs": ("scores", "features")}, "not evident which"),
        ({"end": "Sigmoid"}, "several labels at once"),
        ({"opset": 99}, "cannot be read"),
    ],
)
def test_what_cannot_teach_is_refused(tmp_path: Path, words: dict[str, Any], says: str) -> None:
    export(tmp_path / "net.onnx", **words)
    with pytest.raises(CollegiumError) as refused:
        build_network(f"onnx:{tmp_path / 'net.onnx'}?mean=0&std=1", TEACHER)
    assert says in str(refused.value)
    assert str(refused.value).isprintable()
    assert refused.value.exit_code == 2


class Ended(nn.Module):
    """Some classifier with an end of its own."""

    def __init__(self, end: nn.Module, classes: int = 3) -> None:
        super().__init__()
        self.flat, self.end = nn.Linear(3 * 6 * 6, classes), end

    def forward(self, x_BDHW: torch.Tensor) -> torch.Tensor:
        return self.end(self.flat(x_BDHW.flatten(1)))


def taught(body: nn.Module) -> Network:
    from collegium.build import make_teacher

    torch.manual_seed(0)
    return make_teacher("t", body, COLOUR)


def test_modules_that_end_in_probabilities_or_sigmoids() -> None:
    views_BDHW = torch.rand(4, 3, 6, 6)
    plain, soft = Ended(nn.Identity()), Ended(nn.Softmax(dim=1))
    soft.load_state_dict(plain.state_dict())
    wanted = taught(plain)(views_BDHW).softmax(1)
    assert torch.allclose(taught(soft)(views_BDHW).softmax(1), wanted, atol=1e-5)
    assert "gives probabilities" in taught(soft).origin.notes[-1]
    assert taught(plain).origin.notes == ()
    for body, says in (
        (Ended(nn.Sigmoid()), "several labels at once"),
        (Ended(nn.Sigmoid(), 1), "gives one output"),
        (Ended(nn.Identity(), 1), "gives one output"),
    ):
        with pytest.raises(CollegiumError, match=says):
            taught(body)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_damaged_tensor_is_named(value: float) -> None:
    body = Ended(nn.BatchNorm1d(3))
    for name in ("flat.weight", "end.running_var", "end.bias"):
        state = {key: tensor.clone() for key, tensor in body.state_dict().items()}
        state[name].view(-1)[1] = value
        damaged = Ended(nn.BatchNorm1d(3))
        damaged.load_state_dict(state)
        with pytest.raises(CollegiumError, match=rf"tensor {name} is damaged: 1 of"):
            taught(damaged)


class Overflows(nn.Module):
    """Sound weights, and no number for the first of its classes where a picture is bright."""

    def forward(self, x_BDHW: torch.Tensor) -> torch.Tensor:
        logits_BC = x_BDHW.flatten(1)[:, :10] + 0.1
        return torch.where(x_BDHW.amax(dim=(1, 2, 3))[:, None] > 0, logits_BC * 1e39, logits_BC)


def test_logits_that_are_no_numbers_are_named_in_evaluate() -> None:
    import collegium as cg

    with pytest.raises(CollegiumError, match=r"NaN or infinite logits for \d+ of 629"):
        cg.evaluate(Overflows(), "digits")
