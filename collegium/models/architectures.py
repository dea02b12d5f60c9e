"""Families of networks by name, and designs, from which networks are built."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from torch import nn

from collegium.errors import RequestError, UnknownNameError
from collegium.models.model_string import FAMILIES, RANDOM, ModelString, check_family
from collegium.models.network import Preprocess


class Trained(NamedTuple):
    """A network with its library's weights, and notes on them for the user."""

    body: nn.Module
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Design:
    """A network that can be built.

    Attributes:
        build: from a number of classes, with a random start.
        channels: of the images its first layer takes; None if unknown before it is run.
        smallest: rows and columns below which views are enlarged.
        preprocess: how its library's weights want their pixels; None if unknown.
        native: rows and columns it was made for, used if it takes no others.
        metadata: of its own file, with the keys of a weights file's metadata.
        classes: names of the classes of its library's weights; empty if there are none.
        trained: with the library's weights, for that many classes (None: for its own).
        trainable: whether it can be a student.
        saved_metadata: what a saved weights file needs besides the usual to build it again.
        convert: loads tensors that have the names of another version of the library.
        resample: resizes a file's tensors to the shapes of a module where its library can, such as
            position embeddings.
        evaluated: the size to which its library resizes images before a centre crop in evaluation;
            the crop is not done here.
        keeps_ratio: its library keeps the aspect ratio of images that are not square.
        notes: on the files beside its weights, for the user.
        licence: of its library's weights; empty if unknown.
        unfit: why it cannot be a teacher; empty if it can.
        code: digests of the user's source files; empty for a library's network.
    """

    build: Callable[[int], nn.Module]
    channels: int | None = 3
    smallest: int = 1
    preprocess: Preprocess | None = None
    native: tuple[int, int] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    trained: Callable[[int | None], Trained] | None = None
    trainable: bool = True
    saved_metadata: Mapping[str, str] = field(default_factory=dict)
    convert: Callable[[int, Mapping[str, Any]], nn.Module | None] | None = None
    resample: Callable[[nn.Module, Mapping[str, Any]], Mapping[str, Any]] | None = None
    evaluated: tuple[int, ...] | None = None
    keeps_ratio: bool = False
    notes: tuple[str, ...] = ()
    licence: str = ""
    unfit: str = ""
    code: Callable[[], Mapping[str, str]] = dict


class AbstractModelFamily(ABC):
    """A family of networks: what a model string names before its colon."""

    slug: ClassVar[str]
    """Before the colon of a model string."""

    @abstractmethod
    def design(self, member: str, string: ModelString, metadata: Mapping[str, str]) -> Design:
        """A network of this family.

        Args:
            member: after the colon.
            string: the whole string.
            metadata: of its weights file, and the string's options.

        Raises:
            UnknownNameError: no such network.
            RequestError: a library that is missing, or options that make no sense.
        """

    def has_weights(self, string: ModelString) -> bool:
        """Whether a string without @ names trained weights."""
        return False


class BuilderFamily(AbstractModelFamily):
    """A family given by a table of functions, each from a number of classes to a network."""

    builders: ClassVar[Mapping[str, Callable[[int], nn.Module]]]
    channels: ClassVar[int] = 3
    """Of the images they take."""
    smallest: ClassVar[int] = 1
    """Rows and columns below which views are enlarged."""

    def design(self, member: str, string: ModelString, metadata: Mapping[str, str]) -> Design:
        """The network of that name."""
        if member not in self.builders:
            raise UnknownNameError(f"{self.slug} model", member, self.builders)
        return Design(self.builders[member], self.channels, self.smallest)


def find_design(string: ModelString, metadata: Mapping[str, str]) -> Design:
    """The design that a model string names.

    Args:
        string: parsed.
        metadata: of its weights file, and the string's options.

    Raises:
        UnknownNameError: no such family or name.
        RequestError: a library that is missing, a user's file that fails.
    """
    if not string.family and metadata.get("architecture") == string.name:
        raise RequestError(
            f"its student was given from Python as {string.name}, which no string brings back: "
            "give the module again from Python"
        )
    check_family(string)
    return FAMILIES.find(string.family)().design(string.member, string, metadata)


def has_weights(spec: str) -> bool:
    """Whether a model string names trained weights (a user's function may load its own).

    Raises:
        RequestError: the string cannot be parsed.
    """
    string = ModelString.read(spec)
    if string.weights == RANDOM:
        return False
    if string.weights or string.is_run:
        return True
    return string.family in FAMILIES.names() and FAMILIES.find(string.family)().has_weights(string)
