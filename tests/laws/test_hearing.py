"""Who is heard in which term, and at which layer."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from world import World, ask, every, make_method, pairs_for, shares, terms_at

from collegium.errors import RequestError
from collegium.methods import all_methods
from collegium.methods.soft_target import AbstractFeature
from collegium.objectives import ClassifiedHints
from collegium.objectives.objective import TermInputs

features = pytest.mark.parametrize(
    "slug", [slug for slug, kind in all_methods().items() if issubclass(kind, AbstractFeature)]
)


def another_mind(names: Any) -> World:
    """The world in which these teachers answer otherwise."""
    world = World.make()
    torch.manual_seed(9)
    for name in sorted(names):
        world.teacher_logits[name] = 3 * torch.randn_like(world.teacher_logits[name])
        maps = world.teacher_maps[name]
        world.teacher_maps[name] = {path: torch.rand_like(f) for path, f in maps.items()}
    return world


@every
@pytest.mark.parametrize("only", ["", "b"])
def test_a_teacher_without_weight_is_not_heard(slug: str, preset: str, only: str) -> None:
    world = World.make()
    method: Any = make_method(slug, preset, world.names)
    if len(method.active_teachers(world.names)) < 2:
        pytest.skip("hears one teacher or none")
    if only and not hasattr(method, "hint_pairs"):
        pytest.skip("reads no hidden layer")
    if only:  # the place of a teacher among those that hint is not its place among all
        pairs = pairs_for(tuple(only)) + (("one=b:early",) if slug != "ca_mkd" else ())
        method = dataclasses.replace(method, hint_pairs=pairs)
    for place, name in enumerate(world.names):
        weights_BT = torch.eye(3, dtype=torch.float64)[place].expand(6, 3)
        objective, before = terms_at(method, World.make(), weights_BT)
        _, after = terms_at(method, another_mind(set(world.names) - {name}), weights_BT)
        _, changed = terms_at(method, another_mind(world.names), weights_BT)
        _, other = terms_at(method, World.make(), shares(6, 3))
        for key, term_B in before.items():
            term, (kind, _, rest) = objective.terms[key], key.partition(".")
            teacher = rest.partition(".")[0]
            own_weights = isinstance(term, ClassifiedHints) or not getattr(term, "weighted", True)
            if own_weights:  # and then nobody else's
                assert torch.equal(term_B, other[key]), key
            elif kind not in ("gate", "adapter_label"):
                assert torch.allclose(term_B, after[key]), key
                assert not teacher or (term_B != 0).any() == (teacher == name), key
                reads_no_teacher = torch.equal(term_B, changed[key])
                assert reads_no_teacher or (term_B != other[key]).any(), key


@every
def test_terms_that_bear_a_name_hear_that_teacher_alone(slug: str, preset: str) -> None:
    for name in World.make().names:
        world = World.make()
        method = make_method(slug, preset, world.names)
        if name not in method.active_teachers(world.names):
            continue
        weights_BT = shares(6, len(method.active_teachers(world.names)))
        _, before = terms_at(method, world, weights_BT)
        _, after = terms_at(method, another_mind([name]), weights_BT)
        for key, term_B in before.items():
            teacher = key.partition(".")[2].partition(".")[0]
            if teacher:
                assert torch.equal(term_B, after[key]) == (teacher != name), key


@every
def test_a_term_is_what_it_is_by_itself(slug: str, preset: str) -> None:
    world = World.make()
    asked = ask(make_method(slug, preset, world.names), world)
    inputs = world.student(), world.teachers(asked.names), world.labels_B
    for name, term in asked.objective.terms.items():
        alone = term(TermInputs(*inputs, asked.weights_BT))  # shares no work with the others
        assert torch.equal(alone, asked.terms[name]), name


@features
def test_layers_add_up(slug: str) -> None:
    pairs = ("one=b:early", "three=b:late")
    kind: Any = all_methods()[slug]
    try:
        each = [ask(kind(hint_pairs=(pair,)), World.make()).terms for pair in pairs]
        both = ask(kind(hint_pairs=pairs), World.make()).terms
    except RequestError:
        pytest.skip("does not compare any layer with any")

    def whole(terms: dict[str, Tensor]) -> Any:
        return sum(term_B for name, term_B in terms.items() if name != "ce")

    assert torch.allclose(whole(both), whole(each[0]) + whole(each[1]))


@every
def test_maps_turned_on_their_side_say_the_same(slug: str, preset: str) -> None:
    world = World.make()
    method = make_method(slug, preset, world.names)
    first = ask(method, world)
    for maps in (world.maps, *world.teacher_maps.values()):
        for path, feature in maps.items():
            maps[path] = feature.transpose(2, 3)
    second = ask(method, world)
    assert torch.allclose(first.weights_BT, second.weights_BT)
    for name, term_B in first.terms.items():
        assert torch.allclose(term_B, second.terms[name]), name
