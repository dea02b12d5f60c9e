"""The demonstration: real digits, three different teachers, one student alone and distilled."""

import json
from pathlib import Path
from typing import Any

from collegium.api import execute
from collegium.config.options import Optimisation
from collegium.config.run import Run
from collegium.methods.amtml import AMTML
from collegium.methods.avg_mkd import AvgMKD
from collegium.methods.gated import Gated
from collegium.methods.vanilla import Vanilla
from collegium.records.run_folder import Record

DATA = "digits"
STUDENT = "small:cnn"
TEACHERS = {"wide": "small:cnn-wide", "residual": "small:resnet", "dense": "small:dense"}
EPOCHS = 20
OPTIMISATION = Optimisation(epochs=EPOCHS, batch_size=64)
"""The same for teachers and students."""


def run_demo(
    out: Path, overwrite: bool, quiet: bool, tensorboard: bool = False
) -> tuple[dict[str, Any], str]:
    """Train everything under one folder; the distilled run is the folder itself.

    Args:
        out: the run folder of the distilled student; the others lie in it.
        overwrite: replace the runs that are there.
        quiet: show no progress.
        tensorboard: write events of every run too.

    Returns:
        The result for `--json`, and the table.
    """

    def train(name: str, run: Run, folder: Path) -> Record:
        how: dict[str, Any] = {"quiet": quiet, "label": name, "tensorboard": tensorboard}
        return execute(run, folder, overwrite=overwrite, **how)

    def plain(model: str) -> Run:
        return Run(data=DATA, student=model, method=Vanilla(), optimisation=OPTIMISATION)

    teachers = {
        name: train(f"teacher {name}", plain(model), out / "teachers" / name)
        for name, model in TEACHERS.items()
    }
    folders = {name: str(record.folder) for name, record in teachers.items()}
    alone = train("student alone", plain(STUDENT), out / "alone")

    def taught(method: Any) -> Run:
        return Run(
            data=DATA,
            student=STUDENT,
            teachers=folders,
            method=method,
            optimisation=OPTIMISATION,
        )

    mean = train("student, mean of teachers", taught(AvgMKD()), out / "avg_mkd")
    adaptive = train("student, amtml", taught(AMTML()), out / "amtml")
    distilled = train("student, gated", taught(Gated()), out)
    rows = {
        **{f"teacher {name}": record for name, record in teachers.items()},
        "student alone": alone,
        "student, mean of teachers": mean,
        "student, amtml": adaptive,
        "student, gated": distilled,
    }
    return _result(rows, distilled), _table(rows, distilled)


def _result(rows: dict[str, Record], distilled: Record) -> dict[str, Any]:
    found = {name: json.loads(json.dumps(record.summary)) for name, record in rows.items()}
    return {"folder": str(distilled.folder), "rows": found}


def _table(rows: dict[str, Record], distilled: Record) -> str:
    lines = [f"{'':<28}{'test accuracy':>14}{'parameters':>12}{'images/s':>10}"]
    for name, record in rows.items():
        summary = record.summary
        lines.append(
            f"{name:<28}{100 * summary['accuracy_last']:>12.2f} %{summary['parameters']:>12,}"
            f"{summary['images_per_s']:>10.0f}"
        )
    weights = distilled.summary
    heard = ", ".join(f"{name} {weights[f'weights.{name}']:.3f}" for name in TEACHERS)
    alone = rows["student alone"].summary["accuracy_last"]
    gain = 100 * (weights["accuracy_last"] - alone)
    return "\n".join(
        [
            *lines,
            "",
            f"mean weight each teacher got: {heard}",
            f"distilled minus alone: {gain:+.2f} points, one seed of a small test set "
            "(about 0.8 points of noise)",
            f"results saved to {distilled.folder}; open {distilled.folder}/report.html",
        ]
    )
