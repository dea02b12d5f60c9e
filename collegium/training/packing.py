"""Converts state to named tensors and numbers for a checkpoint, and back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """The tensors, with `prefix/` in front of their names."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """The tensors whose names begin with `prefix/`, with that prefix removed."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """The optimiser's state as tensors and numbers; keys are "PARAMETER_NUMBER.NAME"."""
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
    """Load a state that `pack_optimizer` returned."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        place, _, name = key.partition(".")
        state.setdefault(int(place), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    _lay_out(optimizer)


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give state the memory layout of its parameter: fused kernels read both in memory order."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)


def random_states(device: torch.device) -> Tensors:
    """States of the global generators of the CPU and of the device, which dropout draws from."""
    states = {"random": torch.get_rng_state()}
    if device.type != "cpu":
        states["device_random"] = torch.get_device_module(device).get_rng_state()
    return states


def restore_random(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the result of `random_states`, without the state of a device not used now."""
    torch.set_rng_state(states["random"])
    if device.type != "cpu" and "device_random" in states:
        torch.get_device_module(device).set_rng_state(states["device_random"])
