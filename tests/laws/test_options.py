"""What each option moves, and what it leaves alone."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from world import World, every, make_method, shares, terms_at

from collegium.family import AbstractFeature


def is_of(kind: str, name: str) -> bool:
    return name.partition(".")[0] == kind


def weighing(method: Any) -> dict[str, Callable[[str], bool]]:
    """Options that weigh, and which terms they weigh."""
    rest = isinstance(method, AbstractFeature)
    kinds: dict[str, Callable[[str], bool]] = {
        "alpha": lambda name: name == "kd",
        "label_weight": lambda name: name == "ce",
        "hint_weight": lambda name: (
            name not in ("ce", "kd", "gate") if rest else name.startswith("hint")
        ),
    }
    for field in dataclasses.fields(method):
        if field.name.endswith("_weight") and field.name not in kinds:
            kind = field.name.removesuffix("_weight")
            kinds[field.name] = functools.partial(is_of, kind)
    return {name: kind for name, kind in kinds.items() if hasattr(method, name)}


@every
def test_an_option_that_weighs_weighs_its_terms_and_no_other(slug: str, preset: str) -> None:
    world = World.make()
    method: Any = make_method(slug, preset, world.names)
    options = weighing(method)
    if not options:
        pytest.skip("has no weights")
    there = {name: getattr(method, name) or 1.0 for name in options}
    method = dataclasses.replace(method, **{"label_weight": 1.0, **there})
    weights_BT = shares(6, len(method.listens_to(world.names)))
    _, before = terms_at(method, world, weights_BT)
    for option, is_its in options.items():
        double = dataclasses.replace(method, **{option: 2 * getattr(method, option)})
        _, after = terms_at(double, world, weights_BT)
        assert before.keys() == after.keys()
        assert any(map(is_its, before)), option
        for name, term_B in before.items():
            factor = 2 if is_its(name) else 1
            assert torch.allclose(factor * term_B, after[name], rtol=1e-12), (option, name)


@every
def test_the_soft_target_warms_up_and_nothing_else_does(slug: str, preset: str) -> None:
    world = World.make()
    method: Any = make_method(slug, preset, world.names)
    if not getattr(method, "alpha", 0):
        pytest.skip("has no soft target")
    weights_BT = shares(6, len(method.listens_to(world.names)))
    _, whole = terms_at(method, world, weights_BT)
    slow, _ = terms_at(dataclasses.replace(method, warmup=0.5), world, weights_BT)
    inputs = world.student(), world.teachers(method.listens_to(world.names)), world.labels_B
    for epoch in range(10):
        slow.start_epoch(epoch, 10)
        for name, term_B in slow(*inputs, weights_BT).items():
            part = min(1, (epoch + 1) / 5) if name == "kd" else 1
            assert torch.allclose(term_B, part * whole[name], rtol=1e-12), (epoch, name)
