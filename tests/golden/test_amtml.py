"""AMTML-KD against values computed by the authors' own code."""

from typing import Any

import pytest
import torch
from golden_case import Case
from torch import Tensor

import collegium as cg
from collegium.losses import (
    angle,
    attention,
    cross_entropy,
    distance,
    hint,
    match_resolution,
    soft_target,
    soften,
    unit_channels,
)
from collegium.objectives import AdapterL2, Hint
from collegium.objectives.objective import TermInputs, total
from collegium.types import HintPair
from collegium.weighting import LatentWeighting, latent_weights, mixture, pool

pytestmark = pytest.mark.data


def vector(case: Case) -> Tensor:
    return case["v"].squeeze(1)


@pytest.mark.parametrize("variant", ["a", "b"])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_weights(load: Any, kind: Any, variant: str) -> None:
    case = load(f"amtml_weights_{kind}_{variant}")
    beta_BD = pool(case["feature_map"], kind)
    weights_BT = latent_weights(beta_BD, case["theta"], vector(case))
    case.check("beta", beta_BD)
    case.check("weights", weights_BT)
    case.check_loss((weights_BT * case["probe"]).sum())


@pytest.mark.parametrize("variant", ["a", "b"])
def test_target(load: Any, variant: str) -> None:
    case = load(f"amtml_target_{variant}")
    weights_BT = latent_weights(pool(case["feature_map"], "avg"), case["theta"], vector(case))
    target_BC = mixture(weights_BT, soften(case["teacher_logits"], case.settings["T"]))
    case.check("target", target_BC)
    case.check_loss((target_BC * case["probe"]).sum())


@pytest.mark.parametrize("variant", ["a", "b"])
@pytest.mark.parametrize("temperature", ["T5", "T3"])
def test_kd_standard_and_as_coded(load: Any, temperature: str, variant: str) -> None:
    for form in ("standard", "ascoded"):
        case = load(f"amtml_kd_{temperature}_{variant}_{form}")
        alpha, student = case.settings["alpha"], case["student_logits"]
        kd_B = soft_target(case["target"], student, case.settings["T"])
        ce_B = cross_entropy(student, case["labels"])
        factor = 1.0 if form == "standard" else 2.0 / student.shape[1]
        case.check_loss((alpha * factor * kd_B + (1 - alpha) * ce_B).mean())
        if form == "standard":
            case.check("kl_per_sample", kd_B / case.settings["T"] ** 2)
            case.check("ce_per_sample", ce_B)


@pytest.mark.parametrize("variant", ["a", "b"])
@pytest.mark.parametrize("side", ["logits", "logprobs"])
@pytest.mark.parametrize("relation", [angle, distance], ids=["angle", "distance"])
def test_relations(load: Any, relation: Any, side: str, variant: str) -> None:
    case = load(f"amtml_rkd_{relation.__name__}_{side}_{variant}")
    student = case["student_logits"]
    if side == "logprobs":
        student = torch.log_softmax(student / case.settings["T"], dim=1)
    case.check_loss(relation(student, case["target"]).mean())


@pytest.mark.parametrize("variant", ["a", "b"])
def test_regulariser(load: Any, variant: str) -> None:
    case = load(f"amtml_regulariser_{variant}")
    weighting = LatentWeighting(["t"] * len(case["theta"]), len(case["v"]))
    weighting.theta_TD, weighting.v_D = (  # as plain tensors, so that gradients reach the inputs
        _replace(weighting, "theta_TD", case["theta"]),
        _replace(weighting, "v_D", vector(case)),
    )
    term = AdapterL2(weighting, case.settings["coefficient"])
    given = TermInputs(
        cg.StudentOutputs(torch.zeros(3, 2)),
        cg.TeacherOutputs(torch.zeros(3, 2, 2)),
        torch.zeros(3, dtype=torch.long),
        torch.zeros(3, 2),
    )
    case.check_loss(term(given).mean())


def _replace(module: torch.nn.Module, name: str, value: Tensor) -> Tensor:
    del module._parameters[name]
    return value


def hint_terms(case: Case, norm: Any, pooled: bool = False) -> list[Hint]:
    """Hint terms whose regressors are the case's."""
    students = case.several("student_map") or [case["student_map"]] * 99
    teachers = case.several("teacher_map")
    terms = []
    for place, (student, teacher) in enumerate(zip(students, teachers, strict=False)):
        term = Hint(
            HintPair("s", "t", "t"),
            cg.Dims(2, ("t",), {"s": student.shape[1:]}, {"t": {"t": teacher.shape[1:]}}),
            scale=1.0,
            norm=norm,
            pooled=pooled,
        )
        term.regressor.bias = None
        del term.regressor.weight
        term.regressor.weight = case[f"conv_weight_{place}"]
        terms.append(term)
    return terms


def hint_losses(case: Case, norm: Any, pooled: bool = False) -> list[Tensor]:
    students = case.several("student_map") or [case["student_map"]] * 99
    pairs = zip(hint_terms(case, norm, pooled), students, case.several("teacher_map"), strict=False)
    return [term.error(student, teacher).mean() for term, student, teacher in pairs]


@pytest.mark.parametrize("variant", ["a", "b"])
@pytest.mark.parametrize(
    ("name", "norm", "pooled"),
    [
        ("hint_groups_spatial", "channel_in", False),
        ("hint_groups_spatial_unnormalised", "none", False),
        ("hint_groups_pooled", "channel_in", True),
        ("hint_shared_group", "channel_in", False),
    ],
)
def test_hints(load: Any, name: str, norm: str, pooled: bool, variant: str) -> None:
    case = load(f"amtml_{name}_{variant}")
    losses = torch.stack(hint_losses(case, norm, pooled))
    case.check("per_group", losses)
    case.check_loss(losses.sum())


def objective_of(case: Case, preset: str, **changes: Any) -> tuple[Any, Any, Any]:
    """A whole objective of a preset with the case's latent vectors, and its inputs."""
    teacher_logits = case["teacher_logits"]
    names = tuple(f"t{place}" for place in range(teacher_logits.shape[1]))
    width = case["feature_map"].shape[1]
    dims = cg.Dims(
        classes=teacher_logits.shape[2], teachers=names, student_maps={"last": (width, 1, 1)}
    )
    options = {
        "temperature": case.settings["T"],
        "alpha": case.settings["alpha"],
        "hint_weight": 0.0,
        **changes,
    }
    objective = cg.AMTML.preset(preset, **options).build(dims)
    weighting = objective.weighting
    del weighting.theta_TD, weighting.v_D
    weighting.theta_TD, weighting.v_D = case["theta"], vector(case)
    student = cg.StudentOutputs(case["student_logits"], {"last": case["feature_map"]})
    return objective, student, cg.TeacherOutputs(teacher_logits)


@pytest.mark.parametrize("variant", ["a", "b"])
@pytest.mark.parametrize("regularised", [False, True], ids=["noreg", "reg"])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_total_as_coded_is_the_preset_notebook_kd(
    load: Any, kind: str, regularised: bool, variant: str
) -> None:
    case = load(f"amtml_total_kd_{kind}_{'reg' if regularised else 'noreg'}_{variant}")
    objective, student, teachers = objective_of(
        case, "notebook_kd", beta_pool=kind, adapter_l2=0.1 if regularised else 0.0
    )
    terms = objective(student, teachers, case["labels"])
    for name in ("angle", "distance"):
        if name in case.expected:
            case.check(name, terms[name].mean())
    case.check_loss(total(terms))


@pytest.mark.parametrize("variant", ["a", "b"])
def test_total_as_coded_is_the_preset_notebook_learning(load: Any, variant: str) -> None:
    case = load(f"amtml_total_learning_{variant}")
    objective, student, teachers = objective_of(case, "notebook_learning")
    hints = torch.stack(hint_losses(case, "channel_in")).sum()
    case.check("hint", hints)
    case.check_loss(total(objective(student, teachers, case["labels"])) + hints)


@pytest.mark.parametrize("variant", ["a", "b"])
def test_total_of_stage_two(load: Any, variant: str) -> None:
    case = load(f"amtml_total_learning_stage2_{variant}")
    objective, student, teachers = objective_of(case, "notebook_learning", adapter_l2=0.0)
    case.check_loss(total(objective(student, teachers, case["labels"])))


@pytest.mark.parametrize("variant", ["a", "b"])
def test_total_with_a_hint_group_per_teacher(load: Any, variant: str) -> None:
    case = load(f"amtml_total_grouphint_{variant}")
    objective, student, teachers = objective_of(case, "notebook_kd")
    hints = torch.stack(hint_losses(case, "channel_in", pooled=True)).sum()
    case.check("hint", hints)
    case.check_loss(total(objective(student, teachers, case["labels"])) + hints)


@pytest.mark.parametrize("variant", ["a", "b"])
@pytest.mark.parametrize("detached", [False, True], ids=["", "detached"])
def test_total_standard(load: Any, detached: bool, variant: str) -> None:
    case = load(f"amtml_total_standard_{variant}" + "_detached" * detached)
    objective, student, teachers = objective_of(
        case,
        "figure",
        angle_input="logits",
        normalise_beta=False,
        detach_beta=detached,
    )
    terms = objective(student, teachers, case["labels"])
    case.check("angle", terms["angle"].mean())
    case.check("kl", terms["kd"].mean() / (case.settings["alpha"] * case.settings["T"] ** 2))
    case.check("weights", objective.weigh(student, teachers, case["labels"]))
    case.check_loss(total(terms) + (0 * case["feature_map"].sum() if detached else 0))


@pytest.mark.parametrize("variant", ["a", "b"])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 20.0])
def test_kd(load: Any, temperature: float, variant: str) -> None:
    case = load(f"kd_T{temperature:g}_{variant}")
    target_BC = soften(case["teacher_logits"], temperature)
    kd_B = soft_target(target_BC, case["student_logits"], temperature)
    case.check("per_sample", kd_B)
    case.check_loss(kd_B.mean())


@pytest.mark.parametrize("variant", ["a", "b"])
@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_kd_with_labels_is_the_method(load: Any, temperature: float, variant: str) -> None:
    case = load(f"kd_ce_T{temperature:g}_{variant}")
    dims = cg.Dims(classes=case["teacher_logits"].shape[1], teachers=("t",))
    settings = {"temperature": temperature, "alpha": case.settings["alpha"]}
    method = cg.KD.preset("attention_transfer", **settings)
    student = cg.StudentOutputs(case["student_logits"])
    teachers = cg.TeacherOutputs(case["teacher_logits"][:, None])
    case.check_loss(total(method.build(dims)(student, teachers, case["labels"])))


@pytest.mark.parametrize("variant", ["a", "b"])
@pytest.mark.parametrize("name", ["rkd_distance_2d", "rkd_angle_2d", "rkd_both_2d", "rkd_both_map"])
def test_rkd(load: Any, name: str, variant: str) -> None:
    case = load(f"{name}_{variant}")
    student, teacher = case["student"].flatten(1), case["teacher"].flatten(1)
    weights = case.settings["weight_distance"], case.settings["weight_angle"]
    loss_B = weights[0] * distance(student, teacher) + weights[1] * angle(student, teacher)
    case.check_loss(loss_B.mean())


def test_rkd_counts_identical_rows(load: Any) -> None:
    case = load("rkd_duplicates_a")
    case.check("loss", distance(case["student"], case["teacher"]).mean())


@pytest.mark.parametrize("variant", ["a", "b"])
def test_fitnet(load: Any, variant: str) -> None:
    case = load(f"fitnet_conv1x1_{variant}")
    regressed = torch.nn.functional.conv2d(
        case["student_map"], case["conv_weight"], case["conv_bias"]
    )
    case.check_loss(hint(regressed, case["teacher_map"]).mean())


def test_pooling_before_a_hint_is_average_pooling(load: Any) -> None:
    case = load("at_pooled_a")
    larger, smaller = match_resolution(case["student_map"], case["teacher_map"])
    assert larger.shape[2:] == smaller.shape[2:] == case["teacher_map"].shape[2:]
    assert torch.allclose(larger, torch.nn.functional.avg_pool2d(case["student_map"], 2))


@pytest.mark.parametrize("name", ["at_a", "at_b", "at_p4_a", "at_p4_b", "at_pooled_a"])
def test_attention(load: Any, name: str) -> None:
    case = load(name)
    loss_B = attention(case["student_map"], case["teacher_map"], power=case.settings["p"])
    case.check_loss(loss_B.mean())


@pytest.mark.parametrize("variant", ["a", "b"])
def test_attention_of_the_authors_levels(load: Any, variant: str) -> None:
    case = load(f"amtml_at_levels_{variant}")
    maps = zip(case.several("student_map"), case.several("teacher_map"), strict=True)
    losses = torch.stack([attention(student, teacher).mean() for student, teacher in maps])
    case.check("per_level", losses)
    case.check_loss(losses.sum())


def test_unit_channels_have_length_one(load: Any) -> None:
    case = load("at_a")
    lengths = unit_channels(case["student_map"]).norm(dim=1)
    assert torch.allclose(lengths, torch.ones_like(lengths))
