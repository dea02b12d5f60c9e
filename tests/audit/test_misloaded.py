"""Teachers loaded wrongly, each in its own way, and sound ones that must be left alone."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from collegium.audit.examine import audit
from collegium.data import Splits
from collegium.models.network import Network, Preprocess

from .conftest import CLASSES, IMAGENET, body, learn

ALPHABETICAL = sorted(range(len(CLASSES)), key=lambda place: CLASSES[place])


class Wrapped(nn.Module):
    """A network with something done before or after it."""

    def __init__(self, network: Network, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.function = copy.deepcopy(network.body), function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(self.inner, images)


def seen_as(network: Network, mean: float, std: float) -> Network:
    """The same weights behind another normalisation."""
    wrong = Preprocess((mean,) * 3, (std,) * 3)
    return Network(copy.deepcopy(network.body), wrong, CLASSES)


def wrapped(network: Network, function: Callable[[nn.Module, Tensor], Tensor]) -> Network:
    return Network(Wrapped(network, function), network.preprocess, CLASSES)


def halved(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)


def inverted(images: Tensor) -> Tensor:
    """One minus the pixels, of images that are normalised already."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET.mean, IMAGENET.std))
    return (1 - 2 * mean) / std - images


def new_head(network: Network) -> Network:
    torch.manual_seed(0)
    other = copy.deepcopy(network)
    other.body[-1].reset_parameters()
    return other


def no_statistics(network: Network) -> Network:
    other = copy.deepcopy(network)
    for module in other.body:
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return other


def untrained(network: Network) -> Network:
    torch.manual_seed(0)
    return Network(body(), IMAGENET, CLASSES)


MISLOADED: dict[str, tuple[str, Callable[[Network], Network]]] = {
    "pixels in 0..1": ("preprocessing", lambda net: seen_as(net, 0.0, 1.0)),
    "pixels in 0..255": ("preprocessing", lambda net: seen_as(net, 0.0, 1 / 255)),
    "pixels in -1..1": ("preprocessing", lambda net: seen_as(net, 0.5, 0.5)),
    "blue first": ("preprocessing", lambda net: wrapped(net, lambda f, x: f(x.flip(1)))),
    "negative": ("preprocessing", lambda net: wrapped(net, lambda f, x: f(inverted(x)))),
    "lying": ("preprocessing", lambda net: wrapped(net, lambda f, x: f(x.mT))),
    "small": ("input-size", lambda net: wrapped(net, lambda f, x: f(halved(x)))),
    "alphabetical": (
        "permuted-classes",
        lambda net: wrapped(net, lambda f, x: f(x)[:, ALPHABETICAL]),
    ),
    "shifted": ("permuted-classes", lambda net: wrapped(net, lambda f, x: f(x).roll(1, 1))),
    "exchanged": (
        "permuted-classes",
        lambda net: wrapped(net, lambda f, x: f(x)[:, [0, 1, 3, 2, 4, 5]]),
    ),
    "new head": ("fresh-head", new_head),
    "untrained": ("fresh-network", untrained),
    "no statistics": ("fresh-statistics", no_statistics),
    "not a number": ("not-finite", lambda net: wrapped(net, lambda f, x: f(x) * math.nan)),
    "constant": (
        "constant",
        lambda net: wrapped(net, lambda f, x: 0 * f(x) + torch.arange(6.0)),
    ),
    "softmax": ("probabilities", lambda net: wrapped(net, lambda f, x: f(x).softmax(1))),
    "dropout": (
        "unsteady",
        lambda net: wrapped(net, lambda f, x: F.dropout(f(x), 0.5, training=True)),
    ),
    "batch": ("batch-dependent", lambda net: wrapped(net, lambda f, x: f(x - x.mean(0)))),
    "copy": ("twin", copy.deepcopy),
}


def alarms(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By teacher and kind."""
    kinds: dict[str, dict[str, Any]] = {row["name"]: {} for row in found["teachers"]}
    for line in found["findings"]:
        if line["alarm"]:
            kinds[line["teacher"]][line["kind"]] = line
    return kinds


@pytest.fixture(scope="module")
def misloaded(patterns: Splits, trained: Network) -> dict[str, Any]:
    """An audit of a sound teacher and of everything that can go wrong with it."""
    spoilt = {name: spoil(trained) for name, (_, spoil) in MISLOADED.items()}
    return audit({"sound": trained, **spoilt}, patterns, probe=300, quiet=True)


@pytest.mark.parametrize("name", MISLOADED)
def test_a_mis_loaded_teacher_is_caught(name: str, misloaded: dict[str, Any]) -> None:
    kind, _ = MISLOADED[name]
    found = alarms(misloaded)[name]
    assert kind in found
    # Not taken for something else: symptoms and shared weights apart, that is all.
    assert set(found) <= {kind, "twin", "near-chance", "constant", "fresh-head"}
    if kind in ("preprocessing", "permuted-classes", "input-size"):
        assert found[kind]["mended"] > 0.95


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("pixels in 0..1", "preprocessing", "mean=0.485,0.456,0.406&std=0.229,0.224,0.225"),
        ("blue first", "preprocessing", "given blue, green, red, each with its own mean"),
        ("negative", "preprocessing", "given dark and light exchanged"),
        ("lying", "preprocessing", "given rows and columns exchanged"),
        ("small", "input-size", "given images of 24x24"),
        ("alphabetical", "permuted-classes", "in another order: alphabetical"),
        ("shifted", "permuted-classes", "in another order: shifted by 1"),
        ("exchanged", "permuted-classes", "it says blue for orange, orange for blue"),
        ("not a number", "not-finite", "600 of 600 images"),
        ("constant", "constant", "'amber' of 100.0 %"),
        ("new head", "fresh-head", "its last layer, 8, is as it was drawn"),
        ("copy", "twin", "has the very weights of sound"),
    ],
)
def test_what_would_mend_it_is_said(
    name: str, kind: str, says: str, misloaded: dict[str, Any]
) -> None:
    assert says in alarms(misloaded)[name][kind]["text"]


def test_the_sound_one_among_them_is_left_alone(misloaded: dict[str, Any]) -> None:
    assert alarms(misloaded)["sound"] == {}
    assert misloaded["head_room_of_sound"]["teachers"] == ["sound"]
    assert "not a number" not in misloaded["head_room"]["teachers"]
    assert misloaded["advice"][0].startswith("Look first at pixels in 0..1, ")
    accuracy = 100 * misloaded["teachers"][0]["accuracy"]
    last = f"The mean of the only one that looks sound is right on {accuracy:.2f} %."
    assert misloaded["advice"][-1] == last


def test_sound_teachers_raise_no_alarm(patterns: Splits, trained: Network) -> None:
    minus_one_to_one = Preprocess((0.5,) * 3, (0.5,) * 3)
    teachers = {
        "good": trained,
        "other": learn(patterns.train, 1, preprocess=minus_one_to_one),
        "specialist": learn(patterns.train, 2, known=3),
        **{f"stopped at {n}": learn(patterns.train, 3, steps=n) for n in (8, 12, 16)},
        **{f"stopped after {n}": learn(patterns.train, 1, steps=n) for n in (8, 10, 14)},
    }
    found = audit(teachers, patterns, probe=300, quiet=True)
    assert not any(alarms(found).values()), alarms(found)
    assert found["head_room_of_sound"] is None
    assert found["advice"][0] == "No teacher looks mis-loaded."
    accuracy = {row["name"]: row["accuracy"] for row in found["teachers"]}
    assert min(accuracy.values()) < 0.7  # or nobody would have been weak
    notes = {(line["teacher"], line["kind"]): line["text"] for line in found["findings"]}
    assert "right on 100.0 %: a specialist?" in notes["specialist", "silent-classes"]
    assert any(kind == "unsettled-statistics" for _, kind in notes)


def test_accuracy_is_compared_with_what_the_weights_file_states(
    tmp_path: Path, patterns: Splits, trained: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("from torch import nn\n\ndef build():\n    return BODY()\n")
    monkeypatch.setattr("builtins.BODY", body, raising=False)
    damaged = {k: v.clone() for k, v in trained.body.state_dict().items()}
    damaged["3.weight"][::2] = 0
    says = {
        "mean": "0.485 0.456 0.406",
        "std": "0.229 0.224 0.225",
        "dataset": "Patterns",
        "top1_test": "99.5",
    }
    save_file(dict(trained.body.state_dict()), "sound.safetensors", says)
    save_file(damaged, "damaged.safetensors", says)
    save_file(dict(trained.body.state_dict()), "seen.safetensors", says | {"top1_test": "0.71"})
    save_file(damaged, "elsewhere.safetensors", says | {"dataset": "other"})
    names = ("sound", "damaged", "seen", "elsewhere")
    teachers = {name: f"net.py:build@{name}.safetensors" for name in names}
    found = audit(teachers, patterns, probe=0, quiet=True)
    promised = {row["name"]: row["promised"] for row in found["teachers"]}
    assert promised == {"sound": 0.995, "damaged": 0.995, "seen": 0.71, "elsewhere": None}
    kinds = {(line["teacher"], line["kind"]): line["text"] for line in found["findings"]}
    assert "its weights file states 99.5 %" in kinds["damaged", "below-promise"]
    assert "probably trained on these images" in kinds["seen", "above-promise"]
    assert ("elsewhere", "below-promise") not in kinds
    assert not any(teacher == "sound" for teacher, _ in kinds)
