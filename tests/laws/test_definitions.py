"""What every method must be by its definition: values, gradients, and what each option moves."""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from world import World, ask, make_method, pairs_for, settings

import collegium as cg
from collegium.errors import RequestError
from collegium.family import AbstractFeature, WeightingName
from collegium.losses import angles
from collegium.methods import all_methods
from collegium.objective import Given
from collegium.terms import MIXES, ClassifiedHints

every = pytest.mark.parametrize(("slug", "preset"), settings())
each_weighting = pytest.mark.parametrize("weighting", typing.get_args(WeightingName))
LOSSES = [(loss, mix) for loss, mixes in MIXES.items() for mix in mixes]
features = pytest.mark.parametrize(
    "slug", [slug for slug, kind in all_methods().items() if issubclass(kind, AbstractFeature)]
)


def shares(examples: int, teachers: int) -> Tensor:
    """Weights that are other for every teacher and example."""
    generator = torch.Generator().manual_seed(5)
    drawn_BT = torch.rand(examples, teachers, dtype=torch.float64, generator=generator) + 0.1
    return drawn_BT / drawn_BT.sum(dim=1, keepdim=True)


def positive(world: World) -> World:
    """Maps without a zero, where lengths have no derivative."""
    for maps in (world.maps, *world.teacher_maps.values()):
        for path, feature in maps.items():
            maps[path] = feature + 0.1
    return world


# ------------------------------------------------------------------ the soft target, by its words


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(dim=-1)


def compared(method: Any, target_BC: Tensor, student_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Each loss once more, as slowly as its paper says it."""
    if method.loss == "logits":
        return (target_BC - student_BC).square().mean(dim=1) / 2
    square, q_BC = method.temperature**2, torch.softmax(student_BC / method.temperature, dim=1)
    if method.loss == "kl":
        return square * kl(target_BC, q_BC)
    if method.loss == "dkd":
        true_BC = F.one_hot(labels_B, target_BC.shape[1]).bool()
        binary, rest = [], []
        for p_BC in (target_BC, q_BC):
            true_B1, rest_BC = p_BC[true_BC][:, None], p_BC[~true_BC].reshape(len(p_BC), -1)
            binary.append(torch.cat([true_B1, 1 - true_B1], dim=1))
            rest.append(rest_BC / rest_BC.sum(dim=1, keepdim=True))
        return square * (method.target_class * kl(*binary) + method.other_classes * kl(*rest))

    def missing(first_MK: Tensor, second_MK: Tensor) -> Tensor:
        pairs = zip(first_MK, second_MK, strict=True)
        return torch.stack([1 - torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])

    between_B = method.between_classes * missing(target_BC, q_BC)
    return square * (between_B + method.between_examples * missing(target_BC.T, q_BC.T).mean())


def by_definition(method: Any, world: World, names: Any, weights_BT: Tensor) -> Tensor:
    student_BC, labels_B = world.logits_BC, world.labels_B
    answers = [world.teacher_logits[name] for name in names]
    if method.standardise:
        student_BC, *answers = (
            (z - z.mean(dim=1, keepdim=True)) / (1e-7 + z.std(dim=1, keepdim=True))
            for z in (student_BC, *answers)
        )

    def soft(logits_BC: Tensor) -> Tensor:
        hot = method.temperature
        return logits_BC if method.loss == "logits" else torch.softmax(logits_BC / hot, dim=1)

    def mean(values: Any) -> Tensor:
        return sum(w_B[..., None] * x for w_B, x in zip(weights_BT.T, values, strict=True))

    mix = method.mix or MIXES[method.loss][0]
    if mix == "loss":
        each = [compared(method, soft(z), student_BC, labels_B) for z in answers]
        error_B = (weights_BT * torch.stack(each, dim=1)).sum(dim=1)
    else:
        target_BC = soft(mean(answers)) if mix == "logits" else mean([soft(z) for z in answers])
        error_B = compared(method, target_BC, student_BC, labels_B)
    strength = method.alpha * getattr(method, "kl_factor", 1)
    strength /= 5 if getattr(method, "kl_over_classes", False) else 1
    strength /= len(names) if getattr(method, "divided_by_teachers", False) else 1
    return strength * error_B


def check_definition(method: Any, world: World) -> None:
    asked = ask(method, world)
    method = method.heard(world.names, dict.fromkeys(world.names, 0.5))
    weights_BT = shares(6, len(asked.names))
    inputs = world.student(), world.teachers(asked.names), world.labels_B
    found = asked.objective(*inputs, weights_BT)
    expected = by_definition(method, world, asked.names, weights_BT)
    # Correlations add 1e-8 to what they divide by.
    assert torch.allclose(found["kd"], expected, rtol=1e-5 if method.loss == "dist" else 1e-9)
    assert asked.objective.terms["kd"].pointwise == (method.loss != "dist")


@every
def test_the_soft_term_is_what_its_definition_says(slug: str, preset: str) -> None:
    method: Any = make_method(slug, preset, ("a", "b", "c"))
    if not getattr(method, "alpha", 0):
        pytest.skip("has no soft target")
    check_definition(method, World.make())


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize(("loss", "mix"), LOSSES)
def test_every_loss_and_mix_is_what_its_definition_says(
    loss: Any, mix: Any, standardise: bool
) -> None:
    options: dict[str, Any] = {"target_class": 0.7, "other_classes": 3.0}
    options |= {"between_classes": 2.0, "between_examples": 0.5, "temperature": 2.5, "alpha": 0.7}
    check_definition(cg.Fixed(loss=loss, mix=mix, standardise=standardise, **options), World.make())


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("loss", list(MIXES))
def test_who_knows_some_classes_teaches_as_if_there_were_no_others(
    loss: Any, standardise: bool
) -> None:
    method = cg.Fixed(loss=loss, mix="loss", standardise=standardise)
    world = World.make(teachers="a")
    world.labels_B = 1 + world.labels_B % 4
    some = dataclasses.replace(world, groups={"a": [-1, 1, 2, 3, 4]})
    few = dataclasses.replace(
        world,
        logits_BC=world.logits_BC[:, 1:],
        teacher_logits={"a": world.teacher_logits["a"][:, 1:]},
        labels_B=world.labels_B - 1,
    )
    assert torch.allclose(ask(method, some).terms["kd"], ask(method, few).terms["kd"])


@every
def test_the_label_gets_what_is_left_to_it(slug: str, preset: str) -> None:
    world = World.make()
    method: Any = make_method(slug, preset, world.names)
    said = ask(method, world).terms["ce"]
    hot = method.temperature if getattr(method, "ce_softened", False) else 1
    left = 1.0
    if slug != "vanilla":
        left = 1 - method.alpha if method.label_weight is None else method.label_weight
    expected = F.cross_entropy(world.logits_BC / hot, world.labels_B, reduction="none")
    assert torch.allclose(said, left * expected)


# ------------------------------------------------------------------ gradients


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
        return (term(Given(*inputs, weights_BT)) * upstream_B).sum()

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
    heard = make_method(slug, preset, world.names).listens_to(world.names)
    teachers = world.teachers(heard)
    said_BTC = teachers.logits_BTC.clone()
    cg.total(objective(world.student(), teachers, world.labels_B)).backward()
    assert torch.equal(teachers.logits_BTC, said_BTC)
    for tensor, was in zip(given, before, strict=True):
        assert torch.equal(tensor, was)


# ------------------------------------------------------------------ who is heard in which term


def another_mind(world: World, names: Any) -> None:
    torch.manual_seed(9)
    for name in names:
        world.teacher_logits[name] = 3 * torch.randn_like(world.teacher_logits[name])
        maps = world.teacher_maps[name]
        world.teacher_maps[name] = {path: torch.rand_like(f) for path, f in maps.items()}


def terms_at(method: Any, world: World, weights_BT: Tensor) -> tuple[Any, dict[str, Tensor]]:
    asked = ask(method, world)
    inputs = world.student(), world.teachers(asked.names), world.labels_B
    return asked.objective, asked.objective(*inputs, weights_BT)


@every
@pytest.mark.parametrize("only", ["", "b"])
def test_a_teacher_without_weight_is_not_heard(slug: str, preset: str, only: str) -> None:
    world = World.make()
    method: Any = make_method(slug, preset, world.names)
    if len(method.listens_to(world.names)) < 2:
        pytest.skip("hears one teacher or none")
    if only and not hasattr(method, "hint_pairs"):
        pytest.skip("reads no hidden layer")
    if only:  # the place of a teacher among those that hint is not its place among all
        pairs = pairs_for(tuple(only)) + (("one=b:early",) if slug != "ca_mkd" else ())
        method = dataclasses.replace(method, hint_pairs=pairs)
    for place, name in enumerate(world.names):
        weights_BT = torch.eye(3, dtype=torch.float64)[place].expand(6, 3)
        objective, before = terms_at(method, world, weights_BT)
        world = World.make()
        another_mind(world, set(world.names) - {name})
        _, after = terms_at(method, world, weights_BT)
        world = World.make()
        _, other = terms_at(method, world, shares(6, 3))
        for key, term_B in before.items():
            term, (kind, _, rest) = objective.terms[key], key.partition(".")
            teacher = rest.partition(".")[0]
            own_weights = isinstance(term, ClassifiedHints) or not getattr(term, "weighted", True)
            if own_weights:  # and then nobody else's
                assert torch.equal(term_B, other[key]), key
            elif kind not in ("gate", "adapter_label"):
                assert torch.allclose(term_B, after[key]), key
                assert not teacher or (term_B != 0).any() == (teacher == name), key
                assert key == "ce" or kind == "adapter_l2" or (term_B != other[key]).any(), key


@every
def test_terms_that_bear_a_name_hear_that_teacher_alone(slug: str, preset: str) -> None:
    for name in World.make().names:
        world = World.make()
        method = make_method(slug, preset, world.names)
        if name not in method.listens_to(world.names):
            continue
        weights_BT = shares(6, len(method.listens_to(world.names)))
        _, before = terms_at(method, world, weights_BT)
        another_mind(world, [name])
        _, after = terms_at(method, world, weights_BT)
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
        alone = term(Given(*inputs, asked.weights_BT))  # shares no work with the others
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


# ------------------------------------------------------------------ options


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


# ------------------------------------------------------------------ weightings


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


def test_hints_by_a_teachers_own_classifier_are_what_their_definition_says() -> None:
    world = World.make()
    heads = world.heads(world.names)
    for place, (_, bias_C) in enumerate(heads.values()):
        bias_C += place * torch.arange(5)
    dims = dataclasses.replace(world.dims(), heads=heads)
    objective = cg.CAMKD(hint_weight=0.5).build(dims).double()
    found_B = objective(world.student(), world.teachers(world.names), world.labels_B)["hints"]
    (term,) = (t for t in objective.terms.values() if isinstance(t, ClassifiedHints))
    errors, misses = [], []
    for module, name in zip(term.hints, world.names, strict=True):
        own = F.adaptive_avg_pool2d(world.maps["three"], 2)
        target = F.adaptive_avg_pool2d(world.teacher_maps[name]["late"], 2)
        regressed = module.regressor(own)  # type: ignore[operator]
        errors.append((regressed - target).square().mean(dim=(1, 2, 3)))
        answer_BC = F.linear(regressed.mean(dim=(2, 3)), *heads[name])
        misses.append(F.cross_entropy(answer_BC, world.labels_B, reduction="none"))
    weights_BT = (1 - torch.softmax(torch.stack(misses, dim=1), dim=1)) / 2
    expected_B = 0.5 * (weights_BT * torch.stack(errors, dim=1)).sum(dim=1)
    assert torch.allclose(found_B, expected_B)


def test_the_adapters_penalty_is_that_of_all_it_learns() -> None:
    asked = ask(cg.AMTML(adapter_l2=0.1), World.make())
    learned = asked.objective.weighting.parameters()  # type: ignore[union-attr]
    expected = 0.1 * torch.stack([parameter.square().sum() for parameter in learned]).sum()
    assert torch.allclose(asked.terms["adapter_l2"], expected.expand(6))


def test_the_mixtures_label_is_its_cross_entropy() -> None:
    world = World.make()
    asked = ask(cg.AMTML(adapter_label_weight=0.3), world)
    p_BTC = torch.softmax(world.teachers(world.names).logits_BTC, dim=2)
    mixed_BC = (asked.weights_BT[..., None] * p_BTC).sum(dim=1)
    expected_B = 0.3 * F.nll_loss(mixed_BC.log(), world.labels_B, reduction="none")
    assert torch.allclose(asked.terms["adapter_label"], expected_B)


@pytest.mark.parametrize("groups", [{}, {"a": [0, 1, 2, -1, -1], "b": [-1, 1, 2, 3, 4]}])
def test_a_learned_gate_is_the_prior_of_its_weights_and_is_pulled_to_equal_ones(
    groups: dict[str, list[int]],
) -> None:
    world = dataclasses.replace(World.make(), groups=groups)

    def learned(objective: Any) -> None:
        torch.manual_seed(2)
        for parameter in objective.parameters():
            torch.nn.init.normal_(parameter)

    even, gated = ask(cg.Gated(), world), ask(cg.Gated(), world, arrange=learned)
    weighting: Any = gated.objective.weighting
    gate_BT = weighting.log_gate(world.student()).exp()
    expected_BT = even.weights_BT * gate_BT
    expected_BT = expected_BT / expected_BT.sum(dim=1, keepdim=True)
    assert torch.allclose(gated.weights_BT, expected_BT)
    pull_B = (torch.full_like(gate_BT, 1 / 3) * (1 / 3 / gate_BT).log()).sum(dim=1)
    heard_BT = gate_BT * (even.weights_BT > 0)
    heard_BT = heard_BT / heard_BT.sum(dim=1, keepdim=True)
    p_BTC = torch.softmax(world.teachers(world.names).logits_BTC, dim=2)
    mixed_BC = (heard_BT[..., None] * p_BTC).sum(dim=1)
    fit_B = F.nll_loss(mixed_BC.log(), world.labels_B, reduction="none")
    assert torch.allclose(gated.terms["gate"], fit_B + weighting.shrinkage * pull_B)


def test_the_best_is_who_is_best_on_validation() -> None:
    for best in "abc":
        accuracy = {name: 0.9 if name == best else 0.3 for name in "abc"}
        assert cg.KD().heard(("a", "b", "c"), accuracy).listens_to(("a", "b", "c")) == (best,)
