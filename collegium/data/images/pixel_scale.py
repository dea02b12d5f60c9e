"""Which numbers are black and white: one scale for a whole data set.

For eight bits they are 0 and 255. Deeper images and other arrays need a guess: 16 bits often hold
8, 10 or 12, floating pixels run from 0 to 1, from -1 to 1 or from 0 to 255.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from collegium.errors import DataError

_WHITES = (1.0, 16.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)
"""Where integers may end: black and white, digits of scikit-learn, 8 to 16 bits."""
_LEAST_JOINED = 255
_SLACK = 1e-3  # of the range: what resizing and rounding leave outside
_LEAST_SIGNED = 0.5
_LEAST_OF_BYTES = 128


@dataclass(frozen=True)
class Span:
    """Range of some numbers.

    Attributes:
        low: the smallest.
        high: the largest.
        integral: all are integers.
    """

    low: float
    high: float
    integral: bool

    @classmethod
    def of(cls, values: NDArray[Any], where: str) -> "Span":
        """The range of an array.

        Raises:
            DataError: a value is NaN or infinite.
        """
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise DataError(f"{where} has pixels that are NaN or infinite; repair or remove it")
        integral = values.dtype.kind != "f" or bool((values == np.trunc(values)).all())
        return cls(low, high, integral)

    @classmethod
    def join(cls, spans: Iterable["Span"]) -> "Span":
        """The range of all of them."""
        spans = list(spans)
        low, high = min(span.low for span in spans), max(span.high for span in spans)
        return cls(low, high, all(span.integral for span in spans))

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Scale:
    """Black and white.

    Attributes:
        black: the number that is black.
        white: the number that is white.
        given: the user chose the scale; then numbers beyond it are clipped, else they are an
            error.
    """

    black: float
    white: float
    given: bool = False

    def __post_init__(self) -> None:
        if not self.black < self.white:
            raise DataError(f"pixels from {self.black:g} to {self.white:g}: black is below white")

    @property
    def shift(self) -> int | None:
        """How many lower bits are dropped; None unless these are whole bits, eight or more."""
        bits = round(np.log2(self.white + 1))
        if self.black or 2**bits - 1 != self.white or bits < 8:
            return None
        return bits - 8

    def unit(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Numbers as pixels in 0..1."""
        found = values.astype(np.float32, copy=False) - np.float32(self.black)
        return (found / np.float32(self.white - self.black)).clip(0, 1)

    def bytes(self, values: NDArray[Any], where: str) -> UInt8[np.ndarray, "..."]:
        """Numbers as pixels 0..255; integers of more than eight bits lose the lower bits.

        Raises:
            DataError: a number is beyond black or white, and the user did not give the scale.
        """
        self._check(values, where)
        if values.dtype.kind in "iu" and self.shift is not None:
            clipped = values.clip(0, int(self.white)).astype(np.uint16)
            return (clipped >> self.shift).astype(np.uint8)
        span = self.white - self.black
        found = ((values.astype(np.float64) - self.black) * (255 / span)).round()
        return found.clip(0, 255).astype(np.uint8)

    def _check(self, values: NDArray[Any], where: str) -> None:
        span, slack = Span.of(values, where), _SLACK * (self.white - self.black)
        if not self.given and not self.black - slack <= span.low <= span.high <= self.white + slack:
            raise DataError(
                f"{where} has pixels of {span}, beyond the {self.black:g} to {self.white:g} that "
                "the other images are read by; give ?range=BLACK,WHITE"
            )


def as_scale(text: str) -> Scale:
    """The scale of `?range=BLACK,WHITE`.

    Raises:
        DataError: it is not two numbers, the smaller first.

    >>> as_scale("0,4095").white
    4095.0
    """
    try:
        black, white = map(float, text.split(","))
    except ValueError:
        raise DataError(
            f"?range={text}: give the numbers that are black and white, as in ?range=0,4095"
        ) from None
    return Scale(black, white, given=True)


def choose_scale(spans: Mapping[str, Span], name: str, remedy: str) -> Scale:
    """Black and white of all splits of a data set.

    Args:
        spans: range of the numbers of each split.
        name: of the data, in messages.
        remedy: how a user gives the scale.

    Raises:
        DataError: no scale suits these numbers, or the splits have different ones.
    """
    scales = {part: _scale(span, name, remedy) for part, span in spans.items()}
    found = set(scales.values())
    if len(found) > 1:
        # A split may happen to have no bright pixel; one in another unit has another meaning.
        integral = all(span.integral for span in spans.values())
        if not integral or min(scale.white for scale in found) < _LEAST_JOINED:
            listed = ", ".join(f"{part} from {span}" for part, span in spans.items())
            raise DataError(
                f"{name}: the pixels of its splits have different ranges ({listed}): bring them to "
                f"one, or {remedy}"
            )
    return _scale(Span.join(spans.values()), name, remedy)


def _scale(span: Span, name: str, remedy: str) -> Scale:
    low, high = span.low, span.high
    if -1 - _SLACK <= low <= -_LEAST_SIGNED and _LEAST_SIGNED <= high <= 1 + _SLACK:
        return Scale(-1.0, 1.0)
    if low >= -_SLACK and span.integral:
        for white in _WHITES:
            if high <= white:
                return Scale(0.0, white)
    elif low >= -_SLACK:
        if high <= 1 + _SLACK:
            return Scale(0.0, 1.0)
        if _LEAST_OF_BYTES <= high <= 255 * (1 + _SLACK):
            return Scale(0.0, 255.0)
    kind = "pixels" if span.integral else "float pixels"
    raise DataError(
        f"{name}: {kind} run from {low:.4g} to {high:.4g}, which is neither 0 to 1, -1 to 1 nor 0 "
        f"to 255: give raw pixels (normalisation belongs to the model), or {remedy}"
    )


def guess_note(spans: Mapping[str, Span], scale: Scale, name: str, kind: str, remedy: str) -> str:
    """A note on the scale that was guessed."""
    span = Span.join(spans.values())
    return (
        f"{name}: {kind} run from {span} and are read as {scale.black:g} (black) to "
        f"{scale.white:g} (white); {remedy} where that is wrong"
    )
