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

from collegium.audit.cost import Sample, fitting, in_blocks, measure_cost
from collegium.audit.examine import audit
from collegium.audit.statistics import batch_norms
from collegium.build import make_splits
from collegium.config.options import Machine
from collegium.data import Splits
from collegium.models.network import Network, Preprocess
from collegium.models.zoo.small import SMALL_MODELS
from collegium.utils.progress import Display

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


def scaled(factor: float, places: slice = slice(None)) -> Callable[[Network], Network]:
    """Convolutions times a number, as where a scale was forgotten or applied twice."""

    def spoil(network: Network) -> Network:
        other = copy.deepcopy(network)
        convolutions = [m for m in other.body if isinstance(m, nn.Conv2d)]
        for convolution in convolutions[places]:
            convolution.weight.data *= factor
        return other

    return spoil


def with_statistics(change: Callable[[nn.BatchNorm2d], object]) -> Callable[[Network], Network]:
    """Other running means and variances beside the same weights."""

    def spoil(network: Network) -> Network:
        other = copy.deepcopy(network)
        for norm in batch_norms(other):
            change(norm)
        return other

    return spoil


def drawn_anew(place: int) -> Callable[[Network], Network]:
    """A layer that the weights file left out."""

    def spoil(network: Network) -> Network:
        other = copy.deepcopy(network)
        torch.manual_seed(1)
        other.body[place].reset_parameters()
        return other

    return spoil


def moved(deviations: float) -> Callable[[Network], Network]:
    return with_statistics(lambda n: n.running_mean.add_(deviations * n.running_var.sqrt()))


def told(mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[Network], Network]:
    """The same weights with another normalisation written beside them."""
    return lambda net: Network(copy.deepcopy(net.body), Preprocess(mean, std), CLASSES)


def one_place_on(logits: Tensor) -> Tensor:
    """As of a network with a class more at the front, of which the last was cut off."""
    return torch.cat([torch.full((len(logits), 1), -9.0), logits[:, :-1]], dim=1)


def times(numbers: tuple[float, ...], factor: float) -> tuple[float, ...]:
    return tuple(factor * number for number in numbers)


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
    "convolutions x 0.6": ("foreign-statistics", scaled(0.6)),
    "convolutions x 2": ("foreign-statistics", scaled(2.0)),
    "last convolution x 0.4": ("foreign-statistics", scaled(0.4, slice(1, 2))),
    "means moved": ("foreign-statistics", moved(1.0)),
    "second convolution drawn": ("foreign-statistics", drawn_anew(3)),
    "mean and std exchanged": ("preprocessing", told(IMAGENET.std, IMAGENET.mean)),
    "upside down and back to front": (
        "preprocessing",
        lambda net: wrapped(net, lambda f, x: f(x.flip(2, 3))),
    ),
    "one place on": (
        "permuted-classes",
        lambda net: wrapped(net, lambda f, x: one_place_on(f(x))),
    ),
    "sigmoid": ("probabilities", lambda net: wrapped(net, lambda f, x: f(x).sigmoid())),
    "sign": ("near-chance", lambda net: wrapped(net, lambda f, x: -f(x))),
}

SWEEP: dict[str, tuple[str, Callable[[Network], Network]]] = {
    **{f"x {k}": ("foreign-statistics", scaled(k)) for k in (0.3, 0.5, 0.7, 1.8, 3.0, 10.0)},
    **{f"moved {k}": ("foreign-statistics", moved(k)) for k in (0.7, 2.0, 5.0)},
    **{
        f"variance x {k}": (
            "foreign-statistics",
            with_statistics(lambda n, k=k: n.running_var.mul_(k)),
        )
        for k in (4, 9, 0.01, 1e-6)
    },
    "first convolution drawn": ("foreign-statistics", drawn_anew(0)),
    "pixels x 255 inside": (
        "foreign-statistics",
        lambda net: wrapped(net, lambda f, x: f(255 * x)),
    ),
    "mean and std x 255": (
        "preprocessing",
        told(times(IMAGENET.mean, 255), times(IMAGENET.std, 255)),
    ),
    "turned": ("preprocessing", lambda net: wrapped(net, lambda f, x: f(x.rot90(1, (2, 3))))),
    "left and right": ("preprocessing", lambda net: wrapped(net, lambda f, x: f(x.flip(3)))),
    "three in a ring": (
        "permuted-classes",
        lambda net: wrapped(net, lambda f, x: f(x)[:, [1, 2, 0, 3, 4, 5]]),
    ),
    "softmax twice": (
        "probabilities",
        lambda net: wrapped(net, lambda f, x: f(x).softmax(1).softmax(1)),
    ),
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
        assert found[kind]["mended"] > (0.8 if name == "one place on" else 0.95)


@pytest.mark.slow
def test_mis_loaded_teachers_of_every_strength_are_caught(
    patterns: Splits, trained: Network
) -> None:
    spoilt = {name: spoil(trained) for name, (_, spoil) in SWEEP.items()}
    caught = alarms(audit({"sound": trained, **spoilt}, patterns, probe=300, quiet=True))
    assert caught.pop("sound") == {}
    missed = {name: caught[name] for name, (kind, _) in SWEEP.items() if kind not in caught[name]}
    assert not missed


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "size"), [(0.1, 64), (0.5, 64), (0.5, 16), (1.0, 128)])
def test_networks_stopped_early_are_sound(rate: float, size: int) -> None:
    """Large steps leave statistics far behind; these are weak, and not loaded wrongly."""
    splits = make_splits("digits", 0.2, 0, None, Machine(), Display(True, ""), ())
    pixels, labels = splits.train.images_NDHW.float() / 255, splits.train.labels_N
    teachers = {}
    for design in ("cnn-wide", "resnet", "dense", "cnn"):
        torch.manual_seed(1)
        body = SMALL_MODELS[design](10)
        network = Network(body, Preprocess((0.3,), (0.37,)), splits.train.classes)
        optimiser = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
        for epoch in range(3):
            for rows in torch.randperm(len(labels))[: -(len(labels) % size)].split(size):
                optimiser.zero_grad()
                F.cross_entropy(network.train()(pixels[rows]), labels[rows]).backward()
                optimiser.step()
            teachers[f"{design} {epoch}"] = copy.deepcopy(network).eval()
    found = audit(teachers, splits, split="test", quiet=True)
    accuracy = {row["name"]: row["accuracy"] for row in found["teachers"]}
    false = {name: kinds for name, kinds in alarms(found).items() if kinds and accuracy[name] > 0.2}
    assert not false


def test_cheap_explanations_come_first(
    patterns: Splits, trained: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        pytest.fail("a trial of what is explained already")

    monkeypatch.setattr("collegium.audit.teacher_check.try_remedies", refuse)
    monkeypatch.setattr("collegium.audit.teacher_check.try_sizes", refuse)
    shifted = wrapped(trained, lambda f, x: f(x).roll(1, 1))
    assert "permuted-classes" in alarms(audit({"t": shifted}, patterns, quiet=True))["t"]


def test_sizes_that_would_cost_too_much_are_not_tried_and_named(
    patterns: Splits, trained: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collegium.audit.remedies.WORK", 1e6)
    small = wrapped(trained, lambda f, x: f(halved(x)))
    found = audit({"good": trained, "small": small}, patterns, quiet=True)
    texts = {line["kind"]: line["text"] for line in found["findings"] if not line["alarm"]}
    assert "images of 24x24 (0.00017 GFLOPs an image)" in texts["not-tried"]


def test_blocks_fit_into_memory(trained: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    images_BDHW = torch.rand(50, 3, 12, 12)
    cost = measure_cost(trained, images_BDHW[:1])
    monkeypatch.setattr("collegium.audit.cost.MEMORY", 7 * cost.view_bytes)
    seen: list[int] = []
    handle = trained.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    logits_BC = in_blocks(trained, Sample(images_BDHW, torch.zeros(50).long(), fitting(cost)))
    handle.remove()
    assert max(seen) <= 7
    torch.testing.assert_close(logits_BC, trained(images_BDHW))


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
        ("convolutions x 0.6", "foreign-statistics", "layer 1 receives 0.61 times what its"),
        ("convolutions x 0.6", "foreign-statistics", "torch.optim.swa_utils.update_bn"),
        ("last convolution x 0.4", "foreign-statistics", "layer 4 receives 0.4"),
        ("second convolution drawn", "foreign-statistics", "load the weights file again, whole"),
        ("mean and std exchanged", "preprocessing", "as good: the CIFAR-10 statistics, mean and"),
        ("not a number", "not-finite", "600 of 600 images"),
        ("constant", "constant", "'amber' of 100.0 %"),
        ("new head", "fresh-head", "its last layer, 8, has random initial values"),
        ("copy", "twin", "has the same weights as sound"),
    ],
)
def test_a_finding_names_the_remedy(
    name: str, kind: str, says: str, misloaded: dict[str, Any]
) -> None:
    assert says in alarms(misloaded)[name][kind]["text"]


def test_the_sound_one_among_them_is_left_alone(misloaded: dict[str, Any]) -> None:
    assert alarms(misloaded)["sound"] == {}
    assert misloaded["head_room_of_sound"]["teachers"] == ["sound"]
    assert "not a number" not in misloaded["head_room"]["teachers"]
    assert misloaded["advice"][0].startswith("Look first at pixels in 0..1, ")
    accuracy = 100 * misloaded["teachers"][0]["accuracy"]
    last = f"The mean of the only teacher without an alarm is right on {accuracy:.2f} %."
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
