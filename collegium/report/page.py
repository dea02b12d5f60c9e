"""One self-contained page about a run: no network, no script, every name escaped."""

from html import escape
from typing import Any

from collegium.record import Record

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #8886; }
th:first-child, td:first-child { text-align: left; }
td { overflow-wrap: anywhere; min-width: 4rem; }
.bar { display: inline-block; height: .7em; background: #0072b2; vertical-align: baseline; }
.answer { font-size: 1.25rem; }
"""


def page(record: Record) -> str:
    """The page as HTML."""
    run, summary = record.run, record.summary
    title = f"{run['method']} on {run['data']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="answer">{escape(_answer(run, summary))}</p>',
        _teachers(record, summary),
        _epochs(record),
        _cost(summary),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _answer(run: dict[str, Any], summary: dict[str, Any]) -> str:
    accuracies = [v for k, v in summary.items() if k.startswith("accuracy.")]
    taught = f"; its teachers reach {_range(accuracies)}" if accuracies else ""
    return (
        f"The student {run['student']} reaches {100 * summary['accuracy_last']:.2f} % on the "
        f"{summary['split']} split after {run['optimisation']['epochs']} epochs{taught}."
    )


def _range(values: list[float]) -> str:
    low, high = 100 * min(values), 100 * max(values)
    return f"{low:.2f} %" if low == high else f"{low:.2f} to {high:.2f} %"


def _teachers(record: Record, summary: dict[str, Any]) -> str:
    rows = [
        [
            teacher["name"],
            teacher["spec"],
            f"{teacher['parameters']:,}",
            _percent(summary.get(f"accuracy.{teacher['name']}")),
            _percent(summary.get(f"agreement.{teacher['name']}")),
            _bar(summary.get(f"weights.{teacher['name']}")),
        ]
        for teacher in record.teachers
    ]
    head = ["teacher", "model", "parameters", "accuracy", "agreement", "mean weight"]
    return "<h2>Teachers</h2>" + _table(head, rows) if rows else ""


def _bar(weight: float | None) -> Any:
    if weight is None:
        return "not heard"
    return _Markup(f'{weight:.3f} <span class="bar" style="width:{5 * weight:.2f}rem"></span>')


def _epochs(record: Record) -> str:
    validation = {line["epoch"]: line for line in record.metrics("validation")}
    rows = [
        [
            line["epoch"] + 1,
            f"{line['loss']:.4f}",
            _percent(line["accuracy"]),
            _percent(validation.get(line["epoch"], {}).get("accuracy")),
            f"{line['weights_entropy']:.3f}" if "weights_entropy" in line else "",
        ]
        for line in record.metrics("train")
    ]
    head = ["epoch", "loss", "accuracy, training", "accuracy, validation", "entropy of weights"]
    return "<h2>Epochs</h2>" + _table(head, rows)


def _cost(summary: dict[str, Any]) -> str:
    rows = [
        ["parameters of the student", f"{summary['parameters']:,}"],
        ["seconds of training", f"{summary['seconds']:.1f}"],
        ["of them in teachers", f"{summary['teacher_seconds']:.1f}"],
        ["images per second", f"{summary['images_per_s']:.0f}"],
    ]
    return "<h2>Cost</h2>" + _table(["what", "how much"], rows)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


class _Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def _table(head: list[str], rows: list[list[Any]]) -> str:
    def cell(value: Any) -> str:
        return value if isinstance(value, _Markup) else escape(str(value))

    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"
