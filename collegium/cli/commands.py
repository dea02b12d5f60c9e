"""The commands by name: one file for each family. Nothing here imports torch.

A command is a dataclass: its options are the fields, its help the docstrings, its work `run`.
"""

from collections.abc import Mapping

from collegium.cli.compare import Compare
from collegium.cli.evaluate import Audit, Evaluate
from collegium.cli.export import Export, Predict
from collegium.cli.info import Cite, Doctor, Layers, Methods
from collegium.cli.options import Command
from collegium.cli.report import Report
from collegium.cli.store import StoreBuild, StoreInfo, StoreVerify
from collegium.cli.train import Demo, Distill, Resume, Train

VERBS: Mapping[str, type[Command]] = {
    "demo": Demo,
    "train": Train,
    "distill": Distill,
    "resume": Resume,
    "compare": Compare,
    "report": Report,
    "evaluate": Evaluate,
    "export": Export,
    "predict": Predict,
    "audit": Audit,
    "store build": StoreBuild,
    "store info": StoreInfo,
    "store verify": StoreVerify,
    "methods": Methods,
    "cite": Cite,
    "layers": Layers,
    "doctor": Doctor,
}
