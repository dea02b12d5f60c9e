"""A distiller in a loop of one's own does what the library's own loop does."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import collegium as cg
from collegium.errors import RequestError
from collegium.methods import all_methods
from collegium.models.network import Network, Preprocess
from collegium.models.zoo.small import SMALL_MODELS

SHAPE = (1, 8, 8)


def network(name: str = "cnn", classes: int = 10, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return SMALL_MODELS[name](classes)


def two() -> dict[str, nn.Module]:
    return {"wide": network("cnn-wide", seed=1), "residual": network("resnet", seed=2)}


def method(slug: str, **options: Any) -> Any:
    kind = all_methods()[slug]
    return kind(teacher="wide", **options) if slug == "kd" else kind(**options)


def batch(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    return torch.rand(count, *SHAPE), torch.arange(count)


@pytest.mark.parametrize("slug", all_methods())
def test_every_method_teaches_in_a_loop_of_ones_own(slug: str) -> None:
    distiller = cg.Distiller(network(), two(), method(slug), SHAPE)
    images, labels = batch()
    taught = distiller(images, labels)
    assert taught.logits_BC.shape == (6, 10)
    assert taught.weights_BT.shape == (6, len(distiller.teachers))
    assert all(term.shape == (6,) for term in taught.terms.values())
    taught.loss.backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in distiller.student.parameters()
    )
    assert taught.loss.item() == pytest.approx(sum(t.mean().item() for t in taught.terms.values()))


@pytest.mark.parametrize("slug", ["amtml", "ca_mkd"])
def test_its_losses_are_those_of_the_library(slug: str, tmp_path, monkeypatch) -> None:
    """One step of both from the same start: images as they are, whole batches, no momentum."""
    images = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(8) % 4
    plain = Preprocess((0.0,), (1.0,))
    student = Network(network(classes=4), plain, "0123")
    teachers = {n: Network(network(n, 4, 3), plain, "0123") for n in ("cnn-wide", "resnet")}
    own = copy.deepcopy(student)
    distiller = cg.Distiller(own, teachers, method(slug), SHAPE)
    distiller.start_epoch(0, 1)
    distiller.train()
    torch.optim.SGD(distiller.parameter_groups(0.1, 5e-4)).zero_grad()
    loss = distiller(images, labels).loss
    record = cg.distill(
        student=student,
        teachers=teachers,
        train=(images, labels),
        method=method(slug),
        epochs=1,
        batch_size=8,
        validation=0.0,
        augment="none",
        out=tmp_path / "run",
        quiet=True,
    )
    assert record.metrics("train")[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_teachers_are_copied_hidden_and_never_change() -> None:
    teachers = two()
    before = copy.deepcopy(teachers["wide"].state_dict())
    distiller = cg.Distiller(network(), teachers, cg.AMTML(), SHAPE)
    whole = {id(p) for p in distiller.parameters()}
    assert not any(id(p) in whole for net in distiller._teachers.values() for p in net.parameters())
    assert {name.partition(".")[0] for name in distiller.state_dict()} == {"student", "objective"}
    distiller.train()
    distiller(*batch()).loss.backward()
    for net in distiller._teachers.values():
        assert not any(module.training for module in net.modules())
        assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    found = distiller._teachers["wide"].state_dict()
    assert all(torch.equal(found[key], value) for key, value in before.items())
    assert all(p.requires_grad for p in teachers["wide"].parameters())


def test_teachers_follow_where_the_module_goes() -> None:
    distiller = cg.Distiller(network(), two(), cg.KD(teacher="residual"), SHAPE).double()
    assert distiller.teachers == ("residual",)
    assert next(distiller._teachers["residual"].parameters()).dtype == torch.float64
    images, labels = batch()
    assert distiller(images.double(), labels).loss.isfinite()


def test_learned_weights_have_a_rate_of_their_own_and_no_decay() -> None:
    distiller = cg.Distiller(network(), two(), cg.AMTML(adapter_rate=7.0), SHAPE)
    rest, weights = distiller.parameter_groups(lr=0.1, weight_decay=0.01)
    assert (rest["lr"], rest["weight_decay"]) == (0.1, 0.01)
    assert (weights["lr"], weights["weight_decay"]) == (pytest.approx(0.7), 0.0)
    named = {id(p) for group in (rest, weights) for p in group["params"]}
    assert named == {id(p) for p in distiller.parameters() if p.requires_grad}
    assert {id(p) for p in weights["params"]} == {
        id(p) for p in distiller.objective.weighting.parameters()
    }


def test_the_seed_draws_what_the_method_learns() -> None:
    def drawn(seed: int) -> list[torch.Tensor]:
        return list(cg.Distiller(network(), two(), cg.AMTML(), SHAPE, seed).objective.parameters())

    assert all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(1), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(2), strict=True))


KINDS = """
import torch
import collegium as cg
from torch import nn
from collegium.errors import RequestError
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
whole = dict(student=net, teachers={"a": net}, method=cg.AvgMKD())
wrong = [
    {"student": nn.Linear}, {"student": {}}, {"teachers": [net]}, {"teachers": {"a": "small:cnn"}},
    {"method": cg.KD}, {"image_shape": (8, 8)}, {"image_shape": (3, 1, 1)},
    {"student": nn.Conv2d(1, 10, 1)},
]
images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
shaped = {**whole, "image_shape": (1, 8, 8)}
teach = cg.Distiller(**shaped)
works = [lambda given=given: cg.Distiller(**{**shaped, **given}) for given in wrong]
works += [lambda: teach(images, labels.tolist()), lambda: teach(images[0], labels)]
works += [lambda: teach(images.numpy(), labels)]
run = {"train": (images, labels % 2), "out": "none", "quiet": True, **whole}
works += [lambda given=given: cg.distill(**{**run, **given})
          for given in ({"teachers": [net]}, {"method": "kd"}, {"student": None})]
for work in works:
    try:
        work()
        print("nothing was refused")
    except RequestError as error:
        print(error)
"""


@pytest.mark.slow
def test_what_is_given_is_looked_at_first(tmp_path: Path) -> None:
    """In a process of its own: here types are checked at every call."""
    said = subprocess.run(
        [sys.executable, "-c", KINDS], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    expected = [
        "the student is the class Linear and not one of it",
        "the student is a dict, expected an nn.Module",
        "teachers are a list, expected modules by name",
        "teacher a is a str, expected an nn.Module",
        "the method is KD, expected one with its options",
        "image_shape is (8, 8), expected channels, rows and columns",
        "the student cannot take an image of 3x1x1",
        "gives (2, 10, 8, 8) for 2 images, expected logits",
        "labels are a list, expected a tensor",
        "images are (1, 8, 8), expected a tensor (B, D, H, W)",
        "images are ndarray, expected a tensor (B, D, H, W)",
        "teachers are a list, expected modules or model strings by name",
        "the method is 'kd', expected one with its options",
        "the student is a NoneType, expected an nn.Module",
    ]
    assert len(said) == len(expected)
    for line, words in zip(said, expected, strict=True):
        assert words in line


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_a_method_learns_stays_in_float32(dtype: torch.dtype) -> None:
    distiller = cg.Distiller(network(), two(), cg.AMTML(), SHAPE)
    distiller.start_epoch(0, 1)
    before = [p.detach().clone() for p in distiller.objective.parameters()]
    distiller.to(dtype)
    images, labels = batch()
    found = distiller(images.to(dtype), labels)
    found.loss.backward()
    assert found.loss.dtype == torch.float32
    assert {p.dtype for p in distiller.student.parameters()} == {dtype}
    for old, new in zip(before, distiller.objective.parameters(), strict=True):
        assert new.dtype == torch.float32
        assert torch.equal(old, new)


@pytest.mark.parametrize(
    ("teachers", "asked", "says"),
    [
        ({}, cg.AMTML(), "amtml uses teachers and none was given"),
        ({"five": network(classes=5)}, cg.KD(), "teacher five knows 5 classes, the student 10"),
        (two(), cg.KD(), "name one of wide, residual"),
        (two(), cg.FitNets(hint_pairs=("layer1=wide:layer9",)), "teacher wide has no layer"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(teachers: Any, asked: Any, says: str) -> None:
    with pytest.raises(RequestError, match=says) as told:
        cg.Distiller(network(), teachers, asked, SHAPE)
    assert "\n" not in str(told.value)
