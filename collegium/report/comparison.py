"""The part of a page that puts several runs side by side."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from collegium.plots import plots, words
from collegium.plots.chart import Chart
from collegium.plots.tables import Cell, Table, number
from collegium.records.comparison import Difference, paired
from collegium.records.run_folder import Json
from collegium.report.load import Group, RunData, last_written


def answer(found: Sequence[Group]) -> str:
    """What was found, in words, before anything else."""
    if len(found) == 1 and len(found[0].readings) == 1:
        return single(found[0].first)
    gaps = {group.name: gap for group in found if (gap := difference(group, found))}
    if not gaps:
        return _without_control(found)
    best = max(gaps, key=lambda name: gaps[name].mean)
    group = next(group for group in found if group.name == best)
    rest = f" It is the best of {len(gaps)} kinds of run." if len(gaps) > 1 else ""
    alone = _alone(group, found)
    said = words.about_difference(
        best,
        group.of("accuracy_last"),
        alone.of("accuracy_last") if alone else {},
        gaps[best],
        list(group.first.teacher_accuracy().values()),
    )
    return f"{said}{rest}"


def single(run_data: RunData) -> str:
    """What one run has found, in words."""
    if run_data.finished:
        return words.about_one(run_data.run, run_data.summary)
    last = [line for line in run_data.metrics if line.get("split") != "test"]
    state = f"this run {run_data.state} ({last_written(run_data)})"
    return words.about_unfinished(run_data.epochs, last[-1] if last else None, state)


def _without_control(found: Sequence[Group]) -> str:
    accuracies = {group.name: group.of("accuracy_last") for group in found}
    means = {name: statistics.fmean(seen.values()) for name, seen in accuracies.items() if seen}
    if not means:
        return "No answer yet: none of these runs is finished."
    best = max(means, key=means.__getitem__)
    return (
        f"{best} reaches {words.percent(means[best])}, the most of {len(means)} kinds of run. "
        "None of them is a student alone on the same data and epochs, so what teaching gained is "
        "unknown."
    )


def _alone(group: Group, found: Sequence[Group]) -> Group | None:
    same = group.first.comparable()
    fits = (g for g in found if g.alone and not group.alone and g.first.comparable() == same)
    return next(fits, None)


def difference(group: Group, found: Sequence[Group]) -> Difference | None:
    """From the student alone on the same data, over the seeds both have."""
    alone = _alone(group, found)
    return paired(group.of("accuracy_last"), alone.of("accuracy_last")) if alone else None


def table(found: Sequence[Group]) -> Table:
    """A line for each kind of run."""
    head = ["run", "accuracy", "seeds", "minus alone, points", "95 % interval", "student"]
    head += ["parameters", "student agrees", "entropy of weights", "seconds", "images/s"]
    note = (
        "Accuracy: mean (standard deviation) on the evaluation split after the last epoch. "
        "Differences are paired by seed; intervals are Student's t."
    )
    return Table("", head, [_row(group, found) for group in found], note)


def _row(group: Group, found: Sequence[Group]) -> list[Cell]:
    gap = difference(group, found)
    entropy = _last_entropy(group)
    agreement = [v for run in group.readings.values() for k, v in run.summary.items() if _agrees(k)]
    return [
        Cell(f"{group.name} (student alone)" if group.alone else group.name),
        _accuracy(group),
        number(len(group.of("accuracy_last"))),
        number(gap.mean if gap else None, "{:+.2f}"),
        _interval(gap),
        Cell(str(group.first.run.get("student", ""))),
        number(_mean(group.of("parameters"))),
        number(100 * statistics.fmean(agreement) if agreement else None, "{:.1f} %"),
        number(entropy, "{:.3f}"),
        number(_mean(group.of("seconds")), "{:,.1f}"),
        number(_mean(group.of("images_per_s"))),
    ]


def _agrees(key: str) -> bool:
    return key.startswith("agreement.")


def _accuracy(group: Group) -> Cell:
    values = list(group.of("accuracy_last").values())
    if not values:
        done, epochs = group.first.epochs
        return Cell(f"epoch {done} of {epochs}", -1.0)
    mean, spread = 100 * statistics.fmean(values), ""
    if len(values) > 1:
        spread = f" ({100 * statistics.stdev(values):.2f})"
    return Cell(f"{mean:.2f} %{spread}", mean)


def _interval(gap: Difference | None) -> Cell:
    if gap is None or gap.half_width is None:
        return Cell("-", -1e9)
    low, high = gap.mean - gap.half_width, gap.mean + gap.half_width
    told = f" {gap.verdict}" if low > 0 or high < 0 else ""
    return Cell(f"[{low:+.2f}, {high:+.2f}]{told}", low)


def _mean(values: Mapping[int, float]) -> float | None:
    return statistics.fmean(values.values()) if values else None


def _last_entropy(group: Group) -> float | None:
    found = [
        lines[-1]["weights_entropy"]
        for run in group.readings.values()
        if (lines := [line for line in run.metrics if "weights_entropy" in line])
    ]
    return statistics.fmean(found) if found else None


def charts(found: Sequence[Group]) -> list[Chart]:
    """Differences from the student alone, and the curves of every kind of run in one chart."""
    gaps = {group.name: gap for group in found if (gap := difference(group, found))}
    made = [
        plots.differences_chart({name: (gap.mean, gap.half_width) for name, gap in gaps.items()}),
        plots.runs_chart({group.name: mean_curve(group) for group in found}),
    ]
    return [chart for chart in made if chart is not None]


def mean_curve(group: Group) -> list[Json]:
    """Accuracy by epoch and split, the mean over the seeds that have that epoch."""
    seen: dict[tuple[str, int], list[float]] = {}
    for run_data in group.readings.values():
        for line in run_data.metrics:
            if "accuracy" in line:
                seen.setdefault((str(line.get("split")), line["epoch"]), []).append(
                    line["accuracy"]
                )
    return [
        {"split": split, "epoch": epoch, "accuracy": statistics.fmean(values)}
        for (split, epoch), values in sorted(seen.items())
    ]


def kinds(runs: Sequence[Json], folders: Sequence[str]) -> list[str]:
    """A name for each run; those that differ in their seed alone share it.

    Args:
        runs: run.json of each.
        folders: names of their folders.
    """
    keys = [_kind(run) for run in runs]
    methods: dict[str, set[str]] = {}
    for key, run in zip(keys, runs, strict=True):
        methods.setdefault(str(run.get("method", "unknown")), set()).add(key)
    first = dict(reversed(list(zip(keys, folders, strict=True))))
    names = []
    for key, run in zip(keys, runs, strict=True):
        slug = str(run.get("method", "unknown"))
        names.append(slug if len(methods[slug]) == 1 else f"{slug} ({first[key]})")
    return names


def _kind(run: Mapping[str, Any]) -> str:
    apart = ("seed", "machine", "storage", "fingerprint", "identity", "environment", "teachers")
    options = {k: v for k, v in run.get("options", {}).items() if k != "teacher"}
    rest = {k: v for k, v in run.items() if k not in apart} | {"options": options}
    return repr(sorted(rest.items(), key=lambda item: item[0])) + repr(
        list(run.get("teachers", {}))
    )
