"""An ONNX graph in 8-bit integers, calibrated on training images.

Static quantisation with weights per channel: convolutions and matrix products run on integers. A
file has about a third of the bytes and takes about half of the time on CPUs with instructions for
it. Activations are unsigned, since signed ones took two to four times as long in our tests.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from collegium.data import ImageData, Loader
from collegium.errors import CollegiumError
from collegium.export.formats import INT8, ONNX
from collegium.export.model import Subject
from collegium.export.tracing import IMAGES, hushed

CALIBRATED = 256
"""Training images for the ranges of activations, evenly spread over the split."""


def write_int8(subject: Subject, folder: Path, train: ImageData) -> None:
    """Quantise the ONNX file of a folder; the other one stays.

    Raises:
        CollegiumError: the quantiser fails.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    try:
        with hushed():
            quantize_static(
                folder / ONNX,
                folder / INT8,
                _reader(subject, train),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CollegiumError(
            f"onnxruntime cannot quantise the student: {reason}; leave out --int8"
        ) from error


def _reader(subject: Subject, train: ImageData) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    batches = _calibration(subject, train)

    class Reader(CalibrationDataReader):
        """Gives the quantiser its calibration inputs."""

        def get_next(self) -> Any:
            return next(batches, None)

    return Reader()


def _calibration(subject: Subject, train: ImageData) -> Iterator[dict[str, Any]]:
    count = min(CALIBRATED, len(train))
    some = train.subset(torch.linspace(0, len(train) - 1, count).long())
    for batch in Loader(some, 32, workers=0).epoch(0):
        with torch.no_grad():
            yield {IMAGES: subject.original.prepare(batch.images_BDHW).contiguous().numpy()}
