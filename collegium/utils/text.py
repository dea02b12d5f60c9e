"""Short texts for messages: the first of many names, and an error in one line."""

from collections.abc import Iterable


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few names, with an ellipsis if there are more.

    >>> some("abcd"), some("ab")
    ('a, b, c, ...', 'a, b')
    """
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def some_of(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and the number of the others.

    >>> some_of(("a", "b", "c"), 2)
    'a, b and 1 more'
    """
    names = list(names)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def first_line(error: BaseException) -> str:
    r"""An error in one line without a full stop; of TorchScript's tracebacks the cause.

    >>> first_line(ValueError("no such key.\nTry another.")), first_line(ValueError())
    ('no such key', 'ValueError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "TorchScript" in lines[0]:
        return lines[-1].removeprefix("RuntimeError: ")
    return (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0]).rstrip(".")
