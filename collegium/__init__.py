"""collegium: one small network from several large ones.

    import collegium as cg

    record = cg.distill(student=net, teachers={"a": net_a, "b": net_b}, train=train_set,
                        val=val_set, method=cg.AMTML(), epochs=30, out="runs/a")

Names are loaded when first used, so that the command line answers at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collegium.errors import CollegiumError
    from collegium.methods.amtml import AMTML
    from collegium.methods.avg_mkd import AvgMKD
    from collegium.methods.kd import KD
    from collegium.methods.vanilla import Vanilla
    from collegium.objective import total
    from collegium.record import Record
    from collegium.run import Run, distill, evaluate, execute, resume
    from collegium.teachers import LiveTeachers
    from collegium.types import Dims, StudentOutputs, TeacherOutputs

__version__ = "0.1.0"

_HOME = {
    "AMTML": "collegium.methods.amtml",
    "AvgMKD": "collegium.methods.avg_mkd",
    "CollegiumError": "collegium.errors",
    "Dims": "collegium.types",
    "KD": "collegium.methods.kd",
    "LiveTeachers": "collegium.teachers",
    "Record": "collegium.record",
    "Run": "collegium.run",
    "StudentOutputs": "collegium.types",
    "TeacherOutputs": "collegium.types",
    "Vanilla": "collegium.methods.vanilla",
    "distill": "collegium.run",
    "evaluate": "collegium.run",
    "execute": "collegium.run",
    "resume": "collegium.run",
    "total": "collegium.objective",
}

__all__ = [
    "AMTML",
    "KD",
    "AvgMKD",
    "CollegiumError",
    "Dims",
    "LiveTeachers",
    "Record",
    "Run",
    "StudentOutputs",
    "TeacherOutputs",
    "Vanilla",
    "distill",
    "evaluate",
    "execute",
    "resume",
    "total",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'collegium' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
