"""The demonstration: real digits, three different teachers, one student alone and distilled."""

import json
from pathlib import Path
from typing import Any

from collegium.api import execute
from collegium.config.options import Machine, Optimisation
from collegium.config.run import Run
from collegium.methods.amtml import AMTML
from collegium.methods.avg_mkd import AvgMKD
from collegium.methods.gated import Gated
from collegium.records.run_folder import Record

DATA = "digits"
STUDENT = "small:cnn"
TEACHERS = {"wide": "small:cnn-wide", "residual": "small:resnet", "dense": "small:dense"}
EPOCHS = 20
OPTIMISATION = Optimisation(epochs=EPOCHS, batch_size=64)
"""The same for teachers and students."""


def run_demo(
    out: Path,
    overwrite: bool,
    quiet: bool,
    tensorboard: bool = False,
    machine: Machine = Machine(),  # noqa: B008 - frozen
) -> tuple[dict[str, Any], str]:
    """Train everything under one folder; the distilled run is the folder itself.

    Args:
        out: the run folder of the distilled student; the others lie in it.
        overwrite: replace the runs that are there.
        quiet: show no progress.
        tensorboard: write events of every run too.
        machine: devices and speed.

    Returns:
        The result for `--json`, and the table.
    """
    how: dict[str, Any] = {"overwrite": overwrite, "quiet": quiet, "tensorboard": tensorboard}
    rows: dict[str, Record] = {}
    for name, (folder, parts) in _runs(out).items():
        run = Run(data=DATA, optimisation=OPTIMISATION, machine=machine, **parts)
        rows[name] = execute(run, folder, label=name, **how)
    found = {name: json.loads(json.dumps(record.summary)) for name, record in rows.items()}
    return {"folder": str(out), "rows": found}, _table(rows, rows["student, gated"])


def _runs(out: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The folder and the parts of each run, by its name, in order."""
    folders = {name: out / "teachers" / name for name in TEACHERS}
    taught = {"student": STUDENT, "teachers": {name: str(folders[name]) for name in TEACHERS}}
    return {
        **{f"teacher {name}": (folders[name], {"student": TEACHERS[name]}) for name in TEACHERS},
        "student alone": (out / "alone", {"student": STUDENT}),
        "student, mean of teachers": (out / "avg_mkd", taught | {"method": AvgMKD()}),
        "student, amtml": (out / "amtml", taught | {"method": AMTML()}),
        "student, gated": (out, taught | {"method": Gated()}),
    }


def _table(rows: dict[str, Record], distilled: Record) -> str:
    lines = [f"{'':<28}{'test accuracy':>14}{'parameters':>12}{'images/s':>10}"]
    summaries = {name: record.summary for name, record in rows.items()}
    for name, summary in summaries.items():
        accuracy, speed = 100 * summary.accuracy_last, summary.images_per_s
        lines.append(f"{name:<28}{accuracy:>12.2f} %{summary.parameters:>12,}{speed:>10.0f}")
    best, alone = distilled.summary, summaries["student alone"]
    means = ", ".join(f"{name} {best.weights[name]:.3f}" for name in TEACHERS)
    gain = f"{100 * (best.accuracy_last - alone.accuracy_last):+.2f} points"
    lines += ["", f"mean weight each teacher got: {means}"]
    noise = "one seed of a small test set (about 0.8 points of noise)"
    lines.append(f"distilled minus alone: {gain}, {noise}")
    lines.append(f"results saved to {distilled.folder}; open {distilled.folder}/report.html")
    return "\n".join(lines)
