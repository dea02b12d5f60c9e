"""What every term must be by its definition, as slowly as its paper says it."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from world import MIXES, World, ask, every, is_soft_target, make_method, shares

import collegium as cg
from collegium.methods.soft_target import AbstractSoftTarget
from collegium.objectives import ClassifiedHints

DEFINED = ("kl", "dkd", "dist", "logits")
"""The losses that `compared` defines; packages that are installed may add others."""


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
    method = method.resolve_teachers(world.names, dict.fromkeys(world.names, 0.5))
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
    if not is_soft_target(method) or method.loss not in DEFINED:
        pytest.skip("has no soft target, or one of its own")
    check_definition(method, World.make())


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize(("loss", "mix"), [(n, m) for n in DEFINED for m in MIXES[n]])
def test_every_loss_and_mix_is_what_its_definition_says(
    loss: Any, mix: Any, standardise: bool
) -> None:
    options: dict[str, Any] = {"target_class": 0.7, "other_classes": 3.0}
    options |= {"between_classes": 2.0, "between_examples": 0.5, "temperature": 2.5, "alpha": 0.7}
    check_definition(cg.Fixed(loss=loss, mix=mix, standardise=standardise, **options), World.make())


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("loss", DEFINED)
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
    left = 1.0
    if isinstance(method, AbstractSoftTarget):
        left = 1 - method.alpha if method.label_weight is None else method.label_weight
    elif slug != "vanilla":
        pytest.skip("weighs the label in its own way")
    said = ask(method, world).terms["ce"]
    hot = method.temperature if getattr(method, "ce_softened", False) else 1
    expected = F.cross_entropy(world.logits_BC / hot, world.labels_B, reduction="none")
    assert torch.allclose(said, left * expected)


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
