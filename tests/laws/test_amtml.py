"""What is special to AMTML-KD: its weights, its adapter and its hints."""

import math

import pytest
import torch
import torch.nn.functional as F
from world import World, ask

import collegium as cg
from collegium.losses import soft_target, soften
from collegium.weighting import LatentWeighting, latent_weights, mixture, pool, unit_length

FIGURE_4 = [  # weights; each teacher's distribution; the integrated row printed in the paper
    (
        [0.70, 0.25, 0.05],
        [
            [0.57, 0.03, 0.12, 0.01, 0.03, 0.01, 0.06, 0.05, 0.10, 0.03],
            [0.31, 0.01, 0.01, 0.12, 0.09, 0.21, 0.03, 0.01, 0.11, 0.11],
            [0.12, 0.09, 0.64, 0.00, 0.00, 0.01, 0.01, 0.03, 0.07, 0.03],
        ],
        [0.48, 0.02, 0.12, 0.03, 0.04, 0.06, 0.05, 0.04, 0.10, 0.05],
    ),
    (
        [0.73, 0.02, 0.25],
        [
            [0.01, 0.07, 0.05, 0.21, 0.10, 0.48, 0.02, 0.04, 0.03, 0.01],
            [0.05, 0.06, 0.10, 0.41, 0.08, 0.14, 0.05, 0.03, 0.04, 0.04],
            [0.11, 0.23, 0.06, 0.01, 0.03, 0.26, 0.15, 0.04, 0.01, 0.10],
        ],
        [0.03, 0.11, 0.05, 0.16, 0.08, 0.42, 0.05, 0.04, 0.02, 0.03],
    ),
    (
        [0.10, 0.38, 0.52],
        [
            [0.09, 0.05, 0.28, 0.15, 0.05, 0.10, 0.06, 0.18, 0.04, 0.01],
            [0.04, 0.01, 0.36, 0.10, 0.07, 0.13, 0.07, 0.10, 0.11, 0.01],
            [0.05, 0.05, 0.41, 0.07, 0.10, 0.07, 0.02, 0.09, 0.05, 0.09],
        ],
        [0.05, 0.04, 0.38, 0.09, 0.08, 0.09, 0.05, 0.10, 0.07, 0.05],
    ),
]


@pytest.mark.parametrize(("weights", "rows", "integrated"), FIGURE_4)
def test_the_integrated_rows_of_figure_4(
    weights: list[float], rows: list[list[float]], integrated: list[float]
) -> None:
    target_BC = mixture(torch.tensor([weights]), torch.tensor([rows]))
    assert (target_BC - torch.tensor([integrated])).abs().max() <= 0.008


def test_a_zero_adapter_is_the_plain_mean() -> None:
    world = World.make()
    adaptive = ask(cg.AMTML(hint_weight=0.0), world)
    assert isinstance(adaptive.objective.weighting, LatentWeighting)
    torch.nn.init.zeros_(adaptive.objective.weighting.v_D)
    said = adaptive.objective(world.student(), world.teachers(world.names), world.labels_B)
    method = cg.AMTML(hint_weight=0.0)
    mean = ask(cg.AvgMKD(temperature=method.temperature, alpha=method.alpha), world)
    assert torch.equal(said["kd"], mean.terms["kd"])


def test_the_gradient_of_the_scores_is_that_of_the_mixture() -> None:
    # METHOD: dKL(m || q) / dscore_t = w_t (g_t - sum_u w_u g_u), g_t = sum_c p_tc log(m_c / q_c).
    torch.manual_seed(0)
    p_TC = torch.softmax(torch.randn(3, 5, dtype=torch.float64), dim=1)
    logits_BC = torch.randn(1, 5, dtype=torch.float64)
    scores_BT = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    w_BT = torch.softmax(scores_BT, dim=1)
    m_BC = mixture(w_BT, p_TC[None])
    (found_BT,) = torch.autograd.grad(soft_target(m_BC, logits_BC, 1.0).sum(), scores_BT)
    g_T = (p_TC * (m_BC.log() - logits_BC.log_softmax(dim=1))).sum(dim=1)
    expected_BT = w_BT * (g_T - (w_BT * g_T).sum())
    assert torch.allclose(found_BT, expected_BT, atol=1e-12)


def student_gradient(detach: bool) -> tuple[torch.Tensor, torch.Tensor]:
    world = World.make()
    world.maps["three"].requires_grad_()
    world.logits_BC.requires_grad_()
    asked = ask(cg.AMTML(hint_weight=0.0, angle_weight=0.0, detach_beta=detach), world)
    gradients = torch.autograd.grad(
        asked.terms["kd"].mean(), [world.logits_BC, world.maps["three"]], allow_unused=True
    )
    method = cg.AMTML()
    said = soften(world.teachers(world.names).logits_BTC, method.temperature)
    target_BC = mixture(asked.weights_BT.detach(), said)
    fixed = method.alpha * soft_target(target_BC, world.logits_BC, method.temperature).mean()
    (expected,) = torch.autograd.grad(fixed, world.logits_BC)
    return (gradients[0] - expected).abs().max(), gradients[1]


def test_a_detached_feature_cannot_move_its_own_target() -> None:
    difference, by_map = student_gradient(detach=True)
    assert by_map is None
    assert difference < 1e-12  # to the student the weights are as good as fixed
    _, by_map = student_gradient(detach=False)
    assert by_map is not None
    assert by_map.abs().sum() > 0


def test_the_authors_regulariser_makes_the_weights_uniform_within_an_epoch() -> None:
    # 391 steps are an epoch of CIFAR at batch 128: the adapter as published collapses in one.
    torch.manual_seed(0)
    width, teachers = 64, ("a", "b", "c")
    dims = cg.Dims(10, teachers, {"last": (width, 1, 1)})
    method = cg.AMTML.preset("notebook_learning", hint_weight=0.0)
    objective = method.build(dims)
    weighting = objective.weighting
    assert weighting is not None
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.1, momentum=0.9)
    for _ in range(391):
        student = cg.StudentOutputs(torch.randn(32, 10), {"last": torch.rand(32, width, 1, 1)})
        said = cg.TeacherOutputs(torch.randn(32, 3, 10))
        optimizer.zero_grad()
        cg.total(objective(student, said, torch.randint(10, (32,)))).backward()
        optimizer.step()
    weights_BT = objective.weigh(student, said, torch.zeros(32, dtype=torch.long))
    assert (weights_BT - 1 / 3).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("width", [16, 64, 512])
def test_the_weights_start_almost_uniform_whatever_the_width_and_the_pool(
    width: int, kind: str
) -> None:
    torch.manual_seed(0)
    features = 5 * torch.randn(200, width, 4, 4).relu()
    entropies = []
    for seed in range(20):
        method = cg.AMTML(hint_weight=0.0, beta_pool=kind)
        objective = method.build(cg.Dims(10, ("a", "b", "c"), {"last": (width, 4, 4)}, seed=seed))
        student = cg.StudentOutputs(torch.zeros(200, 10), {"last": features})
        weights_BT = objective.weigh(
            student, cg.TeacherOutputs(torch.zeros(200, 3, 10)), torch.zeros(200, dtype=torch.long)
        )
        entropies.append(torch.special.entr(weights_BT).sum(dim=1).mean().item() / math.log(3))
    assert sum(entropies) / len(entropies) > 0.95
    assert min(entropies) < 0.9999  # and not exactly uniform: it can learn


def test_width_and_scale_of_the_feature_do_not_matter_when_normalised() -> None:
    beta_BD = torch.rand(5, 7)
    assert torch.allclose(unit_length(beta_BD), unit_length(100 * beta_BD))
    assert torch.allclose(unit_length(beta_BD).norm(dim=1), torch.ones(5))


def test_the_weights_are_those_of_plain_loops() -> None:
    torch.manual_seed(0)
    feature, theta, v = torch.randn(4, 6, 3, 2), torch.randn(3, 6), torch.randn(6)
    found = latent_weights(pool(feature, "max"), theta, v)
    for b in range(4):
        beta = [max(feature[b, d].flatten().tolist()) for d in range(6)]
        scores = [
            sum(v[d].item() * theta[t, d].item() * beta[d] for d in range(6)) for t in range(3)
        ]
        powers = [math.exp(score - max(scores)) for score in scores]
        for t in range(3):
            assert abs(found[b, t].item() - powers[t] / sum(powers)) < 1e-5


def test_the_adapter_learns_in_its_part_of_the_epochs_and_no_other() -> None:
    world = World.make()
    asked = ask(cg.AMTML(adapter_start=0.2, adapter_share=0.5, hint_weight=0.0), world)
    for epoch, learns in ((0, False), (1, False), (2, True), (4, True), (5, False), (9, False)):
        asked.objective.zero_grad()
        asked.objective.start_epoch(epoch, 10)
        inputs = world.student(), world.teachers(world.names), world.labels_B
        loss = cg.total(asked.objective(*inputs))
        if learns:
            loss.backward()
        weighting = asked.objective.weighting
        assert isinstance(weighting, LatentWeighting)
        assert weighting.learns == learns
        assert (weighting.theta_TD.grad is not None) == learns
        assert weighting(*inputs).requires_grad == learns


def test_hints_end_with_stage_one_where_asked() -> None:
    world = World.make()
    asked = ask(cg.AMTML(adapter_share=0.5, hints_in_stage_two=False), world)
    inputs = world.student(), world.teachers(world.names), world.labels_B
    asked.objective.start_epoch(4, 10)
    assert any(name.startswith("hint") for name in asked.objective(*inputs))
    asked.objective.start_epoch(5, 10)
    assert not any(name.startswith("hint") for name in asked.objective(*inputs))


def hint_loss_after(preset: str, steps: int = 60) -> tuple[float, float, bool]:
    world = World.make()
    world = World(
        world.logits_BC.float(),
        {path: feature.float() for path, feature in world.maps.items()},
        {name: z.float() for name, z in world.teacher_logits.items()},
        {n: {p: f.float() for p, f in maps.items()} for n, maps in world.teacher_maps.items()},
        world.labels_B,
    )
    objective = cg.AMTML.preset(preset).build(world.dims())
    learned = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=0.02)
    inputs = world.student(), world.teachers(world.names), world.labels_B

    def hints() -> torch.Tensor:
        return cg.total({k: v for k, v in objective(*inputs).items() if k.startswith("hint")})

    first = hints().item()
    for _ in range(steps):
        optimizer.zero_grad()
        cg.total(objective(*inputs)).backward()
        optimizer.step()
    regressors = [p for n, p in objective.named_parameters() if "regressor" in n]
    return first, hints().item(), any(p.grad is not None for p in regressors)


def test_trained_regressors_lower_their_loss_and_the_authors_do_not() -> None:
    first, last, has_gradient = hint_loss_after("default")
    assert has_gradient
    assert last < 0.7 * first
    first, last, has_gradient = hint_loss_after("notebook_hint")
    assert not has_gradient
    assert last == pytest.approx(first)


def test_each_teacher_hints_to_its_own_group() -> None:
    world = World.make()
    layers = ask(cg.AMTML(), world).objective.layers
    assert layers.student == ("one", "two", "three")
    assert layers.teachers == {"a": ("early",), "b": ("late",), "c": ("late",)}


def test_the_hint_loss_is_two_minus_two_cosines() -> None:
    world = World.make()
    for feature in (world.maps["two"], world.teacher_maps["b"]["late"]):
        feature += 0.1  # a zero vector has no direction
    asked = ask(cg.AMTML(), world)
    term = asked.objective.terms["hint.b"]
    regressed = term.regressor(world.maps["two"])  # type: ignore[operator]
    cosine_BHW = F.cosine_similarity(regressed, world.teacher_maps["b"]["late"], dim=1)
    assert torch.allclose(
        asked.terms["hint.b"] / term.scale, (2 - 2 * cosine_BHW).mean(dim=(1, 2)), atol=1e-6
    )
