"""The commands by name: one file for each family; imports of torch wait until called.

A command is a function whose options are read from the command line. It returns a callable, so
that reading the options and doing the work are two steps.
"""

from collections.abc import Callable

from collegium.cli.compare import compare
from collegium.cli.evaluate import audit, evaluate
from collegium.cli.export import export, predict
from collegium.cli.info import cite, doctor, layers, methods
from collegium.cli.options import Answer, Call
from collegium.cli.report import report
from collegium.cli.store import store_build, store_info, store_verify
from collegium.cli.train import demo, distill, distill_with, resume, train

VERBS: dict[str, Callable[..., Call]] = {
    "demo": demo,
    "train": train,
    "distill": distill,
    "resume": resume,
    "compare": compare,
    "report": report,
    "evaluate": evaluate,
    "export": export,
    "predict": predict,
    "audit": audit,
    "store build": store_build,
    "store info": store_info,
    "store verify": store_verify,
    "methods": methods,
    "cite": cite,
    "layers": layers,
    "doctor": doctor,
}

__all__ = ["VERBS", "Answer", "Call", "distill_with"]
