"""The names of families of networks, known without torch: ours and those of other packages."""

from collections.abc import Iterable
from typing import Any

from collegium.errors import UnknownNameError
from collegium.models.model_string import ModelString
from collegium.utils.registry import Registry

FAMILIES: Registry[Any] = Registry(
    "model family",
    "collegium.model_families",
    "collegium.models.architectures:AbstractModelFamily",
    "collegium.models.zoo",
    "collegium.models.libraries",
)
"""Every family of networks by name: classes that derive from `AbstractModelFamily`."""
USAGE = {"onnx": "onnx:FILE", "py": "path/to/file.py:function"}
"""How a string names a network, for messages, where that is not SLUG:NAME."""


def check_family(string: ModelString) -> None:
    """Refuse a model string that names no family, such as a folder that does not exist.

    Raises:
        UnknownNameError: no such family.
    """
    if string.family not in FAMILIES.names():
        known = [USAGE.get(slug, f"{slug}:NAME") for slug in FAMILIES.names()]
        kind = "model" if string.family else "model (no folder of that name exists)"
        raise UnknownNameError(kind, string.name, [*known, "a run folder"])


def check_families(specs: Iterable[object]) -> None:
    """Refuse model strings that name no family; what is no string, or a run folder, passes.

    Raises:
        UnknownNameError: no such family.
        RequestError: a string cannot be parsed.
    """
    for string in (ModelString.read(spec) for spec in specs if isinstance(spec, str)):
        if not string.is_run:
            check_family(string)
