"""The part of a page that compares several runs."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from collegium.plots import plots, words
from collegium.plots.chart import Chart
from collegium.plots.tables import Cell, Columns, Table, number, share
from collegium.records.comparison import Difference, mean_of, paired
from collegium.records.run_folder import Json
from collegium.report.load import Group, RunData, last_written


def answer(found: Sequence[Group]) -> str:
    """The main result of the runs, in words."""
    if len(found) == 1 and len(found[0].readings) == 1:
        return single(found[0].first)
    gaps = _gaps(found)
    if not gaps:
        return _without_control(found)
    best = max(gaps, key=lambda name: gaps[name].mean)
    group = next(group for group in found if group.name == best)
    teachers = list(group.first.teacher_accuracy().values())
    distilled, control = group.of("accuracy_last"), _of_alone(group, found)
    rest = f" It is the best of {len(gaps)} kinds of run." if len(gaps) > 1 else ""
    return words.about_difference(best, distilled, control, gaps[best], teachers) + rest


def single(run_data: RunData) -> str:
    """The result of one run, in words."""
    if run_data.finished:
        return words.about_one(run_data.run, run_data.summary)
    last = [line for line in run_data.metrics if line.get("split") != "test"]
    state = f"this run {run_data.state} ({last_written(run_data)})"
    return words.about_unfinished(run_data.epochs, last, state)


def _without_control(found: Sequence[Group]) -> str:
    accuracies = {group.name: group.of("accuracy_last") for group in found}
    means = {name: statistics.fmean(seen.values()) for name, seen in accuracies.items() if seen}
    if not means:
        return "No answer yet: none of these runs is finished."
    best = max(means, key=means.__getitem__)
    return (
        f"{best} reaches {words.percent(means[best])}, the most of {len(means)} kinds of run. "
        "None of them is a student alone on the same data and epochs, so the gain of distillation "
        "is unknown."
    )


def _of_alone(group: Group, found: Sequence[Group]) -> dict[int, float]:
    """Accuracy by seed of the student alone on the same data; empty for the student alone."""
    same, taught = group.first.comparable(), not group.first.alone
    fits = (g for g in found if g.first.alone and taught and g.first.comparable() == same)
    alone = next(fits, None)
    return alone.of("accuracy_last") if alone else {}


def _gaps(found: Sequence[Group]) -> dict[str, Difference]:
    """Accuracy minus that of the student alone, over the seeds of both; of each kind with both."""
    gaps = {g.name: paired(g.of("accuracy_last"), _of_alone(g, found)) for g in found}
    return {name: gap for name, gap in gaps.items() if gap}


def table(found: Sequence[Group]) -> Table:
    """A row for each kind of run."""
    gaps = _gaps(found)
    columns: Columns = {
        "run": lambda group: f"{group.name}{' (student alone)' * group.first.alone}",
        "accuracy": _accuracy,
        "seeds": lambda group: number(len(group.of("accuracy_last"))),
        "minus alone, points": lambda group: _gap(gaps.get(group.name)),
        "95 % interval": lambda group: _interval(gaps.get(group.name)),
        "student": lambda group: str(group.first.run.get("student", "")),
        "parameters": lambda group: number(mean_of(group.of("parameters").values())),
        "student agrees": lambda group: share(mean_of(_agreement(group)), "{:.1f} %"),
        "entropy of weights": lambda group: number(mean_of(_last_entropy(group)), "{:.3f}"),
        "seconds": lambda group: number(mean_of(group.of("seconds").values()), "{:,.1f}"),
        "images/s": lambda group: number(mean_of(group.of("images_per_s").values())),
    }
    note = (
        "Accuracy: mean (standard deviation) on the evaluation split after the last epoch. "
        "Differences are paired by seed; intervals are Student's t."
    )
    return Table.of(found, columns, note=note)


def _accuracy(group: Group) -> Cell:
    values = list(group.of("accuracy_last").values())
    if not values:
        done, epochs = group.first.epochs
        return Cell(f"epoch {done} of {epochs}", -1.0)
    mean = 100 * statistics.fmean(values)
    spread = f" ({100 * statistics.stdev(values):.2f})" if len(values) > 1 else ""
    return Cell(f"{mean:.2f} %{spread}", mean)


def _gap(gap: Difference | None) -> Cell:
    return number(gap.mean if gap else None, "{:+.2f}")


def _interval(gap: Difference | None) -> Cell:
    if gap is None or gap.half_width is None:
        return Cell("-", -1e9)
    low, high = gap.mean - gap.half_width, gap.mean + gap.half_width
    verdict = f" {gap.verdict}" if low > 0 or high < 0 else ""
    return Cell(f"{words.interval(gap.mean, gap.half_width)}{verdict}", low)


def _agreement(group: Group) -> list[float]:
    """Agreement of the student with each teacher, in each run."""
    runs = group.readings.values()
    return [value for run in runs for value in run.summary.agreement.values()]


def _last_entropy(group: Group) -> list[float]:
    """Entropy of the weights in the last epoch of each run that has it."""
    last = (run.last_line.get("weights_entropy") for run in group.readings.values())
    return [entropy for entropy in last if entropy is not None]


def charts(found: Sequence[Group]) -> list[Chart]:
    """Differences from the student alone, and the curves of every kind of run in one chart."""
    gaps = {name: (gap.mean, gap.half_width) for name, gap in _gaps(found).items()}
    curves = {group.name: mean_curve(group) for group in found}
    made = plots.differences_chart(gaps), plots.runs_chart(curves)
    return [chart for chart in made if chart]


def mean_curve(group: Group) -> list[Json]:
    """Accuracy by epoch and split, the mean over the seeds that have that epoch."""
    seen: dict[tuple[str, int], list[float]] = {}
    for run_data in group.readings.values():
        for line in run_data.metrics:
            if "accuracy" in line:
                place = (str(line.get("split")), line["epoch"])
                seen.setdefault(place, []).append(line["accuracy"])
    return [
        {"split": split, "epoch": epoch, "accuracy": statistics.fmean(values)}
        for (split, epoch), values in sorted(seen.items())
    ]


def kinds(runs: Sequence[Json], folders: Sequence[str]) -> list[str]:
    """A name for each run; runs that differ only in their seed share it.

    Args:
        runs: run.json of each.
        folders: names of their folders.
    """
    keys = [(str(run.get("method", "unknown")), _kind(run)) for run in runs]
    first = dict(reversed(list(zip(keys, folders, strict=True))))
    several = Counter(slug for slug, _ in first)
    return [key[0] if several[key[0]] == 1 else f"{key[0]} ({first[key]})" for key in keys]


def _kind(run: Mapping[str, Any]) -> str:
    apart = {"seed", "id", "format", "threads", "corrupt", "machine", "storage", "teachers"}
    apart |= {"fingerprint", "identity", "environment"}
    options = {k: v for k, v in run.get("options", {}).items() if k != "teacher"}
    rest = {k: v for k, v in run.items() if k not in apart} | {"options": options}
    return repr([*sorted(rest.items()), list(run.get("teachers", {}))])
