"""What is to be kept, as named tensors and numbers, and back again."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """The same under names that begin with `prefix/`."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Those whose names begin with `prefix/`, without it."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """Its state by "place.name": tensors, and numbers."""
    tensors: Tensors = {}
    numbers: dict[str, Any] = {}
    for place, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            kept = tensors if isinstance(value, Tensor) else numbers
            kept[f"{place}.{name}"] = value
    return tensors, numbers


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Put a state back that `pack_optimizer` gave."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        place, _, name = key.partition(".")
        state.setdefault(int(place), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    _lay_out(optimizer)


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give state the layout of its parameter: a fused step walks through both as they lie."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)


def random_states(device: torch.device) -> Tensors:
    """States of the global generators of the processor and of the device: for dropout."""
    states = {"random": torch.get_rng_state()}
    if device.type != "cpu":
        states["device_random"] = torch.get_device_module(device).get_rng_state()
    return states


def restore_random(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what `random_states` gave; that of another kind of device is left out."""
    torch.set_rng_state(states["random"])
    if device.type != "cpu" and "device_random" in states:
        torch.get_device_module(device).set_rng_state(states["device_random"])
