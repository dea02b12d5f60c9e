"""Example cards: a picture, what each teacher says of it and gets, the target, the student."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.report.load import RunData

RULES = {
    "contested": "most contested: the teachers' answers differ most",
    "corrected": "best corrected: the student is surer of the truth than its teachers",
    "worst": "worst: the student gives the truth the least probability",
}
_LARGEST = 160
"""Pixels of the longer side; larger pictures are made smaller."""
_TOP = 2


@dataclass(frozen=True)
class Answer:
    """A class and the probability it is given.

    Attributes:
        name: of the class.
        part: probability.
        right: whether it is the truth.
    """

    name: str
    part: float
    right: bool


@dataclass(frozen=True)
class Voice:
    """Somebody's answer to one example.

    Attributes:
        name: a teacher's, or "".
        weight: what the teacher gets; None where it is not heard.
        answers: the likeliest classes first.
        series: place in the series of colours.
    """

    name: str
    weight: float | None
    answers: tuple[Answer, ...]
    series: int | None = None


@dataclass(frozen=True)
class Card:
    """One example.

    Attributes:
        rule: why it is shown, a key of `RULES`.
        index: its place in the data.
        truth: its class.
        picture: a data: URL.
        size: columns and rows of the picture.
        teachers: their answers.
        target: what the student was to learn; None where nobody was heard.
        student: the student's answer.
    """

    rule: str
    index: int
    truth: str
    picture: str
    size: tuple[int, int]
    teachers: tuple[Voice, ...]
    target: Voice | None
    student: Voice


def cards(run_data: RunData) -> list[Card]:
    """The cards of examples.npz, in its order."""
    arrays = run_data.examples
    needed = {"images", "labels", "teachers", "student", "weights", "rule", "index"}
    if not needed <= arrays.keys():
        return []
    return [_card(run_data, row) for row in range(len(arrays["labels"]))]


def temperature(run_data: RunData) -> float:
    """What the target was softened with."""
    return float(run_data.run.get("options", {}).get("temperature") or 1.0)


def _card(run_data: RunData, row: int) -> Card:
    arrays, label = run_data.examples, int(run_data.examples["labels"][row])
    heard, names = run_data.heard, [str(teacher["name"]) for teacher in run_data.teachers]
    weights = dict(zip(heard, arrays["weights"][row].tolist(), strict=False))

    def voice(name: str, parts_C: NDArray[Any], weight: float | None = None) -> Voice:
        order = np.argsort(-parts_C, kind="stable")[:_TOP].tolist()
        answers = [Answer(_name(run_data, c), float(parts_C[c]), c == label) for c in order]
        return Voice(name, weight, tuple(answers), heard.index(name) if name in heard else None)

    said = dict(zip(names, arrays["teachers"][row], strict=False))
    teachers = [voice(name, parts_C, weights.get(name)) for name, parts_C in said.items()]
    mixed = [(weights[name], said[name]) for name in heard if name in said and name in weights]
    target = voice("", _target(mixed, temperature(run_data))) if mixed else None
    picture, size = _picture(arrays["images"][row])
    return Card(
        str(arrays["rule"][row]),
        int(arrays["index"][row]),
        _name(run_data, label),
        picture,
        size,
        tuple(teachers),
        target,
        voice("", arrays["student"][row]),
    )


def _target(mixed: list[tuple[float, NDArray[Any]]], softness: float) -> NDArray[Any]:
    """The integrated soft target: the weighted mean of the softened answers."""
    softened = [(weight, np.power(parts_C, 1 / softness)) for weight, parts_C in mixed]
    return np.asarray(sum(weight * parts_C / parts_C.sum() for weight, parts_C in softened))


def _name(run_data: RunData, label: int) -> str:
    names = run_data.classes
    return names[label] if 0 <= label < len(names) else str(label)


def _picture(image_DHW: NDArray[Any]) -> tuple[str, tuple[int, int]]:
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
