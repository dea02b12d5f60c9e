"""Checks the installation, one part at a time; a failed check says how to fix it."""

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from collegium.utils.extras import EXTRAS, import_extra
from collegium.utils.text import first_line

CORE = ("torch", "lightning_fabric", "safetensors", "numpy", "sklearn", "PIL", "rich")
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "lightning_fabric": "lightning-fabric"}


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: the part that was checked.
        sound: whether the check passed.
        found: details, for example a version; if the check failed, the error and how to fix it.
    """

    name: str
    sound: bool
    found: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.sound else 'FAIL'}  {self.name:<18} {self.found}"


def examine() -> list[Check]:
    """Run every check: imports first, then what depends on them."""
    checks = [Check("python", True, platform.python_version())]
    checks += [_guard(name, functools.partial(_import, name)) for name in CORE]
    if all(check.sound for check in checks):
        later: dict[str, Callable[[], str]] = {
            "arithmetic": _arithmetic,
            "devices": _devices,
            "a training step": _training_step,
            "reading weights": _weights_round_trip,
        }
        later |= {f"extra {extra}": functools.partial(_extra, extra) for extra in EXTRAS}
        checks += [_guard(name, part) for name, part in later.items()]
    return [*checks, _guard("disk", _disk)]


def _extra(extra: str) -> str:
    library = EXTRAS[extra]
    if importlib.util.find_spec(library) is None:
        return f'without {library}, which few need: pip install "collegium[{extra}]"'
    return f"{library} {import_extra(extra).__version__}"


def _guard(name: str, examine_it: Callable[[], str]) -> Check:
    try:
        return Check(name, True, examine_it())
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {first_line(error)}")


def _import(name: str) -> str:
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{error}; mend with: pip install --upgrade collegium") from None
    return importlib.metadata.version(DISTRIBUTIONS.get(name, name))


def _arithmetic() -> str:
    import torch

    from collegium.training.precision import cpu_computes_bfloat16

    halves, ones = (torch.full((64, 64), value, dtype=torch.bfloat16) for value in (0.5, 1.0))
    product = halves @ ones
    if product.float().unique().tolist() != [32.0]:
        raise ArithmeticError("bfloat16 matrix product is wrong; use --precision 32")
    low = "bfloat16" if cpu_computes_bfloat16() else "(slowly, not in hardware) bfloat16"
    return f"float32 and {low}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"


def _devices() -> str:
    import torch

    if torch.cuda.is_available():
        return ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
    return "mps" if torch.backends.mps.is_available() else "CPU only"


def _training_step() -> str:
    import torch

    import collegium as cg

    dims = cg.Dims(classes=3, teachers=("a", "b"), student_maps={"last": (4, 2, 2)})
    method = cg.AMTML(hint_weight=0.0)
    features = torch.ones(5, 4, 2, 2, requires_grad=True)
    student = cg.StudentOutputs(features.mean(dim=(2, 3))[:, :3], {"last": features})
    teachers = cg.TeacherOutputs(torch.eye(3)[torch.tensor([[0, 1]] * 5)])
    loss = cg.total(method.build(dims)(student, teachers, torch.zeros(5, dtype=torch.long)))
    loss.backward()
    if not torch.isfinite(loss):
        raise ArithmeticError(f"the loss of a small step is {loss.item()}")
    return "amtml forward and backward are finite"


def _weights_round_trip() -> str:
    import torch
    from safetensors.torch import load, save

    if not torch.equal(load(save({"x": torch.arange(4)}))["x"], torch.arange(4)):
        raise OSError("safetensors gave back other values")
    return "safetensors"


def _disk() -> str:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"collegium")
    return f"{shutil.disk_usage('.').free / 1e9:.0f} GB free here, temporary folder writable"
