"""Sentences and numbers for readers: what runs have found, the answer first."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from collegium.utils.text import some_of


def percent(value: float | None, digits: int = 2) -> str:
    """A part of 1 as a percentage; a dash for None."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def percent_range(values: Sequence[float]) -> str:
    """The smallest to the largest, as percentages.

    >>> percent_range([0.926, 0.934])
    '92.60 to 93.40 %'
    """
    low, high = f"{100 * min(values):.2f}", f"{100 * max(values):.2f}"
    return f"{low} %" if low == high else f"{low} to {high} %"


def interval(mean: float, half_width: float) -> str:
    """The ends of an interval.

    >>> interval(2.0, 0.5)
    '[+1.50, +2.50]'
    """
    return f"[{mean - half_width:+.2f}, {mean + half_width:+.2f}]"


def plural(count: int, noun: str) -> str:
    """A count and its noun.

    >>> plural(1, "seed"), plural(2_000, "image")
    ('1 seed', '2,000 images')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def listed(names: Sequence[str], shown: int = 8) -> str:
    """Names in a sentence, cut where there are many.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c", "d"], shown=2)
    ('a, b and c', 'a, b and 2 more')
    """
    if len(names) > shown + 1:
        return some_of(names, shown)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _teachers(accuracies: Sequence[float]) -> str:
    """The end of a sentence: the accuracy of the teachers."""
    if not accuracies:
        return ""
    return f"; teacher{'s' * (len(accuracies) > 1)} {percent_range(accuracies)}"


def about_one(run: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The result of one finished run, in a sentence.

    Args:
        run: run.json.
        summary: summary.json.
    """
    teachers = [value for key, value in summary.items() if key.startswith("accuracy.")]
    method = run.get("method", "an unknown method")
    how = f"distilled by {method}" if teachers else "trained alone"
    return (
        f"The student {run.get('student', '')}, {how}, reaches "
        f"{percent(summary['accuracy_last'])} on the {summary['split']} split (one seed)"
        f"{_teachers(teachers)}."
    )


def epochs_of(run: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """The epochs that are done, and those that were requested.

    Args:
        run: run.json.
        metrics: the lines of metrics.jsonl.
    """
    done = max((line["epoch"] + 1 for line in metrics), default=0)
    return done, int(run.get("optimisation", {}).get("epochs", done))


def about_unfinished(
    epochs: tuple[int, int], metrics: Sequence[Mapping[str, Any]], state: str
) -> str:
    """The state of a run without a result, in a sentence.

    Args:
        epochs: how many are done, and how many there are to be.
        metrics: lines of metrics.jsonl; the last is shown.
        state: whether it is running.

    >>> about_unfinished((1, 3), [{"accuracy": 0.5, "split": "validation"}], "it was stopped")
    'No answer yet: it was stopped, after 1 of 3 epochs; 50.00 % on validation.'
    """
    last = metrics[-1] if metrics else {}
    reached = f"; {percent(last.get('accuracy'))} on {last.get('split')}" if last else ""
    return f"No answer yet: {state}, after {epochs[0]} of {epochs[1]} epochs{reached}."


def about_difference(
    name: str,
    distilled: Mapping[int, float],
    alone: Mapping[int, float],
    gap: Any,
    teachers: Sequence[float],
) -> str:
    """A distilled student against the student alone.

    Args:
        name: of the method.
        distilled: accuracy by seed, 0..1.
        alone: the same, of the student alone.
        gap: the paired difference: `mean`, `half_width`, `n`, `verdict`.
        teachers: their accuracies.
    """
    seeds = sorted(distilled.keys() & alone.keys())
    means = (statistics.fmean(found[seed] for seed in seeds) for found in (distilled, alone))
    first, second = map(percent, means)
    doubt = " in one seed, so chance cannot be excluded"
    if gap.half_width is not None:
        span = interval(gap.mean, gap.half_width)
        doubt = f" {span} over {plural(gap.n, 'seed')}, {gap.verdict}"
    return f"{name} {first}, alone {second}: {gap.mean:+.2f} points{doubt}{_teachers(teachers)}."
