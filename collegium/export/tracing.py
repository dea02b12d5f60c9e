"""Traces a module to a graph for any number of images, or reports the obstacle in one line."""

import contextlib
import io
import logging
import re
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import torch
from torch import Tensor, nn

from collegium.errors import CollegiumError

BATCH, IMAGES, LOGITS = "batch", "images", "logits"
"""The names of a graph's first axis, input and output."""
_OPERATOR = re.compile(r"OpOverload\(op='([^']+)'")
_PACKAGES = (torch.__file__, jaxtyping.__file__, Path(__file__).parent)
_NOT_OWN = ("<", *(str(Path(file).parent) for file in _PACKAGES))
_WEIGHTS_ALONE = "--format safetensors, which needs no graph"


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Silence the output and logs of the exporters: standard output is for the result."""
    nowhere = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.ERROR)
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def trace(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """The graph of a module, for any number of images.

    Raises:
        CollegiumError: it cannot be traced; the message says where, and which format works.
    """
    try:
        with hushed(), torch.no_grad():
            given = example.clone()
            module(given)
            if given._version > 0:  # the graph would overwrite the caller's images, too
                module = _OnACopy(module)
            shapes = ({0: torch.export.Dim(BATCH)},)
            given = example.clone()
            return torch.export.export(module, (given,), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # whatever a user's forward raises when it is traced, too
        raise CollegiumError(
            f"the student cannot be traced: torch.export {_what(error)}{_where(error)}; "
            f"use {_WEIGHTS_ALONE}"
        ) from error


class _OnACopy(nn.Module):
    """A module that overwrites its input, applied to a copy of the input."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images.clone())


def to_onnx(program: torch.export.ExportedProgram) -> Any:
    """An ONNX program of a graph.

    Raises:
        CollegiumError: an operation has no counterpart in ONNX; the message names it.
    """
    try:
        with hushed():
            return torch.onnx.export(
                program,
                dynamo=True,
                input_names=[IMAGES],
                output_names=[LOGITS],
                dynamic_shapes=({0: BATCH},),
                verbose=False,
            )
    except Exception as error:
        raise CollegiumError(
            f"the student cannot be written as ONNX: torch.onnx.export {_what(error)}; "
            f"use --format pt2, or {_WEIGHTS_ALONE}"
        ) from error


def _what(error: BaseException) -> str:
    """The operation, as the exporter names it; else the first words of its message."""
    chain = [error]
    while cause := chain[-1].__cause__:
        chain.append(cause)
    for cause in reversed(chain):
        if found := _OPERATOR.search(str(cause)):
            return f"stops at {found[1].replace('::', '.')}"
    lines = [line.strip(" -") for line in str(chain[-1]).splitlines() if line.strip(" -")]
    message = lines[0] if lines else type(chain[-1]).__name__
    if message.startswith("Constraints violated") and len(lines) > 1:
        message = lines[1].partition(". ")[0]
    return f"says: {message.partition(' (unhinted')[0].rstrip('.')}"


def _where(error: BaseException) -> str:
    """The line of the network's own code where tracing stopped, if there is one."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_NOT_OWN):
            return f", at {Path(frame.filename).name}:{frame.lineno}: {frame.line}"
    return ""
