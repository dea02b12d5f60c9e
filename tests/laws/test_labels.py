"""What holds where teachers do not know, or do not tell apart, every class of the student's."""

import dataclasses
from typing import Any

import pytest
import torch
from world import LOSSES, MIXES, World, ask, each_weighting, every, is_soft_target, make_method

import collegium as cg
from collegium.objectives.objective import TermInputs

each_loss = pytest.mark.parametrize(("loss", "mix"), LOSSES)

GROUPS = {"a": [0, 1, 2, -1, -1], "b": [-1, 1, 2, 3, -1], "c": [0, 0, -1, 3, -1]}
"""Nobody knows class 4; c takes 0 and 1 together."""
FROM_TEACHERS = {"kd", "angle", "distance", "hint", "hints", "adapter_label"}
"""Kinds of term that compare the student with teachers and with nothing else."""


def specialists(groups: dict[str, list[int]] = GROUPS, examples: int = 10) -> World:
    world = World.make(examples=examples)
    world.labels_B = torch.arange(examples) % 5
    return dataclasses.replace(world, groups=groups)


def known_mask(world: World, names: tuple[str, ...]) -> torch.Tensor:
    known = world.teachers(names).known_mask(world.labels_B)
    assert known is not None
    return known


@every
def test_who_does_not_know_gets_nothing_and_the_others_share_the_whole(
    slug: str, preset: str
) -> None:
    world = specialists()
    asked = ask(make_method(slug, preset, world.names), world)
    if not asked.names:
        pytest.skip("hears no teacher")
    known_BT = known_mask(world, asked.names)
    assert (asked.weights_BT[~known_BT] == 0).all()
    sums_B = asked.weights_BT.sum(dim=1)
    assert torch.allclose(sums_B, known_BT.any(dim=1).double())
    assert not known_BT.all()


@every
def test_where_nobody_knows_the_class_the_label_speaks_alone(slug: str, preset: str) -> None:
    world = specialists()
    for tensor in (world.logits_BC, *world.maps.values()):
        tensor.requires_grad_()
    asked = ask(make_method(slug, preset, world.names), world)
    if not asked.names:
        pytest.skip("hears no teacher")
    nobody_B = ~known_mask(world, asked.names).any(dim=1)
    assert nobody_B.any()
    for name, term_B in asked.terms.items():
        assert torch.isfinite(term_B).all(), name
        if name.partition(".")[0] in FROM_TEACHERS:
            assert (term_B[nobody_B] == 0).all(), name
            assert (term_B[~nobody_B] != 0).any(), name
    asked.loss.backward()
    assert world.logits_BC.grad is not None
    assert (world.logits_BC.grad[nobody_B].abs().sum(dim=1) > 0).all() == ("ce" in asked.terms)
    for tensor in (world.logits_BC, *world.maps.values()):
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()
    for name, parameter in asked.objective.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@every
def test_what_is_said_of_examples_one_does_not_know_is_not_heard(slug: str, preset: str) -> None:
    world = specialists()
    method = make_method(slug, preset, world.names)
    before = ask(method, world)
    for name, known_B in zip(world.names, known_mask(world, world.names).unbind(1), strict=True):
        maps = world.teacher_maps[name]
        for path, feature in maps.items():
            maps[path] = torch.where(known_B[:, None, None, None], feature, 7.0)
        logits_BC = world.teacher_logits[name]
        world.teacher_logits[name] = torch.where(known_B[:, None], logits_BC, logits_BC.flip(1))
    after = ask(method, world)
    assert torch.allclose(before.weights_BT, after.weights_BT, atol=1e-12)
    for name, term_B in before.terms.items():
        assert torch.allclose(term_B, after.terms[name], atol=1e-12), name


@every
def test_what_is_said_of_classes_one_does_not_know_is_not_heard(slug: str, preset: str) -> None:
    world = specialists()
    method = make_method(slug, preset, world.names)
    before = ask(method, world)
    for name, logits_BC in world.teacher_logits.items():
        unknown_C = torch.tensor(GROUPS[name]) < 0
        world.teacher_logits[name] = logits_BC.masked_fill(unknown_C, 50.0)
    after = ask(method, world)
    assert torch.equal(before.weights_BT, after.weights_BT)
    assert torch.equal(before.loss, after.loss)


@every
def test_one_class_a_group_is_what_it_is_without_groups(slug: str, preset: str) -> None:
    world = World.make()
    method: Any = make_method(slug, preset, world.names)
    plain, grouped = (
        ask(method, dataclasses.replace(world, groups=groups))
        for groups in ({}, {name: [0, 1, 2, 3, 4] for name in "abc"})
    )
    assert torch.allclose(plain.weights_BT, grouped.weights_BT, atol=1e-8)
    if not method.uses_teachers:
        pytest.skip("hears no teacher")
    plainly, mix = not is_soft_target(method), None
    if not plainly:
        mix = method.mix or MIXES[method.loss][0]
        plainly = (method.loss, mix, method.standardise) == ("kl", "probs", False)
    for name, term_B in plain.terms.items():
        if name == "kd" and not plainly and mix != "loss":
            continue  # where classes differ there is no one target to compare with
        assert torch.allclose(term_B, grouped.terms[name], rtol=1e-6), name


def soft_gradient(
    method: Any, world: World, weights_BT: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the soft target by the student's logits, at given weights; and the mixed target."""
    world.logits_BC = world.logits_BC.detach().requires_grad_()
    objective = method.build(world.dims()).double()
    inputs = world.student(), world.teachers(world.names), world.labels_B
    term_B = objective(*inputs, weights_BT)["kd"]
    (gradient,) = torch.autograd.grad(term_B.sum(), world.logits_BC)
    return gradient, TermInputs(*inputs, weights_BT).target(method.temperature)


@pytest.mark.parametrize("standardise", [False, True])
@each_loss
def test_a_specialist_never_moves_classes_it_does_not_know(
    loss: Any, mix: Any, standardise: bool
) -> None:
    method = cg.Fixed(loss=loss, mix=mix, standardise=standardise)
    world = specialists({"a": [0, 1, 2, -1, -1], "b": [0, 1, 2, 3, 4], "c": [-1, -1, 2, 3, 4]})
    world.labels_B = torch.full_like(world.labels_B, 2)
    weights_BT = torch.full((10, 3), 1 / 3, dtype=torch.float64)
    before, target = soft_gradient(method, world, weights_BT)
    world.teacher_logits["a"] = world.teacher_logits["a"].flip(0) * 2
    after, retarget = soft_gradient(method, world, weights_BT)
    assert torch.allclose(before[:, 3:], after[:, 3:], atol=1e-12)
    assert torch.allclose(target[:, 3:], retarget[:, 3:], atol=1e-12)
    assert (before[:, :3] - after[:, :3]).abs().amax() > 1e-3
    assert (target[:, :3] - retarget[:, :3]).abs().amax() > 1e-3


@each_loss
def test_a_specialist_alone_gives_no_gradient_outside(loss: Any, mix: Any) -> None:
    world = World.make(teachers="a")
    world.labels_B = world.labels_B % 3
    world = dataclasses.replace(world, groups={"a": [0, 1, 2, -1, -1]})
    weights_BT = torch.ones(6, 1, dtype=torch.float64)
    gradient, target = soft_gradient(cg.Fixed(loss=loss, mix=mix), world, weights_BT)
    assert gradient[:, 3:].abs().max() < 1e-12
    assert gradient[:, :3].abs().sum() > 0
    student = torch.softmax(world.logits_BC.detach() / 4, dim=1)
    assert torch.allclose(target[:, 3:], student[:, 3:])


@pytest.mark.parametrize("loss", ["kl", "dkd", "dist", "logits"])
def test_classes_that_are_not_told_apart_move_together(loss: Any) -> None:
    world = World.make(teachers="c", examples=12)
    world = dataclasses.replace(world, groups={"c": [0, 0, 2, 3, 3]})
    method = cg.Fixed(loss=loss)
    weights_BT = torch.ones(12, 1, dtype=torch.float64)
    gradient, _ = soft_gradient(method, world, weights_BT)
    hot = 1.0 if loss == "logits" else method.temperature
    pull = gradient / torch.softmax(world.logits_BC.detach() / hot, dim=1)
    assert torch.allclose(pull[:, 0], pull[:, 1])
    assert torch.allclose(pull[:, 3], pull[:, 4])
    assert not torch.allclose(pull[:, 0], pull[:, 3])


def test_a_student_that_agrees_by_groups_has_nothing_to_learn() -> None:
    world = World.make(teachers="c")
    world = dataclasses.replace(world, groups={"c": [0, 0, 2, 3, -1]})
    world.labels_B = world.labels_B % 4
    exchanged = world.logits_BC.clone()
    exchanged[:, [0, 1]] = world.logits_BC[:, [1, 0]]  # the sum over the group is the same
    exchanged[:, 4] = 9.0
    world.teacher_logits["c"] = exchanged
    for loss, mix in LOSSES:
        gradient, _ = soft_gradient(
            cg.Fixed(loss=loss, mix=mix), world, torch.ones(6, 1, dtype=torch.float64)
        )
        assert gradient.abs().max() < 1e-4, (loss, mix)  # correlations add 1e-8


@each_weighting
def test_those_who_know_are_weighed_as_if_the_others_were_not_there(weighting: Any) -> None:
    if weighting in ("best", "gradient"):
        pytest.skip("hears one teacher, or weighs over the batch")
    world = specialists()
    method = cg.Fixed(weighting=weighting)
    whole = ask(method, world)
    known_BT = known_mask(world, whole.names)
    for row in range(10):
        alone = tuple(n for n, is_known in zip("abc", known_BT[row], strict=True) if is_known)
        if alone:
            few = world.rows(torch.arange(10)).named({name: name for name in alone})
            few = dataclasses.replace(few, groups=GROUPS)
            found_BT = ask(method, few).weights_BT
            assert torch.allclose(found_BT[row], whole.weights_BT[row][known_BT[row]]), row


@pytest.mark.parametrize("loss", ["kl", "dkd", "dist", "logits"])
@each_weighting
def test_every_loss_and_weighting_stay_finite_and_teach(weighting: Any, loss: Any) -> None:
    for scale, standardise in ((1.0, False), (1e4, False), (1e4, True)):
        options = {"weighting": weighting, "loss": loss, "standardise": standardise}
        world = specialists()
        world.logits_BC = (scale * world.logits_BC).requires_grad_()
        world.teacher_logits = {name: scale * z for name, z in world.teacher_logits.items()}
        asked = ask(cg.Fixed(**options), world)
        asked.terms["kd"].sum().backward()
        gradient = world.logits_BC.grad
        assert gradient is not None
        assert torch.isfinite(asked.terms["kd"]).all()
        assert torch.isfinite(gradient).all()
        assert (gradient[world.labels_B == 4] == 0).all()
        if scale == 1:
            heard_B = asked.weights_BT.sum(dim=1) > 0
            assert (gradient[heard_B].abs().sum(dim=1) > 0).all()
