"""Data: splits of labelled images, and reproducible batches of views.

    load_data("cifar10:DIR")          or          as_image_data((images, labels))
        -> Splits of ImageData -> Loader -> collegium.types.Batch

Images stay uint8 in memory, on the device; a view is a pure function of (seed, index, view).
Names are imported when first used, so that the command line reads data strings without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collegium.data.augment import RECIPES, VIEW_VERSION, ViewRecipe, find_recipe, make_views
    from collegium.data.datasets import load_data
    from collegium.data.image_data import ImageData, Origin
    from collegium.data.loader import Loader, Views, view_at
    from collegium.data.readers.arrays import as_image_data, splits_of
    from collegium.data.splits import Splits, hold_out, keep_classes

__all__ = [
    "RECIPES",
    "VIEW_VERSION",
    "ImageData",
    "Loader",
    "Origin",
    "Splits",
    "ViewRecipe",
    "Views",
    "as_image_data",
    "find_recipe",
    "hold_out",
    "keep_classes",
    "load_data",
    "make_views",
    "splits_of",
    "view_at",
]

_MODULES = ("augment", "datasets", "image_data", "loader", "readers.arrays", "splits")


def __getattr__(name: str) -> Any:
    for module in _MODULES if name in __all__ else ():
        content = vars(importlib.import_module(f"{__name__}.{module}"))
        if name in content:
            return content[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
