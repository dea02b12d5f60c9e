"""Stops a run at a NaN or an infinity; the error names the cause, the step and the examples."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from collegium.errors import NumericsError
from collegium.models.state import separate, state_tensors
from collegium.objectives.objective import Terms
from collegium.training.module import DistillBatch
from collegium.training.packing import prefixed
from collegium.types import Batch, TeacherOutputs
from collegium.utils.files import write_whole

DUMPS = "nonfinite"
"""Subfolder of a run folder for the inputs of steps that gave a NaN or an infinity."""
SHOWN = 5
IN_A_ROW = 10
"""The number of consecutive steps that may be skipped."""


def check_outputs(outputs: TeacherOutputs, names: Sequence[str], batch: Batch, step: int) -> None:
    """Check that the teachers' logits are finite, before the student trains on them.

    Raises:
        NumericsError: they are not; names the first such teacher, the step and the examples.
    """
    if torch.isfinite(outputs.logits_BTC).all():
        return
    bad_BT = ~torch.isfinite(outputs.logits_BTC).all(dim=2)
    name = names[int(bad_BT.any(dim=0).nonzero()[0])]
    raise NumericsError(
        f"teacher {name} gave NaN or infinite logits at step {step} for "
        f"{_examples(batch, bad_BT.any(dim=1))}; stopped before the student learnt it"
    )


def check_loss(
    loss: Tensor, terms: Terms, logits_BC: Tensor, distill_batch: DistillBatch, step: int
) -> None:
    """Check that the loss is finite, before the backward pass.

    Raises:
        NumericsError: it is not; names the terms, the step, the examples, and the teacher if
            a teacher's feature is the cause.
    """
    if torch.isfinite(loss):
        return
    bad = {name: ~torch.isfinite(term_B) for name, term_B in terms.items()}
    named = ", ".join(name for name, bad_B in bad.items() if bad_B.any()) or "their sum"
    student_B = ~torch.isfinite(logits_BC).all(dim=1)
    if student_B.any():
        cause, bad_B = "the student's logits", student_B
    else:
        cause = _ill_layers(distill_batch.outputs) or "the loss"
        bad_B = torch.stack(list(bad.values())).any(dim=0)
    raise NumericsError(
        f"{cause} became NaN or infinite at step {step} for "
        f"{_examples(distill_batch.batch, bad_B)} (terms: {named})"
    )


def _ill_layers(outputs: TeacherOutputs) -> str:
    """The first teacher layer with a NaN or an infinity, for a message; empty if there is none."""
    bad = {name: _first_bad(layers) for name, layers in outputs.maps.items()}
    return next((f"layer {path} of teacher {name}" for name, path in bad.items() if path), "")


def check_gradients(module: nn.Module, step: int) -> None:
    """Check that all gradients are finite, before the optimiser step.

    Raises:
        NumericsError: one is not; names the first such parameter and the step.
    """
    given = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    if not given or torch.isfinite(torch.nn.utils.get_total_norm(given.values())):
        return
    if name := _first_bad(given):
        raise NumericsError(f"the gradient of {name} became NaN or infinite at step {step}")


def check_state(module: nn.Module, step: int) -> None:
    """Check that parameters and buffers are finite, before they are saved.

    The checks of losses cannot see the effect of the last step of an epoch.

    Raises:
        NumericsError: one is not; names the first such parameter or buffer and the step.
    """
    if name := _first_bad(state_tensors(module)):
        raise NumericsError(f"{name} became NaN or infinite at step {step}")


def _first_bad(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor with a NaN or an infinity; empty if there is none."""
    return next((name for name, value in tensors.items() if not value.isfinite().all()), "")


def check_scale(scaler: Any, step: int) -> None:
    """Check that the gradient scaler has not fallen below 1: float16 would overflow at any scale.

    Raises:
        NumericsError: it has; names the step.
    """
    if scaler is not None and scaler.get_scale() < 1:
        raise NumericsError(
            f"gradients overflow float16 again and again, now at step {step}: use --precision bf16"
        )


def _examples(batch: Batch, bad_B: Tensor) -> str:
    index = batch.index_B[bad_B].tolist()
    more = ", ..." if len(index) > SHOWN else ""
    word = "example" if len(index) == 1 else f"{len(index)} examples:"
    return f"{word} {', '.join(map(str, index[:SHOWN]))}{more}"


def write_dump(
    folder: Path, about: dict[str, Any], module: nn.Module, batch: Batch, logits_BTC: Tensor
) -> Path:
    """Write the inputs of a failed step to the run folder, as tensors and JSON.

    Args:
        folder: the run folder.
        about: details of the step; the file names contain its `step` and `process`.
        module: student and objective at that step.
        batch: the batch of that step.
        logits_BTC: the teachers' logits for the batch.

    Returns:
        Path of the tensors; `about` is written beside them as .json.
    """
    place = folder / DUMPS / f"step-{about['step']:06d}-process-{about['process']}.safetensors"
    place.parent.mkdir(exist_ok=True)
    tensors = {
        **prefixed("learner", state_tensors(module)),
        "images": batch.images_BDHW,
        "labels": batch.labels_B,
        "index": batch.index_B,
        "view": batch.view_B,
        "teachers": logits_BTC,
    }
    write_whole(place, save(separate(tensors)))
    write_whole(place.with_suffix(".json"), json.dumps(about, indent=2).encode())
    return place
