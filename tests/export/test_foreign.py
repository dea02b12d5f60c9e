"""Students of other libraries: written as those write them, loaded by those."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import collegium as cg
from collegium.cli.main import main
from collegium.records.run_folder import Record

pytestmark = pytest.mark.slow

SMALL: dict[str, dict[str, Any]] = {
    "vit": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 48,
        "patch_size": 8,
    },
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]},
    "swin": {
        "image_size": 32,
        "patch_size": 2,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    },
}
NAMES = ("c<b>at|1", "dog", "owl")


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of pictures in colour, as a data string; the test works beside it."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 6)):
        for label, name in enumerate(NAMES):
            folder = Path("pets", split, name)
            folder.mkdir(parents=True)
            for place in range(count):
                pixels = generator.integers(0, 80, (32, 32, 3), np.uint8)
                pixels[..., label] += 120
                Image.fromarray(pixels).save(folder / f"{place}.png")
    return "folder:pets?val=test"


def train(data: str, model: str) -> Record:
    words = f"train --data {data} --model {model} --epochs 2 --batch-size 16 --quiet --out run"
    assert main(words.split()) == 0
    return Record("run")


def expected(image: Path) -> list[float]:
    (row,) = cg.predict("run", [image], top=3)
    found = dict(zip(row["classes"], row["probabilities"], strict=True))
    return [found[name] for name in NAMES]


def probabilities(logits: torch.Tensor) -> list[float]:
    found: list[float] = logits.detach().softmax(dim=1)[0].tolist()
    return found


def run_card(folder: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The lines of the card, here: the process has what stands in for torchvision's operators."""
    shutil.copy(image, folder / "image.png")
    block = (folder / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    with monkeypatch.context() as inside:
        inside.chdir(folder)
        exec(compile(block, "README.md", "exec"), names)
    return probabilities(torch.as_tensor(names["logits"]))


@pytest.mark.parametrize("kind", SMALL)
def test_a_transformers_student_is_a_folder_of_that_library(
    kind: str, pets: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    config = transformers.AutoConfig.for_model(kind, **SMALL[kind])
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained("model")
    record = train(pets, "hf:model@random")
    shutil.rmtree("model")
    capfd.readouterr()
    found = cg.export_student("run", "safetensors")
    assert found["rows"][1]["max_difference"] < 1e-5
    assert found["accuracy"] == record.summary["accuracy_last"]
    folder = Path("run/export/safetensors")
    content = json.loads((folder / "config.json").read_text())
    assert content["id2label"] == {str(place): name for place, name in enumerate(NAMES)}
    again = transformers.AutoModelForImageClassification.from_pretrained(folder)
    assert again.config.label2id["owl"] == 2
    image = Path("pets/val/dog/0.png")
    assert run_card(folder, image, monkeypatch) == pytest.approx(expected(image), abs=0.01)
    assert main(f"evaluate --data {pets} --model hf:{folder} --json".split()) == 0
    assert json.loads(capfd.readouterr().out)["accuracy"] == found["accuracy"]
    for words in ({"format": "onnx", "int8": True, "allowed_drop": 0.5}, {"format": "pt2"}):
        rows = cg.export_student("run", **words, normalise="inside")["rows"]
        assert rows[1]["max_difference"] < 1e-4
    assert "model shards" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "model",
    ["timm:resnet10t", "timm:vit_tiny_patch16_224?size=32", "torchvision:mobilenet_v3_small"],
)
def test_a_student_of_timm_or_torchvision_has_its_names(
    model: str, pets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchvision", reason="needs the extra torchvision")
    timm = pytest.importorskip("timm", reason="needs the extra timm")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    train(pets, model)
    found = cg.export_student("run", "safetensors")
    assert found["rows"][1]["max_difference"] < 1e-5
    folder = Path("run/export/safetensors")
    image = Path("pets/val/dog/0.png")
    assert run_card(folder, image, monkeypatch) == pytest.approx(expected(image), abs=1e-3)
    if model == "timm:resnet10t":
        file = str(folder / "model.safetensors")
        network = timm.create_model("resnet10t", num_classes=3, checkpoint_path=file)
        wanted = load_file(file)
        assert all(torch.equal(v, wanted[k]) for k, v in network.state_dict().items())
    rows = cg.export_student("run", "onnx")["rows"]
    assert rows[1]["max_difference"] < 1e-3
    assert run_card(Path("run/export/onnx"), image, monkeypatch) == pytest.approx(
        expected(image), abs=1e-3
    )


@pytest.mark.parametrize("missing", ["onnxscript", "onnx", "onnxruntime"])
def test_a_missing_library_is_named_with_its_extra(
    missing: str, pets: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    train(pets, "small:mlp")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == missing else real(name)
    )
    assert main(["export", "run", "--format", "onnx", "--quiet"]) == 2
    said = capfd.readouterr().err
    assert f'needs {missing}, which is not installed: pip install "collegium[onnx]"' in said
    assert missing in said
    assert "collegium.export.export" in sys.modules
    assert not Path("run/export").exists()
