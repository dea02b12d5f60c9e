"""Whether two configurations are the same run, by the options that decide."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from collegium.config.found import CHANGES, CODE, ID, NOT_HASHED
from collegium.config.option import fields_of
from collegium.config.run import GROUPS, every_option
from collegium.errors import FolderError, RequestError
from collegium.models.source_code import differing
from collegium.utils.files import owner_of, strayed
from collegium.utils.text import some_of

Json = dict[str, Any]
_BESIDE = ("machine", "storage")
"""Groups whose options stand beside the others in what is hashed, as they always have."""


def refuse_other_run(where: str, was: Json, now: Json) -> None:
    """Refuse to resume a run with other options or other data than it was started with.

    Args:
        where: the run folder, for the message.
        was: run.json.
        now: what run.json would be now.

    Raises:
        FolderError: other data.
        RequestError: other options, each then and now.
    """
    differ = differences(was, now)
    if differ:  # checked first: the seed decides which data are held out
        raise RequestError(f"{where} was started with other options: {'; '.join(differ)}")
    before, after = was.get("fingerprint"), now["fingerprint"]
    if before != after:
        raise FolderError(
            f"{where} was started on other data: {was.get('data')} had fingerprint "
            f"{str(before)[:12]}, now {now['data']} has {after[:12]}"
        )
    for name, value in now["identity"].items():
        found = was.get("identity", {}).get(name, value)
        if found != value:
            raise FolderError(
                f"{where} was started with another {name}: {str(found)[:12]} then, "
                f"{str(value)[:12]} now"
            )


def differences(was: Json, now: Json, *, names: bool = False) -> list[str]:
    """Options that decide the result and differ, as "name 1 then, 2 now": none for the same run.

    Resuming and comparing both use this function, and nothing else.

    Args:
        was: run.json, with every option that it may leave out (`Run.complete`).
        now: what run.json would be now.
        names: compare the names of data and teachers too, where no hash of them is known.
    """
    before, after = (json.loads(json.dumps(_deciding(one, names))) for one in (was, now))
    return [
        f"{name} {before.get(name)} then, {after.get(name)} now"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]


def _deciding(content: Json, names: bool) -> Json:
    """Every option that decides, by its own name."""
    flat: Json = {"method": content.get("method"), **content.get("options", {})}
    for group, item in every_option():
        if not (item.option.decides or (names and item.option.hashed)) or _unused(group, content):
            continue
        values = content.get(group, {}) if group else content
        flat[item.name] = values.get(item.name, item.default)
    return flat


def _unused(group: str, content: Json) -> bool:
    """Whether options of a group decide nothing: how outputs are stored, where none are."""
    return group == "storage" and _object(content, group).get("store") is None


def run_id(content: Json) -> str:
    """SHA-256 of what decides the result, as it stands in run.json.

    It is made of what the file holds, not of what it leaves out, so that every later version finds
    the same. Names of data and teachers may change when these are moved: their hashes decide.
    """
    aside = {(group, item.name) for group, item in every_option() if not item.option.decides}
    parts: Json = {
        key: _without(aside, key, value)
        for key, value in content.items()
        if key not in (*NOT_HASHED, *_BESIDE) and ("", key) not in aside
    }
    for group in _BESIDE:
        found = {} if _unused(group, content) else _without(aside, group, _object(content, group))
        known = {item.name for item in fields_of(GROUPS[group])}
        parts |= {key: value for key, value in found.items() if key in known}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _without(aside: set[tuple[str, str]], group: str, value: Any) -> Any:
    """A group without the options that do not decide; anything else as it is."""
    if group not in GROUPS or not isinstance(value, Mapping):
        return value
    return {key: inner for key, inner in value.items() if (group, key) not in aside}


def _object(content: Json, name: str) -> Mapping[str, Any]:
    value = content.get(name)
    return value if isinstance(value, Mapping) else {}


def known_ids(content: Json) -> tuple[str, ...]:
    """The ids of a run: as it is now, and as it was before it was changed on purpose."""
    earlier = (change.get("id") for change in content.get(CHANGES, []))
    return (run_id(content), *(str(one) for one in earlier if one))


def refuse_edited(where: str, content: Json) -> None:
    """Refuse a run.json that somebody has changed since it was written.

    Raises:
        FolderError: its content does not give its `id`.
    """
    if _is_edited(content):
        raise FolderError(
            f"{where}: run.json was changed by hand: what it says decides another run than the one "
            "that was started; put it back, or start a new run"
        )


def _is_edited(content: Json) -> bool:
    return ID in content and content[ID] != run_id(content)


def doubts(folder: Path, content: Json) -> list[str]:
    """Signs that parts of a finished run belong to another run, such as its files.

    Args:
        folder: of the run.
        content: run.json.
    """
    found = [f"{folder / name} is not what this run wrote" for name in strayed(folder)]
    if _is_edited(content):
        found.append(f"{folder / 'run.json'} was changed by hand since the run was started")
    elif (owner := owner_of(folder)) and owner != content.get(ID, owner):
        found.append(f"{folder / 'run.json'} is of another run than the files beside it")
    return found


def other_code(was: Json, now: Json) -> list[str]:
    """The networks whose source code has changed, in words: "the student (net.py)"."""
    before, after = was.get(CODE, {}), now.get(CODE, {})
    found = [("the student", before.get("student", {}), after.get("student", {}))]
    then, today = before.get("teachers", {}), after.get("teachers", {})
    found += [(f"teacher {name}", then[name], today.get(name, {})) for name in sorted(then)]
    differ = [(who, differing(old, new)) for who, old, new in found if old and new]
    return [f"{who} ({some_of(files, 4)})" for who, files in differ if files]


def refuse_other_teachers(where: str, was: Sequence[Json], now: Sequence[Json]) -> None:
    """Refuse to resume a run with other teachers than it was started with.

    Raises:
        RequestError: names and hashes, then and now.
    """
    names = [[row.get("name") for row in rows] for rows in (was, now)]
    if names[0] != names[1]:
        then, today = (", ".join(map(str, side)) or "none" for side in names)
        raise RequestError(f"{where} was started with teachers {then}; now they are {today}")
    for old, new in zip(was, now, strict=True):
        if old.get("sha256") != new["sha256"]:
            raise RequestError(
                f"teacher {new['name']} is not the one {where} was started with: weights "
                f"{str(old.get('sha256'))[:12]} then, {new['sha256'][:12]} now"
            )
        if any(old.get(key) != new.get(key) for key in ("classes", "labels")):
            raise RequestError(f"teacher {new['name']} has other classes than when {where} began")
