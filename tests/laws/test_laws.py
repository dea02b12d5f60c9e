"""Properties every method must have; a new method is held to them without an edit here."""

import copy
import dataclasses
import pickle
import re
from typing import Any

import pytest
import torch
from world import LOSSES, TEACHER_MAPS, World, ask, each_weighting, every, make_method, pairs_for

import collegium as cg
from collegium.methods import all_methods
from collegium.models.features.layer_names import read, shape_of
from collegium.objectives.objective import total


def without(method: Any, *options: str) -> Any:
    there = {name: 0.0 for name in options if hasattr(method, name)}
    return dataclasses.replace(method, **there)


def with_kept_pairs(method: Any, names: tuple[str, ...]) -> Any:
    if not hasattr(
        method, "hint_assign"
    ):  # elsewhere a teacher's layers do not depend on its place
        return method
    return dataclasses.replace(method, hint_pairs=pairs_for(names))


@every
@pytest.mark.parametrize("examples", [1, 2, 6])
@pytest.mark.parametrize("teachers", ["a", "ab", "abcde"])
def test_terms_are_finite_and_per_example(
    slug: str, preset: str, examples: int, teachers: str
) -> None:
    world = World.make(examples=examples, teachers=teachers)
    asked = ask(make_method(slug, preset, world.names), world)
    for name, term_B in asked.terms.items():
        assert term_B.shape == (examples,), name
        assert torch.isfinite(term_B).all(), name


@every
def test_weights_are_a_simplex(slug: str, preset: str) -> None:
    world = World.make()
    asked = ask(make_method(slug, preset, world.names), world)
    assert asked.weights_BT.shape == (6, len(asked.names))
    if asked.names:
        assert (asked.weights_BT >= 0).all()
        assert torch.allclose(asked.weights_BT.sum(dim=1), torch.ones(6, dtype=torch.float64))


@every
def test_a_single_teacher_gets_everything(slug: str, preset: str) -> None:
    asked = ask(make_method(slug, preset, ("a",)), World.make(teachers="a"))
    assert (asked.weights_BT == 1).all()


@every
def test_a_gradient_reaches_the_student_and_no_teacher(slug: str, preset: str) -> None:
    world = World.make()
    watched = [world.logits_BC, *world.maps.values()]
    teachers = [*world.teacher_logits.values()]
    teachers += [feature for maps in world.teacher_maps.values() for feature in maps.values()]
    for tensor in (*watched, *teachers):
        tensor.requires_grad_()
    asked = ask(make_method(slug, preset, world.names), world)
    asked.loss.backward()
    assert world.logits_BC.grad is not None
    assert world.logits_BC.grad.abs().sum() > 0
    hinted = asked.objective.layers.student
    for path in hinted:
        gradient = world.maps[path].grad
        assert gradient is not None
        assert gradient.abs().sum() > 0, path
    # Answers come from networks that run without gradient; a map's must be cut off again here.
    for maps in world.teacher_maps.values():
        assert all(feature.grad is None for feature in maps.values())


@every
def test_teachers_matter_to_methods_that_hear_them(slug: str, preset: str) -> None:
    world = World.make()
    method = make_method(slug, preset, world.names)
    before = ask(method, world).loss
    for name in method.active_teachers(world.names):
        world.teacher_logits[name] = world.teacher_logits[name].flip(1)
        maps = world.teacher_maps[name].items()
        world.teacher_maps[name] = {path: torch.rand_like(feature) for path, feature in maps}
    after = ask(method, world).loss
    assert (before == after) == (not method.uses_teachers)


@every
def test_copies_of_one_teacher_give_what_one_gives(slug: str, preset: str) -> None:
    one = World.make(teachers="a")
    method: Any = all_methods()[slug].preset(preset)
    if hasattr(method, "hint_assign"):
        # By the rule hints enter other student groups when their number changes.
        method = dataclasses.replace(method, hint_assign="all_to_one", hint_reduce="mean")
        method = without(method, "adapter_l2")
    divided = 3 if getattr(method, "divided_by_teachers", False) else 1
    copies = one.named({"a": "a", "b": "a", "c": "a"})
    alone = ask(method, one)
    several = ask(method, copies, arrange=lambda built: share_regressors(alone.objective, built))
    expected, found = by_kind(alone.terms), by_kind(several.terms)
    assert expected.keys() == found.keys()
    for name, term_B in expected.items():
        times = 1 if name == "ce" else divided
        assert torch.allclose(term_B, times * found[name], rtol=1e-9, atol=1e-12), name


def by_kind(terms: dict[str, Any]) -> dict[str, Any]:
    """Sums over teachers: `hint.a`, `hint.b`, ... are one kind."""
    sums: dict[str, Any] = {}
    for name, term_B in terms.items():
        kind = name.partition(".")[0]
        sums[kind] = sums.get(kind, 0) + term_B
    return sums


def share_regressors(one: Any, many: Any) -> None:
    """Give every teacher the regressors that teacher a has."""
    kept = dict(regressors(one))
    with torch.no_grad():
        for key, value in regressors(many):
            value.copy_(kept[re.sub(r"^([a-z]+)\.[bc](?=[./])", r"\1.a", key)])


def regressors(objective: Any) -> list[tuple[str, Any]]:
    """By term and name; those of all teachers in one term count as the first one's."""
    return [
        (f"{name}/{re.sub(r'^hints[.][0-9]+', 'hints.0', key)}", value)
        for name, term in objective.terms.items()
        for key, value in term.named_parameters()
        if "regressor" in key
    ]


@every
def test_reordering_teachers_reorders_weights_and_nothing_else(slug: str, preset: str) -> None:
    world = World.make()
    method = with_kept_pairs(make_method(slug, preset, world.names), world.names)
    turned = world.named({name: name for name in "cab"})
    first, second = ask(method, world), ask(method, turned)
    columns = [first.names.index(name) for name in second.names]
    # A few hundred-millionths where weights are the solution of a programme.
    assert torch.allclose(first.weights_BT[:, columns], second.weights_BT, atol=1e-9)
    assert torch.allclose(first.loss, second.loss, atol=1e-9)


@every
def test_the_order_of_examples_is_irrelevant(slug: str, preset: str) -> None:
    world = World.make()
    method = make_method(slug, preset, world.names)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    first, second = ask(method, world), ask(method, world.rows(order))
    if not first.by_example:
        pytest.skip("weights are drawn by chance")
    assert torch.allclose(first.weights_BT[order], second.weights_BT, atol=1e-12)
    for name, term_B in first.terms.items():
        assert torch.allclose(term_B[order], second.terms[name], atol=1e-10), name


@every
def test_duplicating_the_batch_changes_no_pointwise_term(slug: str, preset: str) -> None:
    world = World.make()
    method = make_method(slug, preset, world.names)
    first, second = ask(method, world), ask(method, world.rows(torch.arange(12) % 6))
    for name, term_B in first.terms.items():
        if first.is_pointwise(name):
            assert torch.allclose(term_B.mean(), second.terms[name].mean(), atol=1e-12), name


@every
def test_a_constant_added_to_logits_changes_nothing(slug: str, preset: str) -> None:
    world = World.make()
    method = make_method(slug, preset, world.names)
    first = ask(method, world)
    shift_B1 = torch.randn(6, 1, dtype=torch.float64)
    world.logits_BC = world.logits_BC + 7 * shift_B1
    world.teacher_logits = {name: z + 5 * shift_B1 for name, z in world.teacher_logits.items()}
    second = ask(method, world)
    for name, term_B in first.terms.items():
        if name in ("angle", "distance") and getattr(method, "angle_input", "") == "logits":
            continue  # raw logits are what that switch asks for
        if name == "kd" and getattr(method, "loss", "") == "logits" and not method.standardise:
            continue
        assert torch.allclose(term_B, second.terms[name], atol=1e-9), name


@every
def test_extreme_logits_and_blank_maps_stay_finite(slug: str, preset: str) -> None:
    world = World.make()
    world.logits_BC = (1e4 * world.logits_BC.sign()).requires_grad_()
    world.teacher_logits = {name: -1e4 * z.sign() for name, z in world.teacher_logits.items()}
    world.maps = {path: torch.zeros_like(f).requires_grad_() for path, f in world.maps.items()}
    asked = ask(make_method(slug, preset, world.names), world)
    asked.loss.backward()
    assert torch.isfinite(asked.loss)
    for tensor in (world.logits_BC, *world.maps.values()):
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()
    for name, parameter in asked.objective.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@every
def test_identical_examples_stay_finite(slug: str, preset: str) -> None:
    world = World.make().rows(torch.zeros(5, dtype=torch.long))
    world.logits_BC.requires_grad_()
    asked = ask(make_method(slug, preset, world.names), world)
    asked.loss.backward()
    assert world.logits_BC.grad is not None
    assert torch.isfinite(world.logits_BC.grad).all()


@every
def test_what_is_asked_for_of_hidden_layers_is_enough(slug: str, preset: str) -> None:
    """A store keeps what an objective names, which may be less than the whole map."""
    world = World.make()
    method = make_method(slug, preset, world.names)
    whole = ask(method, world)
    for name, layers in whole.objective.layers.teachers.items():
        world.teacher_maps[name] = {path: read(world.teacher_maps[name], path) for path in layers}
        for path, kept in world.teacher_maps[name].items():
            assert kept.shape[1:] == shape_of(TEACHER_MAPS, path), path
    asked = ask(method, world)
    for name, term_B in whole.terms.items():
        torch.testing.assert_close(asked.terms[name], term_B, msg=name)


@every
def test_a_restored_objective_goes_on_identically(slug: str, preset: str) -> None:
    world = World.make()
    method = make_method(slug, preset, world.names)
    first, other = ask(method, world, seed=1), ask(method, world, seed=2)
    if not first.by_example:  # draws belong to a seed, which is not part of the state
        other = ask(method, world, seed=1)
        other.objective(world.student(), world.teachers(other.names), world.labels_B)
    other.objective.load_state_dict(first.objective.state_dict())
    inputs = world.student(), world.teachers(other.names), world.labels_B
    expected, again = first.objective(*inputs), other.objective(*inputs)
    for name, term_B in expected.items():
        assert torch.equal(term_B, again[name]), name


@every
def test_an_objective_can_be_copied_and_pickled(slug: str, preset: str) -> None:
    world = World.make()
    method = make_method(slug, preset, world.names)
    asked = ask(method, world, seed=1)
    objective, inputs = (
        asked.objective,
        (world.student(), world.teachers(asked.names), world.labels_B),
    )
    if any("<locals>" in type(part).__qualname__ for part in objective.modules()):
        pytest.skip("has a class that no pickle can name")
    twins = copy.deepcopy(objective), pickle.loads(pickle.dumps(objective))
    expected = objective(*inputs)
    for twin in twins:
        for name, term_B in twin(*inputs).items():
            assert torch.equal(term_B, expected[name]), name


@every
def test_what_is_drawn_depends_on_the_seed_alone(slug: str, preset: str) -> None:
    world = World.make()
    method = make_method(slug, preset, world.names)
    torch.manual_seed(1)
    first = ask(method, world, seed=3).loss
    torch.manual_seed(2)
    assert torch.equal(first, ask(method, world, seed=3).loss)


@pytest.mark.parametrize("examples", [1, 6])
@pytest.mark.parametrize("slug", [s for s, kind in all_methods().items() if kind.uses_teachers])
def test_a_student_that_agrees_with_its_teachers_has_no_soft_loss(slug: str, examples: int) -> None:
    world = World.make(examples=examples)
    world.teacher_logits = dict.fromkeys("abc", world.logits_BC)
    world.logits_BC = world.logits_BC.clone().requires_grad_()
    asked = ask(make_method(slug, "default", world.names), world)
    # Correlations add 1e-8 to what they divide by.
    bound = 1e-5 if getattr(make_method(slug, "default", world.names), "loss", "") == "dist" else 0
    for name in {"kd", "angle", "distance"} & asked.terms.keys():
        assert asked.terms[name].abs().max() < max(1e-10, bound), name
        (gradient,) = torch.autograd.grad(
            asked.terms[name].sum(), world.logits_BC, retain_graph=True
        )
        assert gradient.abs().max() < max(1e-8, bound), name


@pytest.mark.parametrize("slug", [s for s, kind in all_methods().items() if kind.uses_teachers])
def test_the_strength_of_distillation_does_not_depend_on_the_number_of_teachers(slug: str) -> None:
    # With copies of one teacher the soft term must be that of one: no factor T, no factor 1/T.
    one = World.make(teachers="a")
    method = without(make_method(slug, "default", ("a",)), "hint_weight")
    if "kd" not in ask(method, one).terms:
        pytest.skip("hears hidden layers; the law of copies sums them")
    expected = ask(method, one).terms["kd"]
    for names in ("ab", "abcdefgh"):
        many = one.named(dict.fromkeys(names, "a"))
        assert torch.allclose(ask(method, many).terms["kd"], expected, atol=1e-12)


def test_total_is_the_sum_of_the_means() -> None:
    terms = {"x": torch.tensor([1.0, 3.0]), "y": torch.tensor([10.0, 20.0])}
    assert total(terms).item() == 17.0


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize(("loss", "mix"), LOSSES)
@each_weighting
def test_every_loss_goes_with_every_weighting_at_one_strength(
    weighting: Any, loss: Any, mix: Any, standardise: bool
) -> None:
    options = {"weighting": weighting, "loss": loss, "mix": mix, "standardise": standardise}
    method = cg.Fixed(**options)
    one = World.make(teachers="a")
    expected = ask(method, one).terms["kd"]
    many = ask(method, one.named(dict.fromkeys("abcde", "a"))).terms["kd"]
    assert torch.allclose(many, expected, rtol=1e-9)
    world = World.make()
    world.logits_BC.requires_grad_()
    asked = ask(method, world)
    assert asked.weights_BT.min() >= 0
    assert torch.allclose(asked.weights_BT.sum(1), torch.ones(6, dtype=torch.float64))
    asked.terms["kd"].mean().backward()
    gradient = world.logits_BC.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum(dim=1) > 0).all()


@each_weighting
@pytest.mark.parametrize("slug", ["fitnets", "at", "sp", "rkd", "fsp"])
def test_every_weighting_goes_with_hidden_layers(slug: str, weighting: Any) -> None:
    world = World.make()
    for feature in world.maps.values():
        feature.requires_grad_()
    asked = ask(all_methods()[slug](weighting=weighting), world)
    asked.loss.backward()
    for path in asked.objective.layers.student:
        gradient = world.maps[path].grad
        assert gradient is not None
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0
    for name, parameter in asked.objective.named_parameters():
        if "regressor" in name:
            assert parameter.grad is not None, name
            # By gradients a teacher may get nothing at all, and its regressor has nothing to learn.
            assert parameter.grad.abs().sum() > 0 or weighting == "gradient", name


def test_standardised_soft_targets_know_no_scale() -> None:
    world = World.make()
    for loss, mix in LOSSES:
        method = cg.AvgMKD(standardise=True, loss=loss, mix=mix)
        first = ask(method, world).terms["kd"]
        moved = dataclasses.replace(
            world,
            logits_BC=3 * world.logits_BC + 1,
            teacher_logits={name: 0.2 * z - 4 for name, z in world.teacher_logits.items()},
        )
        assert torch.allclose(first, ask(method, moved).terms["kd"], rtol=1e-5), (loss, mix)


@pytest.mark.parametrize("weighting", ["gated", "gradient", "posterior", "entropy", "confidence"])
def test_weights_that_are_constants_teach_the_student_nothing(weighting: Any) -> None:
    world = World.make()
    for tensor in (world.logits_BC, *world.maps.values()):
        tensor.requires_grad_()
    asked = ask(cg.Fixed(weighting=weighting), world)
    assert not asked.weights_BT.requires_grad
    asked.loss.backward()
    assert all(feature.grad is None for feature in world.maps.values())


def test_the_gate_learns_from_the_label_alone() -> None:
    world = World.make()
    asked = ask(cg.Gated(), world)
    gate = dict(asked.objective.named_parameters())
    assert gate
    for name, term_B in asked.terms.items():
        gradients = torch.autograd.grad(
            term_B.sum() + 0 * sum(p.sum() for p in gate.values()),
            list(gate.values()),
            retain_graph=True,
        )
        assert any(g.abs().sum() > 0 for g in gradients) == (name == "gate"), name
