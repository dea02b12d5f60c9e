"""Is it the same run? What decides a result, then and now."""

import json
from collections.abc import Mapping
from typing import Any

from collegium.errors import FolderError, RequestError

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


def differences(was: Json, asked: Json) -> list[str]:
    """Options that decide the result and differ, as "name: then, now"."""
    was, asked = (json.loads(json.dumps(_deciding(content))) for content in (was, asked))
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


def refuse_other_teachers(where: str, was: list[Json], now: list[Json]) -> None:
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
