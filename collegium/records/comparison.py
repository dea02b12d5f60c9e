"""The results of a comparison: means, spreads, paired differences; as text, Markdown, CSV, JSON."""

import csv
import io
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collegium.errors import FolderError
from collegium.plots import text, words
from collegium.plots.chart import Chart
from collegium.plots.notebook import card
from collegium.plots.plots import differences_chart
from collegium.plots.tables import Table, number
from collegium.records.schema import FlatRecord, declared, read_json

Json = dict[str, Any]
BASELINE = "vanilla"
"""The name of the row of the student without teachers, which every comparison has."""


@dataclass(frozen=True)
class Difference:
    """A paired difference, in points of accuracy.

    Attributes:
        mean: over the seeds both have.
        half_width: of the 95 % interval of the mean (Student's t); None for one seed.
        p: of a two-sided paired t-test; None for one seed.
        n: number of seeds.
    """

    mean: float
    half_width: float | None
    p: float | None
    n: int

    @property
    def verdict(self) -> str:
        """Better or worse; no significant difference where the interval contains 0."""
        if self.half_width is None or abs(self.mean) <= self.half_width:
            return "no significant difference"
        return "better" if self.mean > 0 else "worse"

    def __str__(self) -> str:
        spread = "" if self.half_width is None else f" ± {self.half_width:.2f}"
        return f"{self.mean:+.2f}{spread}"


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """The difference of two rows over the seeds they share; None where they share none.

    >>> str(paired({0: 0.91, 1: 0.93}, {0: 0.90, 1: 0.90}))
    '+2.00 ± 12.71'
    """
    from scipy import stats

    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    gaps = [100 * (first[seed] - second[seed]) for seed in seeds]
    mean, count = statistics.fmean(gaps), len(gaps)
    if count == 1:
        return Difference(mean, None, None, count)
    if statistics.stdev(gaps) <= 1e-12 * abs(mean):  # equal but for rounding: scipy gives NaN
        return Difference(mean, 0.0, 1.0 if not mean else 0.0, count)
    test = stats.ttest_1samp(gaps, 0.0)  # of the differences: the paired t-test
    low, high = test.confidence_interval(0.95)
    return Difference(mean, float(high - low) / 2, float(test.pvalue), count)


def mean_of(values: Iterable[float]) -> float | None:
    """The mean; None of no values."""
    found = list(values)
    return statistics.fmean(found) if found else None


@dataclass(frozen=True)
class Outcomes:
    """The runs of one row.

    Attributes:
        name: of the row.
        published: whether it kept its paper's temperature, alpha and label weight.
        runs: summaries by seed.
        failures: the reason of each run that failed, by seed.
    """

    name: str
    published: bool
    runs: Mapping[int, Json]
    failures: Mapping[int, str]

    def of(self, key: str) -> dict[int, float]:
        """One number of each run that has it."""
        return {seed: run[key] for seed, run in self.runs.items() if run.get(key) is not None}

    def mean(self, key: str) -> float | None:
        """Mean over the runs."""
        return mean_of(self.of(key).values())

    def std(self, key: str) -> float | None:
        """Standard deviation over the runs, n - 1 in the denominator; None for fewer than two."""
        found = list(self.of(key).values())
        return statistics.stdev(found) if len(found) > 1 else None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ComparisonRow(FlatRecord):
    """A row of compare.json: means over the seeds of one method.

    Attributes:
        method: the row's method string.
        published: whether it kept its paper's temperature, alpha and label weight.
        n: number of seeds whose run is finished.
        accuracy_last: of the student after the last epoch.
        accuracy_last_sd: its standard deviation over seeds.
        accuracy_at_best_validation: of the student that was best on validation.
        accuracy_at_best_validation_sd: its standard deviation over seeds.
        accuracy_best_test: the best epoch on the test split, where it was requested; optimistic.
        accuracy_best_test_sd: its standard deviation over seeds.
        minus_control: difference from the control in points, paired by seed.
        minus_control_half_width: half of its 95 % interval.
        minus_control_p: of a two-sided paired t-test.
        minus_alone: difference from the student alone in points, paired by seed.
        minus_alone_half_width: half of its 95 % interval.
        minus_alone_p: of a two-sided paired t-test.
        agreement: how often the student predicts the same class as a teacher, mean over teachers.
        ece: expected calibration error.
        weights_entropy: of the last epoch, 0 to 1.
        images_per_s: speed of training.
        seconds: of training.
        failures: the reason of each run that failed, by seed.
    """

    method: str
    published: bool
    n: int
    accuracy_last: float | None
    accuracy_last_sd: float | None
    accuracy_at_best_validation: float | None
    accuracy_at_best_validation_sd: float | None
    accuracy_best_test: float | None
    accuracy_best_test_sd: float | None
    minus_control: float | None
    minus_control_half_width: float | None
    minus_control_p: float | None
    minus_alone: float | None
    minus_alone_half_width: float | None
    minus_alone_p: float | None
    agreement: float | None
    ece: float | None
    weights_entropy: float | None
    images_per_s: float | None
    seconds: float | None
    failures: dict[str, str]


class Comparison(dict[str, Any]):
    """The content of compare.json, which a notebook shows as its answer and a table."""

    @classmethod
    def read(cls, folder: Path | str) -> "Comparison":
        """Read compare.json of a folder made by `collegium compare`.

        Raises:
            FolderError: it holds none, or its table is damaged.
        """
        path = Path(folder) / "compare.json"
        content = read_json(path, advice="; is compare finished?")
        if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
            raise FolderError(f"{path} is no table of a comparison")
        texts = isinstance(content.get("answer"), str) and isinstance(content.get("control"), str)
        if not texts or not all(map(_is_row, content["rows"])):
            raise FolderError(f"{path} is damaged: a row of it is not what compare writes")
        return cls(content | {"rows": [ComparisonRow.read(row) for row in content["rows"]]})

    def plot_differences(self) -> Chart:
        """Each row minus the student alone, with the 95 % interval of the difference.

        Raises:
            FolderError: no row can be compared with the student alone.
        """
        if (chart := differences_chart(self._gaps())) is None:
            raise FolderError("no row of this comparison shares a seed with the student alone")
        return chart

    def _gaps(self) -> dict[str, tuple[float, float | None]]:
        rows = [row for row in self["rows"] if row["minus_alone"] is not None]
        return {r["method"]: (r["minus_alone"], r["minus_alone_half_width"]) for r in rows}

    def _repr_html_(self) -> str:
        chart = differences_chart(self._gaps())
        return card("Comparison", self["answer"], _table(self), [chart] if chart else [])


def _is_row(row: Any) -> bool:
    """Whether a row has every key that `compare` writes, each with a value of its kind."""
    if not isinstance(row, dict) or ComparisonRow.wrong_keys(row):
        return False
    return all(item.name in row for item in declared(ComparisonRow))


def make_table(rows: Sequence[Outcomes], control: str) -> Json:
    """The table of a comparison, as JSON.

    Args:
        rows: the runs of each row.
        control: name of the row that the others are compared with.
    """
    by_name = {row.name: row for row in rows}
    lines = [_row(row, by_name[control], by_name[BASELINE]) for row in rows]
    return {"control": control, "answer": answer(by_name), "rows": lines}


def answer(rows: Mapping[str, Outcomes]) -> str:
    """Whether distillation helped, as a sentence about the best row."""
    question, alone = "Did distillation help?", rows[BASELINE].of("accuracy_last")
    others = [row for name, row in rows.items() if name != BASELINE]
    found = {r.name: gap for r in others if (gap := paired(r.of("accuracy_last"), alone))}
    if not found:
        return f"{question} Unknown: no seed has both a student alone and a distilled one."
    best = max(found, key=lambda name: found[name].mean)
    gap = found[best]
    seeds = words.plural(gap.n, "seed")
    if gap.half_width is None:
        return (
            f"{question} {best} is {gap} points from the student alone in {seeds}; one seed does "
            "not show whether that is chance."
        )
    helped = {"better": "Yes", "worse": "No"}.get(gap.verdict, "Unclear")
    which = f"{best}, the best of {len(found)}"
    against = f"the student alone (95 % interval, {seeds})"
    return f"{question} {helped}: {which}, is {gap} points from {against}."


def _row(row: Outcomes, control: Outcomes, alone: Outcomes) -> ComparisonRow:
    last = row.of("accuracy_last")
    values: Json = {}
    for key in ("accuracy_last", "accuracy_at_best_validation", BEST_TEST):
        values |= {key: row.mean(key), f"{key}_sd": row.std(key)}
    for what, other in (("control", control), ("alone", alone)):
        gap = paired(last, other.of("accuracy_last")) if other is not row else None
        values |= {
            f"minus_{what}": gap and gap.mean,
            f"minus_{what}_half_width": gap and gap.half_width,
            f"minus_{what}_p": gap and gap.p,
        }
    for key in ("agreement", "ece", "weights_entropy", "images_per_s", "seconds"):
        values[key] = row.mean(key)
    values["failures"] = {str(seed): reason for seed, reason in row.failures.items()}
    return ComparisonRow(method=row.name, published=row.published, n=len(last), **values)


BEST_TEST = "accuracy_best_test"
"""Key of the best epoch on the test split, where it was requested; optimistic."""


def markdown(table: Json) -> str:
    """The answer as a sentence, then a table."""
    best_test = any(line[BEST_TEST] is not None for line in table["rows"])
    failures = [
        f"- {line['method']}, seed {seed}: {reason}"
        for line in table["rows"]
        for seed, reason in line["failures"].items()
    ]
    lines = [table["answer"], "", text.markdown(_table(table, best_test))]
    lines += ["", "Failed:", *failures] if failures else []
    return "\n".join([*lines, "", legend(table), ""])


def _table(table: Json, best_test: bool = False) -> Table:
    """The rows as a table of texts, with the best test epoch on request."""
    columns: dict[str, Callable[[Json], str]] = {
        "method": lambda line: line["method"] + " (student alone)" * (line["method"] == BASELINE),
        "test, last epoch": lambda line: _spread(line, "accuracy_last"),
        "n": lambda line: str(line["n"]),
        f"minus {table['control']}": lambda line: _gap(line, "control"),
        "p": lambda line: number(line["minus_control_p"], "{:.3f}").text,
        "minus alone": lambda line: _gap(line, "alone"),
        "at best validation": lambda line: _spread(line, "accuracy_at_best_validation"),
        "agreement": lambda line: number(line["agreement"], "{:.1%}").text,
        "ECE": lambda line: number(line["ece"], "{:.3f}").text,
        "entropy of weights": lambda line: number(line["weights_entropy"], "{:.3f}").text,
        "images/s": lambda line: number(line["images_per_s"], "{:,.0f}").text,
    }
    if best_test:
        columns["best test epoch (optimistic)"] = lambda line: _spread(line, BEST_TEST)
    return Table.of(table["rows"], columns, note=legend(table))


_LEGEND = (
    "Accuracies in %, mean (standard deviation) over n seeds; differences are paired by seed, in "
    "points, ± half a 95 % interval (Student's t); p of a two-sided paired t-test. Rows with "
    "preset=published or preset=figure have their paper's temperature, alpha (weight of the soft "
    "target) and label weight; all others share one of each, unless they name their own"
)


def legend(table: Json) -> str:
    """What the columns mean, and the settings that all rows share."""
    strength = table.get("strength") or {}
    shared = [
        f"{key.replace('_', ' ')} {'1 - alpha' if strength[key] is None else f'{strength[key]:g}'}"
        for key in ("temperature", "alpha", "label_weight")
        if key in strength
    ]
    smoothing, weights = table.get("label_smoothing"), table.get("class_weights")
    label = [f"label smoothing {smoothing:g}"] if smoothing else []
    label += ["weights of classes"] if weights else []
    rest = f" The label's loss has {' and '.join(label)} in all rows." if label else ""
    return f"{_LEGEND}{': ' * bool(shared)}{', '.join(shared)}.{rest}"


def _spread(line: Json, key: str) -> str:
    mean, std = line[key], line[f"{key}_sd"]
    if mean is None:
        return "failed" if line["failures"] else "-"
    return f"{100 * mean:.2f}" + ("" if std is None else f" ({100 * std:.2f})")


def _gap(line: Json, what: str) -> str:
    mean = line[f"minus_{what}"]
    return "-" if mean is None else str(Difference(mean, line[f"minus_{what}_half_width"], None, 0))


def comma_separated(table: Json) -> str:
    """CSV with one line for each row, numbers unrounded."""
    written = io.StringIO()
    writer = csv.DictWriter(written, table["rows"][0], lineterminator="\n")
    writer.writeheader()
    for line in table["rows"]:
        writer.writerow({**line, "failures": "; ".join(line["failures"].values())})
    return written.getvalue()
