"""Intended changes when a run is resumed (more epochs, changed code), and their record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from collegium.config.found import CHANGES, CODE, ID
from collegium.config.same_run import known_ids, other_code, run_id
from collegium.errors import RequestError
from collegium.records.run_folder import (
    CHECKPOINT,
    EXAMPLES,
    PREDICTIONS,
    REPORT,
    RUN,
    STUDENT,
    SUMMARY,
    TEACHERS,
    WEIGHTS,
    Json,
    Record,
)
from collegium.training.checkpoint import Progress, newest
from collegium.utils.files import MANIFEST

_OF_THE_END = (SUMMARY, REPORT, MANIFEST, STUDENT, WEIGHTS, PREDICTIONS, EXAMPLES)
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
            "epochs: start a new run from the weights of its student with "
            f"--student MODEL@{record.path(STUDENT)}"
        )
    past = done or Progress()
    least = past.epoch + (1 if past.step or finished or not past.epoch else 0)
    if epochs < max(least, 1):
        raise RequestError(
            f"--epochs {epochs}: {record.folder} has trained for {past.epoch} epochs already; give "
            f"{max(least, 1)} or more"
        )
    return epochs


def write_changes(
    record: Record, now: Json, teachers: Sequence[Json], allowed: Allowed
) -> list[str]:
    """Write the changes of a resumed run into run.json; called after the checkpoint was loaded.

    Args:
        record: the run folder of the resumed run.
        now: the content of run.json as the resumed run would write it.
        teachers: the content of teachers.json as the resumed run would write it.
        allowed: what may differ.

    Returns:
        One line for each change; empty if nothing changed.
    """
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
        record.write_json(TEACHERS, teachers)
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
            what = f"epochs {old} became {new} {place}"
            lines.append(
                f"{what}: since then the learning rate follows the schedule of {new} epochs"
            )
        if CODE in change:
            lines.append(f"code of {'; '.join(change[CODE])} was changed {place}")
    return lines
