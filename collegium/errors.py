"""Every error a user can meet, as one tree.

    CollegiumError                 exit code 1: the work failed
    ├── RequestError               exit code 2: the request is invalid, nothing was started
    │   ├── UnknownNameError       no such data, model, method or option; names the closest
    │   ├── DataError              data missing, truncated, or at odds with its labels
    │   ├── WeightsError           a weights file that cannot be read or does not fit
    │   └── FolderError            the output folder cannot be used
    ├── NumericsError              a NaN or an infinity, with its name and the step
    ├── ResourceError              disk, memory, files or a process ran out
    └── Interrupted                exit code 130: stopped by the user, can be resumed

A message is one line: what was requested, what was found, how to fix it.
"""

import difflib
from collections.abc import Iterable

LISTED, NEAREST = 60, 4
"""Up to 60 known names are all listed; of more, four."""


def printable(text: str) -> str:
    r"""A text whose control characters are escaped, so that a terminal does not obey them.

    >>> print(printable("red: \x1b[31m"))
    red: \x1b[31m
    """
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


class CollegiumError(Exception):
    """The root: a valid request failed. `exit_code` is the command's exit status."""

    exit_code = 1

    def __init__(self, *parts: object) -> None:
        # Text of a file or a library may contain control characters of terminals.
        super().__init__(*(printable(part) if isinstance(part, str) else part for part in parts))


class RequestError(CollegiumError):
    """An invalid request; nothing was started and nothing was changed."""

    exit_code = 2


class UnknownNameError(RequestError):
    """A name that is not in a list; the message names the closest ones.

    >>> print(UnknownNameError("method", "amtlm", ["amtml", "kd"]))
    unknown method 'amtlm'; did you mean 'amtml'? known: amtml, kd
    >>> many = (f"net{size}" for size in range(100))
    >>> print(UnknownNameError("model", "net7x", many))  # doctest: +ELLIPSIS
    unknown model 'net7x'; did you mean 'net7'? 100 are known, such as: net7, ...
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=NEAREST, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        listed = f"known: {', '.join(names)}"
        if len(names) > LISTED:
            some = ", ".join(close or names[:NEAREST])
            listed = f"{len(names)} are known, such as: {some}"
        super().__init__(f"unknown {kind} {name!r}; {hint}{listed}")


class DataError(RequestError):
    """Data that is missing, truncated, or at odds with its labels."""


class WeightsError(RequestError):
    """A weights file that cannot be read safely or does not fit its network."""


class FolderError(RequestError):
    """A folder that cannot be used: it holds a run already, or cannot be written."""


class NumericsError(CollegiumError):
    """A NaN or an infinity appeared; the message names where and when."""


class ResourceError(CollegiumError):
    """The disk, memory, files or a process that the work needs are no longer available."""


class Interrupted(CollegiumError):  # noqa: N818 - named for what happened, not for a fault
    """The user stopped the run; what was checkpointed can be resumed."""

    exit_code = 130
