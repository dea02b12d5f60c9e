"""`onnx:FILE`: an exported classifier, run by onnxruntime on the CPU: a teacher, no student."""

import contextlib
import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.errors import RequestError, WeightsError
from collegium.models.architectures import AbstractModelFamily, Design, Trained
from collegium.models.model_string import OPTIONS, ModelString
from collegium.models.network import Preprocess
from collegium.models.reported import reported
from collegium.models.weights import read_classes
from collegium.utils.extras import import_extra

CHANNELS, LOGITS = (1, 3), "logits"
TYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
"""Types of inputs and outputs, as onnxruntime names them."""
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
        self._session = open_session(path)
        self._input, shape, self._kind = _images(path, self._session.get_inputs())
        # Bytes are normalised inside.
        self.takes_bytes = self._kind is np.uint8
        self._output = _logits(path, self._session.get_outputs())
        fixed = [side if isinstance(side, int) and side > 0 else None for side in shape]
        self.channels_last = fixed[1] not in CHANNELS and fixed[3] in CHANNELS
        if self.channels_last:
            fixed = [fixed[0], fixed[3], *fixed[1:3]]
        self.batch, self.channels, rows, columns = fixed
        if self.channels is not None and self.channels not in CHANNELS:
            raise WeightsError(
                f"{path}: expected images of 1 or 3 channels, found {self.channels} in "
                f"{self._input}: {shape}"
            )
        self.size = (rows, columns) if rows and columns else None
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxBody":
        # A session cannot be copied, and need not be: nothing can change it.
        other = copy.copy(self)
        memo[id(self)] = other
        return other

    def forward(self, images_BDHW: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B C"]:
        """Logits, computed on the CPU and given back where the images were."""
        given = self._as_input(images_BDHW.detach().float().cpu())
        step = self.batch or max(1, len(given))
        parts = [self._run(given[at : at + step]) for at in range(0, len(given), step)]
        return torch.from_numpy(np.concatenate(parts)).to(images_BDHW.device)

    def _as_input(self, images_BDHW: Tensor) -> Any:
        """In the type and the order of axes the file takes."""
        if self.takes_bytes:
            images_BDHW = (images_BDHW * 255).round().clamp(0, 255)
        axes = (0, 2, 3, 1) if self.channels_last else (0, 1, 2, 3)
        return np.ascontiguousarray(images_BDHW.permute(axes).numpy().astype(self._kind))

    def _run(self, images: Any) -> Any:
        count = len(images)
        if self.batch and count < self.batch:  # filled up with black
            empty = np.zeros((self.batch - count, *images.shape[1:]), images.dtype)
            images = np.concatenate([images, empty])
        (logits,) = self._session.run([self._output], {self._input: images})
        if logits.ndim > 2 and set(logits.shape[2:]) == {1}:  # older exporters keep a map of 1x1
            logits = logits.reshape(logits.shape[:2])
        return logits[:count].astype(np.float32, copy=False)


def _images(path: Path, inputs: Sequence[Any]) -> tuple[str, Sequence[Any], Any]:
    """Name, shape and type of the one input.

    Raises:
        WeightsError: there are several, or it is no batch of images.
    """
    found = ", ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs)
    if len(inputs) != 1:
        raise WeightsError(
            f"{path}: expected one input, of images, found {len(inputs)}: {found}; export it with "
            "the others fixed"
        )
    (one,) = inputs
    if one.type not in TYPES or len(one.shape) != 4:
        raise WeightsError(
            f"{path}: expected one input of float32 images (batch, channels, rows, columns), "
            f"channels first or last, or of bytes (uint8); found {found}"
        )
    return one.name, one.shape, TYPES[one.type]


def _logits(path: Path, outputs: Sequence[Any]) -> str:
    """Name of the output that has one number for each class.

    Raises:
        WeightsError: it is not evident which.
    """
    numbers = [one for one in outputs if one.type in TYPES and one.type != "tensor(uint8)"]
    named = [one for one in numbers if one.name == LOGITS]
    flat = [one for one in numbers if len(one.shape) == 2 or set(one.shape[2:]) == {1}]
    for likely in (named, flat, numbers if len(outputs) == 1 else []):
        if len(likely) == 1:
            return str(likely[0].name)
    found = ", ".join(f"{one.name}: {one.type} {one.shape}" for one in outputs)
    raise WeightsError(
        f"{path}: it is not evident which of its outputs are the logits, found {found}; export it "
        f"with one output (batch, classes), or name that {LOGITS!r}"
    )


def open_session(path: Path) -> Any:
    """A session of onnxruntime on the CPU, with torch's number of threads.

    Raises:
        WeightsError: the file cannot be read.
    """
    import onnxruntime

    if not path.is_file():
        raise WeightsError(f"ONNX file {path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors in its log are raised as exceptions, too
    with reported(f"ONNX file {path} cannot be read", error_type=WeightsError):
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _hash(path: Path) -> str:
    """SHA-256 of the file's bytes, and of the weights beside it where it keeps them there."""
    digest = hashlib.sha256()
    for part in (path, *(path.with_name(path.name + end) for end in SIDECARS)):
        if part.is_file():
            with part.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


class OnnxFamily(AbstractModelFamily):
    """Files of ONNX, which hold network and weights."""

    slug = "onnx"

    def design(self, member: str, string: ModelString, metadata: Mapping[str, str]) -> Design:
        """An ONNX file; it uses `mean`, `std` and `classes` of its own metadata."""
        if string.weights:
            raise RequestError(f"onnx:{member} brings its weights; leave out @{string.weights}")
        import_extra("onnx")
        body = OnnxBody(Path(member))
        says = {key: value for key, value in body.metadata.items() if key in (*OPTIONS, "classes")}
        classes: tuple[str, ...] = ()
        # Refused where the entry is read again, unless others were given.
        with contextlib.suppress(WeightsError):
            classes = read_classes(says, f"ONNX file {body.path}")
        channels = body.channels or 3
        if body.takes_bytes and {"mean", "std"} & {*says, *string.options}:
            raise RequestError(
                f"onnx:{member} takes bytes (uint8) and normalises them itself; leave out mean "
                "and std"
            )
        return Design(
            lambda classes: body.eval(),
            channels=channels,
            preprocess=Preprocess((0.0,) * channels, (1.0,) * channels)
            if body.takes_bytes
            else None,
            native=body.size,
            metadata=says,
            classes=classes,
            trained=lambda classes: Trained(body.eval()),
            trainable=False,
        )

    def has_weights(self, string: ModelString) -> bool:
        """Always."""
        return True
