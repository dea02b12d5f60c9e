"""collegium: one small network from several large ones.

    import collegium as cg

    record = cg.distill(student=net, teachers={"a": net_a, "b": net_b}, train=train_set,
                        val=val_set, method=cg.AMTML(), epochs=30, out="runs/a")

Names are loaded when first used, so that the command line answers at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

from collegium.utils.version import VERSION

if TYPE_CHECKING:
    from collegium.api import distill, evaluate, execute, resume
    from collegium.config.run import Run
    from collegium.distiller import Distiller, DistillerOutputs
    from collegium.errors import CollegiumError
    from collegium.export.export import export_student
    from collegium.export.predict import predict
    from collegium.methods.aekd import AEKD
    from collegium.methods.amtml import AMTML
    from collegium.methods.at import AT
    from collegium.methods.avg_mkd import AvgMKD
    from collegium.methods.ca_mkd import CAMKD
    from collegium.methods.dist import DIST
    from collegium.methods.dkd import DKD
    from collegium.methods.ebkd import EBKD
    from collegium.methods.fitnets import FitNets
    from collegium.methods.fixed import Fixed
    from collegium.methods.fsp import FSP
    from collegium.methods.gated import Gated
    from collegium.methods.kd import KD
    from collegium.methods.logits import Logits
    from collegium.methods.random import Random
    from collegium.methods.rkd import RKD
    from collegium.methods.sp import SP
    from collegium.methods.vanilla import Vanilla
    from collegium.objectives.objective import total
    from collegium.records.run_folder import Record
    from collegium.teachers import LiveTeachers
    from collegium.types import Dims, Head, StudentOutputs, TeacherOutputs

__version__ = VERSION

_HOME = {
    "AEKD": "collegium.methods.aekd",
    "AMTML": "collegium.methods.amtml",
    "AT": "collegium.methods.at",
    "AvgMKD": "collegium.methods.avg_mkd",
    "CAMKD": "collegium.methods.ca_mkd",
    "CollegiumError": "collegium.errors",
    "DIST": "collegium.methods.dist",
    "DKD": "collegium.methods.dkd",
    "Dims": "collegium.types",
    "Distiller": "collegium.distiller",
    "DistillerOutputs": "collegium.distiller",
    "EBKD": "collegium.methods.ebkd",
    "FSP": "collegium.methods.fsp",
    "FitNets": "collegium.methods.fitnets",
    "Fixed": "collegium.methods.fixed",
    "Gated": "collegium.methods.gated",
    "Head": "collegium.types",
    "KD": "collegium.methods.kd",
    "LiveTeachers": "collegium.teachers",
    "Logits": "collegium.methods.logits",
    "RKD": "collegium.methods.rkd",
    "Random": "collegium.methods.random",
    "Record": "collegium.records.run_folder",
    "Run": "collegium.config.run",
    "SP": "collegium.methods.sp",
    "StudentOutputs": "collegium.types",
    "TeacherOutputs": "collegium.types",
    "Vanilla": "collegium.methods.vanilla",
    "distill": "collegium.api",
    "evaluate": "collegium.api",
    "execute": "collegium.api",
    "export_student": "collegium.export.export",
    "predict": "collegium.export.predict",
    "resume": "collegium.api",
    "total": "collegium.objectives.objective",
}

__all__ = [
    "AEKD",
    "AMTML",
    "AT",
    "CAMKD",
    "DIST",
    "DKD",
    "EBKD",
    "FSP",
    "KD",
    "RKD",
    "SP",
    "AvgMKD",
    "CollegiumError",
    "Dims",
    "Distiller",
    "DistillerOutputs",
    "FitNets",
    "Fixed",
    "Gated",
    "Head",
    "LiveTeachers",
    "Logits",
    "Random",
    "Record",
    "Run",
    "StudentOutputs",
    "TeacherOutputs",
    "Vanilla",
    "distill",
    "evaluate",
    "execute",
    "export_student",
    "predict",
    "resume",
    "total",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'collegium' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
