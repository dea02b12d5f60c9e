"""Who is heard how much: what every weighting must obey, and some of their own."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from world import World, ask, each_weighting, every, make_method

import collegium as cg


@each_weighting
def test_a_teacher_that_is_right_and_sure_is_not_heard_less(weighting: Any) -> None:
    if weighting in ("best", "gradient"):
        pytest.skip("hears one teacher, or weighs directions")
    world = World.make()
    before = ask(cg.Fixed(weighting=weighting), world).weights_BT
    world.teacher_logits["b"] = 50.0 * F.one_hot(world.labels_B, 5).double()
    after = ask(cg.Fixed(weighting=weighting), world).weights_BT
    assert (after[:, 1] >= before[:, 1] - 1e-12).all()
    assert (after[:, [0, 2]] <= before[:, [0, 2]] + 1e-12).all()


@each_weighting
def test_examples_are_weighed_each_by_itself(weighting: Any) -> None:
    if weighting in ("best", "uniform", "fixed", "gradient"):
        pytest.skip("weighs all examples alike")
    world = World.make()

    def learned(objective: Any) -> None:
        torch.manual_seed(2)
        for parameter in objective.parameters():
            torch.nn.init.normal_(parameter)

    weights_BT = ask(cg.Fixed(weighting=weighting), world, arrange=learned).weights_BT
    assert (weights_BT.std(dim=0) > 1e-3).all()
    assert torch.allclose(weights_BT.sum(dim=1), torch.ones(6, dtype=torch.float64))


@each_weighting
def test_a_constant_added_to_one_teachers_logits_changes_no_weight(weighting: Any) -> None:
    world = World.make()
    before = ask(cg.Fixed(weighting=weighting), world).weights_BT
    for shift, name in enumerate(world.names):
        shift_B1 = shift * torch.arange(6, dtype=torch.float64)[:, None]
        world.teacher_logits[name] = world.teacher_logits[name] + shift_B1
    assert torch.allclose(ask(cg.Fixed(weighting=weighting), world).weights_BT, before, atol=1e-9)


@each_weighting
def test_what_a_weighting_learns_moves_its_weights(weighting: Any) -> None:
    world = World.make()
    objective = ask(cg.Fixed(weighting=weighting), world).objective
    if weighting == "best":
        pytest.skip("hears one teacher")
    inputs = world.student(), world.teachers(world.names), world.labels_B
    torch.manual_seed(3)
    for parameter in objective.weighting.parameters():  # type: ignore[union-attr]
        torch.nn.init.normal_(parameter)
    before = objective.weigh(*inputs)
    for parameter in objective.weighting.parameters():  # type: ignore[union-attr]
        with torch.no_grad():
            kept = parameter.clone()
            parameter *= 1 + torch.rand_like(parameter)
            assert not torch.allclose(objective.weigh(*inputs), before, atol=1e-4)
            parameter.copy_(kept)


@every
def test_another_seed_draws_otherwise(slug: str, preset: str) -> None:
    world = World.make()
    method = make_method(slug, preset, world.names)
    first, second, same = (ask(method, world, seed=seed) for seed in (1, 2, 1))
    others = dict(second.objective.named_parameters())
    for name, parameter in first.objective.named_parameters():
        if parameter.std() > 0:  # was drawn
            assert not torch.equal(parameter, others[name]), name
    assert torch.equal(first.weights_BT, same.weights_BT)
    assert first.by_example or not torch.equal(first.weights_BT, second.weights_BT)


CHANCE = [{"kind": "dirichlet"}, {"kind": "one_hot"}]


@pytest.mark.parametrize("options", CHANCE)
def test_chance_is_new_at_every_step_and_example_and_stands_still_in_evaluation(
    options: Any,
) -> None:
    world = World.make(examples=200)
    objective = ask(cg.Random(**options), world).objective
    inputs = world.student(), world.teachers(world.names), world.labels_B
    first, second = objective.weigh(*inputs), objective.weigh(*inputs)
    assert (first != second).any(dim=1).sum() > 50
    assert (first[1:] != first[:-1]).any(dim=1).sum() > 50
    assert (first.mean(dim=0) - 1 / 3).abs().max() < 0.1
    # Even over the simplex a share has the variance 1/18, one teacher at a time 2/9.
    spread = 1 / 18 if options["kind"] == "dirichlet" else 2 / 9
    assert first.var(dim=0).mean().item() == pytest.approx(spread, rel=0.2)
    objective.eval()
    assert torch.equal(objective.weigh(*inputs), objective.weigh(*inputs))


def test_shares_belong_to_names() -> None:
    for names in ("abc", "cab"):
        world = World.make().named({name: name for name in names})
        weights_BT = ask(cg.Fixed(shares=("c=3", "a=1")), world).weights_BT
        expected = {"a": 0.25, "b": 0.0, "c": 0.75}
        assert weights_BT.tolist() == [[expected[name] for name in names]] * 6


@pytest.mark.parametrize("tolerance", [0.34, 0.4, 0.6, 1.0])
@pytest.mark.parametrize("normalise", [False, True])
def test_the_tolerance_and_the_temperature_are_those_asked_for(
    tolerance: float, normalise: bool
) -> None:
    found = []
    for scale in (1.0, 3.0):
        world = World.make()
        world.logits_BC = scale * world.logits_BC
        world.teacher_logits = {name: scale * z for name, z in world.teacher_logits.items()}
        world.teacher_logits["b"] = 0.1 * world.teacher_logits["b"]  # nearest to everybody
        method = cg.AEKD(tolerance=tolerance, normalise_gradients=normalise, temperature=2 * scale)
        found.append(ask(method, world).weights_BT)
        assert normalise or found[-1].max() <= tolerance + 1e-9
    assert torch.allclose(found[0], found[1], atol=1e-6)  # logits have no unit but the temperature
    assert tolerance > 0.34 or normalise or found[0].max() > 0.335


def test_the_best_is_who_is_best_on_validation() -> None:
    for best in "abc":
        accuracy = {name: 0.9 if name == best else 0.3 for name in "abc"}
        assert cg.KD().resolve_teachers(("a", "b", "c"), accuracy).active_teachers(
            ("a", "b", "c")
        ) == (best,)
