"""Hidden layers: found, read and paired, without editing a network."""

import pytest
import torch
from torch import nn

import collegium as cg
from collegium.errors import RequestError, UnknownNameError
from collegium.models.cifar import CIFAR_MODELS
from collegium.models.small import SMALL_MODELS
from collegium.models.taps import HintPair, Taps, pair_layers, survey

MAPS = {"one": (4, 8, 8), "two": (6, 4, 4), "three": (8, 2, 2)}


def dims(teachers: str, student: dict | None = None) -> cg.Dims:
    names = tuple(teachers)
    return cg.Dims(5, names, MAPS if student is None else student, dict.fromkeys(names, MAPS))


def test_a_resnets_stages_are_found() -> None:
    assert survey(CIFAR_MODELS["resnet20"](10), (3, 32, 32)) == {
        "layer1": (16, 32, 32),
        "layer2": (32, 16, 16),
        "layer3": (64, 8, 8),
    }


@pytest.mark.parametrize("name", ["vgg8", "wrn-16-1", "mobilenetv2", "resnet8x4"])
def test_every_family_has_layers_from_shallow_to_deep(name: str) -> None:
    rows = [shape[1] for shape in survey(CIFAR_MODELS[name](10), (3, 32, 32)).values()]
    assert len(rows) >= 3
    assert rows == sorted(rows, reverse=True)


def test_a_perceptrons_hidden_vector_is_a_map_of_one_position() -> None:
    assert survey(SMALL_MODELS["mlp"](10), (1, 8, 8)) == {"layer1": (32, 1, 1)}
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.ReLU(), nn.Linear(7, 3))
    assert list(survey(plain, (1, 8, 8)).values()) == [(7, 1, 1)]


def test_looking_changes_nothing() -> None:
    network = CIFAR_MODELS["resnet8"](10).train()
    network.layer1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    survey(network, (3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
    assert not network.layer1.training
    assert not any(module._forward_hooks for module in network.modules())


def test_taps_give_what_the_modules_returned_and_forget_it() -> None:
    network = SMALL_MODELS["cnn"](10)
    taps = Taps(network, ["layer3", "layer1"])
    images = torch.randn(2, 1, 8, 8)
    network(images)
    maps = taps.take()
    assert list(maps) == ["layer3", "layer1"]
    assert torch.equal(maps["layer1"], network.layer1(images))
    with pytest.raises(KeyError):
        taps.take()


def test_a_tap_on_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'layer1'"):
        Taps(SMALL_MODELS["cnn"](10), ["layr1"])


@pytest.mark.parametrize(
    ("teachers", "assignment", "groups"),
    [
        ("a", "one_per_group", ["three"]),
        ("ab", "one_per_group", ["one", "three"]),
        ("abc", "one_per_group", ["one", "two", "three"]),
        ("abcde", "one_per_group", ["one", "one", "two", "two", "three"]),
        ("ab", "cyclic", ["one", "two", "three"]),
        ("abc", "all_to_one", ["two", "two", "two"]),
        ("abc", "skip_last", ["one", "three"]),
        ("a", "skip_last", ["three"]),
    ],
)
def test_who_hints_where(teachers: str, assignment: str, groups: list[str]) -> None:
    pairs = pair_layers(dims(teachers), assignment)  # type: ignore[arg-type]
    assert [pair.student_layer for pair in pairs] == groups
    assert all(pair.student_layer == pair.teacher_layer for pair in pairs)  # the same resolution
    if assignment == "cyclic":
        assert [pair.teacher for pair in pairs] == ["a", "b", "a"]


def test_explicit_pairs_replace_the_rule() -> None:
    pairs = pair_layers(dims("ab"), explicit=["one=b:three", "two=a:two"])
    assert pairs == [HintPair("one", "b", "three"), HintPair("two", "a", "two")]
    for text in ("one=c:two", "four=a:two", "one=a:four", "nonsense"):
        with pytest.raises(UnknownNameError):
            pair_layers(dims("ab"), explicit=[text])


def test_networks_without_maps_are_refused_with_what_would_work() -> None:
    with pytest.raises(RequestError, match="the student has none; use hint_weight=0"):
        pair_layers(dims("a", student={}))
    blind = cg.Dims(5, ("a", "b"), MAPS, {"a": MAPS, "b": {}})
    with pytest.raises(RequestError, match="teacher b has none"):
        pair_layers(blind)
