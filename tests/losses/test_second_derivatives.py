"""What is differentiated twice is right or refused; never silently wrong."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import collegium
from collegium import losses
from collegium.losses import angles
from collegium.losses import feature as features
from collegium.losses import relation as relations


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def functions() -> set[str]:
    """Every autograd Function of the package: importing it all takes longer than reading it."""
    classes = (
        node
        for path in Path(collegium.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    bases = {node.name: [ast.unparse(base) for base in node.bases] for node in classes}
    return {name for name, of in bases.items() if any("Function" in base for base in of)}


Case = tuple[Callable[..., Tensor], tuple[Tensor, ...]]
CASES: dict[type, Case] = {
    features._MeanSquare: (
        lambda x: features._MeanSquare.apply(x, (1, 2)),  # type: ignore[no-untyped-call]
        (draw(3, 4, 5),),
    ),
    features._MeanOfWindows: (
        lambda x: features._MeanOfWindows.apply(x, (2, 3)).square(),  # type: ignore[no-untyped-call]
        (draw(2, 4, 6, 3),),
    ),
    features._MeanProduct: (
        lambda x, y: features._MeanProduct.apply(x, y).square(),  # type: ignore[no-untyped-call]
        (draw(2, 5, 3), draw(2, 5, 4, seed=1)),
    ),
    features._DirectionHint: (
        lambda x: losses.direction_hint(x, draw(2, 3, 4, 4, seed=1)),
        (draw(2, 3, 4, 4),),
    ),
    relations._Products: (
        lambda x: relations._Products.apply(x).square(),  # type: ignore[no-untyped-call]
        (draw(4, 5),),
    ),
    angles._ByDirections: (lambda x: losses.angle(x, draw(5, 4, seed=1)), (draw(5, 3),)),
    angles._ByDistances: (
        lambda x: losses.angle_to_each(x, [draw(5, 30, seed=1), draw(5, 2, seed=2)]),
        (draw(5, 3),),
    ),
}
"""For each Function something made of it, and what that is differentiated by."""


def test_every_function_is_held_to_it() -> None:
    assert functions() == {kind.__name__ for kind in CASES}


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_second_derivatives_are_those_of_differences(kind: Any) -> None:
    function, inputs = CASES[kind]
    used: list[type] = []
    plain = kind.forward

    def watched(*given: Any) -> Any:
        used.append(kind)
        return plain(*given)

    kind.forward = staticmethod(watched)
    try:
        given = tuple(tensor.clone().requires_grad_() for tensor in inputs)
        assert torch.autograd.gradcheck(function, given)
        assert torch.autograd.gradgradcheck(function, given)
    finally:
        kind.forward = staticmethod(plain)
    assert used  # the case is about this one


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_the_first_derivative_is_the_same_when_a_second_may_follow(kind: Any) -> None:
    function, inputs = CASES[kind]
    given = tuple(tensor.clone().requires_grad_() for tensor in inputs)
    upstream = torch.rand_like(function(*given))
    cached = torch.autograd.grad(function(*given), given, upstream)
    again = torch.autograd.grad(function(*given), given, upstream, create_graph=True)
    for first, second in zip(cached, again, strict=True):
        assert second.requires_grad
        torch.testing.assert_close(first, second.detach())


BY_LAYER = [
    "hint",
    "direction_hint",
    "attention",
    "flow",
    "similarity",
    "angle",
    "wide",
    "distance",
]


@pytest.mark.parametrize("name", BY_LAYER)
def test_a_penalty_on_gradients_is_right_or_refused(name: str) -> None:
    """The norm of a gradient, differentiated: what a bilevel method does."""
    target = draw(5, 4, 2, 2, seed=1)
    compare: dict[str, Callable[[Tensor], Tensor]] = {
        "attention": lambda x: losses.attention(x, target),
        "flow": lambda x: losses.flow_error(losses.flow(x, x), losses.flow(target, target)),
        "similarity": lambda x: losses.similarity(x.flatten(1), target.flatten(1)),
        "angle": lambda x: losses.angle(x.flatten(1), target.flatten(1)),
        "wide": lambda x: losses.angle(torch.cat([x.flatten(1)] * 2, 1), target.flatten(1)),
        "distance": lambda x: losses.distance(x.flatten(1), target.flatten(1)),
        "hint": lambda x: losses.hint(x, target),
        "direction_hint": lambda x: losses.direction_hint(x, target),
    }

    def penalty(x: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(compare[name](x).sum(), x, create_graph=True)
        return gradient.square().sum()

    at = draw(5, 4, 2, 2).requires_grad_()
    try:
        (found,) = torch.autograd.grad(penalty(at), at)
    except RuntimeError as refused:
        # torch.cdist has a second derivative since torch 2.14, and before it says that it has none.
        if name != "distance" or "not implemented" not in str(refused):
            raise
        return
    step = 1e-6 * draw(5, 4, 2, 2, seed=3)
    with torch.enable_grad():
        above, below = (penalty((at + sign * step).detach().requires_grad_()) for sign in (1, -1))
    expected = (above - below).item() / 2
    assert (found * step).sum().item() == pytest.approx(expected, rel=1e-4)


def test_points_that_coincide_have_second_derivatives_without_nan() -> None:
    points = draw(5, 3)
    points[1] = points[0]
    points.requires_grad_()
    loss_B = losses.angle(points, draw(5, 4, seed=1))
    (gradient,) = torch.autograd.grad(loss_B.sum(), points, create_graph=True)
    (again,) = torch.autograd.grad(gradient.square().sum(), points)
    assert gradient.isfinite().all()
    assert again.isfinite().all()
