"""The other methods' formulas against values computed by official or other public code."""

import itertools
from typing import Any

import pytest
import torch
from golden_case import Case
from torch import Tensor

from collegium.losses import (
    correlation,
    decoupled,
    flow,
    flow_error,
    hint,
    logit_error,
    similarity,
    soft_target,
    soften,
    standardise,
)
from collegium.weighting import (
    confidence_weights,
    entropy_weights,
    gradient_weights,
    mean_gradients,
)

pytestmark = pytest.mark.data
both = pytest.mark.parametrize("variant", ["a", "b"])


def teachers_of(case: Case) -> Tensor:
    """(B, T, C); the cases have (T, B, C)."""
    return case["teacher_logits"].transpose(0, 1)


def each_kl(case: Case) -> Tensor:
    """(B, T) soft-target losses."""
    temperature = case.settings["T"]
    target_BTC = soften(teachers_of(case), temperature)
    return soft_target(target_BTC, case["student_logits"][:, None], temperature)


@both
@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_logit_standardisation(load: Any, temperature: float, variant: str) -> None:
    case = load(f"ls_kd_T{temperature:g}_{variant}")
    target_BC = soften(standardise(case["teacher_logits"]), temperature)
    loss_B = soft_target(target_BC, standardise(case["student_logits"]), temperature)
    case.check_loss(loss_B.mean())


@both
def test_logit_regression(load: Any, variant: str) -> None:
    case = load(f"logit_mse_{variant}")
    loss_B = logit_error(case["teacher_logits"], case["student_logits"])
    half = loss_B.mean() * case["student_logits"].shape[1] / 2
    case.check("half_sum_per_sample_mean", half)
    case.check_loss(loss_B.mean())


@both
@pytest.mark.parametrize("name", ["dkd_0", "dkd_1", "dkd_ls_0", "dkd_ls_1"])
def test_dkd(load: Any, name: str, variant: str) -> None:
    case = load(f"{name}_{variant}")
    told = case.settings
    student, teacher = case["student_logits"], case["teacher_logits"]
    if "eps" in told:
        student, teacher = (standardise(logits, told["eps"]) for logits in (student, teacher))
    target_BC = soften(teacher, told["T"])
    loss_B = decoupled(target_BC, student, case["labels"], told["T"], told["alpha"], told["beta"])
    case.check_loss(loss_B.mean())


@both
@pytest.mark.parametrize("name", ["dist_tau1", "dist_tau4"])
def test_dist(load: Any, name: str, variant: str) -> None:
    case = load(f"{name}_{variant}")
    beta, gamma, temperature = (case.settings[key] for key in ("beta", "gamma", "tau"))
    target_BC, student = soften(case["teacher_logits"], temperature), case["student_logits"]
    case.check_loss(correlation(target_BC, student, temperature, beta, gamma).mean())


@both
def test_sp(load: Any, variant: str) -> None:
    case = load(f"sp_{variant}")
    maps = (case[name].flatten(1) for name in ("student_map", "teacher_map"))
    case.check_loss(similarity(*maps).mean())


@both
def test_fsp(load: Any, variant: str) -> None:
    case = load(f"fsp_{variant}")
    flows = [
        [flow(*pair) for pair in itertools.pairwise(maps)]
        for maps in (case.several("student_map"), case.several("teacher_map"))
    ]
    losses = torch.stack([flow_error(*pair).mean() for pair in zip(*flows, strict=True)])
    case.check("per_pair", losses)
    case.check_loss(losses.sum())


@both
def test_aver(load: Any, variant: str) -> None:
    case = load(f"aver_{variant}")
    case.check_loss(each_kl(case).mean())


@both
def test_ca_mkd_on_logits(load: Any, variant: str) -> None:
    case = load(f"camkd_logits_{variant}")
    weights_BT = confidence_weights(teachers_of(case), case["labels"])
    case.check("weights", weights_BT.mT)
    loss = (weights_BT * each_kl(case)).sum(dim=1).mean()
    case.check("loss_without_extra_1_over_K", loss)
    case.check_loss(loss / weights_BT.shape[1])


@both
def test_ca_mkd_on_features(load: Any, variant: str) -> None:
    case = load(f"camkd_feature_{variant}")
    classified_BTC = torch.stack(case.several("classifier_logits"), dim=1)
    weights_BT = confidence_weights(classified_BTC, case["labels"])
    pairs = zip(case.several("projected_student"), case.several("teacher_map"), strict=True)
    errors_BT = torch.stack([hint(*pair) for pair in pairs], dim=1)
    case.check("weights", weights_BT.mT)
    loss = (weights_BT * errors_BT).sum(dim=1).mean()
    case.check("loss_without_extra_1_over_K", loss)
    case.check_loss(loss / weights_BT.shape[1])


@both
def test_ebkd(load: Any, variant: str) -> None:
    case = load(f"ebkd_{variant}")
    weights_BT = entropy_weights(teachers_of(case))
    count = weights_BT.shape[1]  # public weights sum to T - 1 and are divided by T
    if "weights" in case.expected:
        case.check("weights", weights_BT.mT * (count - 1))
    loss = (weights_BT * each_kl(case)).sum(dim=1).mean()
    case.check_loss(loss * (count - 1) / count)


@both
@pytest.mark.parametrize("form", ["raw", "norm"])
@pytest.mark.parametrize("tolerance", ["C0.6", "C1"])
def test_aekd(load: Any, tolerance: str, form: str, variant: str) -> None:
    case = load(f"aekd_{tolerance}_{form}_{variant}")
    student, temperature = case["student_logits"], case.settings["T"]
    gradients_TC = mean_gradients(teachers_of(case), student, temperature)
    case.check("mean_gradients", gradients_TC / len(student))  # there of the batch's mean
    weights_T = gradient_weights(gradients_TC, case.settings["C"], case.settings["normalised"])
    case.check("weights", weights_T)
    loss = (each_kl(case) @ weights_T).mean()
    case.check("loss", loss)
    (gradient_BC,) = torch.autograd.grad(loss, student)
    case.check("weighted_gradient", gradient_BC)
