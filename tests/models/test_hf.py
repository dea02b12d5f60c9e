"""Image classifiers of transformers, made small, saved in folders: no network is needed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from collegium.errors import CollegiumError, RequestError, WeightsError
from collegium.models.input_spec import InputSpec
from collegium.models.network import Preprocess, weights_hash
from collegium.models.registry import build_network
from collegium.models.weights import network_bytes

transformers = pytest.importorskip("transformers", reason="needs the extra hf")

NAMES = ("cat", "dog", "owl")
COLOUR = InputSpec(NAMES, (3, 32, 32), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2))
SMALL: dict[str, dict[str, Any]] = {
    "vit": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 32,
        "patch_size": 8,
    },
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]},
    "convnext": {"hidden_sizes": [8, 8], "depths": [1, 1], "num_stages": 2},
    "swin": {
        "image_size": 32,
        "patch_size": 2,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    },
    "mobilenet_v2": {"depth_multiplier": 0.25, "depth_divisible_by": 4},
}
PROCESSOR = {
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.25, 0.25, 0.25],
    "resample": 3,
    "size": {"height": 32, "width": 32},
}


def save(kind: str, folder: Path, processor: dict[str, Any] | None = None) -> Any:
    """A trained network's folder, as transformers leaves it; gives the network."""
    config = transformers.AutoConfig.for_model(
        kind,
        id2label=dict(enumerate(NAMES)),
        label2id={n: i for i, n in enumerate(NAMES)},
        **SMALL[kind],
    )
    torch.manual_seed(1)
    model = transformers.AutoModelForImageClassification.from_config(config).eval()
    model.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


@pytest.mark.parametrize("kind", SMALL)
def test_a_folder_is_a_teacher_with_its_own_sight_and_classes(kind: str, tmp_path: Path) -> None:
    model = save(kind, tmp_path, PROCESSOR)
    network = build_network(f"hf:{tmp_path}", COLOUR).eval()
    assert network.classes == network.origin.classes == NAMES
    assert network.origin.trained
    mean, std = tuple(PROCESSOR["image_mean"]), tuple(PROCESSOR["image_std"])
    assert network.preprocess == Preprocess(mean, std, 32, (32, 32), "bicubic")
    views_BDHW = torch.rand(2, 3, 32, 32)
    normalised = (views_BDHW - torch.tensor(mean)[:, None, None]) / 0.25
    assert torch.allclose(network(views_BDHW), model(normalised).logits, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_student_is_built_again_from_its_run_alone(kind: str, tmp_path: Path) -> None:
    save(kind, tmp_path / "model")
    four = InputSpec(("a", "b", "c", "d"), (3, 48, 48), (0.4,) * 3, (0.2,) * 3)
    student = build_network(f"hf:{tmp_path / 'model'}@random", four, 3, trainable=True)
    assert student.preprocess.size == ((32, 32) if kind == "vit" else None)
    (tmp_path / "student.safetensors").write_bytes(network_bytes(student))
    for file in (tmp_path / "model").iterdir():
        file.unlink()
    again = build_network(str(tmp_path), four)
    assert weights_hash(again) == weights_hash(student)
    assert again.preprocess == student.preprocess
    assert again.classes == four.classes


def test_a_student_starts_from_the_weights_with_a_last_layer_of_its_own(tmp_path: Path) -> None:
    model = save("vit", tmp_path, PROCESSOR)
    four = InputSpec(("a", "b", "c", "d"), (3, 32, 32), (0.4,) * 3, (0.2,) * 3)
    student = build_network(f"hf:{tmp_path}", four, trainable=True)
    assert student.classes == four.classes
    assert "classifier.bias, classifier.weight start afresh for 4 classes" in student.origin.notes
    assert torch.equal(student.body.vit.layernorm.weight, model.vit.layernorm.weight)


def test_a_file_with_the_names_of_an_older_version(tmp_path: Path) -> None:
    model = save("vit", tmp_path)
    older = load_file(tmp_path / "model.safetensors")
    torch.save({"model": older}, tmp_path / "mine.pt")
    network = build_network(f"hf:{tmp_path}@{tmp_path / 'mine.pt'}", COLOUR)
    assert weights_hash(network.body) == weights_hash(model)
    assert network.origin.loading is not None


@pytest.mark.parametrize(
    ("words", "mean", "std"),
    [
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, 0.5, 0.5),
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_rescale": False, "image_mean": [51.0] * 3, "image_std": [255.0] * 3}, 0.2, 1.0),
    ],
)
def test_what_a_processor_does_to_bytes_is_done_to_pixels(
    tmp_path: Path, words: dict[str, Any], mean: float, std: float
) -> None:
    save("resnet", tmp_path, words | {"size": {"shortest_edge": 40}, "crop_size": 36})
    network = build_network(f"hf:{tmp_path}", COLOUR)
    assert network.preprocess.mean == (mean,) * 3
    assert network.preprocess.std == (std,) * 3
    assert network.preprocess.size == (40, 40)
    save("resnet", tmp_path, words | {"size": 40, "crop_size": 36, "do_center_crop": True})
    assert build_network(f"hf:{tmp_path}", COLOUR).preprocess.size == (36, 36)


def test_a_folder_that_says_nothing_of_pixels_is_told(tmp_path: Path) -> None:
    save("resnet", tmp_path)
    network = build_network(f"hf:{tmp_path}", COLOUR)
    assert network.preprocess.mean == COLOUR.mean
    assert "nothing says how it wants its pixels" in network.origin.notes[-1]


def test_names_like_label_0_are_no_names(tmp_path: Path) -> None:
    save("resnet", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {str(place): f"LABEL_{place}" for place in range(3)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = build_network(f"hf:{tmp_path}", COLOUR)
    assert network.origin.classes == ()
    assert network.classes == COLOUR.classes


def test_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    save("resnet", tmp_path)
    turned = InputSpec(("owl", "dog", "cat"), (3, 32, 32), (0.4,) * 3, (0.2,) * 3)
    with pytest.raises(RequestError, match="in another order"):
        build_network(f"hf:{tmp_path}", turned)


def refusal(spec: str) -> str:
    with pytest.raises(CollegiumError) as refused:
        build_network(spec, COLOUR)
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    assert "no such folder" in refusal("hf:./nowhere")
    assert "configuration cannot be read" in refusal(f"hf:{tmp_path}@random")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "no image classifier" in refusal(f"hf:{tmp_path}@random")
    save("vit", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    assert "weights cannot be loaded" in refusal(f"hf:{tmp_path}")
    save("resnet", tmp_path / "other")
    (tmp_path / "other/model.safetensors").rename(tmp_path / "model.safetensors")
    assert "keys have no weights there" in refusal(f"hf:{tmp_path}")
    (tmp_path / "preprocessor_config.json").write_text("{")
    assert "preprocessor_config.json cannot be read" in refusal(f"hf:{tmp_path}")


def test_code_in_a_folder_is_never_run(tmp_path: Path) -> None:
    save("resnet", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "configuration cannot be read" in refusal(f"hf:{tmp_path}")
    assert not (tmp_path / "ran").exists()


def test_a_hub_that_does_not_answer_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def silent(*words: object, **more: object) -> None:
        raise ConnectionError("Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", silent)
    with pytest.raises(WeightsError, match="cannot get a/b from the hub: Name or service"):
        build_network("hf:a/b", COLOUR)


def test_without_the_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r'pip install "collegium\[hf\]"'):
        build_network("hf:a/b", COLOUR)
