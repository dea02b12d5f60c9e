"""One paper, one file: the folder is the list.

A module of this package that defines an `AbstractMethod` with a `slug` is found by itself.
"""

import importlib
import inspect
import pkgutil
from functools import cache

from collegium.errors import UnknownNameError
from collegium.methods.base import AbstractMethod

DEFAULT = "gated"
"""What `distill` takes when no method is named: of all, the one that was never seen to lose to the
plain mean (LOG.md)."""


@cache
def all_methods() -> dict[str, type[AbstractMethod]]:
    """Every method by its slug, in alphabetical order."""
    found: dict[str, type[AbstractMethod]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for _, item in inspect.getmembers(module, inspect.isclass):
            if item.__module__ != module.__name__ or not issubclass(item, AbstractMethod):
                continue
            if hasattr(item, "slug"):
                found[item.slug] = item
    return dict(sorted(found.items()))


def find_method(slug: str) -> type[AbstractMethod]:
    """The method of that slug.

    Raises:
        UnknownNameError: there is none; the message names the closest.
    """
    methods = all_methods()
    if slug not in methods:
        raise UnknownNameError("method", slug, methods)
    return methods[slug]
