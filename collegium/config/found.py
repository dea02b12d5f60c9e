"""What run.json holds beside the options: found when the run was started, or changed later."""

from collections.abc import Callable, Mapping
from typing import Any

from collegium.errors import RequestError
from collegium.utils.from_json import fits

FORMAT = 2
"""Format 1 has no `threads` and no `corrupt`; it is read and resumed as well."""
READABLE = (1, FORMAT)
_MOST_THREADS = 4096
CODE, CHANGES, ID, THREADS = "code", "changes", "id", "threads"
_TEXTS: Any = dict[str, str]
_TEXTS_BY_NAME: Any = Mapping[str, _TEXTS]
_IN_DATA = ("view recipe", "validation split", "test split", "train split")


def check_found(content: Mapping[str, Any]) -> None:
    """Refuse a run.json in which one of these parts has another form than this package writes.

    Raises:
        RequestError: naming the part, and its right form.
    """
    for key, check in FOUND.items():
        if key in content:
            check(key, content[key])


def _text(key: str, value: Any) -> None:
    if not isinstance(value, str):
        raise RequestError(f"{key} is a text, found {str(value)[:40]!r}")


def _texts(key: str, value: Any) -> None:
    if not fits(value, _TEXTS):
        raise RequestError(f"{key} is damaged: it is an object of texts")


def _identity(key: str, value: Any) -> None:
    _texts(key, value)
    if other := sorted(set(value) - set(_IN_DATA)):
        raise RequestError(f"{key} has no {other[0][:40]!r}; known: {', '.join(_IN_DATA)}")


def _pixels(key: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise RequestError(f"{key} is damaged: it is an object that describes how images are read")


def _threads(key: str, value: Any) -> None:
    if not fits(value, int) or not 1 <= value <= _MOST_THREADS:
        raise RequestError(f"{key} is damaged: it is a number of threads, 1 to {_MOST_THREADS}")


def _code(key: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not set(value) <= {"student", "teachers"}:
        raise RequestError(f"{key} is damaged: it is an object of student and teachers")
    student, teachers = value.get("student", {}), value.get("teachers", {})
    if not fits(student, _TEXTS) or not fits(teachers, _TEXTS_BY_NAME):
        raise RequestError(f"{key} is damaged: it is an object of files and their digests")


def _changes(key: str, value: Any) -> None:
    if not isinstance(value, list | tuple) or not all(map(_is_change, value)):
        raise RequestError(f"{key} is damaged: it is a list of what was changed, and where")


def _is_change(change: Any) -> bool:
    kinds = {"epochs": list, CODE: list, "after_epoch": int, "after_step": int, ID: str}
    if not isinstance(change, Mapping) or not set(change) <= set(kinds):
        return False
    typed = all(isinstance(value, kinds[key]) for key, value in change.items())
    return typed and "after_epoch" in change and len(change.get("epochs", (0, 0))) == 2


FOUND: Mapping[str, Callable[[str, Any], None]] = {
    "environment": _texts,
    THREADS: _threads,
    "fingerprint": _text,
    "identity": _identity,
    "pixels": _pixels,
    CODE: _code,
    CHANGES: _changes,
    ID: _text,
}
"""How each part is checked, by its key."""
NOT_HASHED = ("format", "environment", THREADS, CHANGES, ID)
"""Keys of run.json that do not decide which run it is."""
