"""Is it the same run? What decides a result, then and now."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from collegium.errors import FolderError, RequestError
from collegium.models.source_code import differing, in_words
from collegium.utils.files import owner_of, strayed

Json = dict[str, Any]

DECIDING = (
    "student",
    "method",
    "options",
    "optimisation",
    "seed",
    "validation",
    "augment",
    "views",
    "view_seed",
    "image_size",
    "classes",
    "labels",
    "class_weights",
    "label_smoothing",
)
LATER: Mapping[str, Any] = {"class_weights": None, "label_smoothing": 0.0}
"""Keys that a run.json of an earlier version lacks, and what their absence means."""
ARITHMETIC = ("precision", "micro_batches", "channels_last", "fold", "fused", "compile")
"""Options of the machine that decide how numbers are rounded, or more."""
NAMED = ("data", "teachers", "watch_test")
"""What else must be equal where nothing is built that could be looked at instead."""
CODE, CHANGES, ID = "code", "changes", "id"
_ASIDE = (ID, CHANGES, "format", "environment", "data", "teachers", "machine", "storage")
"""Parts of run.json that do not decide, or do in a few of their words; they are hashed apart."""


def refuse_other_run(where: str, was: Json, asked: Json) -> None:
    """Refuse to go on with anything that decides the result and is not what it was.

    Args:
        where: the run folder, for the message.
        was: run.json.
        asked: what run.json would be now.

    Raises:
        FolderError: other data.
        RequestError: other options, each then and now.
    """
    differ = differences(was, asked)
    if differ:  # said first: the seed decides which data are held out
        raise RequestError(f"{where} was started with other options: {'; '.join(differ)}")
    _refuse_other_data(where, was, asked)


def differences(was: Json, asked: Json, named: Sequence[str] = ()) -> list[str]:
    """Options that decide the result and differ, as "name: then, now": none for the same run.

    Both what goes on and what compares ask here, and nowhere else.

    Args:
        was: run.json, with every option it may leave out (`Run.complete`).
        asked: what run.json would be now.
        named: further parts of it that must be equal.
    """
    parts = ([_deciding(content), {n: content.get(n) for n in named}] for content in (was, asked))
    was, asked = (json.loads(json.dumps(deciding | more)) for deciding, more in parts)
    return [
        f"{name} {was.get(name)} then, {asked.get(name)} now"
        for name in dict.fromkeys((*was, *asked))
        if was.get(name) != asked.get(name)
    ]


def _deciding(content: Json) -> Json:
    """Everything that decides, flat."""
    flat: Json = {}
    for name in DECIDING:
        value = content.get(name, LATER.get(name))
        # Weights of classes are one value: names of classes are no names of options.
        flat |= value if name != "class_weights" and isinstance(value, Mapping) else {name: value}
    flat |= {name: content.get("machine", {}).get(name) for name in ARITHMETIC}
    storage = content.get("storage", {})
    if storage.get("store") is not None:  # whether answers are kept is no matter, how they are is
        flat |= {name: storage.get(name) for name in ("store_logits", "store_hints")}
    return flat


def run_id(content: Json) -> str:
    """SHA-256 of what decides the result, as it stands in run.json.

    Of what the file says, not of what it leaves out, so that a later version finds the same. Names
    of data and teachers may change where these are moved: their hashes decide.
    """
    parts = {name: value for name, value in content.items() if name not in _ASIDE}
    found = (content.get(name) for name in ("machine", "storage"))
    machine, storage = (part if isinstance(part, Mapping) else {} for part in found)
    parts |= {name: machine[name] for name in ARITHMETIC if name in machine}
    if storage.get("store") is not None:
        parts |= {name: storage.get(name) for name in ("store_logits", "store_hints")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def known_ids(content: Json) -> tuple[str, ...]:
    """Of this run: as it is now, and as it was before it was changed on purpose."""
    earlier = (change.get("id") for change in content.get(CHANGES, []))
    return (run_id(content), *(str(one) for one in earlier if one))


def refuse_edited(where: str, content: Json) -> None:
    """Refuse a run.json that somebody has changed since it was written.

    Raises:
        FolderError: what it says is not what its identity was made of.
    """
    if ID in content and content[ID] != run_id(content):
        raise FolderError(
            f"{where}: run.json was changed by hand: what it says decides another run than the one "
            "that was started; put it back, or start a new run"
        )


def doubts(folder: Path, content: Json) -> list[str]:
    """Signs that parts of a finished run are not this run's, such as files of another.

    Args:
        folder: of the run.
        content: run.json.
    """
    found = [f"{folder / name} is not what this run wrote" for name in strayed(folder)]
    edited = ID in content and content[ID] != run_id(content)
    if edited:
        found.append(f"{folder / 'run.json'} was changed by hand since the run was started")
    owner = owner_of(folder)
    if not edited and owner is not None and owner != content.get(ID, owner):
        found.append(f"{folder / 'run.json'} is of another run than the files beside it")
    return found


def other_code(was: Json, now: Json) -> list[str]:
    """Whose code is not what it was, in words: "the student (net.py)"."""
    before, after = _part(was, CODE), _part(now, CODE)
    found = [("the student", before.get("student", {}), after.get("student", {}))]
    then, today = before.get("teachers", {}), after.get("teachers", {})
    names = sorted({*then, *today})
    found += [(f"teacher {name}", then.get(name, {}), today.get(name, {})) for name in names]
    differ = [(who, differing(old, new)) for who, old, new in found if old and new]
    return [f"{who} ({in_words(files)})" for who, files in differ if files]


def unknown_code(was: Json, now: Json) -> bool:
    """Whether an older version has not written down the code that there is."""
    return bool(_part(now, CODE)) and CODE not in was


def refuse_other_code(where: str, was: Json, now: Json) -> None:
    """Refuse to go on with other sources than the run was started with.

    Raises:
        RequestError: whose, and which files.
    """
    if differ := other_code(was, now):
        raise RequestError(
            f"{where} was started with other code of {'; '.join(differ)}: restore it, or "
            "continue with the new code by --changed-code (from Python: changed_code=True)"
        )


def _refuse_other_data(where: str, was: Json, asked: Json) -> None:
    before, now = was.get("fingerprint"), asked["fingerprint"]
    if before != now:
        raise FolderError(
            f"{where} was started on other data: {was.get('data')} had fingerprint "
            f"{str(before)[:12]}, now {asked['data']} has {now[:12]}"
        )
    for name, value in asked["identity"].items():
        found = _part(was, "identity").get(name, value)
        if found != value:
            raise FolderError(
                f"{where} was started with another {name}: {str(found)[:12]} then, "
                f"{str(value)[:12]} now"
            )


def _part(content: Json, name: str) -> Json:
    """An object in run.json; an empty one where it has none.

    Raises:
        FolderError: it is something else.
    """
    part = content.get(name, {})
    if not isinstance(part, dict):
        raise FolderError(f"run.json is damaged: {name} is no object")
    return part


def refuse_other_teachers(where: str, was: Sequence[Json], now: Sequence[Json]) -> None:
    """Refuse to go on with other teachers than the run was started with.

    Raises:
        RequestError: names and hashes, then and now.
    """
    names = [[row.get("name") for row in rows] for rows in (was, now)]
    if names[0] != names[1]:
        then, asked = (", ".join(map(str, side)) or "none" for side in names)
        raise RequestError(f"{where} was started with teachers {then}; now they are {asked}")
    for old, new in zip(was, now, strict=True):
        if old.get("sha256") != new["sha256"]:
            raise RequestError(
                f"teacher {new['name']} is not the one {where} was started with: weights "
                f"{str(old.get('sha256'))[:12]} then, {new['sha256'][:12]} now"
            )
        if any(old.get(key) != new.get(key) for key in ("classes", "labels")):
            raise RequestError(f"teacher {new['name']} has other classes than when {where} began")


def new_versions(was: Json, now: Json) -> list[str]:
    """Programs that were updated since the run was started, which may round otherwise."""
    before = _part(was, "environment")
    return [
        f"{name} {before[name]} then, {now['environment'][name]} now"
        for name in ("collegium", "torch", "python", "machine")
        if name in before and before[name] != now["environment"][name]
    ]
