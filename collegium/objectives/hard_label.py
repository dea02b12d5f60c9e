"""Class weights and label smoothing for the cross entropy with the label."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from collegium.errors import RequestError, UnknownNameError
from collegium.objectives import HardLabel
from collegium.objectives.objective import Objective
from collegium.utils.from_json import BALANCED


def resolve_class_weights(
    requested: Mapping[str, float] | Literal["balanced"],
    classes: Sequence[str],
    labels_N: Int[Tensor, " N"],
) -> Float[Tensor, " C"]:
    """The weight of each class, normalised to mean 1 over the training examples.

    So the label loss of an epoch keeps its strength beside soft targets and at the same learning
    rate, and no example's loss depends on its batch. Over all examples this equals torch's
    weighted mean. `balanced` is N / (C * count), as in scikit-learn (King, Zeng, Logistic
    Regression in Rare Events Data, 2001).

    Args:
        requested: weights >= 0 by class name, of which only the ratios matter, or "balanced".
        classes: names of the classes.
        labels_N: of the training examples.

    Raises:
        UnknownNameError: a weight for a class that does not exist.
        RequestError: a class without weight, all weights 0, or "balanced" and a class without
            training examples.
    """
    counts_C = torch.bincount(labels_N.cpu(), minlength=len(classes)).double()
    if isinstance(requested, str):
        return _balanced(classes, counts_C)
    weights_C = _in_order(requested, classes)
    mean = (weights_C * counts_C).sum() / counts_C.sum()
    if not mean > 0:
        raise RequestError("--class-weights: every class with training examples has weight 0")
    return (weights_C / mean).float()


def _balanced(classes: Sequence[str], counts_C: Float[Tensor, " C"]) -> Float[Tensor, " C"]:
    empty = [name for name, count in zip(classes, counts_C, strict=True) if not count]
    if empty:
        raise RequestError(
            f"--class-weights {BALANCED}: no training example of class {', '.join(empty)}; leave "
            "it out by --classes, or give a file of weights"
        )
    return (counts_C.sum() / (len(classes) * counts_C)).float()


def _in_order(requested: Mapping[str, float], classes: Sequence[str]) -> Float[Tensor, " C"]:
    for name in requested:
        if name not in classes:
            raise UnknownNameError("class in --class-weights", name, classes)
    missing = [name for name in classes if name not in requested]
    if missing:
        raise RequestError(
            f"--class-weights has no weight for class {', '.join(missing)}; give every class one"
        )
    return torch.tensor([requested[name] for name in classes], dtype=torch.float64)


def set_hard_label(
    objective: Objective, slug: str, weights_C: Float[Tensor, " C"] | None, smoothing: float
) -> None:
    """Give a method's label terms weights of classes and smoothing.

    Raises:
        RequestError: the method has no label term with a weight.
    """
    if weights_C is None and not smoothing:
        return
    terms = [part for part in objective.modules() if isinstance(part, HardLabel) and part.scale]
    if not terms:
        raise RequestError(
            f"method {slug} learns from no label, so --class-weights and --label-smoothing would "
            "change nothing: leave them out, or give --label-weight"
        )
    for term in terms:
        term.weights_C, term.smoothing = weights_C, smoothing


def note_of(weights_C: Float[Tensor, " C"], classes: Sequence[str]) -> str:
    """The range of the weights, as a message."""
    low, high = int(weights_C.argmin()), int(weights_C.argmax())
    return (
        f"class weights from {weights_C[low]:.3g} ({classes[low]}) to {weights_C[high]:.3g} "
        f"({classes[high]}), mean 1 over the training examples"
    )
