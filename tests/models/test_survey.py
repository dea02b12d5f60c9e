"""Hidden layers are found by the shapes of what modules give, whatever their kind."""

import pytest
import torch
from torch import nn

from collegium.errors import RequestError
from collegium.models.features.discover import every_layer, survey
from collegium.models.network import Network, Preprocess
from collegium.models.zoo.cifar import CIFAR_MODELS
from collegium.models.zoo.small import SMALL_MODELS
from tests.models.shapes import KINDS, Convolutions, Transformer


def test_a_resnets_stages_are_found() -> None:
    assert survey(CIFAR_MODELS["resnet20"](10), (3, 32, 32)) == {
        "layer1": (16, 32, 32),
        "layer2": (32, 16, 16),
        "layer3": (64, 8, 8),
    }


@pytest.mark.parametrize("name", ["vgg8", "wrn-16-1", "wrn-16-2", "mobilenetv2", "resnet8x4"])
def test_every_family_has_plain_layers_from_shallow_to_deep(name: str) -> None:
    found = survey(CIFAR_MODELS[name](10), (3, 32, 32))
    rows = [shape[1] for shape in found.values()]
    assert len(rows) >= 3
    assert rows == sorted(rows, reverse=True)
    assert not any("@" in layer for layer in found)


def test_a_perceptrons_hidden_vector_is_a_map_of_one_position() -> None:
    assert survey(SMALL_MODELS["mlp"](10), (1, 8, 8)) == {"layer1": (32, 1, 1)}
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.ReLU(), nn.Linear(7, 3))
    assert list(survey(plain, (1, 8, 8)).values()) == [(7, 1, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_of_every_kind_are_found(kind: str) -> None:
    make, image, expected = KINDS[kind]
    assert list(survey(make(), (3, *image)).items()) == list(expected.items())


def test_convolutions_of_one_resolution_without_blocks_have_one_layer() -> None:
    plain = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(144, 3)
    )
    assert survey(plain, (1, 8, 8)) == {"2": (4, 6, 6)}


class Inverted(nn.Sequential):
    """MobileNet's block: wide inside, and only then smaller; a ResNet's bottleneck is alike."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        wide = 6 * inputs
        super().__init__(
            nn.Conv2d(inputs, wide, 1),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide),
            nn.Conv2d(wide, outputs, 1),
        )


@pytest.mark.parametrize("nested", [False, True])
def test_what_the_block_that_leaves_a_resolution_computes_is_no_stage(nested: bool) -> None:
    blocks = [Inverted(4, 4, 1), Inverted(4, 8, 2), Inverted(8, 8, 1), Inverted(8, 16, 2)]
    trunk = [nn.Sequential(*blocks)] if nested else blocks
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)]
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), *trunk, *head)
    ends = ("1.0", "1.2", "1") if nested else ("1", "3", "4")
    shapes = ((4, 16, 16), (8, 8, 8), (16, 4, 4))
    assert survey(network, (3, 16, 16)) == dict(zip(ends, shapes, strict=True))


def test_a_stage_that_ends_in_a_smaller_map_is_a_stage() -> None:
    def stage(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2))

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)]
    network = nn.Sequential(stage(3, 4), stage(4, 8), stage(8, 16), *head)
    found = survey(network, (3, 16, 16))
    assert found == {"0.1": (4, 16, 16), "1.1": (8, 8, 8), "2.1": (16, 4, 4), "2": (16, 2, 2)}


def test_looking_changes_nothing() -> None:
    network = CIFAR_MODELS["resnet8"](10).train()
    network.layer1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    survey(network, (3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
    assert not network.layer1.training
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_network_is_looked_at_behind_its_own_size() -> None:
    body = Transformer((32, 32), 1, 2)
    network = Network(body, Preprocess((0.5,) * 3, (0.5,) * 3, smallest=32), "abcde")
    assert survey(network, (3, 8, 8)) == survey(body, (3, 32, 32))


def test_layers_that_are_asked_for_stand_in_their_place_and_the_last_stays_last() -> None:
    network = Transformer((32, 32), 1, 8)
    asked = ["blocks.0", "blocks.2.mlp.1", "head", "norm@4x16"]
    found = survey(network, (3, 32, 32), asked)
    assert list(found) == [
        "blocks.0@8x8",
        "blocks.1@8x8",
        "blocks.2.mlp.1@8x8",
        "blocks.3@8x8",
        "blocks.5@8x8",
        "norm@4x16",
        "head",
        "norm@8x8",
    ]
    assert found["blocks.2.mlp.1@8x8"] == (32, 8, 8)
    assert found["norm@4x16"] == (8, 4, 16)
    assert survey(network, (3, 32, 32), ["blocks.1"]) == survey(network, (3, 32, 32))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("block.1", "the student has no layer 'block.1'; did you mean blocks.1"),
        ("zzz", "the student has no layer 'zzz'; all there are: collegium layers"),
        ("blocks.0@9x9", "'blocks.0@9x9' of the student gives (B, 65, 8), which is no map"),
        ("norm@channels_last", "gives (B, 65, 8)"),
    ],
)
def test_a_layer_that_is_not_there_is_refused_with_what_is_near(name: str, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        survey(Transformer((32, 32), 1, 2), (3, 32, 32), [name], "the student")
    assert says in str(refused.value)


def test_every_layer_can_be_asked_for() -> None:
    known = every_layer(Convolutions(), (3, 8, 8))
    assert known["two.inner"] == (6, 4, 4)
    assert survey(Convolutions(), (3, 8, 8), list(known)).items() >= known.items()


def test_attention_is_set_aside_and_can_be_asked_for() -> None:
    network = Transformer((32, 32), 0, 2)
    assert not any("attention" in layer for layer in survey(network, (3, 32, 32)))
    assert "blocks.0.attention.dropout" in every_layer(network, (3, 32, 32))


def transformers_of_small_size() -> dict[str, tuple[nn.Module, dict[str, tuple[int, int, int]]]]:
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    shared = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    vit = library.ViTConfig(**shared, num_hidden_layers=4, image_size=16, patch_size=4)
    swin = library.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 2], num_heads=[1, 2], window_size=4
    )
    convnext = library.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
    resnet = library.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    stages = {"resnet.encoder.stages.0": (8, 8, 8), "resnet.encoder.stages.1": (16, 4, 4)}
    return {
        "vit": (
            library.ViTForImageClassification(vit),
            {f"vit.layers.{place}@4x4": (8, 4, 4) for place in range(3)}
            | {"vit.layernorm@4x4": (8, 4, 4)},
        ),
        "swin": (
            library.SwinForImageClassification(swin),
            {
                "swin.encoder.layers.0.blocks.0@8x8": (8, 8, 8),
                "swin.layernorm@4x4": (16, 4, 4),
            },
        ),
        "convnext": (
            library.ConvNextForImageClassification(convnext),
            {
                "convnext.encoder.stages.0": (8, 8, 8),
                "convnext.encoder.stages.1": (16, 4, 4),
            },
        ),
        "resnet": (
            library.ResNetForImageClassification(resnet),
            {"resnet.embedder.embedder": (8, 16, 16)} | stages,
        ),
    }


@pytest.mark.slow
def test_networks_of_transformers_have_their_stages_and_blocks() -> None:
    for name, (network, expected) in transformers_of_small_size().items():
        size = 16 if name == "vit" else 32
        assert list(survey(network, (3, size, size)).items()) == list(expected.items()), name
