"""An export, in order: write, read back, compare, measure, describe, and only then keep."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from collegium.config.run import describe
from collegium.data import ImageData, Splits
from collegium.errors import CollegiumError, FolderError
from collegium.export.card import as_command, card
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
from collegium.records.run_folder import STUDENT, Json
from collegium.utils.extras import import_extra
from collegium.utils.files import write_through
from collegium.utils.from_json import strict
from collegium.utils.progress import Display
from collegium.utils.torch_state import as_ever

if TYPE_CHECKING:
    from torch import nn


@as_ever
def export_student(
    folder: Path | str,
    format: Format,
    *,
    out: Path | str | None = None,
    data: "str | Splits | None" = None,
    student: "nn.Module | None" = None,
    overwrite: bool = False,
    quiet: bool = True,
    **options: Any,
) -> Json:
    """Write the student of a finished run where others can use it, and check what was written.

    Args:
        folder: of the run.
        format: "safetensors", "onnx" or "pt2".
        out: folder for the files; by default export/FORMAT in the run folder.
        data: where the run's data are, if they are elsewhere now.
        student: a network like the student, where it was given from Python.
        overwrite: replace an export that is in the folder.
        quiet: show no progress.
        **options: other fields of `ExportOptions`: normalise, int8, allowed_drop, weights, images,
            threads.

    Returns:
        The content of export.json: `rows` with name, bytes, accuracy, latency and, of what was
        exported, agreement and max_difference.

    Raises:
        RequestError: what was asked cannot work; nothing was written.
        CollegiumError: the network cannot be traced, or what was written is not what it was made
            of; nothing is left of it.
    """
    wanted: ExportOptions = strict(ExportOptions, {"format": format, **options})
    display = Display(quiet, "export")
    place = free_place(refuse_unfinished(folder), wanted, out, overwrite)
    _check_libraries(wanted)
    opened = open_student(folder, wanted.weights, student)
    for row in opened.record.teachers:
        if warning := read_licence(str(row.get("licence", ""))).warning:
            display.warn(f"teacher {row['name']}: {warning}")
    display.say(f"reading {describe(opened.run.data if data is None else data)}")
    splits = splits_of(opened, data, display)
    subject = Subject(opened, wanted.normalise == "inside")
    with _staging(place) as staging, _threads(wanted.threads or useful_threads(opened)):
        display.say(f"writing {wanted.format}")
        models = _write(subject, wanted, splits.train, staging)
        found = _examine(subject, wanted, models, splits, staging, display)
        found |= {"out": str(place)}
        command = _command(wanted, opened.record.folder, out, data)
        _describe(subject, found, command, staging)
        _install(staging, place)
    return found


def _check_libraries(wanted: ExportOptions) -> None:
    if wanted.format == "onnx":
        for library in ("onnxruntime", "onnx", "onnxscript"):
            import_extra("onnx", library)


@contextlib.contextmanager
def _staging(place: Path) -> Iterator[Path]:
    """A folder beside the place, which is gone afterwards; by the next export at the latest."""
    for old in place.parent.glob(f".{place.name}.*.tmp"):
        process = old.name.split(".")[-2]
        if process.isdecimal() and not _runs(int(process)):  # killed on its way
            shutil.rmtree(old, ignore_errors=True)
    staging = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise FolderError(f"cannot write to {place.parent}: {error.strerror}") from None
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:  # it does, and is another user's
        return True
    except (OSError, OverflowError):
        return False
    return process > 0


def _write(
    subject: Subject, wanted: ExportOptions, train: ImageData, staging: Path
) -> dict[str, Model]:
    """The files, and what was read back from each."""
    writer: Writer = WRITERS[wanted.format]
    writer.write(subject, staging)
    models = {writer.file: writer.read(subject, staging)}
    if wanted.int8:
        write_int8(subject, staging, train)
        models[INT8] = read_onnx(subject, staging, INT8)
    return models


def _examine(
    subject: Subject,
    wanted: ExportOptions,
    models: dict[str, Model],
    splits: Splits,
    staging: Path,
    display: Display,
) -> Json:
    record, whole, split = subject.student.record, splits.evaluation, splits.names()[-1]
    data = _some(whole, wanted.images)
    display.say(f"comparing on {len(data):,} images of the {split} split")
    accuracy, compared = compare(subject.original, models, data)
    for file, comparison in compared.items():
        _refuse_other(file, comparison, accuracy, wanted)
    same = same_images(record, split, whole)
    recorded = _recorded_accuracy(subject, same and len(data) == len(whole))
    other = recorded is not None and _is_other(accuracy, recorded, len(data), subject)
    if recorded is not None and other:
        display.warn(
            f"the student has {100 * accuracy:.2f} % on the {split} split, its run recorded "
            f"{100 * recorded:.2f} % on the same images: it is not what was trained"
        )
    return {
        "folder": str(record.folder),
        **asdict(wanted),
        "model": subject.network.spec,
        "sha256": weights_hash(subject.network),
        "data": whole.name,
        "split": split,
        "images": len(data),
        "same_images": same,
        "accuracy": accuracy,
        "accuracy_recorded": recorded,
        "as_recorded": not other,
        "tolerance": TOLERANCE,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": _rows(subject, models, accuracy, compared, staging),
    }


_FLIPPED, _FLIPPED_LOW = 1e-3, 1e-2
"""Part of the images whose class rounding may change: on another machine, after low precision."""


def _recorded_accuracy(subject: Subject, comparable: bool) -> float | None:
    """What the run itself found on these images; None where it was not these, or nothing stands."""
    last = subject.student.which == "last"
    key = "accuracy_last" if last else "accuracy_at_best_validation"
    found = subject.student.record.summary.get(key)
    return float(found) if comparable and isinstance(found, int | float) else None


def _is_other(now: float, then: float, images: int, subject: Subject) -> bool:
    full = subject.student.run.machine.precision == "32"
    return abs(now - then) * images > max(1.5, images * (_FLIPPED if full else _FLIPPED_LOW))


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
    """What was measured of the student as it is, and of each file."""
    student = subject.student
    times = latency({STUDENT: subject.original, **models}, student.image_shape)
    files = {STUDENT: student.record.path(STUDENT), **{name: staging / name for name in models}}
    measured = {STUDENT: {"accuracy": accuracy}} | {n: _measures(compared[n]) for n in models}
    return [
        {
            "name": name,
            "bytes": file.stat().st_size,
            **measured[name],
            "latency": {str(size): seconds for size, seconds in times[name].items()},
        }
        for name, file in files.items()
    ]


def _measures(found: Comparison) -> Json:
    return {
        "accuracy": found.accuracy,
        "agreement": found.agreement,
        "max_difference": found.max_difference,
    }


def _refuse_other(file: str, found: Comparison, accuracy: float, wanted: ExportOptions) -> None:
    """Keep nothing that is not what it was made of.

    Raises:
        CollegiumError: by how much it differs.
    """
    said = (
        f"{file} was read again and differs from the student: accuracy {100 * accuracy:.2f} % "
        f"became {100 * found.accuracy:.2f} %, {100 * found.agreement:.2f} % of the classes agree, "
        f"logits differ by up to {found.max_difference:.2g}"
    )
    if file == INT8:
        if not found.accuracy >= accuracy - wanted.allowed_drop:
            raise CollegiumError(
                f"{said}; that is more than --allowed-drop {wanted.allowed_drop:g}, so nothing is "
                "kept: leave out --int8, or allow more"
            )
    elif not found.equal:
        limit = TOLERANCE * found.spread
        other = "another --format" if file != ONNX else "--format pt2 or safetensors"
        raise CollegiumError(f"{said}, more than {limit:.2g}, so nothing is kept: try {other}")


def _command(
    wanted: ExportOptions, folder: Path, out: Path | str | None, data: "str | Splits | None"
) -> str:
    """What is typed for the same."""
    default = ExportOptions(wanted.format)
    words = ["collegium", "export", str(folder), "--format", wanted.format]
    for name, value in asdict(wanted).items():
        if name != "format" and value != getattr(default, name):
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    words += [] if out is None else ["--out", str(out)]
    words += ["--data", data] if isinstance(data, str) else []
    return as_command(words)


def _describe(subject: Subject, found: Json, command: str, staging: Path) -> None:
    """The card, and what was found as JSON; `found` learns the names of all files."""
    found["files"] = [*sorted(path.name for path in staging.iterdir()), CARD, RESULT]
    write_through(
        staging / CARD, card(subject, found, command).encode("utf-8", "xmlcharrefreplace")
    )
    write_through(staging / RESULT, (json.dumps(found, indent=2) + "\n").encode())


def _install(staging: Path, place: Path) -> None:
    """Put what was written where it belongs; what is not an export's stays."""
    if not place.exists():
        staging.rename(place)
        return
    old = json.loads((place / RESULT).read_text())["files"] if (place / RESULT).is_file() else []
    for name in old:
        (place / Path(name).name).unlink(missing_ok=True)
    for path in sorted(staging.iterdir(), key=lambda path: path.name == RESULT):
        path.replace(place / path.name)
