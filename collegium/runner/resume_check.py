"""Builds the content of run.json, and checks whether a folder holds the same run."""

import platform
import sys
from collections.abc import Sequence

import torch

from collegium.config.found import THREADS
from collegium.config.same_run import (
    new_versions,
    refuse_edited,
    refuse_other_code,
    refuse_other_run,
    refuse_other_teachers,
    run_id,
    unknown_code,
)
from collegium.records.run_folder import RUN, Json, Record
from collegium.runner import final_evaluation
from collegium.runner.changes import Allowed
from collegium.runner.setup import PreparedRun
from collegium.utils.threads import TORCHS_NUMBER
from collegium.utils.version import VERSION


def recorded_threads(record: Record) -> int | None:
    """The number of threads that a run was started with; None if there is no run.json.

    A run.json of format 1 records only a requested number; without one the run had
    `TORCHS_NUMBER`.
    """
    if not record.path(RUN).is_file():
        return None
    content = record.run
    return content.get(THREADS) or content.get("machine", {}).get("threads") or TORCHS_NUMBER


def describe_run(prepared: PreparedRun) -> tuple[Json, Sequence[Json]]:
    """The content of run.json and teachers.json for the run as it is now."""
    splits = prepared.splits
    content = {
        **prepared.run.to_json(),
        **({"pixels": pixels} if (pixels := splits.rule.to_json()) else {}),
        "fingerprint": splits.train.fingerprint(),
        "identity": _identity(prepared),
        **_code(prepared),
        THREADS: prepared.threads,
        "environment": _environment(),
    }
    content["id"] = run_id(content)
    teachers = prepared.teachers
    rows = final_evaluation.teacher_rows(teachers.ensemble.infos, teachers.measured, prepared.pairs)
    return content, rows


def _identity(prepared: PreparedRun) -> dict[str, str]:
    """Other inputs that decide the result: the view recipe and fingerprints of the splits."""
    parts = {"validation": prepared.splits.validation, "test": prepared.splits.test}
    found = {f"{name} split": part.fingerprint() for name, part in parts.items() if part}
    return {"view recipe": prepared.loader.views.recipe, **found}


def _code(prepared: PreparedRun) -> Json:
    """Digests of the source files of the user's networks, if there are any."""
    infos = prepared.teachers.ensemble.infos
    teachers = {name: dict(info.code) for name, info in infos.items() if info.code}
    parts: Json = {"student": dict(prepared.module.student.origin.code), "teachers": teachers}
    found = {name: part for name, part in parts.items() if part}
    return {"code": found} if found else {}


def check_same(prepared: PreparedRun, record: Record, allowed: Allowed) -> None:
    """Check that a prepared run is the same as the one in the folder, before it is resumed.

    Raises:
        RequestError: options, teachers or code that decide the result differ.
        FolderError: the data differ, or run.json was edited.
    """
    content, teachers = describe_run(prepared)
    folder, was = str(record.folder), record.run
    refuse_edited(folder, was)
    complete = type(prepared.run).complete(was)
    if allowed.epochs is not None:
        complete["optimisation"]["epochs"] = allowed.epochs
    refuse_other_run(folder, complete, content)
    refuse_other_teachers(folder, record.teachers, teachers)
    if not allowed.code:
        refuse_other_code(folder, was, content)
    if prepared.runtime.first:
        record.sweep()
        for warning in _warnings(folder, was, content):
            prepared.runtime.display.warn(warning)


def _warnings(folder: str, was: Json, now: Json) -> list[str]:
    warnings = [
        f"{version}: what follows may be rounded otherwise" for version in new_versions(was, now)
    ]
    if was.get(THREADS, now[THREADS]) != now[THREADS]:
        warnings.append(
            f"{folder} was started with {was[THREADS]} CPU threads and continues with "
            f"{now[THREADS]}: what follows may be rounded differently"
        )
    if unknown_code(was, now):
        warnings.insert(
            0,
            f"{folder} was started by an older version, which did not record the source code "
            "of networks: this version cannot check that it is unchanged",
        )
    return warnings


def _environment() -> Json:
    """Versions and the command; they help to explain a difference later."""
    return {
        "collegium": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "command": " ".join(sys.argv) if sys.argv[0].endswith("collegium") else "",
    }
