"""Example cards: an image, the teachers' predictions and weights, the target, the student."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.plots.matrices import class_name
from collegium.plots.tables import names_of
from collegium.records.run_folder import EXAMPLES
from collegium.records.schema import AXES
from collegium.report.load import RunData

RULES = {
    "contested": "most contested: the teachers' probabilities differ most",
    "corrected": "best corrected: the student is surer of the true class than its teachers",
    "worst": "worst: the student gives the true class the least probability",
}
_LARGEST = 160
"""Pixels of the longer side; larger images are scaled down."""
_TOP = 2


@dataclass(frozen=True)
class ClassProbability:
    """A class and its probability.

    Attributes:
        name: of the class.
        probability: 0..1.
        right: whether it is the true class.
    """

    name: str
    probability: float
    right: bool


@dataclass(frozen=True)
class Prediction:
    """A prediction for one example.

    Attributes:
        name: a teacher's, or "".
        weight: of the teacher; None where it has none.
        classes: the likeliest first.
        series: place in the series of colours.
    """

    name: str
    weight: float | None
    classes: tuple[ClassProbability, ...]
    series: int | None = None


@dataclass(frozen=True)
class Card:
    """One example.

    Attributes:
        rule: why it is shown, a key of `RULES`.
        index: its place in the data.
        truth: its class.
        image: a data: URL.
        size: columns and rows of the image.
        teachers: their predictions.
        target: the soft target of the student; None where no teacher has a weight.
        student: the student's prediction.
    """

    rule: str
    index: int
    truth: str
    image: str
    size: tuple[int, int]
    teachers: tuple[Prediction, ...]
    target: Prediction | None
    student: Prediction


def cards(run_data: RunData) -> list[Card]:
    """The cards of examples.npz, in its order."""
    arrays = run_data.examples
    complete = arrays.keys() >= {*AXES[EXAMPLES]}
    return [_card(run_data, row) for row in range(len(arrays["labels"]))] if complete else []


def temperature(run_data: RunData) -> float:
    """Temperature of the soft target."""
    return float(run_data.run.get("options", {}).get("temperature") or 1.0)


def _card(run_data: RunData, row: int) -> Card:
    arrays, label = run_data.examples, int(run_data.examples["labels"][row])
    active, names = run_data.weighted, names_of(run_data.teachers)
    weights = dict(zip(active, arrays["weights"][row].tolist(), strict=False))

    def prediction(name: str, parts_C: NDArray[Any]) -> Prediction:
        order = np.argsort(-parts_C, kind="stable")[:_TOP].tolist()
        likely = tuple(
            ClassProbability(class_name(run_data.classes, c), float(parts_C[c]), c == label)
            for c in order
        )
        series = active.index(name) if name in active else None
        return Prediction(name, weights.get(name), likely, series)

    outputs = dict(zip(names, arrays["teachers"][row], strict=False))
    mixed = [(weights[name], outputs[name]) for name in active if name in outputs.keys() & weights]
    image, size = _image(arrays["images"][row])
    return Card(
        rule=str(arrays["rule"][row]),
        index=int(arrays["index"][row]),
        truth=class_name(run_data.classes, label),
        image=image,
        size=size,
        teachers=tuple(prediction(name, parts_C) for name, parts_C in outputs.items()),
        target=prediction("", _target(mixed, temperature(run_data))) if mixed else None,
        student=prediction("", arrays["student"][row]),
    )


def _target(mixed: list[tuple[float, NDArray[Any]]], softness: float) -> NDArray[Any]:
    """The soft target: the weighted mean of the softened probabilities."""
    softened = ((weight, np.power(parts_C, 1 / softness)) for weight, parts_C in mixed)
    return np.asarray(sum(weight * parts_C / parts_C.sum() for weight, parts_C in softened))


def _image(image_DHW: NDArray[Any]) -> tuple[str, tuple[int, int]]:
    from PIL import Image

    pixels = image_DHW[0] if len(image_DHW) == 1 else image_DHW.transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    large = max(image.size) > _LARGEST
    if large:
        image.thumbnail((_LARGEST, _LARGEST))
    kind, content = ("JPEG" if large else "PNG"), io.BytesIO()
    image.save(content, kind, optimize=True)
    text = base64.b64encode(content.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{text}", image.size
