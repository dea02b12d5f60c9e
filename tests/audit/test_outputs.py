"""What an audit says of any outputs: one accuracy for all commands, limits, and odd teachers."""

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import collegium as cg
from collegium.audit.calibration import best_temperature
from collegium.audit.ensemble import Ensemble, best_shares
from collegium.audit.examine import audit
from collegium.audit.headroom import head_room
from collegium.audit.page import page
from collegium.audit.tables import markdown, terminal
from collegium.data import ImageData, Splits
from collegium.errors import NumericsError, RequestError
from collegium.models.network import Network

from .conftest import CLASSES, IMAGENET, draw

COARSE = {"warm": ["red", "orange", "amber"], "cold": ["violet", "blue"], "green": "green"}
FEW = {"red": "red", "blue": "blue", "green": "green"}


class Taken(nn.Module):
    """Some of a network's logits, or functions of them."""

    def __init__(self, network: Network, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.function = network.body, function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(self.inner(images))


def taken(network: Network, classes: tuple[str, ...], function: Any) -> Network:
    return Network(Taken(network, function), IMAGENET, classes).eval()


def coarse(network: Network) -> Network:
    """It says whether a colour is warm, cold or green."""
    places = [[CLASSES.index(name) for name in names] for names in list(COARSE.values())[:2]]
    places.append([CLASSES.index("green")])

    def merge(logits: Tensor) -> Tensor:
        return torch.stack([logits[:, place].logsumexp(1) for place in places], dim=1)

    return taken(network, tuple(COARSE), merge)


def specialist(network: Network, names: tuple[str, ...] = tuple(FEW)) -> Network:
    places = [CLASSES.index(name) for name in names]
    return taken(network, names, lambda logits: logits[:, places])


@pytest.mark.parametrize(("make", "labels"), [(coarse, COARSE), (specialist, FEW)])
def test_audit_and_evaluate_have_the_same_figures(
    make: Any, labels: Any, trained: Network, patterns: Splits
) -> None:
    teacher = make(trained)
    found = audit({"t": teacher, "sound": trained}, patterns, labels={"t": labels}, quiet=True)
    row = found["teachers"][0]
    told = cg.evaluate(teacher, patterns, split="validation", labels=labels)
    for key in set(told) & set(row) - {"images_per_s"}:
        assert row[key] == pytest.approx(told[key], abs=1e-5), key
    assert found["head_room"]["single_T"][0] == row["accuracy"]
    assert not [line for line in found["findings"] if line["teacher"] == "t"]


def test_coarse_teachers_are_right_when_they_name_the_group(
    trained: Network, patterns: Splits
) -> None:
    found = audit({"t": coarse(trained)}, patterns, labels={"t": COARSE}, quiet=True)
    row, room = found["teachers"][0], found["head_room"]
    assert row["accuracy"] == room["mean"] == room["mixture"] == room["oracle"] > 0.99
    assert row["ece"] < 0.1


def test_figures_over_the_teachers_that_know_the_class(trained: Network, patterns: Splits) -> None:
    parts = {"a": CLASSES[:2], "b": CLASSES[2:4], "c": CLASSES[4:]}
    teachers = {name: specialist(trained, part) for name, part in parts.items()}
    found = audit(teachers, patterns, quiet=True)
    every, known_mask = found["head_room"], found["head_room_of_knowing"]
    assert known_mask["examples"] == 600
    assert known_mask["known_T"] == [200, 200, 200]
    assert known_mask["mean"] == known_mask["mixture"] == known_mask["oracle"] > 0.99
    assert known_mask["mean"] >= every["mean"]
    assert min(known_mask["single_T"]) > 0.99
    assert max(every["single_T"]) < 0.4
    assert "only the teachers that know its class" in " ".join(found["advice"])
    for text in (terminal(found), markdown(found), page(found)):
        assert "each teacher on the classes it knows" in text
        assert "mean of logits says nothing here" in " ".join(text.split())
    none = audit({"all": trained, "same": trained}, patterns, quiet=True, probe=0)
    assert none["head_room_of_knowing"] is None


def answers(seed: int, teachers: int, examples: int, skill: float) -> tuple[Tensor, Tensor]:
    """Teachers of which each knows some classes, more or less well, and is sure or unsure."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(6, (examples,), generator=generator)
    logits_NTC = torch.randn(examples, teachers, 6, generator=generator)
    knows_TC = torch.rand(teachers, 6, generator=generator) < 0.5
    right_NTC = torch.nn.functional.one_hot(labels_N, 6)[:, None] * knows_TC
    scale_T = torch.rand(teachers, generator=generator) * 8
    return (logits_NTC + skill * right_NTC) * scale_T[:, None], labels_N


@pytest.mark.parametrize("known_mask", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_fixed_weights_are_no_worse_than_simple_ones(seed: int, known_mask: bool) -> None:
    for case in itertools.product((seed,), (1, 2, 4), (1, 2, 60), (0.5, 4.0)):
        check_weights(case, known_mask)


def check_weights(case: Any, known_mask: bool) -> None:
    logits_NTC, labels_N = answers(*case)
    generator = torch.Generator().manual_seed(case[0])
    groups_TC = torch.randint(-1, 2, (case[1], 6), generator=generator) * 3
    groups_TC = torch.where(groups_TC < 0, -1, torch.arange(6) if case[0] == 0 else groups_TC)
    logits_NTC = torch.where(groups_TC < 0, -1e4, logits_NTC)
    ensemble = Ensemble(logits_NTC, labels_N, groups_TC, known_mask)
    found = head_room(logits_NTC, labels_N, groups_TC, known_mask=known_mask)
    assert found.mixture >= found.mean
    assert known_mask or found.mixture >= max(found.single_T)
    assert found.mixture == ensemble.right(torch.tensor(found.shares_T)).double().mean().item()
    shares_T = best_shares(ensemble)
    assert shares_T.min() >= 0
    assert shares_T.sum().item() == pytest.approx(1)
    assert found.oracle >= max(found.single_T) or known_mask


def test_no_advice_to_leave_out_whom_nobody_replaces() -> None:
    from collegium.audit.advice import advise

    labels_N = torch.arange(600) % 6
    one_NC = 3.0 * torch.eye(6)[labels_N.where(labels_N != 5, 0)]  # does not know 5
    only_NC = torch.zeros(600, 6)  # knows nothing else, and is sometimes sure and wrong
    only_NC[labels_N == 5] = 30 * torch.eye(6)[5]
    only_NC[(torch.arange(600) % 10 < 3) & (labels_N != 5)] = 30 * torch.eye(6)[5]
    logits_NTC = torch.stack([one_NC, only_NC], 1)
    room = head_room(logits_NTC, labels_N)
    assert room.worth_T[1].negative
    assert room.only_T[1] == pytest.approx(1 / 6)
    lines = " ".join(advise(["a", "b"], room, []))
    assert "Better left out" not in lines
    assert "b lowers the mean by 10.00 points, but only it is right on 16.67 %" in lines
    noise = head_room(torch.stack([one_NC, 30 * torch.eye(6)[(labels_N + 1) % 6]], 1), labels_N)
    lines = " ".join(advise(["a", "c"], noise, []))
    assert "Better left out of the mean: c; without it it is better." in lines


@pytest.mark.parametrize(
    ("scale", "outcome", "says"),
    [(1.0, "found", "3.64"), (1e3, "at least", "≥ 100"), (1e-3, "at most", "≤ 0.01")],
)
def test_a_temperature_at_its_limit_is_told(scale: float, outcome: str, says: str) -> None:
    logits_NC = scale * torch.tensor([[4.0, 0.0]] * 3 + [[0.0, 4.0]])
    found = best_temperature(logits_NC, torch.zeros(4).long())
    assert (found.outcome, str(found)) == (outcome, says)


@pytest.mark.parametrize("logits", [torch.zeros(4, 2), torch.tensor([[0.0, 4.0]] * 4)])
def test_where_no_temperature_helps_it_is_told(logits: Tensor) -> None:
    found = best_temperature(logits, torch.zeros(4).long())
    assert (found.outcome, str(found), found.value) == ("none", "none helps", math.inf)


def spoiled(some: bool, value: float) -> Callable[[Tensor], Tensor]:
    def spoil(logits: Tensor) -> Tensor:
        if not some:
            return logits * 0 + value
        rows = (logits.sum(dim=1).abs() * 1000).long() % 7 == 0  # some images, wherever they are
        return torch.where(rows[:, None], value, logits)

    return spoil


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "some NaN": spoiled(True, math.nan),
    "some inf": spoiled(True, math.inf),
    "all NaN": spoiled(False, math.nan),
    "all -inf": spoiled(False, -math.inf),
    "ties": spoiled(False, 0.0),
    "one class": lambda logits: logits * 0 + torch.arange(6.0),
    "huge": lambda logits: logits * 1e30,
    "tiny": lambda logits: logits * 1e-30,
}

SPLITS: dict[str, Callable[[], ImageData]] = {
    "whole": lambda: draw(600, 1),
    "one image": lambda: draw(1, 1),
    "two images": lambda: draw(2, 1),
    "one class": lambda: draw(300, 1).subset(draw(300, 1).labels_N == 2),
    "a class without images": lambda: draw(300, 1).subset(draw(300, 1).labels_N != 2),
}


QUICK = ("whole", "one image")
MARKED = [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in SPLITS]


@pytest.mark.parametrize("split", MARKED)
def test_odd_teachers_and_odd_splits_are_audited(
    split: str, trained: Network, patterns: Splits
) -> None:
    splits = Splits(patterns.train, SPLITS[split](), patterns.test)
    odd = {name: taken(trained, CLASSES, function) for name, function in ODD.items()}
    found = audit({"sound": trained, **odd}, splits, quiet=True, probe=64)
    json.dumps(found, allow_nan=False)
    assert "</html>" in page(found)
    assert markdown(found)
    rows = {row["name"]: row for row in found["teachers"]}
    assert rows["sound"]["accuracy"] > 0.99
    assert rows["all NaN"]["accuracy"] == rows["all -inf"]["accuracy"] == 0
    kinds = {(line["teacher"], line["kind"]) for line in found["findings"]}
    assert {("all NaN", "not-finite"), ("all -inf", "not-finite")} <= kinds
    assert not any(teacher == "sound" for teacher, _ in kinds), found["findings"]
    assert rows["ties"]["temperature"] is None
    finite = [name for name in rows if (name, "not-finite") not in kinds]
    assert found["head_room"]["teachers"] == finite
    several = f"{100 * found['head_room']['mixture']:.2f} %"
    assert several in page(found)
    assert several in terminal(found)


def test_teachers_that_know_none_of_the_images(trained: Network, patterns: Splits) -> None:
    some = patterns.validation
    assert some is not None
    amber = some.subset(some.labels_N == CLASSES.index("amber"))
    splits = Splits(patterns.train, amber, patterns.test)
    found = audit({"t": specialist(trained), "sound": trained}, splits, quiet=True)
    assert [line["kind"] for line in found["findings"]] == ["unknown-classes"]
    json.dumps(found, allow_nan=False)
    with pytest.raises(RequestError, match="knows the class of no image"):
        cg.evaluate(specialist(trained), splits, split="validation")


def test_evaluate_names_logits_that_are_no_numbers(trained: Network, patterns: Splits) -> None:
    teacher = taken(trained, CLASSES, spoiled(True, math.nan))
    with pytest.raises(NumericsError, match=r"NaN or infinite logits for \d+ of 600 images"):
        cg.evaluate(teacher, patterns, split="validation")


@pytest.mark.slow
def test_fifty_teachers(trained: Network, patterns: Splits) -> None:
    noise = [torch.randn(6, generator=torch.Generator().manual_seed(k)) for k in range(50)]
    some = patterns.validation
    assert some is not None
    splits = Splits(patterns.train, some.subset(range(60)), patterns.test)
    teachers = {
        f"t{k}": taken(trained, CLASSES, lambda logits, shift=shift: logits + 3 * shift)
        for k, shift in enumerate(noise)
    }
    found = audit(teachers, splits, quiet=True, probe=0)
    assert len(found["head_room"]["shares_T"]) == 50
    assert max(map(len, found["advice"])) < 400
    assert max(map(len, terminal(found).splitlines())) <= 160
