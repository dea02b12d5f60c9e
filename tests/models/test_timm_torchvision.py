"""Networks of timm and torchvision, where they can be imported; nothing is downloaded."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from collegium.errors import CollegiumError, RequestError
from collegium.models.architectures import find_design
from collegium.models.features.discover import survey
from collegium.models.input_spec import InputSpec
from collegium.models.libraries.torchvision import _modern
from collegium.models.model_string import ModelString
from collegium.models.network import Preprocess, weights_hash
from collegium.models.registry import build_network
from collegium.models.weights import network_bytes
from tests.laws.layer_spec import check_reading

torchvision = pytest.importorskip("torchvision", reason="needs the extra torchvision")
timm = pytest.importorskip("timm", reason="needs the extra timm")

COLOUR = InputSpec(("cat", "dog", "owl"), (3, 32, 32), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2))
SIGHT = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 32)


def imagenet(spec: str) -> InputSpec:
    """Data whose classes have the library's names."""
    classes = find_design(ModelString.read(spec), {}).classes
    return InputSpec(classes, COLOUR.image_shape, COLOUR.mean, COLOUR.std)


def refusal(spec: str, input_spec: InputSpec = COLOUR) -> str:
    with pytest.raises(CollegiumError) as refused:
        build_network(spec, input_spec)
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("torchvision:resnet50", "layer1 layer2 layer3 layer4"),
        ("torchvision:mobilenet_v2", "features.3 features.6 features.13 features"),
        ("torchvision:densenet121", "features.denseblock2 features.denseblock3 features"),
        ("timm:efficientnet_b0", "blocks.1 blocks.2 blocks.4 bn2"),
        ("timm:convnext_atto", "stages.0 stages.1 stages.2 norm_pre"),
    ],
)
def test_hints_come_from_the_ends_of_stages(spec: str, layers: str) -> None:
    expected = layers.split()
    body = build_network(f"{spec}@random", COLOUR).body
    assert list(survey(body, (3, 224, 224)))[-len(expected) :] == expected


@pytest.mark.parametrize(
    ("spec", "sight"),
    [
        ("timm:resnet18", Preprocess(*SIGHT, (224, 224), "bicubic")),
        ("timm:resnet18.tv_in1k", Preprocess(*SIGHT, (224, 224), "bilinear")),
        ("torchvision:mobilenet_v3_small", Preprocess(*SIGHT, (224, 224), "bilinear")),
    ],
)
def test_weights_are_seen_as_the_library_says(spec: str, sight: Preprocess, tmp_path: Path) -> None:
    start = build_network(spec, COLOUR, trainable=True)
    assert start.preprocess == Preprocess(COLOUR.mean, COLOUR.std, 32)
    state = {f"module.{name}": value for name, value in start.body.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    teacher = build_network(f"{spec}@{tmp_path / 'net.pth'}", COLOUR)
    assert teacher.preprocess == sight
    assert weights_hash(teacher) == weights_hash(start)
    assert f"looks at every view as {sight.resizing}" in teacher.origin.notes
    given = build_network(f"{spec}@{tmp_path / 'net.pth'}?size=64&mean=0.5&std=0.5", COLOUR)
    wanted = Preprocess((0.5,) * 3, (0.5,) * 3, 32, (64, 64), sight.interpolation)
    assert given.preprocess == wanted


@pytest.mark.parametrize(
    "spec", ["timm:vit_tiny_patch16_224?size=32", "timm:convnext_atto", "torchvision:squeezenet1_1"]
)
def test_a_student_is_built_again_from_its_run(spec: str, tmp_path: Path) -> None:
    student = build_network(spec, COLOUR, 4, trainable=True).eval()
    (tmp_path / "student.safetensors").write_bytes(network_bytes(student))
    again = build_network(str(tmp_path), COLOUR).eval()
    assert weights_hash(again) == weights_hash(student)
    views_BDHW = torch.rand(2, 3, 32, 32)
    assert torch.allclose(again(views_BDHW), student(views_BDHW), atol=1e-5)


def test_a_size_only_some_networks_insist_on() -> None:
    network = build_network("timm:vit_tiny_patch16_224", COLOUR, trainable=True)
    assert network.preprocess.size == (224, 224)


def test_the_librarys_own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a teacher with the classes they know, for a student with a new last layer."""
    torch.manual_seed(0)
    published = timm.create_model("resnet10t", num_classes=1000)
    torch.save(published.state_dict(), tmp_path / "file.bin")
    monkeypatch.setattr(
        "collegium.models.libraries.timm.hub_file", lambda repository, name: tmp_path / "file.bin"
    )
    teacher = build_network("timm:resnet10t@pretrained", imagenet("timm:resnet10t"))
    assert weights_hash(teacher.body) == weights_hash(published)
    assert teacher.classes[0] == "tench, Tinca tinca"
    assert len(set(teacher.classes)) == 1000
    student = build_network("timm:resnet10t@pretrained", COLOUR, trainable=True)
    assert student.classes == COLOUR.classes
    assert "starts afresh for 3 classes" in student.origin.notes[0]
    assert torch.equal(student.body.conv1[0].weight, published.conv1[0].weight)


def test_old_names_in_torchvisions_densenets_are_renewed() -> None:
    with torch.device("meta"):
        names = list(torchvision.models.densenet121().state_dict())
    old = [re.sub(r"(layer\d+\.(?:norm|conv))([12])", r"\1.\2", name) for name in names]
    assert old != names
    assert [_modern(name) for name in old] == names


def test_torchvisions_weights_are_never_read_by_a_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    published = torchvision.models.mobilenet_v3_small(num_classes=1000)
    state = published.state_dict()

    def cached(url: str, **words: object) -> dict:
        assert words["weights_only"]
        return state

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", cached)
    data = imagenet("torchvision:mobilenet_v3_small")
    teacher = build_network("torchvision:mobilenet_v3_small@IMAGENET1K_V1", data)
    assert weights_hash(teacher.body) == weights_hash(published)
    assert teacher.classes[:2] == ("tench", "goldfish")
    student = build_network("torchvision:mobilenet_v3_small@pretrained", COLOUR, trainable=True)
    assert "start afresh for 3 classes" in student.origin.notes[0]


def test_names_that_are_not_there(tmp_path: Path) -> None:
    assert "did you mean 'resnet18'? 1" in refusal("timm:resnet181")
    assert "did you mean 'resnet18'?" in refusal("torchvision:resnt18")
    assert "did you mean 'resnet18.tv_in1k'" in refusal("timm:resnet18.tv_in1@pretrained")
    assert "did you mean 'IMAGENET1K_V2'" in refusal("torchvision:resnet50@IMAGENET1K_V4")
    other = build_network("torchvision:squeezenet1_1", COLOUR, trainable=True)
    (tmp_path / "other.safetensors").write_bytes(network_bytes(other))
    assert "52 unexpected (classifier" in refusal(f"timm:resnet18@{tmp_path / 'other.safetensors'}")


def test_without_a_network_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*words: object, **more: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", silent)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", silent)
    assert "cannot get timm/resnet10t.c3_in1k from the hub" in refusal("timm:resnet10t@pretrained")
    assert "cannot get VGG11_Weights" in refusal("torchvision:vgg11@pretrained")


SAMPLES = {
    "torchvision": {
        "mobilenet_v2": 32,
        "densenet121": 32,
        "resnet18": 32,
        "mobilenet_v3_small": 32,
        "efficientnet_b0": 32,
        "convnext_tiny": 32,
        "squeezenet1_1": 48,
        "shufflenet_v2_x0_5": 32,
        "regnet_y_400mf": 32,
        "mnasnet0_5": 32,
        "googlenet": 48,
        "inception_v3": 96,
        "swin_t": 32,
        "vgg11_bn": 32,
    },
    "timm": {
        "resnet18": 32,
        "densenet121": 32,
        "convnext_atto": 32,
        "efficientnet_b0": 32,
        "mobilenetv3_small_050": 32,
        "regnetx_002": 32,
        "ghostnet_050": 32,
        "repvgg_a0": 32,
        "mobileone_s0": 32,
        "poolformer_s12": 64,
        "edgenext_xx_small": 64,
        "dla34": 32,
        "skresnet18": 32,
    },
}


@pytest.mark.parametrize(
    ("library", "name"),
    [
        pytest.param(library, name, marks=[] if name == "mobilenet_v2" else [pytest.mark.slow])
        for library, names in SAMPLES.items()
        for name in names
    ],
)
def test_every_layer_is_read_as_it_was_returned(library: str, name: str) -> None:
    torch.manual_seed(0)
    side = SAMPLES[library][name]
    if library == "timm":
        network = timm.create_model(name, num_classes=10)
    else:
        drawn = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        network = getattr(torchvision.models, name)(num_classes=10, **drawn)
    check_reading(network, (3, side, side))


def test_what_timm_writes_beside_weights_is_read(tmp_path: Path) -> None:
    """Normalisation, size, crop and the order of the classes; not of another network."""
    body = timm.create_model("resnet10t", num_classes=3)
    torch.save(body.state_dict(), tmp_path / "pytorch_model.bin")
    words = {"mean": [0.9] * 3, "std": [0.05] * 3, "input_size": [3, 32, 32], "crop_pct": 2 / 3,
             "interpolation": "bilinear", "license": "mit"}  # fmt: skip
    content = {"architecture": "resnet10t", "num_classes": 3, "label_names": ["c", "a", "b"]}
    spec = f"timm:resnet10t@{tmp_path / 'pytorch_model.bin'}"
    teacher = replace(COLOUR, any_classes=True)

    def beside(content: object) -> None:
        (tmp_path / "config.json").write_text(json.dumps(content))

    wanted = Preprocess((0.9,) * 3, (0.05,) * 3, 32, (32, 32), resize=(48, 48))
    for form in (content | {"pretrained_cfg": words}, content | words):
        beside(form)
        network = build_network(spec, teacher)
        assert network.preprocess == wanted
        assert (network.classes, network.origin.licence) == (("c", "a", "b"), "mit")
    assert build_network(f"{spec}?size=64&mean=0.5", teacher).preprocess.size == (64, 64)
    beside(content | words | {"crop_pct": 1.15})
    with pytest.raises(RequestError, match=r"config.json: crop_pct 1.15 puts a border"):
        build_network(spec, teacher)
    beside(content | words | {"mean": "many"})
    with pytest.raises(RequestError, match=r"config.json: its pretrained_cfg is not of numbers"):
        build_network(spec, teacher)
    beside(content | words | {"architecture": "resnet18"})
    notes = " ".join(build_network(spec, teacher).origin.notes)
    assert "is of resnet18, so it is ignored" in notes
    # Of published weights the crop is only told, and there to be had.
    assert "?size=176&resize=201 does as its library" in notes
    assert build_network(f"{spec}?size=176&resize=201", teacher).preprocess.resize == (201, 201)


@pytest.mark.parametrize("spec", ["timm:vit_tiny_patch16_224", "torchvision:vit_b_16"])
def test_a_size_that_is_no_number_is_refused(spec: str) -> None:
    with pytest.raises(RequestError, match="size or resize is not numbers"):
        build_network(f"{spec}?size=wide", COLOUR)
