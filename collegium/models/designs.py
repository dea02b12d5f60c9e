"""What a model string can name: a design, from which networks are built."""

import importlib.machinery
import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from collegium.errors import RequestError, UnknownNameError
from collegium.models.cifar import CIFAR_MODELS
from collegium.models.given import uncompile, unwrapped
from collegium.models.network import Preprocess
from collegium.models.small import SMALL_MODELS
from collegium.models.strings import ModelString

HOUSE: Mapping[str, Mapping[str, Callable[[int], nn.Module]]] = {
    "cifar": CIFAR_MODELS,
    "small": SMALL_MODELS,
}
FOREIGN = ("timm", "torchvision", "hf", "onnx")
"""Families of other libraries, each a module of `collegium.models.foreign`."""


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
        learns: whether it can be a student.
        metadata: what a weights file needs besides the usual to build it again.
        convert: loads tensors whose names are those of another version of the library.
        resample: gives tensors of a file, by the names of a body, the shapes of that body where its
            library can: position embeddings of another size.
        keeps_ratio: its library does not make squares of views that are none.
        notes: what a user should know of what stands beside its weights.
        licence: of its library's weights; empty where nobody says.
        unfit: why it can be no teacher; empty where it can.
    """

    build: Callable[[int], nn.Module]
    channels: int | None = 3
    smallest: int = 1
    sees: Preprocess | None = None
    native: tuple[int, int] | None = None
    says: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    trained: Callable[[int | None], Trained] | None = None
    learns: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    convert: Callable[[int, Mapping[str, Any]], nn.Module | None] | None = None
    resample: Callable[[nn.Module, Mapping[str, Any]], Mapping[str, Any]] | None = None
    keeps_ratio: bool = False
    notes: tuple[str, ...] = ()
    licence: str = ""
    unfit: str = ""


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
        return Design(_from_file(Path(path), function), channels=None)
    if family in FOREIGN:
        import importlib

        library = importlib.import_module(f"collegium.models.foreign.{family}")
        design: Design = library.design(member, string, metadata)
        return design
    if family not in HOUSE:
        names = [f"{key}:NAME" for key in (*HOUSE, *FOREIGN[:-1])]
        known = [*names, "onnx:FILE", "path/to/file.py:function", "a run folder"]
        raise UnknownNameError("model", string.name, known)
    if member not in HOUSE[family]:
        raise UnknownNameError(f"{family} model", member, HOUSE[family])
    build = HOUSE[family][member]
    return Design(build, 1) if family == "small" else Design(build, 3, smallest=32)


def _from_file(path: Path, function: str) -> Callable[[int], nn.Module]:
    found = user_function(path, function)
    return lambda classes: _call(found, classes, f"{path}:{function}")


def user_function(path: Path, function: str) -> Callable[..., Any]:
    """Run a user's Python file, the one way to run code that is not ours, and find a function.

    Raises:
        RequestError: there is no such file, or it fails.
        UnknownNameError: it has no such function.
    """
    if not path.is_file():
        raise RequestError(f"model file {path}: no such file")
    try:
        loader = importlib.machinery.SourceFileLoader(f"collegium_user_{path.stem}", str(path))
        module = types.ModuleType(loader.name)
        module.__file__ = str(path)
        loader.exec_module(module)
    except Exception as error:
        raise RequestError(f"model file {path} failed: {_reason(error)}") from error
    if not hasattr(module, function):
        functions = [n for n, f in vars(module).items() if inspect.isfunction(f)]
        raise UnknownNameError(f"function of {path}", function, functions)
    found: Callable[..., Any] = getattr(module, function)
    return found


def _call(function: Callable[..., Any], classes: int, where: str) -> nn.Module:
    try:
        takes = bool(inspect.signature(function).parameters)
        body = function(classes) if takes else function()
    except Exception as error:
        raise RequestError(f"{where} failed: {_reason(error)}") from error
    if not isinstance(body, nn.Module):
        raise RequestError(f"{where} returned a {type(body).__name__}, expected an nn.Module")
    body, _ = unwrapped(body)
    uncompile(body)
    return body


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
