"""What a model string can name: a design, from which networks are built."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from collegium.errors import RequestError, UnknownNameError
from collegium.models.model_string import ModelString
from collegium.models.network import Preprocess
from collegium.models.user_file import UserFile, user_file
from collegium.models.user_modules import uncompile, unwrapped
from collegium.models.zoo.cifar import CIFAR_MODELS
from collegium.models.zoo.small import SMALL_MODELS

HOUSE: Mapping[str, Mapping[str, Callable[[int], nn.Module]]] = {
    "cifar": CIFAR_MODELS,
    "small": SMALL_MODELS,
}
FOREIGN = ("timm", "torchvision", "hf", "onnx")
"""Families of other libraries, each a module of `collegium.models.libraries`."""


class Trained(NamedTuple):
    """A network with the weights its library has for it, and what is to be said of them."""

    body: nn.Module
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Design:
    """A network that can be built.

    Attributes:
        build: from a number of classes, with a random start.
        channels: of the images its first layer takes; None where only trying tells.
        smallest: rows and columns below which views are enlarged.
        sees: how its library's weights want their pixels; None where nobody says.
        native: rows and columns it was made for, used where it takes no others.
        says: what its own file says of itself, in the words of a weights file.
        classes: names of the classes its library's weights know; empty where they have none.
        trained: with the library's weights, for that many classes (None: for its own).
        trainable: whether it can be a student.
        metadata: what a weights file needs besides the usual to build it again.
        convert: loads tensors whose names are those of another version of the library.
        resample: gives tensors of a file, by the names of a body, the shapes of that body where its
            library can: position embeddings of another size.
        evaluated: what its library resizes views to before it cuts the centre out, which is not
            done here: a custom of evaluation on photographs.
        keeps_ratio: its library does not make squares of views that are none.
        notes: what a user should know of what stands beside its weights.
        licence: of its library's weights; empty where nobody says.
        unfit: why it can be no teacher; empty where it can.
        code: by file, the digest of the user's source that it is made by; empty for a library's.
    """

    build: Callable[[int], nn.Module]
    channels: int | None = 3
    smallest: int = 1
    sees: Preprocess | None = None
    native: tuple[int, int] | None = None
    says: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    trained: Callable[[int | None], Trained] | None = None
    trainable: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    convert: Callable[[int, Mapping[str, Any]], nn.Module | None] | None = None
    resample: Callable[[nn.Module, Mapping[str, Any]], Mapping[str, Any]] | None = None
    evaluated: tuple[int, ...] | None = None
    keeps_ratio: bool = False
    notes: tuple[str, ...] = ()
    licence: str = ""
    unfit: str = ""
    code: Callable[[], Mapping[str, str]] = dict


def find_design(string: ModelString, metadata: Mapping[str, str]) -> Design:
    """The design a model string names.

    Args:
        string: taken apart.
        metadata: of its weights file, and the string's options.

    Raises:
        UnknownNameError: no such family or name.
        RequestError: a library that is missing, a user's file that fails.
    """
    family, member = string.family, string.member
    if family == "py":
        path, _, function = string.name.rpartition(":")
        build, file = _from_file(Path(path), function)
        return Design(build, channels=None, code=file.code)
    if family in FOREIGN:
        import importlib

        library = importlib.import_module(f"collegium.models.libraries.{family}")
        design: Design = library.design(member, string, metadata)
        return design
    if not family and metadata.get("architecture") == string.name:
        raise RequestError(
            f"its student was given from Python as {string.name}, which no string brings back: "
            "give the module again from Python"
        )
    check_family(string)
    if member not in HOUSE[family]:
        raise UnknownNameError(f"{family} model", member, HOUSE[family])
    build = HOUSE[family][member]
    return Design(build, 1) if family == "small" else Design(build, 3, smallest=32)


def check_family(string: ModelString) -> None:
    """Refuse a model string that names no kind of network, such as a folder that is not there.

    Raises:
        UnknownNameError: no such family.
    """
    if string.family not in (*HOUSE, *FOREIGN, "py"):
        names = [f"{key}:NAME" for key in (*HOUSE, *FOREIGN[:-1])]
        known = [*names, "onnx:FILE", "path/to/file.py:function", "a run folder"]
        kind = "model" if string.family else "model (no folder of that name exists)"
        raise UnknownNameError(kind, string.name, known)


def _from_file(path: Path, function: str) -> tuple[Callable[[int], nn.Module], UserFile]:
    file = user_file(path)
    found = file.function(function)
    return lambda classes: _call(file, found, classes, f"{path}:{function}"), file


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


CLASSES = ("num_classes", "classes", "n_classes", "nb_classes", "num_labels", "class_count")
"""What a parameter that takes the number of classes is called; else it is the first."""


def classes_argument(function: Callable[..., Any]) -> str | None:
    """The argument by which a user's function takes the number of classes.

    Returns:
        The name of the argument, "" for the first in its place, None where it takes none.

    >>> classes_argument(lambda classes: 0), classes_argument(lambda: 0)
    ('', None)
    >>> classes_argument(lambda width=8, num_classes=10: 0), classes_argument(lambda deep=False: 0)
    ('num_classes', None)
    """
    if isinstance(function, type) and function.__init__ is nn.Module.__init__:  # type: ignore[misc]
        return None
    found = inspect.signature(function).parameters
    places = [one for one in found.values() if one.kind in _IN_PLACE]
    if places and (places[0].name in CLASSES or places[0].default is inspect.Parameter.empty):
        return ""
    if named := next((name for name in CLASSES if name in found), None):
        return named
    if not places or isinstance(places[0].default, bool | str | type(None) | float):
        return None
    return ""


_IN_PLACE = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)
