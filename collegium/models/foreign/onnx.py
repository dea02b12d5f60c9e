"""`onnx:FILE`: an exported classifier, run by onnxruntime on the CPU: a teacher, no student."""

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.errors import RequestError, WeightsError
from collegium.models.designs import Design, Trained
from collegium.models.foreign.extras import import_extra
from collegium.models.strings import OPTIONS, ModelString

SIDECARS = (".data", "_data")
"""After the file's name: where exporters put weights that are too large for it."""


class OnnxBody(nn.Module):
    """An ONNX file as a module: logits only, no gradient, no parameters, no hidden layers.

    Args:
        path: of the file.

    Raises:
        WeightsError: it cannot be read, or takes or gives something else than a classifier.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.file_sha256 = path, _hash(path)
        self._session = _session(path)
        inputs, self._output = self._session.get_inputs(), self._session.get_outputs()[0].name
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            found = ", ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs)
            raise WeightsError(f"{path}: expected one input of float32 images, found {found}")
        self._input = inputs[0].name
        fixed = [side if isinstance(side, int) and side > 0 else None for side in inputs[0].shape]
        self.batch, self.channels, *sides = fixed
        rows, columns = sides
        self.size = (rows, columns) if rows and columns else None
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxBody":
        # A session cannot be copied, and need not be: nothing can change it.
        other = copy.copy(self)
        memo[id(self)] = other
        return other

    def forward(self, images_BDHW: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B C"]:
        """Logits, computed on the CPU and given back where the images were."""
        given = images_BDHW.detach().float().cpu().contiguous().numpy()
        step = self.batch or max(1, len(given))
        parts = [self._run(given[at : at + step]) for at in range(0, len(given), step)]
        return torch.from_numpy(np.concatenate(parts)).to(images_BDHW.device)

    def _run(self, images: Any) -> Any:
        count = len(images)
        if self.batch and count < self.batch:  # filled up with black
            empty = np.zeros((self.batch - count, *images.shape[1:]), np.float32)
            images = np.concatenate([images, empty])
        (logits,) = self._session.run([self._output], {self._input: images})
        return logits[:count].astype(np.float32, copy=False)


def design(member: str, string: ModelString, metadata: Mapping[str, str]) -> Design:
    """An ONNX file; `mean`, `std` and `classes` among its own metadata are heeded."""
    if string.weights:
        raise RequestError(f"onnx:{member} brings its weights; leave out @{string.weights}")
    import_extra("onnx")
    body = OnnxBody(Path(member))
    return Design(
        lambda classes: _refuse(member),
        channels=body.channels or 3,
        native=body.size,
        says={key: value for key, value in body.metadata.items() if key in OPTIONS},
        classes=_classes(body),
        trained=lambda classes: _trained(body, classes),
        learns=False,
    )


def _refuse(member: str) -> nn.Module:
    raise RequestError(f"onnx:{member} cannot learn: an ONNX file can only be a teacher")


def _trained(body: OnnxBody, classes: int | None) -> Trained:
    if classes is not None:
        _refuse(str(body.path))
    return Trained(body.eval())


def _session(path: Path) -> Any:
    import onnxruntime

    if not path.is_file():
        raise WeightsError(f"ONNX file {path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it says in its log comes back as an exception
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has a class for each reason
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"ONNX file {path} cannot be read: {reason}") from error


def _hash(path: Path) -> str:
    """SHA-256 of the file's bytes, and of the weights beside it where it keeps them there."""
    digest = hashlib.sha256()
    for part in (path, *(path.with_name(path.name + end) for end in SIDECARS)):
        if part.is_file():
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _classes(body: OnnxBody) -> tuple[str, ...]:
    try:
        return tuple(map(str, json.loads(body.metadata.get("classes", "[]"))))
    except (ValueError, TypeError):
        raise WeightsError(f"ONNX file {body.path}: its list of classes cannot be read") from None
