"""Every loss against plain loops written from its definition; gradients against differences."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from collegium.losses import (
    angle,
    angle_to_each,
    angles,
    attention,
    attention_to_each,
    cross_entropy,
    direction_hint,
    distance,
    distance_to_each,
    hint,
    kl_divergence,
    merge_classes,
    similarity,
    similarity_to_each,
    soft_target,
    soften,
    unit_channels,
)

DOUBLE = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=DOUBLE, generator=generator)


def softmax(row: Any, temperature: float) -> list[float]:
    powers = [math.exp((value - max(row)) / temperature) for value in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_targets_by_loops(temperature: float) -> None:
    student, teacher = 3 * draw(4, 6), 3 * draw(4, 6, seed=1)
    found = soft_target(soften(teacher, temperature), student, temperature)
    for b in range(4):
        p = softmax(teacher[b].tolist(), temperature)
        q = softmax(student[b].tolist(), temperature)
        kl = sum(p[c] * math.log(p[c] / q[c]) for c in range(6))
        assert found[b].item() == pytest.approx(temperature**2 * kl, rel=1e-10)


def test_cross_entropy_by_loops() -> None:
    logits, labels = 3 * draw(5, 4), torch.tensor([0, 1, 2, 3, 0])
    for temperature in (1.0, 5.0):
        found = cross_entropy(logits, labels, temperature)
        for b in range(5):
            expected = -math.log(softmax(logits[b].tolist(), temperature)[int(labels[b])])
            assert found[b].item() == pytest.approx(expected, rel=1e-10)


def smooth_l1(gap: float) -> float:
    return gap * gap / 2 if abs(gap) < 1 else abs(gap) - 0.5


def cosine(points: np.ndarray, vertex: int, i: int, k: int) -> float:
    first, second = points[i] - points[vertex], points[k] - points[vertex]
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / lengths) if lengths > 0 else 0.0


def test_angles_by_loops() -> None:
    student, target = draw(5, 3), draw(5, 7, seed=1)
    found = angle(student, target)
    s, t = student.numpy(), target.numpy()
    for b in range(5):
        gaps = [cosine(s, b, i, k) - cosine(t, b, i, k) for i in range(5) for k in range(5)]
        assert found[b].item() == pytest.approx(sum(map(smooth_l1, gaps)) / 25, rel=1e-10)


def test_distances_by_loops() -> None:
    student, target = draw(5, 3), draw(5, 7, seed=1)
    found = distance(student, target)

    def relative(points: np.ndarray) -> np.ndarray:
        pairs = np.linalg.norm(points[:, None] - points[None], axis=2)
        return pairs / pairs[pairs > 0].mean()

    gaps = relative(student.numpy()) - relative(target.numpy())
    for b in range(5):
        expected = sum(smooth_l1(gap) for gap in gaps[b]) / 5
        assert found[b].item() == pytest.approx(expected, rel=1e-10)


def test_hints_by_loops() -> None:
    student, target = draw(2, 3, 2, 2), draw(2, 3, 2, 2, seed=1)
    plain, direction = hint(student, target), direction_hint(student, target)
    s, t = student.numpy(), target.numpy()
    for b in range(2):
        squares = [
            (s[b, d, y, x] - t[b, d, y, x]) ** 2
            for d in range(3)
            for y in range(2)
            for x in range(2)
        ]
        assert plain[b].item() == pytest.approx(sum(squares) / 12, rel=1e-10)
        vectors = [(s[b][:, y, x], t[b][:, y, x]) for y, x in np.ndindex(2, 2)]
        cosines = [v @ w / np.linalg.norm(v) / np.linalg.norm(w) for v, w in vectors]
        assert direction[b].item() == pytest.approx(2 - 2 * sum(cosines) / 4, rel=1e-10)


def test_direction_hints_are_hints_of_unit_vectors_where_vectors_are_short_too() -> None:
    student, target = draw(4, 5, 3, 2), draw(4, 5, 3, 2, seed=1)
    student[0, :, 0, 0], student[1] = 0, 1e-6 * student[1]
    target[2, :, 0, 0] = 0
    student.requires_grad_()
    weights = torch.rand(4, dtype=DOUBLE)
    found = (direction_hint(student, target) * weights).sum()
    slow = 5 * hint(unit_channels(student, 1e-4), unit_channels(target, 1e-4))
    expected = (slow * weights).sum()
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (found, expected)]
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-9)


def test_attention_by_loops() -> None:
    student, target = draw(2, 3, 2, 2), draw(2, 5, 2, 2, seed=1)
    found = attention(student, target)
    for b in range(2):
        own, other = ((m.numpy()[b] ** 2).mean(axis=0).ravel() for m in (student, target))
        gaps = own / np.linalg.norm(own) - other / np.linalg.norm(other)
        assert found[b].item() == pytest.approx(float((gaps**2).mean()), rel=1e-10)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: soft_target(soften(draw(4, 5, seed=1), 3.0), x, 3.0),
        lambda x: kl_divergence(soften(x, 2.0), draw(4, 5, seed=1), 2.0),
        lambda x: cross_entropy(x, torch.tensor([0, 1, 2, 3]), 2.0),
        lambda x: angle(x, draw(4, 7, seed=1)),
        lambda x: distance(x, draw(4, 7, seed=1)),
    ],
)
def test_gradients_are_those_of_differences(loss: Any) -> None:
    assert torch.autograd.gradcheck(loss, draw(4, 5).requires_grad_())


@pytest.mark.parametrize("loss", [hint, direction_hint, attention])
def test_gradients_of_hints_are_those_of_differences(loss: Any) -> None:
    target = draw(2, 3, 2, 2, seed=1)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), draw(2, 3, 2, 2).requires_grad_())


@pytest.mark.parametrize("kept_bytes", [0, 1 << 26])
@pytest.mark.parametrize("chunk_bytes", [1, 1000, 10**7])
@pytest.mark.parametrize("width", [4, 40])
def test_angles_do_not_depend_on_the_chunks(
    width: int, chunk_bytes: int, kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, target = draw(13, width).requires_grad_(), draw(13, 6, seed=1)
    weights = torch.rand(13, dtype=DOUBLE)
    whole = (angle(student, target) * weights).sum()
    (expected,) = torch.autograd.grad(whole, student)
    for name in ("_CHUNK_BYTES", "_BLOCK_BYTES"):
        monkeypatch.setattr(angles, name, chunk_bytes)
    monkeypatch.setattr(angles, "_KEPT_BYTES", kept_bytes)
    again = (angle(student, target) * weights).sum()
    (found,) = torch.autograd.grad(again, student)
    assert torch.allclose(whole, again, atol=1e-14)
    assert torch.allclose(expected, found, atol=1e-14)


def test_wide_and_narrow_angles_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    student, targets = draw(9, 5).requires_grad_(), [draw(9, 3, seed=1), draw(9, 7, seed=2)]
    weights = torch.rand(9, 2, dtype=DOUBLE)

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        losses_BT = angle_to_each(student, targets)
        return losses_BT, torch.autograd.grad((losses_BT * weights).sum(), student)[0]

    narrow = both()
    monkeypatch.setattr(angles, "_NARROW", 0)
    wide = both()
    for first, second in zip(narrow, wide, strict=True):
        assert torch.allclose(first, second, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("width", [8, 64])
def test_angles_at_near_points_keep_the_precision_of_float32(width: int) -> None:
    """A class whose answers all but coincide, among others far away."""
    student, target = draw(24, width), draw(24, width, seed=1)
    student[:6] = student[0] + 1e-4 * draw(6, width, seed=2)
    student[7] = student[8]  # and two that do coincide
    student = student.float().requires_grad_()
    exact = student.detach().double().requires_grad_()
    loss, expected = angle(student, target.float()), angle(exact, target.float().double())
    assert torch.allclose(loss.double(), expected, atol=1e-6)
    found, true = (
        torch.autograd.grad(value.sum(), points)[0]
        for value, points in ((loss, student), (expected, exact))
    )
    assert torch.allclose(found.double(), true, rtol=1e-4, atol=1e-5 * true.abs().max().item())


@pytest.mark.parametrize(
    ("single", "to_each", "shape"),
    [
        (angle, angle_to_each, (5, 3)),
        (distance, distance_to_each, (5, 3)),
        (similarity, similarity_to_each, (5, 3)),
        (attention, attention_to_each, (5, 3, 4, 4)),
    ],
)
def test_each_of_several_targets_is_compared_as_if_it_were_alone(
    single: Any, to_each: Any, shape: tuple[int, ...]
) -> None:
    student = draw(*shape).requires_grad_()
    smaller = (5, 2, 2, 2) if len(shape) == 4 else (5, 7)
    targets = [draw(*shape, seed=1), draw(*smaller, seed=2)]
    alone = torch.stack([single(student, target) for target in targets], dim=1)
    assert torch.allclose(to_each(student, targets), alone, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x: to_each(x, targets), student)


def test_relations_do_not_change_with_place_scale_and_rotation() -> None:
    student, target = draw(6, 4), draw(6, 4, seed=1)
    rotation = torch.linalg.qr(draw(4, 4, seed=2)).Q
    moved = 3 * student @ rotation + draw(4, seed=3)
    for loss in (angle, distance):
        assert torch.allclose(loss(student, target), loss(moved, target), atol=1e-12)
        assert loss(moved, student).abs().max() < 1e-12


@pytest.mark.parametrize("examples", [1, 2])
def test_too_few_examples_have_no_angle(examples: int) -> None:
    student = draw(examples, 3).requires_grad_()
    loss = angle(student, draw(examples, 3, seed=1))
    loss.sum().backward()
    assert loss.tolist() == [0.0] * examples
    assert distance(draw(1, 3), draw(1, 3, seed=1)).tolist() == [0.0]


@pytest.mark.parametrize("temperature", [0.5, 4.0])
@pytest.mark.parametrize("groups", [[0, 0, 2, 2, 2, -1], [0, 1, -1, 3, -1, 5]])
def test_told_apart_adds_probabilities_up(groups: list[int], temperature: float) -> None:
    logits = 3 * draw(4, 6)
    found = soften(merge_classes(logits, torch.tensor(groups), temperature), temperature)
    for b in range(4):
        p = softmax(logits[b].tolist(), temperature)
        sums = [
            sum(p[c] for c in range(6) if groups[c] == first)
            for first in sorted(set(groups) - {-1})
        ]
        assert found[b].tolist() == pytest.approx([v / sum(sums) for v in sums], rel=1e-10)


def test_a_very_soft_target_is_regression_on_centred_logits() -> None:
    student, teacher, temperature = draw(4, 6), draw(4, 6, seed=1), 1e4
    found = soft_target(soften(teacher, temperature), student, temperature)
    gap = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    assert torch.allclose(found, gap.square().sum(dim=1) / 12, rtol=1e-3)


def test_an_underflowed_probability_costs_nothing_and_keeps_gradients_finite() -> None:
    target = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
    logits = torch.tensor([[-1e4, 1e4, 0.0]], requires_grad=True)
    loss = kl_divergence(target, logits, 1.0)
    loss.sum().backward()
    assert loss.item() == pytest.approx(2e4)
    assert torch.isfinite(target.grad).all()
    assert torch.isfinite(logits.grad).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=3),
    st.lists(st.floats(-50, 50), min_size=3, max_size=3),
    st.floats(0.1, 50),
)
def test_a_divergence_is_never_negative(
    student: list[float], teacher: list[float], temperature: float
) -> None:
    rows = (torch.tensor([row], dtype=DOUBLE) for row in (student, teacher))
    logits, other = rows
    assert soft_target(soften(other, temperature), logits, temperature).item() >= -1e-9
