"""The losses and weights of the methods against plain loops, and their gradients."""

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from scipy import optimize
from torch import Tensor

from collegium.losses import (
    attention,
    correlation,
    decoupled,
    flow,
    flow_error,
    hint,
    kl_divergence,
    logit_error,
    match_resolution,
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
    pool,
    posterior_weights,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def softmax(row: Sequence[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp((value - max(row)) / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def kl(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)


def pearson(x: Sequence[float], y: Sequence[float]) -> float:
    return statistics.correlation(x, y)


def test_standardised_rows_by_loops() -> None:
    logits = 3 * draw(4, 7) + 2
    found = standardise(logits).tolist()
    for row, expected in zip(found, logits.tolist(), strict=True):
        mean, deviation = statistics.fmean(expected), statistics.stdev(expected)
        assert row == pytest.approx([(v - mean) / (1e-7 + deviation) for v in expected], rel=1e-10)
    assert (standardise(torch.full((2, 5), 3.0)) == 0).all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_by_loops(temperature: float) -> None:
    student, teacher, labels = 3 * draw(5, 6), 3 * draw(5, 6, seed=1), [0, 5, 2, 3, 3]
    target = soften(teacher, temperature)
    found = decoupled(target, student, torch.tensor(labels), temperature, alpha=0.7, beta=3.0)
    for b, y in enumerate(labels):
        p, q = (softmax(z[b].tolist(), temperature) for z in (teacher, student))
        binary = kl([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        others = [c for c in range(6) if c != y]
        rest = [[d[c] / sum(d[k] for k in others) for c in others] for d in (p, q)]
        expected = temperature**2 * (0.7 * binary + 3 * kl(*rest))
        assert found[b].item() == pytest.approx(expected, rel=1e-10)


def test_the_parts_of_decoupled_make_up_the_plain_one() -> None:
    student, target = 3 * draw(5, 6), soften(3 * draw(5, 6, seed=1), 1.0)
    labels = torch.arange(5)
    binary = decoupled(target, student, labels, 1.0, alpha=1.0, beta=0.0)
    mask_scores = decoupled(target, student, labels, 1.0, alpha=0.0, beta=1.0)
    whole = binary + (1 - target.gather(1, labels[:, None]).squeeze(1)) * mask_scores
    torch.testing.assert_close(whole, kl_divergence(target, student, 1.0))


def test_decoupled_has_nothing_among_the_others_of_two_classes() -> None:
    student, target = draw(3, 2), soften(draw(3, 2, seed=1), 1.0)
    labels = torch.tensor([0, 1, 1])
    few = decoupled(target, student, labels, 1.0, beta=0.0)
    torch.testing.assert_close(few, decoupled(target, student, labels, 1.0, beta=8.0))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_correlations_by_loops(temperature: float) -> None:
    student, teacher = 3 * draw(5, 4), 3 * draw(5, 4, seed=1)
    found = correlation(soften(teacher, temperature), student, temperature, beta=2.0, gamma=0.5)
    p = [softmax(row, temperature) for row in teacher.tolist()]
    q = [softmax(row, temperature) for row in student.tolist()]
    columns = zip(zip(*p, strict=True), zip(*q, strict=True), strict=True)
    between = statistics.fmean(1 - pearson(x, y) for x, y in columns)
    for b in range(5):
        expected = temperature**2 * (2 * (1 - pearson(p[b], q[b])) + 0.5 * between)
        assert found[b].item() == pytest.approx(expected, rel=1e-5)


def test_correlation_of_one_example_is_between_classes_alone() -> None:
    student, target = draw(1, 4), soften(draw(1, 4, seed=1), 1.0)
    assert torch.equal(
        correlation(target, student, 1.0), correlation(target, student, 1.0, 1.0, 0.0)
    )


def test_similarities_by_loops() -> None:
    student, teacher = draw(4, 6), draw(4, 9, seed=1)
    found = similarity(student, teacher)

    def rows(points: Tensor) -> list[list[float]]:
        products = [
            [sum(x * y for x, y in zip(a, b, strict=True)) for b in points.tolist()]
            for a in points.tolist()
        ]
        return [[v / math.hypot(*row) for v in row] for row in products]

    pairs = zip(rows(student), rows(teacher), strict=True)
    for b, (own, target) in enumerate(pairs):
        expected = sum((x - y) ** 2 for x, y in zip(own, target, strict=True)) / 4
        assert found[b].item() == pytest.approx(expected, rel=1e-10)


def test_flows_by_loops() -> None:
    first, second = draw(2, 3, 4, 4), draw(2, 5, 2, 2, seed=1)
    found = flow(first, second)
    small = first.reshape(2, 3, 2, 2, 2, 2).mean(dim=(3, 5))
    for b, i, j in itertools.product(range(2), range(3), range(5)):
        expected = (
            sum(
                float(small[b, i, x, y] * second[b, j, x, y])
                for x, y in itertools.product(range(2), repeat=2)
            )
            / 4
        )
        assert found[b, i, j].item() == pytest.approx(expected, rel=1e-10)
    other = draw(2, 3, 5, seed=2)
    torch.testing.assert_close(flow_error(found, other), (found - other).square().mean(dim=(1, 2)))


def test_logit_errors_by_loops_and_their_limit() -> None:
    student, teacher = draw(3, 4), draw(3, 4, seed=1)
    found = logit_error(teacher, student)
    for b in range(3):
        gaps = [(x - y) ** 2 for x, y in zip(student[b].tolist(), teacher[b].tolist(), strict=True)]
        assert found[b].item() == pytest.approx(sum(gaps) / 4, rel=1e-12)
    centred = [z - z.mean(dim=1, keepdim=True) for z in (teacher, student)]
    hot = soft_target(soften(centred[0], 1e4), centred[1], 1e4)
    torch.testing.assert_close(hot, logit_error(*centred) / 2, rtol=1e-3, atol=0)


def test_several_teachers_at_once_are_each_of_them() -> None:
    student, teachers, labels = draw(4, 5), draw(4, 3, 5, seed=1), torch.arange(4)
    targets = soften(teachers, 2.0)
    calls: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
        lambda t, s, y: soft_target(t, s, 2.0),
        lambda t, s, y: decoupled(t, s, y, 2.0),
        lambda t, s, y: correlation(t, s, 2.0),
        lambda t, s, y: logit_error(t, s),
    ]
    for call in calls:
        together = call(targets, student[:, None], labels[:, None])
        apart = torch.stack([call(targets[:, t], student, labels) for t in range(3)], dim=1)
        torch.testing.assert_close(together, apart)


LABELS = torch.tensor([0, 2, 1, 3])
MAP = draw(4, 3, 2, 2, seed=3)
TARGET = soften(draw(4, 4, seed=4), 2.0)
CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "standardise": (standardise, (4, 4)),
    "decoupled": (lambda s: decoupled(TARGET, s, LABELS, 2.0), (4, 4)),
    "correlation": (lambda s: correlation(TARGET, s, 2.0), (4, 4)),
    "logit_error": (lambda s: logit_error(TARGET, s), (4, 4)),
    "similarity": (lambda s: similarity(s, TARGET), (4, 5)),
    "flow": (lambda s: flow_error(flow(s, s), flow(MAP, MAP)), (4, 3, 4, 4)),
    "attention": (lambda s: attention(s, MAP), (4, 5, 2, 2)),
    "hint": (lambda s: hint(match_resolution(s, MAP)[0], MAP), (4, 3, 4, 4)),
    "entropy": (lambda s: entropy_weights(s), (4, 3, 5)),
    "confidence": (lambda s: confidence_weights(s, LABELS), (4, 3, 5)),
    "posterior": (lambda s: posterior_weights(s, LABELS), (4, 3, 5)),
    "target of kl": (lambda s: soft_target(soften(s, 2.0), TARGET.log(), 2.0), (4, 4)),
    "target of decoupled": (
        lambda s: decoupled(soften(s, 2.0), TARGET.log(), LABELS, 2.0),
        (4, 4),
    ),
    "target of correlation": (lambda s: correlation(soften(s, 2.0), TARGET.log(), 2.0), (4, 4)),
}


@pytest.mark.parametrize("name", list(CASES))
def test_gradients_against_differences(name: str) -> None:
    function, shape = CASES[name]
    assert torch.autograd.gradcheck(function, draw(*shape, seed=5).requires_grad_())


def test_weights_by_loops() -> None:
    logits, labels = 2 * draw(3, 4, 5), torch.tensor([1, 4, 0])
    entropy, confidence = entropy_weights(logits), confidence_weights(logits, labels)
    posterior = posterior_weights(logits, labels, power=1.5)
    for b in range(3):
        p = [softmax(row) for row in logits[b].tolist()]
        h = [-sum(v * math.log(v) for v in row) for row in p]
        assert entropy[b].tolist() == pytest.approx([(1 - v / sum(h)) / 3 for v in h])
        right = [row[int(labels[b])] for row in p]
        shares = softmax([-math.log(v) for v in right])
        assert confidence[b].tolist() == pytest.approx([(1 - v) / 3 for v in shares])
        scores = [(v + 1 / 5) ** 1.5 for v in right]
        assert posterior[b].tolist() == pytest.approx([v / sum(scores) for v in scores])


def test_nobody_with_any_entropy_leaves_all_equal() -> None:
    sure = torch.tensor([[[1e4, 0.0, 0.0], [0.0, 1e4, 0.0]]])
    assert entropy_weights(sure).tolist() == [[0.5, 0.5]]


def test_mean_gradients_are_the_gradients() -> None:
    student, teachers = draw(4, 5).requires_grad_(), draw(4, 3, 5, seed=1)
    found = mean_gradients(teachers, student.detach(), 3.0)
    for t in range(3):
        loss = soft_target(soften(teachers[:, t], 3.0), student, 3.0).sum() / 4
        (gradient,) = torch.autograd.grad(loss, student)
        torch.testing.assert_close(found[t], gradient.sum(dim=0))


@pytest.mark.parametrize("tolerance", [1.0, 0.6, 0.4])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_gradient_weights_are_the_least_of_all(count: int, tolerance: float) -> None:
    for seed in range(8):
        gradients = draw(count, 6, seed=seed) + draw(1, 6, seed=99)
        found = gradient_weights(gradients, tolerance).double()
        most = max(tolerance, 1 / count)
        assert found.min() >= 0
        assert found.max() <= most + 1e-9
        assert found.sum().item() == pytest.approx(1)
        numbers = gradients.numpy()
        best = optimize.minimize(
            lambda w, g=numbers: float(((w @ g) ** 2).sum()),
            [1 / count] * count,
            jac=lambda w, g=numbers: 2 * g @ (w @ g),
            bounds=[(0, most)] * count,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"maxiter": 1000, "ftol": 1e-14},
        )
        length = (found @ gradients).square().sum().item()
        assert length <= best.fun + 1e-7
        assert length <= gradients.mean(dim=0).square().sum().item() + 1e-9


def test_normalised_gradients_are_weighed_by_direction_and_then_by_length() -> None:
    gradients = draw(3, 6) + draw(1, 6, seed=9)
    found = gradient_weights(torch.tensor([[1.0], [2.0], [7.0]]) * gradients, 1.0, normalise=True)
    lengths = torch.tensor([1.0, 2.0, 7.0]) * gradients.norm(dim=1)
    expected = gradient_weights(gradients / gradients.norm(dim=1, keepdim=True), 1.0) / lengths
    torch.testing.assert_close(found, expected / expected.sum())
    assert gradient_weights(gradients, 0.4, normalise=True).shape == (3,)


def test_gradients_that_say_the_same_share_their_weight() -> None:
    one, other = draw(1, 4), draw(1, 4, seed=1)
    found = gradient_weights(torch.cat([one, one, other]), 1.0)
    assert found[0].item() == pytest.approx(found[1].item(), abs=1e-5)
    assert gradient_weights(torch.zeros(3, 4)).tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(("count", "tolerance"), [(2, 1.0), (3, 1.0), (3, 0.5), (4, 1 / 3)])
def test_gradient_weights_at_a_limit_that_whole_teachers_reach(
    count: int, tolerance: float
) -> None:
    """Where limits fill up exactly one weight is left, and its sum is given."""
    for seed in range(200):
        answers, student = 2 * draw(4, count, 5, seed=seed), 2 * draw(4, 5, seed=seed + 1000)
        found = gradient_weights(mean_gradients(answers, student, 4.0), tolerance)
        assert found.sum().item() == pytest.approx(1)
        assert found.min() >= -1e-12
        assert found.max() <= tolerance + 1e-12


@pytest.mark.parametrize("alike", [0.9, 0.99])
def test_gradient_weights_of_teachers_that_nearly_agree_are_exact(alike: float) -> None:
    """Between two teachers the optimum is known: where the segment is nearest to the origin."""
    for seed in range(50):
        common = draw(1, 10, seed=seed)
        one, other = alike * common + (1 - alike) * draw(2, 10, seed=seed + 1000)
        share = float(((other - one) @ other) / (other - one).square().sum())
        found = gradient_weights(torch.stack([one, other]), 1.0)
        assert found[0].item() == pytest.approx(min(max(share, 0.0), 1.0), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("temperature", [2.0, 20.0])
def test_divergences_of_hot_answers_keep_their_digits_in_float32(temperature: float) -> None:
    labels = torch.arange(6)
    for seed in range(20):
        student, answers = 2 * draw(6, 10, seed=seed), 2 * draw(6, 10, seed=seed + 100)
        student, answers = (logits.float().double() for logits in (student, answers))
        for loss in (soft_target, lambda p, q, t: decoupled(p, q, labels, t)):
            exact = loss(soften(answers, temperature), student, temperature)
            found = loss(soften(answers.float(), temperature), student.float(), temperature)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.double(), exact, rtol=3e-6, atol=1e-7)


def test_a_target_of_nothing_teaches_nothing_in_any_type() -> None:
    for kind in (torch.float32, torch.float64):
        nothing, logits = torch.zeros(2, 3, dtype=kind), torch.ones(2, 3, dtype=kind)
        assert soft_target(nothing, logits, 4.0).tolist() == [0.0, 0.0]


def test_decoupled_takes_several_teachers_with_one_label_an_example() -> None:
    student, answers, labels = draw(3, 5), draw(3, 2, 5, seed=1), torch.tensor([0, 4, 2])
    both = decoupled(soften(answers, 2.0), student[:, None], labels, 2.0)
    for place in range(2):
        alone = decoupled(soften(answers[:, place], 2.0), student, labels, 2.0)
        torch.testing.assert_close(both[:, place], alone)


@pytest.mark.parametrize("power", [1, 1.5, 2, 3])
def test_attention_of_a_map_with_zeros_has_a_finite_gradient(power: float) -> None:
    student = draw(3, 4, 5, 5).relu().requires_grad_()
    attention(student, draw(3, 6, 5, 5, seed=1), power).sum().backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0


def test_of_equal_maxima_one_gets_the_gradient() -> None:
    feature = torch.zeros(1, 2, 2, 3, requires_grad=True)
    pool(feature, "max").sum().backward()
    assert feature.grad is not None
    assert sorted(feature.grad.flatten().tolist()) == [0.0] * 10 + [1.0] * 2


def test_hints_of_vectors_are_those_of_maps_of_one_position() -> None:
    student, teacher = draw(3, 4), draw(3, 4, seed=1)
    expected = hint(student[:, :, None, None], teacher[:, :, None, None])
    torch.testing.assert_close(hint(student, teacher), expected)


def test_gradient_weights_of_all_but_copies_keep_the_limit() -> None:
    for seed in range(100):
        others, student = draw(3, 6, seed=seed), draw(1, 6, seed=seed + 1000)
        copy = others[:1] * (1 + 3e-6 * draw(1, 6, seed=seed + 2000))
        gradients = (torch.cat([others, copy]) - 0.3 * student).float()
        found = gradient_weights(gradients, 0.6)
        assert found.min() >= 0
        assert found.max() <= 0.6 + 1e-6
        length = (found @ gradients).square().sum()
        assert length <= gradients.mean(dim=0).square().sum() * (1 + 1e-6)


@pytest.mark.parametrize("window", [2, 41, 55, 110])
def test_every_entry_of_a_window_gets_the_gradient_of_its_mean(window: int) -> None:
    large = torch.zeros(1, 1, 2 * window, window, requires_grad=True)
    pooled, _ = match_resolution(large, torch.zeros(1, 1, 2, 1))
    (pooled * torch.tensor([[1.0], [2.0]])).sum().backward()
    assert large.grad is not None
    expected = torch.tensor([1.0, 2.0]).repeat_interleave(window)[:, None] / window**2
    torch.testing.assert_close(large.grad[0, 0], expected.expand(-1, window))


@pytest.mark.parametrize("gap", [80.0, 95.0, 110.0])
def test_teachers_that_are_very_sure_leave_a_finite_gradient(gap: float) -> None:
    weights = torch.tensor([[0.5, 0.5]], requires_grad=True)
    said = soften(torch.tensor([[[gap, 0.0, 0.0], [gap, 0.0, 1.0]]]), 1.0)
    target = (weights[..., None] * said).sum(dim=1)
    for loss in (soft_target, lambda p, q, t: decoupled(p, q, torch.tensor([0]), t)):
        (gradient,) = torch.autograd.grad(
            loss(target, torch.zeros(1, 3), 1.0).sum(), weights, retain_graph=True
        )
        assert torch.isfinite(gradient).all()
