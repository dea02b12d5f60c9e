"""Exported networks as teachers: same logits, no gradient, any batch, made fast without harm."""

import copy
import hashlib
import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from collegium.errors import CollegiumError
from collegium.models.features.discover import survey
from collegium.models.input_spec import InputSpec
from collegium.models.network import Preprocess, parameter_count, weights_hash
from collegium.models.registry import build_network
from collegium.models.user_modules import freeze
from collegium.teachers.optimize import InferenceOptions, prepare

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra dev")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

COLOUR = InputSpec(("cat", "dog", "owl"), (3, 16, 16), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2))


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()


def export(
    body: nn.Module, path: Path, batch: int | str = "batch", side: int | str = "side"
) -> None:
    """The same network as an ONNX file, for any batch and size or for one."""
    names = {"0.weight": "w", "0.bias": "b", "3.weight": "v", "3.bias": "c"}
    state = body.state_dict()
    tensors = [numpy_helper.from_array(state[key].numpy(), name) for key, name in names.items()]
    nodes = [
        helper.make_node("Conv", ["images", "w", "b"], ["maps"], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["maps"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v", "c"], ["logits"], transB=1),
    ]
    images = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [batch, 3, side, side])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [batch, 3])
    graph = helper.make_graph(nodes, "classifier", [images], [logits], tensors)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `any.onnx` for any batch and `four.onnx` for four views of 12x12."""
    folder = tmp_path_factory.mktemp("onnx")
    export(network(), folder / "any.onnx")
    export(network(), folder / "four.onnx", 4, 12)
    return folder


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_it_says_what_the_network_says(exported: Path, count: int) -> None:
    views_BDHW = torch.rand(count, 3, 16, 16)
    teacher = build_network(f"onnx:{exported / 'any.onnx'}?mean=0.5&std=0.25", COLOUR)
    assert torch.allclose(teacher(views_BDHW), network()((views_BDHW - 0.5) / 0.25), atol=1e-5)
    fixed = build_network(f"onnx:{exported / 'four.onnx'}", COLOUR)
    assert fixed.preprocess == Preprocess(COLOUR.mean, COLOUR.std, size=(12, 12))
    assert torch.allclose(fixed(views_BDHW), network()(fixed.prepare(views_BDHW)), atol=1e-5)


def test_it_is_its_file_and_nothing_else(exported: Path) -> None:
    file = exported / "any.onnx"
    teacher = build_network(f"onnx:{file}", COLOUR)
    assert weights_hash(teacher) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert parameter_count(teacher) == 0
    assert survey(teacher.body, COLOUR.image_shape) == {}
    assert not teacher(torch.rand(2, 3, 16, 16).requires_grad_()).requires_grad
    views_BDHW = torch.rand(2, 3, 16, 16)
    assert torch.equal(copy.deepcopy(teacher)(views_BDHW), teacher(views_BDHW))
    assert "nothing says how it wants its pixels" in teacher.origin.notes[0]


def test_making_it_fast_changes_nothing(exported: Path) -> None:
    teacher = freeze(build_network(f"onnx:{exported / 'any.onnx'}", COLOUR))
    views_BDHW = torch.rand(16, 3, 16, 16)
    low = InferenceOptions(low=lambda: torch.autocast("cpu", torch.bfloat16))
    prepared = prepare(lambda: teacher, views_BDHW, low)
    assert prepared.changes == []
    assert torch.allclose(prepared.ask(views_BDHW), teacher(views_BDHW), atol=1e-5)


def test_what_the_file_says_of_itself_is_heeded(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported / "any.onnx")
    said = {"mean": "0.1 0.2 0.3", "std": "1 1 1", "classes": json.dumps(COLOUR.classes)}
    onnx.helper.set_model_props(model, said)
    onnx.save(model, tmp_path / "said.onnx")
    teacher = build_network(f"onnx:{tmp_path / 'said.onnx'}", COLOUR)
    assert teacher.preprocess == Preprocess((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert teacher.origin.classes == COLOUR.classes
    assert teacher.origin.notes == ()


def test_weights_beside_the_file_belong_to_it(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported / "any.onnx")
    onnx.save(
        model,
        tmp_path / "a.onnx",
        save_as_external_data=True,
        location="a.onnx.data",
        size_threshold=0,
    )
    before = weights_hash(build_network(f"onnx:{tmp_path / 'a.onnx'}", COLOUR))
    content = bytearray((tmp_path / "a.onnx.data").read_bytes())
    content[0] ^= 1
    (tmp_path / "a.onnx.data").write_bytes(bytes(content))
    assert weights_hash(build_network(f"onnx:{tmp_path / 'a.onnx'}", COLOUR)) != before


def test_what_cannot_be_a_teacher(exported: Path, tmp_path: Path) -> None:
    def refusal(spec: str, trainable: bool = False) -> str:
        with pytest.raises(CollegiumError) as refused:
            build_network(spec, COLOUR, trainable=trainable)
        assert refused.value.exit_code == 2
        assert "\n" not in str(refused.value)
        return str(refused.value)

    content = (exported / "any.onnx").read_bytes()
    for end in (0, 7, len(content) // 2):
        (tmp_path / "cut.onnx").write_bytes(content[:end])
        assert "cannot be read" in refusal(f"onnx:{tmp_path / 'cut.onnx'}")
    assert "no such file" in refusal(f"onnx:{tmp_path / 'none.onnx'}")
    assert "can only be a teacher" in refusal(f"onnx:{exported / 'any.onnx'}", trainable=True)
    assert "brings its weights" in refusal(f"onnx:{exported / 'any.onnx'}@pretrained")
    model = onnx.load(exported / "any.onnx")
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.save(model, tmp_path / "double.onnx")
    assert "cannot be read" in refusal(f"onnx:{tmp_path / 'double.onnx'}")
    values = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3])
    same = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "flat", [values], [same])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "flat.onnx")
    assert "expected one input of float32 images" in refusal(f"onnx:{tmp_path / 'flat.onnx'}")


@pytest.mark.slow
def test_a_file_of_torchs_own_exporter(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs onnxscript, of the extra dev")
    dynamic = ({0: torch.export.Dim("batch")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, on itself
        torch.onnx.export(
            network(),
            (torch.zeros(2, 3, 16, 16),),
            tmp_path / "torch.onnx",
            dynamic_shapes=dynamic,
            verbose=False,
        )
    teacher = build_network(f"onnx:{tmp_path / 'torch.onnx'}?mean=0&std=1", COLOUR)
    views_BDHW = torch.rand(3, 3, 16, 16)
    assert torch.allclose(teacher(views_BDHW), network()(views_BDHW), atol=1e-5)
