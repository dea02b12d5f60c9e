"""The content of run.json, and what may differ from it when its run is resumed."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from collegium.config.found import CHANGES, CODE, ID, THREADS
from collegium.config.same_run import (
    known_ids,
    other_code,
    refuse_edited,
    refuse_other_run,
    refuse_other_teachers,
    run_id,
)
from collegium.errors import RequestError
from collegium.records import run_folder
from collegium.records.run_folder import CHECKPOINT, RUN, STUDENT, SUMMARY, Json, Record
from collegium.runner.final_evaluation import teacher_rows
from collegium.training.checkpoint import Progress, newest
from collegium.training.prepared import PreparedRun
from collegium.utils.files import MANIFEST
from collegium.utils.threads import TORCHS_NUMBER
from collegium.utils.version import VERSION

_RESULTS = (run_folder.WEIGHTS, run_folder.PREDICTIONS, run_folder.EXAMPLES)
_OF_THE_END = (SUMMARY, run_folder.REPORT, MANIFEST, STUDENT, *_RESULTS)
"""Files that only a finished run has; the summary, which marks it as finished, comes first."""


@dataclass(frozen=True)
class Allowed:
    """What may differ from the original run when it is resumed.

    Attributes:
        epochs: the new number of epochs; None to keep the number.
        code: whether the source code of the user's networks may differ.
    """

    epochs: int | None = None
    code: bool = False


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
    splits, code = prepared.splits, _code(prepared)
    pixels = splits.rule.to_json()
    parts = {"validation": splits.validation, "test": splits.test}
    found = {f"{name} split": part.fingerprint() for name, part in parts.items() if part}
    content = {
        **prepared.run.to_json(),
        **({"pixels": pixels} if pixels else {}),
        "fingerprint": splits.train.fingerprint(),
        # Other inputs that decide the result.
        "identity": {"view recipe": prepared.loader.views.recipe, **found},
        **({CODE: code} if code else {}),
        THREADS: prepared.threads,
        # Versions and the command help to explain a difference later.
        "environment": {
            "collegium": VERSION,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "command": " ".join(sys.argv) if sys.argv[0].endswith("collegium") else "",
        },
    }
    content[ID] = run_id(content)
    return content, teacher_rows(prepared)


def _code(prepared: PreparedRun) -> Json:
    """Digests of the source files of the user's networks, if there are any."""
    infos = prepared.teachers.ensemble.infos
    teachers = {name: dict(info.code) for name, info in infos.items() if info.code}
    parts: Json = {"student": dict(prepared.module.student.origin.code), "teachers": teachers}
    return {name: part for name, part in parts.items() if part}


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
    if not allowed.code and (differ := other_code(was, content)):
        raise RequestError(
            f"{folder} was started with other code of {'; '.join(differ)}: restore it, or "
            "continue with the new code by --changed-code (from Python: changed_code=True)"
        )
    if prepared.runtime.first:
        record.sweep()
        for warning in _warnings(folder, was, content):
            prepared.runtime.display.warn(warning)


def _warnings(folder: str, was: Json, now: Json) -> list[str]:
    before, after = was.get("environment", {}), now["environment"]
    warnings = [
        f"{name} {before[name]} then, {after[name]} now: what follows may be rounded differently"
        for name in ("collegium", "torch", "python", "machine")
        if before.get(name, after[name]) != after[name]
    ]
    if CODE in now and CODE not in was:
        warnings.append(
            f"{folder} was started by an older version, which did not record the source code "
            "of networks: this version cannot check that it is unchanged"
        )
    if was.get(THREADS, now[THREADS]) != now[THREADS]:
        warnings.append(
            f"{folder} was started with {was[THREADS]} CPU threads and continues with "
            f"{now[THREADS]}: what follows may be rounded differently"
        )
    return warnings


def check_epochs(record: Record, epochs: int) -> int:
    """Check the new number of epochs of a run, and return it.

    Raises:
        RequestError: it is no whole number, the run has trained for as many epochs already, or the
            run is finished and has no checkpoint to resume from.
    """
    if not isinstance(epochs, int) or isinstance(epochs, bool):
        raise RequestError(f"epochs must be a whole number, found {epochs!r}")
    done = newest(record.path(CHECKPOINT))
    finished = record.path(SUMMARY).is_file()
    if done is None and finished:
        raise RequestError(
            f"{record.folder} is finished and has no intact checkpoint, so it cannot have more "
            f"epochs: start a new run from its weights, --student MODEL@{record.path(STUDENT)}"
        )
    past = done or Progress()
    least = past.epoch + (1 if past.step or finished or not past.epoch else 0)
    if epochs < least:
        raise RequestError(
            f"--epochs {epochs}: {record.folder} has trained for {past.epoch} epochs already; give "
            f"{least} or more"
        )
    return epochs


def write_changes(prepared: PreparedRun, record: Record, allowed: Allowed) -> list[str]:
    """Write the changes of a resumed run into run.json; called after the checkpoint was loaded.

    Args:
        prepared: the resumed run.
        record: its run folder.
        allowed: what may differ.

    Returns:
        One line for each change; empty if nothing changed.
    """
    now, teachers = describe_run(prepared)
    was = record.run
    done = newest(record.path(CHECKPOINT), known_ids(was)) or Progress()
    change: Json = {}
    content = dict(was)
    before = was["optimisation"].get("epochs")
    if allowed.epochs is not None and allowed.epochs != before:
        change["epochs"] = [before, allowed.epochs]
        content["optimisation"] = {**was["optimisation"], "epochs": allowed.epochs}
    if allowed.code and (others := other_code(was, now)):
        change[CODE] = others
        content[CODE] = now[CODE]
    if not change:
        return []
    change |= {"after_epoch": done.epoch, "after_step": done.step, ID: was.get(ID) or run_id(was)}
    content[CHANGES] = [*was.get(CHANGES, []), change]
    content[ID] = run_id(content)
    for part in _OF_THE_END:
        record.path(part).unlink(missing_ok=True)
    if CODE in change:
        record.write_json(run_folder.TEACHERS, teachers)
    record.write_json(RUN, content)
    return in_words([change])


def in_words(changes: Any) -> list[str]:
    """The intended changes of a run, one line for each.

    >>> in_words([{"epochs": [2, 4], "after_epoch": 2, "after_step": 0}])[0].partition(": ")[0]
    'epochs 2 became 4 after epoch 2'
    """
    lines = []
    for change in changes:
        place = f"after epoch {change['after_epoch']}"
        place += f" and {change['after_step']} steps" if change.get("after_step") else ""
        if "epochs" in change:
            old, new = change["epochs"]
            schedule = f"since then the learning rate follows the schedule of {new} epochs"
            lines.append(f"epochs {old} became {new} {place}: {schedule}")
        if CODE in change:
            lines.append(f"code of {'; '.join(change[CODE])} was changed {place}")
    return lines
