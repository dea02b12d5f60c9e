"""collegium: train one small network from several large ones.

    import collegium as cg

    record = cg.distill(student=net, teachers={"a": net_a, "b": net_b}, train=train_set,
                        val=val_set, method=cg.AMTML(), epochs=30, out="runs/a")

Names are imported when first used, so that the command line starts fast. Every class of
`collegium/methods/` with a slug is a name too. Type checkers read the same names from
`__init__.pyi`, which `scripts/docs` writes.
"""

import importlib
from typing import Any

from collegium.utils.registry import declared
from collegium.utils.version import VERSION

__version__ = VERSION

_NAMES = {
    "collegium.api": ("distill", "evaluate", "execute", "resume"),
    "collegium.config.run": ("Run",),
    "collegium.distiller": ("Distiller", "DistillerOutputs"),
    "collegium.errors": ("CollegiumError",),
    "collegium.export.export": ("export_student",),
    "collegium.export.predict": ("predict",),
    "collegium.objectives.objective": ("total",),
    "collegium.records.run_folder": ("Record",),
    "collegium.teachers": ("LiveTeachers",),
    "collegium.types": ("Dims", "Head", "StudentOutputs", "TeacherOutputs"),
}
"""The public names by module, without methods."""


def _modules() -> dict[str, str]:
    """The module of each public name, in alphabetical order; nothing is imported."""
    methods = {name: module for module, name in declared("collegium.methods").values()}
    others = {name: module for module, names in _NAMES.items() for name in names}
    return dict(sorted((methods | others).items()))


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return list(_modules())
    module = None if name.startswith("_") else _modules().get(name)
    if module is None:
        raise AttributeError(f"module 'collegium' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value


def __dir__() -> list[str]:
    return [*_modules(), "__version__"]
