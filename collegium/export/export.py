"""An export: write, read back, compare, measure, describe, and only then keep."""

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from collegium.config.run import describe
from collegium.data import ImageData, Splits
from collegium.errors import CollegiumError
from collegium.export.card import card
from collegium.export.formats import INT8, ONNX, WRITERS, Writer, read_onnx
from collegium.export.load_student import open_student, same_images, splits_of
from collegium.export.model import Model, Subject
from collegium.export.options import TOLERANCE, ExportOptions, Format
from collegium.export.paths import CARD, RESULT, free_place, refuse_unfinished
from collegium.export.predict import useful_threads
from collegium.export.quantize import write_int8
from collegium.export.verify import Comparison, compare, latency
from collegium.models.licences import read_licence
from collegium.models.network import weights_hash
from collegium.plots.words import percent
from collegium.records.run_folder import STUDENT, Json, Record
from collegium.utils.extras import import_extra
from collegium.utils.files import reporting_writes, write_through
from collegium.utils.from_json import strict
from collegium.utils.progress import Display
from collegium.utils.torch_state import as_ever


@as_ever
def export_student(
    folder: Path | str,
    format: Format,
    *,
    out: Path | str | None = None,
    data: "str | Splits | None" = None,
    student: nn.Module | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    **options: Any,
) -> Json:
    """Write the student of a finished run in a format for use elsewhere, and verify the files.

    Args:
        folder: of the run.
        format: "safetensors", "onnx" or "pt2".
        out: folder for the files; by default export/FORMAT in the run folder.
        data: where the run's data are, if they are elsewhere now.
        student: a network like the student, if the run had one from Python.
        overwrite: replace an export that is in the folder.
        quiet: show no progress.
        **options: other fields of `ExportOptions`: normalise, int8, allowed_drop, weights, images,
            threads.

    Returns:
        The content of export.json: `rows` with name, bytes, accuracy, latency and, of what was
        exported, agreement and max_difference.

    Raises:
        RequestError: the request cannot work; nothing was written.
        CollegiumError: the network cannot be traced, or a file differs from the student; no file
            is kept.
    """
    wanted: ExportOptions = strict(ExportOptions, {"format": format, **options})
    display = Display(quiet, "export")
    place = free_place(refuse_unfinished(folder), wanted, out, overwrite)
    if wanted.format == "onnx":
        for library in ("onnxruntime", "onnx", "onnxscript"):
            import_extra("onnx", library)
    opened = open_student(folder, wanted.weights, student)
    _warn_of_licences(opened.record, display)
    display.say(f"reading {describe(opened.run.data if data is None else data)}")
    splits = splits_of(opened, data, display)
    subject = Subject(opened, wanted)
    torch.set_num_threads(wanted.threads or useful_threads(opened))
    with _staging(place) as staging:
        display.say(f"writing {wanted.format}")
        models = _write(subject, splits.train, staging)
        found = _measure(subject, models, splits, staging, display) | {"out": str(place)}
        _describe(subject, found, _command(subject, out, data), staging)
        _install(staging, place)
    return found


def _warn_of_licences(record: Record, display: Display) -> None:
    for row in record.teachers:
        if warning := read_licence(str(row.get("licence", ""))).warning:
            display.warn(f"teacher {row['name']}: {warning}")


@contextlib.contextmanager
def _staging(place: Path) -> Iterator[Path]:
    """A folder beside the place, removed afterwards; the next export removes what is left."""
    for old in place.parent.glob(f".{place.name}.*.tmp"):
        process = old.name.split(".")[-2]
        if process.isdecimal() and not _runs(int(process)):  # it was killed
            shutil.rmtree(old, ignore_errors=True)
    staging = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    with reporting_writes(f"to {place.parent}"):
        staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:  # it runs, as another user
        return True
    except (OSError, OverflowError):
        return False
    return process > 0


def _write(subject: Subject, train: ImageData, staging: Path) -> dict[str, Model]:
    """The files, and the model read back from each."""
    writer: Writer = WRITERS[subject.wanted.format]
    writer.write(subject, staging)
    models = {writer.file: writer.read(subject, staging)}
    if subject.wanted.int8:
        write_int8(subject, staging, train)
        models[INT8] = read_onnx(subject, staging, INT8)
    return models


def _measure(
    subject: Subject, models: dict[str, Model], splits: Splits, staging: Path, display: Display
) -> Json:
    """Compare each file with the student on the evaluation split: the content of export.json."""
    record, whole, split = subject.student.record, splits.evaluation, splits.names()[-1]
    data, same = _some(whole, subject.wanted.images), same_images(record, split, whole)
    display.say(f"comparing on {len(data):,} images of the {split} split")
    accuracy, compared = compare(subject.original, models, data)
    for file, comparison in compared.items():
        _refuse_different(file, comparison, accuracy, subject.wanted.allowed_drop)
    recorded = _recorded_accuracy(subject, same and len(data) == len(whole))
    as_recorded = recorded is None or _is_same(accuracy, recorded, len(data), subject)
    if recorded is not None and not as_recorded:
        display.warn(
            f"the student has {percent(accuracy)} on the {split} split, its run recorded "
            f"{percent(recorded)} on the same images: it is not what was trained"
        )
    return {
        **_conditions(subject),
        "data": whole.name,
        "split": split,
        "images": len(data),
        "same_images": same,
        "accuracy": accuracy,
        "accuracy_recorded": recorded,
        "as_recorded": as_recorded,
        "rows": _rows(subject, models, accuracy, compared, staging),
    }


def _conditions(subject: Subject) -> Json:
    """The student, the options, and the machine's share in the numbers."""
    return {
        "folder": str(subject.student.record.folder),
        **asdict(subject.wanted),
        "model": subject.network.spec,
        "sha256": weights_hash(subject.network),
        "tolerance": TOLERANCE,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


_FLIPPED, _FLIPPED_LOW = 1e-3, 1e-2
"""Part of the images whose class rounding may change: on another machine, after low precision."""


def _recorded_accuracy(subject: Subject, comparable: bool) -> float | None:
    """The accuracy that the run recorded for these images; None where it has none."""
    last = subject.student.which == "last"
    key = "accuracy_last" if last else "accuracy_at_best_validation"
    found = subject.student.record.summary.get(key)
    return float(found) if comparable and isinstance(found, int | float) else None


def _is_same(now: float, then: float, images: int, subject: Subject) -> bool:
    full = subject.student.run.machine.precision == "32"
    return abs(now - then) * images <= max(1.5, images * (_FLIPPED if full else _FLIPPED_LOW))


def _some(data: ImageData, count: int) -> ImageData:
    if len(data) <= count:
        return data
    return data.subset(torch.linspace(0, len(data) - 1, count, dtype=torch.float64).long())


def _rows(
    subject: Subject,
    models: dict[str, Model],
    accuracy: float,
    compared: dict[str, Comparison],
    staging: Path,
) -> list[Json]:
    """The measurements of the student itself and of each file."""
    student = subject.student
    times = latency({STUDENT: subject.original, **models}, student.image_shape)
    files = {STUDENT: student.record.path(STUDENT), **{name: staging / name for name in models}}
    measured: Json = {name: asdict(found) for name, found in compared.items()}
    measured[STUDENT] = {"accuracy": accuracy}
    rows = [
        {"name": name, "bytes": file.stat().st_size, **measured[name], "latency": times[name]}
        for name, file in files.items()
    ]
    return [{key: value for key, value in row.items() if key != "spread"} for row in rows]


def _refuse_different(file: str, found: Comparison, accuracy: float, allowed: float) -> None:
    """Refuse a file that differs from the student.

    Raises:
        CollegiumError: with the size of the difference.
    """
    differs = (
        f"{file} was read again and differs from the student: accuracy {percent(accuracy)} became "
        f"{percent(found.accuracy)}, {percent(found.agreement)} of the classes agree, logits "
        f"differ by up to {found.max_difference:.2g}"
    )
    if file == INT8:
        if not found.accuracy >= accuracy - allowed:
            raise CollegiumError(
                f"{differs}; that is more than --allowed-drop {allowed:g}, so nothing "
                "is kept: leave out --int8, or allow more"
            )
    elif not found.equal:
        limit = TOLERANCE * found.spread
        other = "another --format" if file != ONNX else "--format pt2 or safetensors"
        raise CollegiumError(f"{differs}, more than {limit:.2g}, so nothing is kept: try {other}")


def _command(subject: Subject, out: Path | str | None, data: "str | Splits | None") -> str:
    """The command line of this export."""
    wanted, words = subject.wanted, ["collegium", "export", str(subject.student.record.folder)]
    usual = asdict(ExportOptions(wanted.format)) | {"format": None, "out": None, "data": None}
    given = asdict(wanted) | {"out": out, "data": data if isinstance(data, str) else None}
    for name, value in given.items():
        if value != usual[name]:
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    return shlex.join(words)


def _describe(subject: Subject, found: Json, command: str, staging: Path) -> None:
    """Write the card and export.json, and add the names of all files to `found`."""
    found["files"] = [*sorted(path.name for path in staging.iterdir()), CARD, RESULT]
    text = card(subject, found, command)
    write_through(staging / CARD, text.encode("utf-8", "xmlcharrefreplace"))
    write_through(staging / RESULT, (json.dumps(found, indent=2) + "\n").encode())


def _install(staging: Path, place: Path) -> None:
    """Move the files to their place, over an earlier export; other files there stay."""
    if not place.exists():
        staging.rename(place)
        return
    old = json.loads((place / RESULT).read_text())["files"] if (place / RESULT).is_file() else []
    for name in old:
        (place / Path(name).name).unlink(missing_ok=True)
    for path in sorted(staging.iterdir(), key=lambda path: path.name == RESULT):
        path.replace(place / path.name)
