"""What torch does not know to be in a module: parts in plain lists, and functions that hold it."""

import contextlib
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def unregistered(module: nn.Module) -> str:
    """What to know of parts in plain lists, dictionaries and tuples; empty where there are none.

    Those that are frozen and in evaluation mode are there on purpose.
    """
    known = set(module.modules())
    for name, value in _attributes(module):
        if isinstance(value, nn.Module) and value not in known and _matters(value):
            return (
                f"holds a {type(value).__name__} in {name} that is not registered as a part of it: "
                "it is neither trained nor saved nor set to evaluation mode; use nn.ModuleList or "
                "nn.ModuleDict"
            )
    return ""


def _matters(part: nn.Module) -> bool:
    trainable = any(parameter.requires_grad for _, parameter in part.named_parameters())
    return trainable or any(isinstance(m, _BatchNorm) and m.training for m in part.modules())


def still_bound(twin: nn.Module, module: nn.Module) -> str:
    """Why a copy of a module runs parts of the module itself; empty where it does not."""
    theirs = {id(tensor) for _, tensor in module.named_parameters()}
    for name, tensor in twin.named_parameters():
        if id(tensor) in theirs:
            return f"its copy shares {name} with it; let __deepcopy__ copy its tensors"
    parts = set(module.modules())
    for name, value in _attributes(twin):
        if isinstance(value, FunctionType) and not parts.isdisjoint(_held(value)):
            return (
                f"its {name} is a function that holds the module itself, which copy.deepcopy does "
                "not copy; make it a method of the class, or bind it by types.MethodType"
            )
    return ""


def _held(function: FunctionType) -> Iterator[nn.Module]:
    """The modules in a function's closure and default values, also as owners of methods."""
    values = list(function.__defaults__ or ())
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # an empty cell
            values.append(cell.cell_contents)
    for value in values:
        owner = value.__self__ if isinstance(value, MethodType) else value
        if isinstance(owner, nn.Module):
            yield owner


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What the parts of a module keep beside parts, tensors and hooks, with where it is."""
    for path, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        for name, value in vars(part).items():
            if name in _TORCHS or name.endswith("_hooks"):
                continue
            inside = value.values() if isinstance(value, Mapping) else value
            several = isinstance(value, Mapping | list | tuple)
            for one in inside if several else (value,):
                yield f"{path}.{name}".lstrip("."), one


_TORCHS = frozenset(vars(nn.Module()))
