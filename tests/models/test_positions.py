"""The size that weights were made for, and what becomes of positions at another."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from collegium.errors import CollegiumError, RequestError
from collegium.models.input_spec import InputSpec
from collegium.models.libraries.config_keys import unknown
from collegium.models.model_string import OPTIONS
from collegium.models.registry import build_network
from tests.models.library_keys import (
    TIMM,
    TORCHVISION_META,
    TORCHVISION_TRANSFORMS,
    WEIGHTS_FILE,
)

COLOUR = InputSpec(
    ("cat", "dog", "owl"), (3, 32, 32), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2), any_classes=True
)


def test_every_key_of_timm_is_known() -> None:
    models = pytest.importorskip("timm.models", reason="needs the extra timm")
    assert unknown(TIMM, vars(models.PretrainedCfg())) == ()


def test_every_key_of_torchvision_is_known() -> None:
    models = pytest.importorskip("torchvision", reason="needs the extra torchvision").models
    metas: set[str] = set()
    shows: set[str] = set()
    for name in [*models.list_models(module=models), *models.list_models(models.quantization)]:
        for weights in models.get_model_weights(name):
            recipe = weights.transforms()
            metas |= set(weights.meta)
            shows |= {word for word in vars(recipe) if not word.startswith("_")} - {"training"}
    assert unknown(TORCHVISION_META, metas) == ()
    assert unknown(TORCHVISION_TRANSFORMS, shows) == ()
    assert "license" in metas


def test_every_key_of_ours_is_known() -> None:
    assert unknown(WEIGHTS_FILE, OPTIONS) == ()


def small_vit(folder: Path, side: int, **words: Any) -> Any:
    """A ViT of transformers for squares of a side, as it is saved."""
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=side,
        patch_size=8,
        id2label=dict(enumerate(COLOUR.classes)),
        **words,
    )
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    return model


def test_transformers_interpolates_and_it_is_said(tmp_path: Path) -> None:
    model = small_vit(tmp_path, 48)
    views_BDHW = torch.rand(2, 3, 32, 32)
    words = "mean=0&std=1"
    teacher = build_network(f"hf:{tmp_path}?size=32&{words}", COLOUR).eval()
    assert "position embeddings are interpolated to views of 32x32" in teacher.origin.notes
    wanted = model(views_BDHW, interpolate_pos_encoding=True).logits
    assert torch.allclose(teacher(views_BDHW), wanted, atol=1e-5)
    whole = build_network(f"hf:{tmp_path}?{words}", COLOUR)
    assert whole.preprocess.size == (48, 48)
    assert not any("interpolated" in note for note in whole.origin.notes)


def test_a_processor_of_another_size_than_the_network(tmp_path: Path) -> None:
    small_vit(tmp_path, 48)
    content = {"image_processor_type": "ViTImageProcessor", "size": 32}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    teacher = build_network(f"hf:{tmp_path}", COLOUR)
    assert "position embeddings are interpolated to views of 32x32" in teacher.origin.notes


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_what_transformers_trained_for_something_else(tmp_path: Path, kind: str) -> None:
    small_vit(tmp_path, 32, problem_type=kind)
    with pytest.raises(RequestError, match=f"was trained for problem_type {kind}"):
        build_network(f"hf:{tmp_path}", COLOUR)
    student = InputSpec(COLOUR.classes, COLOUR.image_shape, COLOUR.mean, COLOUR.std)
    assert build_network(f"hf:{tmp_path}", student, trainable=True).classes == COLOUR.classes


def test_names_for_other_places_than_there_are_logits(tmp_path: Path) -> None:
    small_vit(tmp_path, 32)
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {"1": "cat", "2": "dog", "3": "owl"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="names classes 1 to 3"):
        build_network(f"hf:{tmp_path}", COLOUR)


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: cc-by-nc-4.0", "cc-by-nc-4.0"),
        ("license: other\nlicense_name: apple-amlr", "apple-amlr"),
        ("tags: [a]", ""),
        ("license: [", ""),
    ],
)
def test_the_card_of_a_network_says_its_licence(tmp_path: Path, front: str, licence: str) -> None:
    small_vit(tmp_path, 32)
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# A network\n")
    assert build_network(f"hf:{tmp_path}", COLOUR).origin.licence == licence
    assert build_network(f"hf:{tmp_path}?licence=mit", COLOUR).origin.licence == "mit"


def test_timm_interpolates_a_file_of_another_size(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs the extra timm")
    name = "vit_tiny_patch16_224"
    made = timm.create_model(name, num_classes=3, img_size=64)
    state = {f"module.{key}": value for key, value in made.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "n.pth.tar")
    teacher = build_network(f"timm:{name}@{tmp_path / 'n.pth.tar'}?size=32", COLOUR)
    (note,) = (note for note in teacher.origin.notes if "interpolated" in note)
    assert "pos_embed" in note
    assert "1x17x192 is 1x5x192" in note
    smaller = timm.layers.resample_abs_pos_embed(made.pos_embed, (2, 2))
    assert torch.allclose(teacher.body.pos_embed, smaller, atol=1e-6)
    assert torch.equal(teacher.body.head.weight, made.head.weight)


def test_torchvision_interpolates_and_leaves_nothing_untrained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = pytest.importorskip("torchvision", reason="needs the extra torchvision").models
    from collegium.models.libraries import torchvision as family

    def small(models: Any, member: str, image_size: int = 224, **words: Any) -> Any:
        return models.VisionTransformer(image_size, 16, 1, 2, 16, 16, **words)

    def download(member: str, weights: Any) -> Any:
        return dict(small(models, member, 384, num_classes=1000).state_dict())

    monkeypatch.setattr(family, "_create", small)
    monkeypatch.setattr(family, "_download", download)
    spec = "torchvision:vit_b_16@IMAGENET1K_SWAG_E2E_V1"
    teacher = build_network(spec, COLOUR)
    assert teacher.preprocess.size == (384, 384)
    assert teacher.origin.licence == "cc-by-nc-4.0"
    smaller = build_network(f"{spec}?size=224", COLOUR)
    assert "interpolated to 224 pixels" in smaller.origin.notes[0]
    assert smaller.body.encoder.pos_embedding.shape[1] == 197
    with pytest.raises(RequestError, match="takes squares only"):
        build_network(f"{spec}?size=224,160", COLOUR)
    monkeypatch.setattr(family, "_resample", lambda body, tensors: {})
    with pytest.raises(CollegiumError, match=r"encoder\.pos_embedding would start afresh"):
        build_network(f"{spec}?size=224", COLOUR)
    torch.save(download("", None), tmp_path / "n.pt")
    monkeypatch.undo()
    monkeypatch.setattr(family, "_create", small)
    filed = build_network(f"torchvision:vit_b_16@{tmp_path / 'n.pt'}", COLOUR)
    assert any("interpolated" in note for note in filed.origin.notes)


def test_weights_without_a_classifier_teach_nothing() -> None:
    pytest.importorskip("timm", reason="needs the extra timm")
    with pytest.raises(RequestError, match="weights without a classifier"):
        build_network("timm:vit_small_patch14_dinov2.lvd142m@pretrained", COLOUR)
