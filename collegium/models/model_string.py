"""Model strings, taken apart: FAMILY:NAME, path/to/file.py:function or a folder, then @ and ?.

Nothing here imports torch, so the command line refuses an unknown family at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collegium.errors import RequestError, UnknownNameError
from collegium.utils.registry import Registry

PRETRAINED, RANDOM = "pretrained", "random"
"""After @: the weights the library itself has for that name; a random start."""
OPTIONS = ("mean", "std", "size", "resize", "interpolation", "channel_order", "licence", "license")
"""What may follow ?: how the network wants its pixels, and under which licence it stands."""

FAMILIES: Registry[Any] = Registry(
    "model family",
    "collegium.model_families",
    "collegium.models.architectures:AbstractModelFamily",
    "collegium.models.zoo",
    "collegium.models.libraries",
)
"""Every family of networks (a class of `AbstractModelFamily`) by name."""
USAGE = {"onnx": "onnx:FILE", "py": "path/to/file.py:function"}
"""How a string names a network of a family, in messages; SLUG:NAME for all others."""


@dataclass(frozen=True)
class ModelString:
    """A model string and its parts.

    Attributes:
        name: what is built: "cifar:resnet20", "net.py:build", a folder.
        weights: after @: a file, "pretrained" or "random"; empty where there is none.
        options: after ?: how it wants its pixels, in the words of a weights file's metadata.

    >>> ModelString.read("timm:resnet18@r18.pth?size=64&mean=0.5,0.5,0.5")
    ModelString(name='timm:resnet18', weights='r18.pth', options={'size': '64', 'mean': '0.5 0.5 0.5'})
    """  # noqa: E501 - a doctest's answer is one line

    name: str
    weights: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "ModelString":
        """Take a string apart.

        Raises:
            RequestError: an option that does not exist or has no value.
        """
        # A run folder may have a ? in its name.
        whole, _, rest = (text, "", "") if Path(text).is_dir() else text.partition("?")
        name, at, weights = whole.rpartition("@")
        # A folder may have an @ in its name.
        if not at or Path(whole.partition(":")[2] or whole).exists() or Path(whole).exists():
            name, weights = whole, ""
        return cls(name, weights, dict(_option(part, text) for part in rest.split("&") if part))

    @property
    def family(self) -> str:
        """Before the colon; "py" for a user's file, empty for a folder."""
        start, colon, _ = self.name.partition(":")
        if ".py:" in self.name:
            return "py"
        return start if colon else ""

    @property
    def member(self) -> str:
        """After the first colon."""
        return self.name.partition(":")[2]

    @property
    def text(self) -> str:
        """The string without its options."""
        return f"{self.name}@{self.weights}" if self.weights else self.name

    @property
    def is_run(self) -> bool:
        """Whether it names a run folder."""
        return not self.weights and Path(self.name).is_dir()

    @property
    def file(self) -> Path | None:
        """The weights file it names, if it names one."""
        if self.weights in ("", PRETRAINED, RANDOM):
            return None
        path = Path(self.weights)
        # torchvision has names for its weights: IMAGENET1K_V2.
        named = self.family == "torchvision" and not path.suffix and not path.is_file()
        return None if named else path


def _option(part: str, text: str) -> tuple[str, str]:
    key, equals, value = part.partition("=")
    if not (equals and value):
        raise RequestError(f"model {text}: after ? stands KEY=VALUE&KEY=VALUE, found {part!r}")
    if key not in OPTIONS:
        raise UnknownNameError("model option", key, OPTIONS)
    return key, value.replace(",", " ")


def check_family(string: ModelString) -> None:
    """Refuse a model string that names no family, such as a folder that does not exist.

    Raises:
        UnknownNameError: no such family.
    """
    if string.family not in FAMILIES.names():
        known = [USAGE.get(slug, f"{slug}:NAME") for slug in FAMILIES.names()]
        kind = "model" if string.family else "model (no folder of that name exists)"
        raise UnknownNameError(kind, string.name, [*known, "a run folder"])


def check_models(*models: object) -> None:
    """Refuse strings of unknown families, without reading any weights; modules are left alone.

    Raises:
        UnknownNameError: no such family.
        RequestError: an option that does not exist or has no value.
    """
    for string in (ModelString.read(model) for model in models if isinstance(model, str)):
        # A name without a colon may be that of a module, which its weights file tells.
        if string.family or not (string.weights or string.is_run):
            check_family(string)
