"""One chart as inline SVG, and the numbers that the page's script shows under the pointer.

The colours are those of Okabe and Ito, which are distinct for all kinds of colour vision; lines
differ in their dashes too. Colours are CSS variables, so one drawing serves dark and light pages.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from collegium.plots.figure import AbstractFigure

_APART = 0.1
"""Smallest distance between two tick labels, as a part of the axis."""
SERIES = 7
"""Number of colours for teachers, terms and runs; they repeat with other dashes."""
DASHES = ("", "7 3", "2.5 2.5", "8 3 2 3")
CROWD = 8
"""Most series in one chart that a reader can distinguish."""
_WIDTH, _HEIGHT, _LETTER = 460.0, 280.0, 7.9
"""Size of the drawing, and width of a letter on a phone, where text is relatively larger."""
_RIGHT, _BOTTOM, _ROW = 450.0, 238.0, 15.0
_LEVELS = [f'stroke="var(--ink)" stroke-dasharray="{dash}"' for dash in ("2 2", "6 2")]
"""Looks of the lines to compare with."""


@dataclass(frozen=True)
class Line:
    """A named series.

    Attributes:
        name: in the legend.
        x: positions, ascending.
        y: values.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Mark:
    """One point.

    Attributes:
        kind: the name in the legend.
        x: position.
        y: value.
        tip: shown under the pointer.
        series: place in the series of colours.
        cross: a cross, not a circle.
        name: written beside it.
        size: of the circle.
    """

    kind: str
    x: float
    y: float
    tip: str
    series: int = 0
    cross: bool = False
    name: str = ""
    size: float = 5.5


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        label: the quantity.
        low: value at its start.
        high: value at its end.
        whole: ticks are whole numbers.
        log: logarithmic.
        names: labels at 0, 1, 2, ... instead of ticks.
    """

    label: str
    low: float
    high: float
    whole: bool = False
    log: bool = False
    names: tuple[str, ...] = ()

    @classmethod
    def around(cls, label: str, values: Sequence[float], margin: float, **rest: Any) -> "Axis":
        """An axis that contains these values and a margin, a part of their range, at both ends."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        if rest.get("log"):
            room = (high / low) ** margin if high > low else 3.0
            return cls(label, low / room, high * room, **rest)
        flat = high - low <= 1e-5 * abs(high)  # rounding alone
        room = (abs(high) * 0.1 or 0.5) if flat else margin * (high - low)
        return cls(label, low - room, high + room, **rest)

    def part(self, value: float) -> float:
        """Relative position of a value: 0 at the start, 1 at the end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels of the ticks."""
        if self.names:
            return [(float(place), shorten(name, 14)) for place, name in enumerate(self.names)]
        if self.log:
            return [(value, _engineering(value)) for value in self._powers()]
        raw = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= raw)
        step = max(step, 1.0) if self.whole else step
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        form = f".{digits}f" if digits <= 6 else ".4g"
        return [(k * step, format(k * step, form)) for k in range(first, last + 1)]

    def _powers(self) -> list[float]:
        """Round numbers within a logarithmic axis, without those whose labels would touch."""
        span = self.high / self.low
        steps = (1,) if span > 300 else (1, 2, 5) if span > 6 else range(1, 10)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        places = [nice * 10.0**power for power in range(first, last + 1) for nice in steps]
        chosen: list[float] = []
        for value in (value for value in places if self.low <= value <= self.high):
            if not chosen or self.part(value) - self.part(chosen[-1]) > _APART:
                chosen.append(value)
        return chosen


@dataclass(frozen=True)
class Chart(AbstractFigure):
    """A line or scatter chart.

    Attributes:
        key: its name on a page.
        name: the quantity it shows.
        x: the horizontal axis.
        y: the vertical axis.
        lines: series, drawn as lines; the page's script shows their values.
        marks: single points.
        levels: horizontal lines to compare with, by name.
        about: how to read it.
        percent: whether lines and levels are parts of 1, shown as percentages.
        steps: draw lines as the steps of a histogram.
    """

    key: str
    name: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...] = ()
    marks: tuple[Mark, ...] = ()
    levels: Mapping[str, float] = field(default_factory=dict)
    about: str = ""
    percent: bool = False
    steps: bool = False
    size: tuple[float, float] = (_WIDTH, _HEIGHT)

    def parts(self) -> Iterator[str]:
        """The SVG elements, the legend last."""
        yield from self._axes()
        for look, value in zip(_LEVELS, self.levels.values(), strict=False):
            _, y = self._at(self.x.low, self._shown(value))
            yield f'<path d="M{self._left:.1f} {y:.1f}H{_RIGHT}" {look}/>'
        yield from self._joined()
        for place, line in enumerate(self.lines):
            yield f'<path d="{self._path(line)}"{_stroke(place)}/>'
        yield from self._points()
        for text, shape, x, row in self._legend():
            move = f'<g transform="translate({x:.1f} {8 + _ROW * row})" fill="none">'
            yield f"{move}{shape}{svg_text(text, 26.0, 4.0)}</g>"

    def numbers(self) -> dict[str, Any]:
        """The data that the page's script needs to show values: series, and the position of x."""
        ends = (self._left / _WIDTH, _RIGHT / _WIDTH, self.x.low, self.x.high)
        lines = [
            {"name": line.name, "x": list(line.x), "y": [_short(value) for value in line.y]}
            for line in self.lines
        ]
        return {"percent": self.percent, "frame": [_short(end) for end in ends], "lines": lines}

    @property
    def _left(self) -> float:
        longest = max((len(text) for _, text in self.y.ticks()), default=0)
        return 12 + (16 if self.y.label else 0) + _LETTER * longest

    @property
    def _top(self) -> float:
        return 8 + _ROW * (1 + max((row for *_, row in self._legend()), default=0))

    def _entries(self) -> Iterator[tuple[str, str]]:
        """Names of the legend and the strokes or shapes beside them, at 0, 0."""
        for place, line in enumerate(self.lines):
            yield line.name, f'<path d="M0 0H20"{_stroke(place)}/>'
        for name, look in zip(self.levels, _LEVELS, strict=False):
            yield name, f'<path d="M0 0H20" {look}/>'
        largest = {mark.kind: mark for mark in sorted(self.marks, key=lambda mark: mark.size)}
        for kind in dict.fromkeys(mark.kind for mark in self.marks):
            yield kind, _shape(largest[kind], 10.0, 0.0)

    def _legend(self) -> list[tuple[str, str, float, int]]:
        """Text, shape, position and row of each entry; one that does not fit begins a row."""
        placed, x, row = [], self._left, 0
        for name, shape in self._entries():
            text = shorten(name, 28)
            width = 40 + _LETTER * len(text)
            if x > self._left and x + width > _RIGHT + 8:
                x, row = self._left, row + 1
            placed.append((text, shape, x, row))
            x += width
        return placed

    def _at(self, x: float, y: float) -> tuple[float, float]:
        across = self._left + self.x.part(x) * (_RIGHT - self._left)
        return across, _BOTTOM - self.y.part(y) * (_BOTTOM - self._top)

    def _axes(self) -> Iterator[str]:
        left, top, grid = self._left, self._top, 'stroke="var(--grid)"'
        for value, text in self.x.ticks():
            x, _ = self._at(value, self.y.low)
            yield f'<path d="M{x:.1f} {top:.1f}V{_BOTTOM}" {grid}/>'
            yield svg_text(text, x, _BOTTOM + 15, "middle")
        for value, text in self.y.ticks():
            _, y = self._at(self.x.low, value)
            yield f'<path d="M{left:.1f} {y:.1f}H{_RIGHT}" {grid}/>'
            yield svg_text(text, left - 5, y + 4, "end")
        frame = f"M{left:.1f} {top:.1f}V{_BOTTOM}H{_RIGHT}"
        yield f'<path d="{frame}" fill="none" stroke="var(--soft)"/>'
        yield svg_text(self.x.label, (left + _RIGHT) / 2, _HEIGHT - 8, "middle")
        turned = f'transform="translate(12 {(top + _BOTTOM) / 2:.1f}) rotate(-90)"'
        yield f"<g {turned}>{svg_text(self.y.label, 0.0, 0.0, 'middle')}</g>"

    def _shown(self, value: float) -> float:
        return 100 * value if self.percent else value

    def _path(self, line: Line) -> str:
        """The line's path: values that are not finite leave a gap, a single point is a dot."""
        pen, parts = "M", []
        half = (line.x[1] - line.x[0]) / 2 if self.steps and len(line.x) > 1 else 0.0
        for x, value in zip(line.x, line.y, strict=True):
            if not math.isfinite(value):
                pen = "M"
                continue
            (start, y), (end, _) = (self._at(x + d, self._shown(value)) for d in (-half, half))
            parts.append(f"{pen}{start:.1f} {y:.1f}" + (f"H{end:.1f}" if half else ""))
            pen = "L"
        return f"{parts[0]}h.01" if len(parts) == 1 else "".join(parts)

    def _joined(self) -> Iterator[str]:
        """Thin lines between the marks of one row, where the rows have names."""
        for place in range(len(self.y.names)):
            ends = [self._at(m.x, m.y) for m in self.marks if m.y == place]
            if len(ends) > 1:
                (x, y), (other, _) = ends[0], ends[-1]
                yield f'<path d="M{x:.1f} {y:.1f}H{other:.1f}" stroke="var(--soft)"/>'

    def _points(self) -> Iterator[str]:
        for mark in self.marks:
            x, y = self._at(mark.x, mark.y)
            tip = f"<title>{escape(mark.tip)}</title>"
            yield f'<g class="mark">{tip}{_shape(mark, x, y)}</g>'
            if mark.name and len(self.marks) <= CROWD:
                beside = (x - 9, y - 6, "end") if x > 0.7 * _WIDTH else (x + 9, y - 6, "start")
                yield svg_text(shorten(mark.name, 18), *beside)


def draw(
    key: str,
    name: str,
    lines: Iterable[Line],
    *,
    x: str = "epoch",
    y: str = "",
    levels: Mapping[str, float] | None = None,
    **look: Any,
) -> Chart | None:
    """A line chart whose axes contain all lines; None where no line has a value.

    Args:
        key: its name on a page.
        name: the quantity it shows.
        lines: the series; those without values are left out.
        x: label of the horizontal axis.
        y: label of the vertical axis; one that ends in % shows parts of 1 as percentages.
        levels: horizontal lines to compare with, by name.
        **look: further attributes of `Chart`.
    """
    drawn = tuple(line for line in lines if len(line.x))
    if not drawn:
        return None
    levels, percent = levels or {}, y.endswith("%")
    values = [*(value for line in drawn for value in line.y), *levels.values()]
    across = Axis.around(x, [place for line in drawn for place in line.x], 0.03, whole=x == "epoch")
    up = Axis.around(y, [100 * value if percent else value for value in values], 0.06)
    return Chart(key, name, across, up, drawn, levels=levels, percent=percent, **look)


def shorten(name: str, letters: int) -> str:
    """A name cut to so many letters."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def script_json(content: Any) -> str:
    """JSON that is safe inside a script element, whatever names it contains."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _stroke(place: int) -> str:
    dash = DASHES[(place + 2 * (place // SERIES)) % len(DASHES)]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f' class="line" stroke="var(--c{place % SERIES})"{dashes}'


def _shape(mark: Mark, x: float, y: float) -> str:
    colour = f"var(--c{mark.series % SERIES})"
    if mark.cross:
        path = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0-10l-10 10"
        return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="3"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{mark.size:g}" fill="{colour}"/>'


def svg_text(
    text: str, x: float, y: float, anchor: str = "start", turn: str = "", fill: str = "var(--ink)"
) -> str:
    """Text at a point, as SVG.

    Args:
        text: any text; it is escaped.
        x: from the left.
        y: of the base line, from the top.
        anchor: which part of the text is at x: "start", "middle" or "end".
        turn: a transform attribute, or "".
        fill: colour.
    """
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {where} fill="{fill}"{turn}>{escape(text)}</text>'


def _engineering(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
