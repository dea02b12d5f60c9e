"""Find the logits in the output of a network that is not ours."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from collegium.errors import RequestError


def logits_of(output: Any, spec: str, training: bool = False) -> Tensor:
    """The logits, where it is evident which tensor they are.

    A tensor is taken as it is; of a dictionary or an object the `logits`; of a tuple the only
    tensor of shape (B, C). In training many networks give a tuple of their logits and those of
    auxiliary classifiers, all of one shape: the first are the logits.

    Args:
        output: what the network returned.
        spec: what it is called in messages.
        training: whether it was in training mode.

    Raises:
        RequestError: it is not evident; the message describes the output.
    """
    if isinstance(output, Tensor):
        return output
    named = output.get("logits") if isinstance(output, Mapping) else None
    named = getattr(output, "logits", None) if named is None else named
    if isinstance(named, Tensor):
        return named
    parts = output.values() if isinstance(output, Mapping) else output
    parts = list(parts) if isinstance(output, (Mapping, tuple, list)) else []
    flat = [part for part in parts if isinstance(part, Tensor) and part.ndim == 2]
    alike = isinstance(output, (tuple, list)) and len({part.shape for part in flat}) == 1
    if len(flat) == 1 or (training and alike and flat[0] is parts[0]):
        return flat[0]
    raise RequestError(
        f"model {spec} returned {describe_output(output)}: it is not evident which part are the "
        "logits; return a (B, C) tensor, or a dictionary with the key 'logits'"
    )


def describe_output(output: Any) -> str:
    """Kinds and shapes as a short text.

    >>> import torch
    >>> describe_output((torch.zeros(2, 3), None))
    'a tuple of (2, 3), NoneType'
    """
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    if isinstance(output, Mapping):
        inside = ", ".join(f"{key}: {describe_output(part)}" for key, part in output.items())
        return f"a {type(output).__name__} with {inside or 'nothing'}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of {', '.join(map(describe_output, output))}"
    return type(output).__name__
