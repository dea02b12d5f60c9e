"""What runs have found, in words, the answer first. Knows plain numbers alone."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def percent(value: float | None, digits: int = 2) -> str:
    """A part of 1 as a percentage; a dash for nothing."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def span(values: Sequence[float]) -> str:
    """The smallest to the largest, as percentages.

    >>> span([0.926, 0.934])
    '92.60 to 93.40 %'
    """
    low, high = f"{100 * min(values):.2f}", f"{100 * max(values):.2f}"
    return f"{low} %" if low == high else f"{low} to {high} %"


def known_by(accuracies: Sequence[float]) -> str:
    """The end of a sentence, about teachers."""
    if not accuracies:
        return ""
    return f"; teacher{'s' * (len(accuracies) > 1)} {span(accuracies)}"


def about_one(run: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """One finished run in a sentence.

    Args:
        run: run.json.
        summary: summary.json.
    """
    teachers = [v for k, v in summary.items() if k.startswith("accuracy.")]
    who = "trained alone" if not teachers else "distilled"
    name = (
        f"The student {run.get('student', '')}, {who} by {run.get('method', 'an unknown method')}"
    )
    if not teachers:
        name = f"The student {run.get('student', '')}, trained alone"
    return (
        f"{name}, reaches {percent(summary['accuracy_last'])} on the {summary['split']} split "
        f"(one seed){known_by(teachers)}."
    )


def about_unfinished(epochs: tuple[int, int], line: Mapping[str, Any] | None, state: str) -> str:
    """One run that has no answer yet, in a sentence.

    Args:
        epochs: how many are done, and how many there are to be.
        line: the last of metrics.jsonl, if there is one.
        state: what is known of its going on.

    >>> about_unfinished((1, 3), {"accuracy": 0.5, "split": "validation"}, "it was stopped")
    'No answer yet: it was stopped, after 1 of 3 epochs; 50.00 % on validation.'
    """
    reached = f"; {percent(line.get('accuracy'))} on {line.get('split')}" if line else ""
    return f"No answer yet: {state}, after {epochs[0]} of {epochs[1]} epochs{reached}."


def about_difference(
    name: str,
    taught: Mapping[int, float],
    alone: Mapping[int, float],
    gap: Any,
    teachers: Sequence[float],
) -> str:
    """A taught student against the student alone.

    Args:
        name: of the method.
        taught: accuracy by seed, 0..1.
        alone: the same, of the student alone.
        gap: the paired difference: `mean`, `half_width`, `n`, `verdict`.
        teachers: their accuracies.
    """
    seeds = sorted(taught.keys() & alone.keys())
    means = [percent(statistics.fmean(found[seed] for seed in seeds)) for found in (taught, alone)]
    start = f"{name} {means[0]}, alone {means[1]}: {gap.mean:+.2f} points"
    if gap.half_width is None:
        said = " in one seed, which says nothing about chance"
    else:
        low, high = gap.mean - gap.half_width, gap.mean + gap.half_width
        said = f" [{low:+.2f}, {high:+.2f}] over {gap.n} seeds, {gap.verdict}"
    return start + said + known_by(teachers) + "."
