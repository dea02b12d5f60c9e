import itertools
import math

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from collegium.audit.ensemble import Ensemble, fit_shares
from collegium.audit.headroom import difference, half_width, head_room


def said(examples: int = 400, classes: int = 5, skills: tuple[float, ...] = (2.0, 1.0, 0.3)):
    """Answers of teachers that know the label more or less well."""
    generator = torch.Generator().manual_seed(3)
    labels_N = torch.randint(classes, (examples,), generator=generator)
    known_NC = torch.nn.functional.one_hot(labels_N, classes).float()
    noise_NTC = torch.randn(examples, len(skills), classes, generator=generator)
    return noise_NTC + known_NC[:, None] * torch.tensor(skills)[:, None], labels_N


def accuracy(scores_NC: Tensor, labels_N: Tensor) -> float:
    return (scores_NC.argmax(dim=1) == labels_N).double().mean().item()


def test_every_number_is_what_a_plain_loop_gives() -> None:
    logits_NTC, labels_N = said()
    found = head_room(logits_NTC, labels_N)
    p_NTC = logits_NTC.softmax(dim=2)
    assert found.single_T == tuple(accuracy(logits_NTC[:, t], labels_N) for t in range(3))
    assert found.best == 0
    assert found.mean == accuracy(p_NTC.mean(dim=1), labels_N)
    assert found.mean_of_logits == accuracy(logits_NTC.mean(dim=1), labels_N)
    for t, others in enumerate(itertools.combinations(range(3), 2)):
        without = found.without_T[2 - t]
        assert without == accuracy(p_NTC[:, list(others)].mean(dim=1), labels_N)
        assert found.worth_T[2 - t].mean == pytest.approx(found.mean - without)
    by_hand = sum(
        any(int(logits_NTC[n, t].argmax()) == int(labels_N[n]) for t in range(3))
        for n in range(len(labels_N))
    )
    assert found.oracle == by_hand / len(labels_N)
    assert found.gain_of_oracle.mean == pytest.approx(found.oracle - found.mean)
    assert sum(found.posterior_T) == pytest.approx(1)
    assert found.posterior_T[0] > found.posterior_T[1] > found.posterior_T[2]


def test_the_mixture_is_the_one_with_the_largest_likelihood() -> None:
    logits_NTC, labels_N = said()
    true_NT = Ensemble(logits_NTC, labels_N).true_NT

    def loss(free: object) -> float:
        shares_T = torch.as_tensor(free).softmax(dim=0)
        return -(true_NT * shares_T).sum(dim=1).log().mean().item()

    best = minimize(loss, [0.0, 0.0, 0.0], tol=1e-12)
    shares_T = fit_shares(true_NT)
    assert loss(shares_T.log()) <= best.fun + 1e-6
    assert shares_T.sum().item() == pytest.approx(1)


def test_the_mixture_is_not_measured_on_what_it_was_fitted_to() -> None:
    optimistic, cross_fitted = [], []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        logits_NTC = torch.randn(60, 40, 3, generator=generator)  # forty that know nothing
        labels_N = torch.randint(3, (60,), generator=generator)
        found = head_room(logits_NTC, labels_N)
        shares_T = torch.tensor(found.shares_T, dtype=torch.float32)
        mixed_NC = torch.einsum("ntc,t->nc", logits_NTC.softmax(dim=2), shares_T)
        optimistic.append(accuracy(mixed_NC, labels_N))
        cross_fitted.append(found.mixture_cross_fitted)
    assert sum(optimistic) / 4 > 0.42
    assert sum(cross_fitted) / 4 < 0.34


def test_copies_of_one_teacher_and_a_teacher_alone() -> None:
    logits_NTC, labels_N = said()
    copies = head_room(logits_NTC[:, :1].expand(-1, 3, -1), labels_N)
    alone = head_room(logits_NTC[:, :1], labels_N)
    assert copies.mean == copies.oracle == copies.mixture == alone.single_T[0] == alone.oracle
    assert copies.shares_T == pytest.approx((1 / 3,) * 3)
    assert all(worth.mean == 0 for worth in copies.worth_T)
    assert alone.worth_T == ()
    assert math.isnan(alone.without_T[0])
    assert (alone.shares_T, alone.posterior_T) == ((1.0,), (1.0,))


def test_one_example_is_enough() -> None:
    logits_NTC, labels_N = said()
    found = head_room(logits_NTC[:1], labels_N[:1])
    assert found.oracle in (0.0, 1.0)
    assert found.gain_of_oracle.half_width == math.inf


def test_intervals_by_hand() -> None:
    gap = difference(
        torch.tensor([True, True, True, False]), torch.tensor([True, False, True, 0]).bool()
    )
    assert gap.mean == 0.25
    assert gap.half_width == pytest.approx(1.959964 * 0.5 / 2)
    assert not gap.positive
    assert half_width(0.0, 50) == half_width(1.0, 50) > 0
    assert half_width(0.5, 10_000) == pytest.approx(0.0098, abs=1e-4)
