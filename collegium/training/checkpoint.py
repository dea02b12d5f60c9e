"""All that is needed to go on: tensors in safetensors, the rest in JSON, no pickle.

A checkpoint is a folder `checkpoint/epoch-NNNN`, written under another name and renamed when it is
whole, so that what has that name is whole. The last two are kept.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

KEPT = 2


@dataclass
class Progress:
    """Where a training is: what the parameters and the optimiser do not say.

    Attributes:
        epoch: epochs completed.
        best_accuracy: on validation, -1 before the first.
        best_epoch: the epoch it was reached in.
        seconds: of training so far, over all sessions.
        teacher_seconds: part of it spent in teachers.
    """

    epoch: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0
    teacher_seconds: float = 0.0


@dataclass
class State:
    """What a checkpoint holds.

    Attributes:
        learner: student and objective.
        optimizer: the one optimiser.
        progress: see there.
        best: the student's tensors at the best validation accuracy.
    """

    learner: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Progress
    best: dict[str, Tensor] = field(default_factory=dict)


def save(folder: Path, state: State) -> None:
    """Write a checkpoint; the newest two stay."""
    target = folder / f"epoch-{state.progress.epoch:05d}"
    temporary = folder / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    optimizer_tensors, optimizer_numbers = _pack_optimizer(state.optimizer)
    tensors = {
        **_prefixed("learner", state.learner.state_dict()),
        **_prefixed("best", state.best),
        **_prefixed("optimizer", optimizer_tensors),
        "random": torch.get_rng_state(),
    }
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary / "tensors")
    content = {"progress": vars(state.progress), "optimizer": optimizer_numbers}
    (temporary / "state.json").write_text(json.dumps(content, indent=2))
    _flush(temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    for old in checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(folder.glob("epoch-*"))


def epoch_of(path: Path) -> int:
    """How many epochs were complete when this checkpoint was written."""
    return int(path.name.removeprefix("epoch-"))


def load(path: Path, state: State) -> None:
    """Put a checkpoint back into a state built the same way."""
    with safe_open(path / "tensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    content = json.loads((path / "state.json").read_text())
    state.learner.load_state_dict(_under("learner", tensors))
    state.best = _under("best", tensors)
    state.progress = Progress(**content["progress"])
    packed = _under("optimizer", tensors)
    state.optimizer.load_state_dict(_unpack_optimizer(state.optimizer, packed, content))
    _lay_out(state.optimizer)
    torch.set_rng_state(tensors["random"])


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def _pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for place, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            kept = tensors if isinstance(value, Tensor) else numbers
            kept[f"{place}.{name}"] = value
    return tensors, numbers


def _unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], content: Mapping[str, Any]
) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **content["optimizer"]}.items():
        place, _, name = key.partition(".")
        state.setdefault(int(place), {})[name] = value
    return {**optimizer.state_dict(), "state": state}


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give state the layout of its parameter: a fused step walks through both as they lie."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)


def _flush(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
