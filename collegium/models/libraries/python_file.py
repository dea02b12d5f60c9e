"""Networks from a function of a user's Python file: path/to/file.py:function."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from collegium.errors import RequestError
from collegium.models.architectures import AbstractModelFamily, Design
from collegium.models.model_string import ModelString
from collegium.models.user_file import UserFile, user_file
from collegium.models.user_modules import uncompile, unwrapped

CLASSES = ("num_classes", "classes", "n_classes", "nb_classes", "num_labels", "class_count")
"""Names of a parameter that takes the number of classes; without one, it is the first."""


class PythonFile(AbstractModelFamily):
    """The networks of a user's file; its function may load weights itself."""

    slug = "py"

    def design(self, member: str, string: ModelString, metadata: Mapping[str, str]) -> Design:
        """The network that the function returns."""
        path, _, function = string.name.rpartition(":")
        file = user_file(Path(path))
        found = file.function(function)
        return Design(
            lambda classes: _call(file, found, classes, f"{path}:{function}"),
            channels=None,
            code=file.code,
        )

    def has_weights(self, string: ModelString) -> bool:
        """Whether it may have weights: always, since the function may load them."""
        return True


def _call(file: UserFile, function: Callable[..., Any], classes: int, where: str) -> nn.Module:
    if isinstance(function, nn.Module):
        raise RequestError(f"{where} is a network and no function that makes one: give def ...")
    with file.running(where):
        how = classes_argument(function)
        if how is None:
            body = function()
        else:
            body = function(**{how: classes}) if how else function(classes)
    if not isinstance(body, nn.Module):
        raise RequestError(f"{where} returned a {type(body).__name__}, expected an nn.Module")
    body, _ = unwrapped(body)
    uncompile(body)
    return body


def classes_argument(function: Callable[..., Any]) -> str | None:
    """The parameter of a user's function that takes the number of classes.

    Returns:
        Its name, "" for the first positional one, None if there is none.

    >>> classes_argument(lambda classes: 0), classes_argument(lambda: 0)
    ('', None)
    >>> classes_argument(lambda width=8, num_classes=10: 0), classes_argument(lambda deep=False: 0)
    ('num_classes', None)
    """
    if isinstance(function, type) and function.__init__ is nn.Module.__init__:  # type: ignore[misc]
        return None
    found = inspect.signature(function).parameters
    first = next((one for one in found.values() if one.kind not in _BY_NAME), None)
    if first and (first.name in CLASSES or first.default is inspect.Parameter.empty):
        return ""
    if named := next((name for name in CLASSES if name in found), None):
        return named
    if not first or isinstance(first.default, bool | str | type(None) | float):
        return None
    return ""


_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
