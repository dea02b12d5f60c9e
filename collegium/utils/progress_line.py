"""One line on a running training, shortened to the width of the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

_BLOCKS = " ▁▂▃▄▅▆▇█"
_NAMED = 8
"""Teachers named in a line of unlimited width."""
_LONGEST = 26
"""Letters of a label on a terminal."""


@dataclass(frozen=True)
class Moment:
    """State of a training at one time.

    Attributes:
        label: name of the work.
        epoch: the running or last completed one, from 1.
        epochs: of the whole training.
        part: share of the epoch that is done, 0 to 1; None if it is complete.
        loss: mean over the epoch so far.
        accuracy: on training views, 0 to 1.
        validation: accuracy on validation, once it was measured.
        weights: the mean weight of each active teacher.
        images_per_s: speed of training.
        left: estimated seconds until the end.
    """

    label: str
    epoch: int
    epochs: int
    part: float | None
    loss: float
    accuracy: float
    validation: float | None
    weights: Mapping[str, float]
    images_per_s: float
    left: float

    def fitted(self, width: int) -> str:
        """The line in at most that many columns; the least important parts are dropped first.

        >>> weights = {"wide": 0.5, "deep": 0.25, "b": 0.25}
        >>> now = Moment("kd", 3, 30, 0.5, 1.25, 0.873, None, weights, 3000.0, 80.0)
        >>> print(now.fitted(100))
        kd  epoch 3/30  50 %  loss 1.250  train 87.3 %  3000 images/s  1:20 left  wide ▆ deep ▃ b ▃
        >>> print(now.fitted(80))
        kd  epoch 3/30  50 %  loss 1.250  train 87.3 %  3000 images/s  1:20 left  ▆▃▃
        >>> print(now.fitted(40))
        kd  epoch 3/30  50 %  loss 1.250  ▆▃▃
        """
        parts = self._parts(_cut(self.label, min(_LONGEST, max(width // 4, 8))))
        least = bars(self.weights, 3)
        while len(parts) > 1 and _width(parts) + len(least) + 2 > width:
            parts.remove(max(parts))
        texts, room = [text for _, text in parts], width - _width(parts) - 2
        shown = next((text for text in _forms(self.weights) if cell_len(text) <= room), "")
        shown = shown or bars(self.weights, room)
        return _cut("  ".join([*texts, shown] if shown else texts), width)

    def plain(self) -> str:
        """The full line, for a file; of many teachers only the heaviest are named."""
        texts = [text for _, text in self._parts(self.label)]
        if len(self.weights) > 1:
            heaviest = sorted(self.weights, key=lambda name: -self.weights[name])[:_NAMED]
            named = [f"{n} {value:.2f}" for n, value in self.weights.items() if n in heaviest]
            more = len(self.weights) - len(named)
            texts.append(f"weights {' '.join(named)}" + (f" and {more} more" if more else ""))
        return "  ".join(texts)

    def _parts(self, label: str) -> list[tuple[int, str]]:
        """The parts in order, each with its rank: the largest rank is dropped first."""
        found = [(0, label), (1, f"epoch {self.epoch}/{self.epochs}")]
        if self.part is not None:
            found.append((4, f"{100 * self.part:.0f} %"))
        found += [(2, f"loss {self.loss:.3f}"), (6, f"train {100 * self.accuracy:.1f} %")]
        if self.validation is not None:
            found.append((3, f"val {100 * self.validation:.1f} %"))
        found += [(7, f"{self.images_per_s:.0f} images/s"), (5, f"{clock(self.left)} left")]
        return found


def bars(weights: Mapping[str, float], width: int) -> str:
    """A block for each teacher, as high as its weight; an equal share is half a block.

    Args:
        weights: by teacher; empty text for one alone.
        width: available columns; if they do not suffice, the last is an ellipsis.

    >>> bars({"a": 0.5, "b": 0.3, "c": 0.2}, 10), bars(dict.fromkeys("abcdef", 1 / 6), 4)
    ('▆▄▂', '▄▄▄…')
    """
    if len(weights) < 2 or width < 2:
        return ""
    text = "".join(_block(value, len(weights)) for value in weights.values())
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _block(value: float, count: int) -> str:
    return _BLOCKS[max(1, min(round(4 * value * count), 8))]


def _forms(weights: Mapping[str, float]) -> list[str]:
    """The weights as text, the most detailed first; after these there are bars alone."""
    if len(weights) < 2:
        return []
    shown = {name: _block(value, len(weights)) for name, value in weights.items()}
    full = " ".join(f"{name} {shown[name]} {value:.2f}" for name, value in weights.items())
    return [full, " ".join(f"{name} {block}" for name, block in shown.items())]


def _width(parts: Sequence[tuple[int, str]]) -> int:
    return cell_len("  ".join(text for _, text in parts))


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours with them.

    >>> clock(75.2), clock(3725.0)
    ('1:15', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
