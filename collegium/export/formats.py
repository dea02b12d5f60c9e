"""Writes each format, and reads it back from its file alone."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from collegium.export.model import LogitsOnly, Model, Subject
from collegium.export.options import Format
from collegium.export.tracing import IMAGES, LOGITS, hushed, to_onnx, trace
from collegium.models.libraries.hf import PROCESSOR, quiet
from collegium.models.libraries.onnx import open_session
from collegium.models.libraries.processors import RESAMPLE
from collegium.models.network import Network
from collegium.models.weights import network_bytes
from collegium.utils.files import with_metadata, write_through

SAFETENSORS, ONNX, INT8, PT2 = "model.safetensors", "model.onnx", "model.int8.onnx", "model.pt2"
EXTRA = "metadata.json"
"""The file with the metadata inside a pt2 file."""


@dataclass(frozen=True)
class Writer:
    """A format.

    Attributes:
        file: its name.
        write: writes it into a folder.
        read: reads it from a folder, with nothing but the files there.
    """

    file: str
    write: Callable[[Subject, Path], None]
    read: Callable[[Subject, Path], Model]


def write_safetensors(subject: Subject, folder: Path) -> None:
    """The module's tensors under its own names; a whole folder for transformers."""
    if subject.network.spec.startswith("hf:"):
        _save_pretrained(subject, folder)
    else:
        write_through(folder / SAFETENSORS, network_bytes(subject.network, **subject.metadata))


def _save_pretrained(subject: Subject, folder: Path) -> None:
    network = subject.network
    body: Any = network.body
    body.config.id2label = dict(enumerate(network.classes))
    if body.config.problem_type is not None:  # left from its initial weights
        body.config.problem_type = "single_label_classification"
    body.config.label2id = {name: place for place, name in enumerate(network.classes)}
    with quiet():
        body.save_pretrained(folder)
    # Metadata, so that the file also loads without the folder.
    file = folder / SAFETENSORS
    file.write_bytes(with_metadata(file.read_bytes(), subject.metadata))
    content = json.dumps(_processor(subject), indent=2) + "\n"
    write_through(folder / PROCESSOR, content.encode())


def _processor(subject: Subject) -> dict[str, Any]:
    """The preparation of images, in the format of transformers."""
    wanted = subject.network.preprocess
    _, rows, columns = subject.input_shape
    numbers = {how: number for number, how in RESAMPLE.items()}
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": rows, "width": columns},
        "resample": numbers[wanted.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(wanted.mean),
        "image_std": list(wanted.std),
    }


def read_safetensors(subject: Subject, folder: Path) -> Model:
    """The network built again, with the file's tensors."""
    spec = subject.network.spec
    string = f"hf:{folder}" if spec.startswith("hf:") else f"{spec}@{folder / SAFETENSORS}"
    rebuilt: Network = subject.student.rebuilt(string, folder / SAFETENSORS)
    return Model(rebuilt.prepare, LogitsOnly(rebuilt).eval())


def write_pt2(subject: Subject, folder: Path) -> None:
    """The graph of torch.export."""
    program = trace(subject.graph, subject.example())
    metadata = json.dumps(subject.graph_metadata, indent=2)
    with hushed():
        torch.export.save(program, folder / PT2, extra_files={EXTRA: metadata})


def read_pt2(subject: Subject, folder: Path) -> Model:
    """The graph, by torch alone."""
    with hushed():
        module = torch.export.load(folder / PT2).module()
    return Model(subject.original.prepare, module)


def write_onnx(subject: Subject, folder: Path) -> None:
    """The graph in ONNX, with its metadata."""
    # The fused attention of CPUs has strides its decomposition for ONNX does not expect.
    with sdpa_kernel(SDPBackend.MATH):
        program = to_onnx(trace(subject.graph, subject.example()))
    program.model.metadata_props.update(subject.graph_metadata)
    with hushed():
        program.save(folder / ONNX, external_data=False)


def read_onnx(subject: Subject, folder: Path, file: str = ONNX) -> Model:
    """The graph, by onnxruntime alone."""
    session = open_session(folder / file)

    def answer(inputs: Tensor) -> Tensor:
        (logits,) = session.run([LOGITS], {IMAGES: inputs.contiguous().numpy()})
        return torch.from_numpy(logits)

    return Model(subject.original.prepare, answer)


WRITERS: dict[Format, Writer] = {
    "safetensors": Writer(SAFETENSORS, write_safetensors, read_safetensors),
    "onnx": Writer(ONNX, write_onnx, read_onnx),
    "pt2": Writer(PT2, write_pt2, read_pt2),
}
