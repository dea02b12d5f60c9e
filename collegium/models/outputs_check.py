"""Check on random images that a trained network gives logits of one class among several."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from collegium.errors import RequestError, WeightsError
from collegium.models.state import state_tensors

IMAGES = 3
_SETTLED = 0.999
"""Of sigmoids that are driven far: they are at 0 or at 1."""
LOGITS, PROBABILITIES = "logits", "probabilities"


def check_finite(body: nn.Module, source: object) -> None:
    """Refuse weights with a NaN or an infinity.

    Raises:
        WeightsError: a parameter, or a statistic of a normalisation, is not finite; names it.
    """
    learned = {name for name, _ in body.named_parameters()}
    for name, tensor in state_tensors(body).items():
        if is_lazy(tensor) or not tensor.is_floating_point():
            continue
        # A mask may be a buffer of infinities.
        exact = name in learned or ".running_" in f".{name}"
        bad = ~tensor.isfinite() if exact else tensor.isnan()
        if bad.any():
            kind = "NaN" if tensor.isnan().any() else "infinite"
            count = f"{int(bad.sum())} of {tensor.numel()} values are {kind}"
            raise WeightsError(f"{source}: tensor {name} is damaged: {count}; give other weights")


@torch.no_grad()
def kind_of_outputs(network: Any, image_shape: tuple[int, int, int]) -> str:
    """What the outputs of a trained network are: "logits", or "probabilities" of a softmax inside.

    Args:
        network: a `Network` in evaluation mode.
        image_shape: of a view.

    Raises:
        RequestError: they are sigmoids of several labels at once.
    """
    generator = torch.Generator().manual_seed(0)
    views_BDHW = torch.rand(IMAGES, *image_shape, generator=generator)
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        outputs_BC = network(views_BDHW.to(device))
    except Exception:
        outputs_BC = None
    # The check of its logits reports an error, and what is no classifier.
    if not isinstance(outputs_BC, Tensor) or outputs_BC.ndim != 2 or outputs_BC.shape[1] == 1:
        return LOGITS
    if _sums_to_one(outputs_BC):
        return PROBABILITIES
    if _squashed(outputs_BC) and _sigmoids(network, views_BDHW.to(device), outputs_BC):
        raise RequestError(
            f"model {network.spec} gives a number from 0 to 1 for each class by itself (sigmoids, "
            "several labels at once); only one class among several is taught: give logits, "
            "without the sigmoid, of a network that was trained so"
        )
    return LOGITS


def _squashed(outputs_BC: Float[Tensor, "B C"]) -> bool:
    return bool(((outputs_BC >= 0) & (outputs_BC <= 1)).all())


def _sums_to_one(outputs_BC: Float[Tensor, "B C"]) -> bool:
    sums_B = outputs_BC.double().sum(dim=1)
    return _squashed(outputs_BC) and torch.allclose(sums_B, torch.ones_like(sums_B), atol=1e-3)


def _sigmoids(network: Any, views_BDHW: Tensor, near_BC: Float[Tensor, "B C"]) -> bool:
    """Whether they move towards an end of 0..1 and never beyond, however far the input goes."""
    if not bool((near_BC > 0).all()):  # a sigmoid of an ordinary number is never 0
        return False
    try:
        far_BC = network.body(network.prepare(views_BDHW) * 1e4)
    except Exception:
        return False
    if not isinstance(far_BC, Tensor) or far_BC.shape != near_BC.shape or not _squashed(far_BC):
        return False
    moved = bool((far_BC - near_BC).abs().max() > 1e-3)
    return moved and bool((far_BC - 0.5).abs().max() > _SETTLED - 0.5)
