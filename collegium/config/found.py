"""What run.json holds beside the options: found when the run was started, or changed later."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from collegium.errors import RequestError
from collegium.utils.from_json import fits

FORMAT = 2
"""Format 1 has no `threads` and no `corrupt`; it is read and resumed as well."""
READABLE = (1, FORMAT)
_MOST_THREADS = 4096
CODE, CHANGES, ID, THREADS = "code", "changes", "id", "threads"
_TEXTS: Any = dict[str, str]
_IN_IDENTITY = dict.fromkeys(("view recipe", "validation split", "test split", "train split"), str)
_IN_CODE = {"student": _TEXTS, "teachers": Mapping[str, _TEXTS]}
_IN_CHANGE = {"epochs": list, CODE: list, "after_epoch": int, "after_step": int, ID: str}


def check_found(content: Mapping[str, Any]) -> None:
    """Refuse a run.json in which one of these parts has another form than this package writes.

    Raises:
        RequestError: naming the part, and its right form.
    """
    for key, (fine, form) in FOUND.items():
        if key in content and not fine(content[key]):
            found = str(content[key])[:40]
            raise RequestError(f"{key} is damaged: it is {form}, found {found!r}")


def _is_object(value: Any, kinds: Mapping[str, Any]) -> bool:
    """Whether a value is an object with no other keys than these, each of its kind."""
    return isinstance(value, Mapping) and all(
        key in kinds and fits(inner, kinds[key]) for key, inner in value.items()
    )


def _is_change(value: Any) -> bool:
    known = _is_object(value, _IN_CHANGE)
    return known and "after_epoch" in value and len(value.get("epochs", (0, 0))) == 2


FOUND: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "environment": (partial(fits, hint=_TEXTS), "an object of texts"),
    THREADS: (
        lambda value: fits(value, int) and 1 <= value <= _MOST_THREADS,
        f"a number of threads, 1 to {_MOST_THREADS}",
    ),
    "fingerprint": (partial(fits, hint=str), "a text"),
    "identity": (
        partial(_is_object, kinds=_IN_IDENTITY),
        f"an object of texts with the keys {', '.join(_IN_IDENTITY)}",
    ),
    "pixels": (partial(fits, hint=Mapping), "an object that describes how images are read"),
    CODE: (
        partial(_is_object, kinds=_IN_CODE),
        "an object of student and teachers, with files and their digests",
    ),
    CHANGES: (
        lambda value: isinstance(value, list | tuple) and all(map(_is_change, value)),
        "a list of what was changed, and where",
    ),
    ID: (partial(fits, hint=str), "a text"),
}
"""How each part is checked, by its key, and its right form."""
NOT_HASHED = ("format", "environment", THREADS, CHANGES, ID)
"""Keys of run.json that do not decide which run it is."""
