"""What each option moves, and what it leaves alone."""

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any

import pytest
import torch
from world import World, every, is_soft_target, make_method, shares, terms_at

from collegium.methods.soft_target import AbstractFeature, AbstractSoftTarget

Which = Callable[[str], bool]


def is_of(kind: str, name: str) -> bool:
    return name.partition(".")[0] == kind


def weighing(method: Any, terms: Collection[str]) -> dict[str, Which | None]:
    """Options that weigh, and which terms they weigh; None where their names do not say."""
    rest = isinstance(method, AbstractFeature)
    kinds: dict[str, Which | None] = {
        "alpha": lambda name: name == "kd",
        "label_weight": lambda name: name == "ce",
        "hint_weight": lambda name: (
            name not in ("ce", "kd", "gate") if rest else name.startswith("hint")
        ),
    }
    if not isinstance(method, AbstractSoftTarget):
        kinds = {}
    for field in dataclasses.fields(method):
        if field.name.endswith("_weight") and field.name not in kinds:
            kind = functools.partial(is_of, field.name.removesuffix("_weight"))
            kinds[field.name] = kind if any(map(kind, terms)) else None
    return {name: kind for name, kind in kinds.items() if hasattr(method, name)}


@every
def test_an_option_that_weighs_weighs_its_terms_and_no_other(slug: str, preset: str) -> None:
    world = World.make()
    method: Any = make_method(slug, preset, world.names)
    there = {name: getattr(method, name) or 1.0 for name in weighing(method, ())}
    if not there:
        pytest.skip("has no weights")
    method = dataclasses.replace(method, **there)
    weights_BT = shares(6, len(method.active_teachers(world.names)))
    _, before = terms_at(method, world, weights_BT)
    for option, is_its in weighing(method, before).items():
        double = dataclasses.replace(method, **{option: 2 * getattr(method, option)})
        _, after = terms_at(double, world, weights_BT)
        assert before.keys() == after.keys()
        moved = {name for name in before if not torch.allclose(before[name], after[name])}
        assert moved, option
        assert is_its is None or moved == set(filter(is_its, before)), option
        for name, term_B in before.items():
            factor = 2 if name in moved else 1
            assert torch.allclose(factor * term_B, after[name], rtol=1e-12), (option, name)


@every
def test_the_soft_target_warms_up_and_nothing_else_does(slug: str, preset: str) -> None:
    world = World.make()
    method: Any = make_method(slug, preset, world.names)
    if not is_soft_target(method):
        pytest.skip("has no soft target, or one of its own")
    weights_BT = shares(6, len(method.active_teachers(world.names)))
    _, whole = terms_at(method, world, weights_BT)
    slow, _ = terms_at(dataclasses.replace(method, warmup=0.5), world, weights_BT)
    inputs = world.student(), world.teachers(method.active_teachers(world.names)), world.labels_B
    for epoch in range(10):
        slow.start_epoch(epoch, 10)
        for name, term_B in slow(*inputs, weights_BT).items():
            part = min(1, (epoch + 1) / 5) if name == "kd" else 1
            assert torch.allclose(term_B, part * whole[name], rtol=1e-12), (epoch, name)


PUBLISHED = {
    ("aekd", "published"): (0.9, 1.0),
    ("amtml", "figure"): (0.7, 0.3),
    ("amtml", "notebook_kd"): (0.7, 0.3),
    ("amtml", "notebook_learning"): (0.7, 0.3),
    ("amtml", "notebook_hint"): (0.7, 0.3),
    ("at", "published"): (0.0, 1.0),
    ("avg_mkd", "aver"): (1.0, 1.0),
    ("avg_mkd", "standardised"): (9.0, 0.1),
    ("ca_mkd", "published"): (1.0, 1.0),
    ("ca_mkd", "public_scale"): (1.0, 1.0),
    ("dist", "published"): (1.0, 1.0),
    ("dkd", "published"): (1.0, 1.0),
    ("dkd", "standardised"): (9.0, 1.0),
    ("ebkd", "published"): (1.0, 1.0),
    ("fitnets", "published"): (0.0, 1.0),
    ("fsp", "published"): (0.0, 1.0),
    ("kd", "attention_transfer"): (0.9, 0.1),
    ("kd", "standardised"): (9.0, 0.1),
    ("logits", "kd_zoo"): (0.2, 1.0),
    ("sp", "published"): (0.0, 1.0),
}
"""Weights of soft target and label as papers and public code have them, whatever our defaults."""


@pytest.mark.parametrize(("slug", "preset"), PUBLISHED)
def test_presets_keep_the_strengths_of_their_sources(slug: str, preset: str) -> None:
    method: Any = make_method(slug, preset, ("a", "b"))
    alpha, label_weight = PUBLISHED[slug, preset]
    assert (method.alpha, method.ce_weight) == (alpha, pytest.approx(label_weight))


@pytest.mark.parametrize("slug", sorted({slug for slug, _ in PUBLISHED} | {"gated", "fixed"}))
def test_by_default_the_label_has_its_whole_weight(slug: str) -> None:
    method: Any = make_method(slug, "default", ("a", "b"))
    assert method.ce_weight == 1
