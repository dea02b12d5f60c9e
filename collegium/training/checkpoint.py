"""Checkpoints: tensors in safetensors, everything else in JSON, no pickle.

    checkpoint/epoch-00003/               after three epochs
    checkpoint/epoch-00003-step-000120/   120 steps further
        tensors         learner/ (student and objective), optimizer/, best/ (best student so far)
        process-0       state of one process: random states and metric sums of the epoch
        state.json      numbers, and the lines of metrics.jsonl so far
        manifest.json   SHA-256 of these files

`save` writes a checkpoint under a temporary name, flushes it, and renames it when it is complete.
The newest two are kept. `load` uses the newest one whose files match its manifest.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import nn

from collegium.errors import FolderError, ResourceError
from collegium.models.key_matching import size
from collegium.models.state import pack_state, separate, unpack_state
from collegium.records.run_folder import Json
from collegium.training.metrics import Meter
from collegium.training.packing import (
    pack_optimizer,
    prefixed,
    random_states,
    restore_random,
    under,
    unpack_optimizer,
)
from collegium.utils.files import MANIFEST, file_digest, flush_folder, is_transient, write_through
from collegium.utils.memory import ran_out
from collegium.utils.os_errors import describe

KEPT = 2
TENSORS, STATE = "tensors", "state.json"
_FILE = re.compile(r"tensors|state\.json|process-\d+")


@dataclass
class Progress:
    """How far a training has got; parameters and optimiser state are stored elsewhere.

    Attributes:
        epoch: number of completed epochs.
        step: number of completed steps in the current epoch.
        steps: number of steps in an epoch.
        best_accuracy: best validation accuracy; -1 before the first validation.
        best_epoch: the epoch of `best_accuracy`; -1 before the first validation.
        seconds: training time of all completed epochs, over all sessions.
        teacher_seconds: the part of `seconds` spent in teachers.
        epoch_seconds: training time of the current epoch.
        epoch_teacher_seconds: the part of `epoch_seconds` spent in teachers.
        skipped: steps of the current epoch that were skipped because of a NaN or an infinity.
        skipped_in_a_row: steps skipped since the last step that was not skipped.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0
    teacher_seconds: float = 0.0
    epoch_seconds: float = 0.0
    epoch_teacher_seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0

    def end_epoch(self) -> None:
        """Count the current epoch as completed; call it after its last step and validation."""
        self.seconds += self.epoch_seconds
        self.teacher_seconds += self.epoch_teacher_seconds
        self.epoch, self.step, self.skipped = self.epoch + 1, 0, 0
        self.epoch_seconds = self.epoch_teacher_seconds = 0.0


@dataclass
class State:
    """The content of a checkpoint.

    Attributes:
        module: student and objective.
        optimizer: the optimiser of the run.
        progress: how far the training has got.
        meter: metric sums of the current epoch; in the last epoch also every example's weights.
        scaler: the float16 gradient scaler; any object with `state_dict` and `load_state_dict`.
        teachers: SHA-256 of the teachers' weights, by name.
        best: the state of the student's backbone at the best validation accuracy.
        metrics: the lines of metrics.jsonl for the completed epochs.
        run: the identities of this run, the current one first; empty to skip this check.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Progress
    meter: Meter
    scaler: Any
    teachers: Mapping[str, str] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    metrics: list[Json] = field(default_factory=list)
    run: tuple[str, ...] = ()


class DamagedCheckpointError(Exception):
    """The files of a checkpoint differ from what was written; the message gives the reason."""


def save(folder: Path, state: State, fabric: Fabric) -> Path:
    """Write a checkpoint and keep the newest two; every process must call this.

    Raises:
        ResourceError: the disk is full or cannot be written; older checkpoints are unchanged.
    """
    target = folder / _name(state.progress)
    temporary = folder / f".{target.name}.tmp"
    try:
        if fabric.is_global_zero:
            _write_common(temporary, state)
        fabric.barrier()
        own = {**random_states(fabric.device), **prefixed("meter", state.meter.state())}
        write_through(temporary / f"process-{fabric.global_rank}", to_bytes(separate(own)))
        fabric.barrier()
        if fabric.is_global_zero:
            _finish(temporary, target)
    except OSError as problem:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = describe(problem) or problem
        raise ResourceError(f"cannot write a checkpoint: {reason}; {last_good(folder)}") from None
    fabric.barrier()
    return target


def _write_common(temporary: Path, state: State) -> None:
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    optimizer_tensors, optimizer_numbers = pack_optimizer(state.optimizer)
    parts = {
        "learner": pack_state(state.module.state_dict(), "the student"),
        "best": pack_state(state.best, "the student"),
        "optimizer": (optimizer_tensors, {}),
    }
    tensors = {k: v for name, (found, _) in parts.items() for k, v in prefixed(name, found).items()}
    write_through(temporary / TENSORS, to_bytes(separate(tensors)))
    content = {
        "progress": vars(state.progress),
        "optimizer": optimizer_numbers,
        "scaler": state.scaler.state_dict(),
        "teachers": dict(state.teachers),
        "metrics": state.metrics,
        **({"run": state.run[0]} if state.run else {}),
    }
    if extra := {name: more for name, (_, more) in parts.items() if more}:
        content["extra"] = extra  # the parts of the student's state that are not tensors
    write_through(temporary / STATE, json.dumps(content, indent=2).encode())


def _finish(temporary: Path, target: Path) -> None:
    digests = {path.name: file_digest(path) for path in sorted(temporary.iterdir())}
    write_through(temporary / MANIFEST, json.dumps(digests, indent=2).encode())
    flush_folder(temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    flush_folder(target.parent)
    # Remove newer checkpoints too: they are damaged, or the run resumed from an older one.
    there = checkpoints(target.parent)
    place = there.index(target) + 1
    for old in (*there[place:], *there[: max(0, place - KEPT)]):
        shutil.rmtree(old)


def _name(progress: Progress) -> str:
    name = f"epoch-{progress.epoch:05d}"
    return f"{name}-step-{progress.step:06d}" if progress.step else name


def checkpoints(folder: Path) -> list[Path]:
    """All completely written checkpoints, oldest first."""
    return sorted(folder.glob("epoch-*"))


def last_good(folder: Path) -> str:
    """A phrase for messages: the newest checkpoint that a stopped run can resume from."""
    kept = checkpoints(folder)
    return f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"


def load(folder: Path, state: State, fabric: Fabric, warn: Callable[[str], None]) -> bool:
    """Load the newest undamaged checkpoint into a state that was built the same way.

    Args:
        folder: the folder of the checkpoints.
        state: the state to load into.
        fabric: gives the rank of this process and the number of processes.
        warn: called with a message if damaged checkpoints were skipped.

    Returns:
        Whether a checkpoint was loaded; False if the folder has none.

    Raises:
        FolderError: all checkpoints are damaged, or the newest undamaged one does not fit: it has
            another run, other teachers, another network or another number of steps per epoch.
    """
    damaged: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            _load_one(path, state, fabric)
        except DamagedCheckpointError as problem:
            damaged.append(f"checkpoint {path} is damaged ({problem})")
            continue
        if damaged:
            warn(f"{'; '.join(damaged)}; going on from {path.name}, the one before")
        return True
    if damaged:
        raise FolderError(
            f"{'; '.join(damaged)}: nothing to go on from; start again with --overwrite"
        )
    return False


def _load_one(path: Path, state: State, fabric: Fabric) -> None:
    try:
        names, content = _verified(path)
        progress, metrics = Progress(**content["progress"]), [dict(m) for m in content["metrics"]]
        tensors = load_file(path / TENSORS)
        _refuse_other_run(path, content.get("run"), state.run)
        _refuse_other_teachers(path, content["teachers"], state.teachers)
        _refuse_other_position(path, progress, state.progress.steps)
        extra = content.get("extra", {})
        module = unpack_state(under("learner", tensors), extra.get("learner", {}))
        _refuse_other_network(path, module, state.module.state_dict())
        state.module.load_state_dict(module)
        unpack_optimizer(state.optimizer, under("optimizer", tensors), content["optimizer"])
        if content["scaler"]:
            state.scaler.load_state_dict(content["scaler"])
        _load_own(path, names, state, fabric)
    except (OSError, SafetensorError, RecursionError) as problem:
        if isinstance(problem, OSError) and is_transient(problem):
            raise
        raise DamagedCheckpointError(str(problem)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError) as problem:
        if ran_out(problem):
            raise
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise DamagedCheckpointError(f"its content makes no sense: {reason}") from None
    state.best = unpack_state(under("best", tensors), extra.get("best", {}))
    state.progress = progress
    state.metrics = metrics


def _verified(path: Path) -> tuple[list[str], Json]:
    """Check every file against the manifest; returns names of processes' files, and the numbers."""
    digests = json.loads((path / MANIFEST).read_text())
    if not isinstance(digests, dict) or not {TENSORS, STATE, "process-0"} <= digests.keys():
        raise DamagedCheckpointError("its manifest does not name its files")
    for name, digest in digests.items():
        if not _FILE.fullmatch(name) or file_digest(path / name) != digest:
            raise DamagedCheckpointError(f"{name} is not what was written")
    names = sorted(name for name in digests if name.startswith("process-"))
    return names, json.loads((path / STATE).read_text())


def _refuse_other_run(path: Path, found: Any, known: tuple[str, ...]) -> None:
    """Refuse the checkpoint of another run; older checkpoints do not record a run."""
    if known and found is not None and found not in known:
        raise FolderError(
            f"{path} is of another run ({str(found)[:12]}, this is {known[0][:12]}): it was copied "
            "here, or run.json was; put the right one back, or start again with --overwrite"
        )


def newest(folder: Path, known: tuple[str, ...] = ()) -> Progress | None:
    """The progress of the newest undamaged checkpoint; None if there is none.

    Args:
        folder: the folder of the checkpoints.
        known: identities of the run; empty to accept the checkpoint of any run.

    Raises:
        FolderError: the checkpoint belongs to another run.
    """
    for path in reversed(checkpoints(folder)):
        try:
            _, content = _verified(path)
            _refuse_other_run(path, content.get("run"), known)
            return Progress(**content["progress"])
        except (DamagedCheckpointError, OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return None


def _refuse_other_teachers(path: Path, found: Mapping[str, str], own: Mapping[str, str]) -> None:
    if found != own:
        then, now = (
            ", ".join(f"{name} {digest[:12]}" for name, digest in teachers.items()) or "none"
            for teachers in (found, own)
        )
        raise FolderError(f"{path} was written with other teachers: {then} then, {now} now")


def _refuse_other_network(path: Path, found: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse tensors that do not fit: the code, or a file that it reads, builds another network."""
    then, now = ({k: v.shape for k, v in one.items() if torch.is_tensor(v)} for one in (found, own))
    differ = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    if differ:
        name = differ[0]
        sizes = (size(one[name]) if name in one else "none" for one in (then, now))
        raise FolderError(
            f"{path} does not fit the network: {len(differ)} tensors differ, such as {name} "
            f"({' then, '.join(sizes)} now): put back the code, or the file that it reads"
        )


def _refuse_other_position(path: Path, progress: Progress, steps: int) -> None:
    if progress.step and progress.steps != steps:
        raise FolderError(
            f"{path} is {progress.step} steps into an epoch of {progress.steps}; with these "
            f"devices an epoch has {steps}: resume with as many devices as before"
        )


def _load_own(path: Path, names: list[str], state: State, fabric: Fabric) -> None:
    """Load the state of this process.

    If the number of processes has changed, the first process takes the metric sums of all.
    """
    parts = {name: load_file(path / name) for name in names}
    own = parts.get(f"process-{fabric.global_rank}")
    if own is not None:
        restore_random(own, fabric.device)
    everyone = list(parts.values()) if fabric.is_global_zero else []
    shares = everyone if own is None or len(parts) != fabric.world_size else [own]
    state.meter.load([under("meter", share) for share in shares], fabric.device)
