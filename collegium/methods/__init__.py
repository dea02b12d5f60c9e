"""Methods of distillation: one paper, one file.

A module of this package that defines an `AbstractMethod` with a `slug` is found without an edit
elsewhere; other packages add methods by the entry points `collegium.methods`.
"""

from collegium.methods.base import AbstractMethod
from collegium.utils.registry import Registry

DEFAULT = "gated"
"""The method of `distill` if none is named: in our tests it was never significantly worse than the
plain mean (LOG.md)."""

METHODS: Registry[AbstractMethod] = Registry(
    "method", "collegium.methods", "collegium.methods.base:AbstractMethod", "collegium.methods"
)


def all_methods() -> dict[str, type[AbstractMethod]]:
    """Every method by its slug, in alphabetical order."""
    return METHODS.all()


def find_method(slug: str) -> type[AbstractMethod]:
    """The method of that slug.

    Raises:
        UnknownNameError: there is none; the message names the closest.
        RequestError: another package adds it, and it cannot be used.
    """
    return METHODS.find(slug)
