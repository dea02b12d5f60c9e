"""Gradients are those of differences, however the work is cut, and nothing given is changed."""

from typing import Any

import pytest
import torch
from torch import Tensor
from world import World, ask, every, make_method, shares

import collegium as cg
from collegium.losses import angles
from collegium.objectives.objective import TermInputs


def positive(world: World) -> World:
    """Maps without a zero, where lengths have no derivative."""
    for maps in (world.maps, *world.teacher_maps.values()):
        for path, feature in maps.items():
            maps[path] = feature + 0.1
    return world


@every
@pytest.mark.parametrize("small", [False, True])
def test_gradients_are_those_of_differences(
    slug: str, preset: str, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:  # several chunks and blocks, nothing kept, the way of wide embeddings
        for name in ("_CHUNK_BYTES", "_KEPT_BYTES", "_NARROW"):
            monkeypatch.setattr(angles, name, 0)
        monkeypatch.setattr(angles, "_BLOCK_BYTES", 6 * 8 * 4)  # stretches of two examples
    world = positive(World.make())
    asked = ask(make_method(slug, preset, world.names), world)
    inputs = world.student(), world.teachers(asked.names), world.labels_B
    weights_BT = shares(6, len(asked.names))
    tensors = {"logits": world.logits_BC, **world.maps}
    tensors |= {name: p for name, p in asked.objective.named_parameters() if p.requires_grad}
    torch.manual_seed(1)
    upstream_B = torch.randn(6, dtype=torch.float64)

    def value(name: str) -> Tensor:
        term = asked.objective.terms[name]
        return (term(TermInputs(*inputs, weights_BT)) * upstream_B).sum()

    for tensor in tensors.values():
        tensor.requires_grad_()
    for name in asked.terms:
        gradients: Any = torch.autograd.grad(value(name), [*tensors.values()], allow_unused=True)
        for (which, tensor), gradient in zip(tensors.items(), gradients, strict=True):
            if gradient is None:  # a gradient that does not get there is another law's
                continue
            step = 1e-6 * torch.randn_like(tensor)
            with torch.no_grad():
                tensor += step
                above = value(name)
                tensor -= 2 * step
                below = value(name)
                tensor += step
            expected = ((above - below) / 2).item()
            found = (gradient * step).sum().item()
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-12), (name, which)


@every
def test_cutting_the_work_changes_nothing(
    slug: str, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(block_bytes: int) -> tuple[Any, Any]:
        monkeypatch.setattr(angles, "_NARROW", 0)
        monkeypatch.setattr(angles, "_BLOCK_BYTES", block_bytes)
        world = positive(World.make(examples=7))
        tensors = [world.logits_BC, *world.maps.values()]
        for tensor in tensors:
            tensor.requires_grad_()
        asked = ask(make_method(slug, preset, world.names), world)
        asked.loss.backward()
        return asked.terms, [t.grad for t in tensors if t.grad is not None]

    (whole, by_whole), (cut, by_cut) = said(1 << 21), said(7 * 8 * 4)
    for name, term_B in whole.items():
        assert torch.allclose(term_B, cut[name], atol=1e-12), name
    for first, second in zip(by_whole, by_cut, strict=True):
        assert torch.allclose(first, second, atol=1e-12)


@every
def test_nothing_that_is_given_is_changed(slug: str, preset: str) -> None:
    world = World.make()
    for maps in (world.maps, *world.teacher_maps.values()):
        for path, feature in maps.items():  # laid out so that nobody needs a copy
            maps[path] = feature.contiguous(memory_format=torch.channels_last)
    given = [world.logits_BC, world.labels_B, *world.maps.values(), *world.teacher_logits.values()]
    given += [feature for maps in world.teacher_maps.values() for feature in maps.values()]
    heads = world.heads(world.names)
    given += [tensor for head in heads.values() for tensor in head]
    before = [tensor.clone() for tensor in given]
    for tensor in (*world.maps.values(), world.logits_BC):
        tensor.requires_grad_()
    objective = ask(make_method(slug, preset, world.names), world).objective
    heard = make_method(slug, preset, world.names).active_teachers(world.names)
    teachers = world.teachers(heard)
    said_BTC = teachers.logits_BTC.clone()
    cg.total(objective(world.student(), teachers, world.labels_B)).backward()
    assert torch.equal(teachers.logits_BTC, said_BTC)
    for tensor, was in zip(given, before, strict=True):
        assert torch.equal(tensor, was)
