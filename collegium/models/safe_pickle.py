"""Checkpoints of training scripts: plain values beside the tensors are read, and no code is run.

torch reads a pickle with a small machine of its own that knows tensors and plain containers. What
scripts keep beside a network's tensors (arguments, numpy's numbers, paths, dates) is allowed by
name here; every class in the list only holds a value. Anything else is refused by its name.
"""

import argparse
import collections
import datetime
import importlib.util
import pathlib
import re
import types
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from collegium.errors import WeightsError, printable
from collegium.utils.files import zip_bomb_reason

ZIP, PICKLE, HDF5, TAR = b"PK", b"\x80", b"\x89HDF", b"ustar"
"""How files begin; a tar has its mark at byte 257."""
_CONVERT = "load it where it was made and save its state_dict as .safetensors"
_PLAIN_DTYPES = ("Bool", "Int", "UInt", "Float", "Complex", "Str", "Bytes", "DateTime", "TimeDelta")


def read_pickle(path: Path) -> Any:
    """The content of a file that torch.save wrote: tensors, containers and plain values.

    Raises:
        WeightsError: it is something else, damaged, or would have to run code; names what.
    """
    if reason := _other_kind(path):
        raise WeightsError(f"weights file {path}: {reason}")
    try:
        if zipfile.is_zipfile(path) and (reason := zip_bomb_reason(path) or ""):
            raise WeightsError(reason)
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(_harmless())):
            warnings.simplefilter("ignore")  # on the pickle protocol; ours to refuse, not to note
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives fail in every way there is
        raise WeightsError(
            f"weights file {path}: refused, it is not a plain file of tensors and would have to "
            f"run code to be read ({_culprit(error)}); save its state_dict as .safetensors"
        ) from None


def _other_kind(path: Path) -> str:
    """What a file is that torch did not save, and what would work; empty if it may be one."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(HDF5):
        return f"an HDF5 file, of Keras or TensorFlow; {_CONVERT} (only PyTorch's weights are read)"
    if start[257:262] == TAR:
        return f"a tar archive, not weights; unpack it, or {_CONVERT}"
    if not (start.startswith(ZIP) and zipfile.is_zipfile(path)):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except Exception:  # a damaged archive, which torch will refuse, too
        return ""
    if any(name.endswith(".npy") for name in names):
        return f"an archive of numpy arrays, as Flax and JAX keep weights; {_CONVERT}"
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return (
            "a TorchScript archive, which brings code; save its tensors: "
            f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pt')"
        )
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return f"a Keras archive; {_CONVERT} (only PyTorch's weights are read)"
    return "" if any(name.endswith("data.pkl") for name in names) else "an archive of other things"


def _harmless() -> Iterator[Any]:
    """Classes and functions that make a value and do nothing else, with the names files use."""
    yield from (argparse.Namespace, types.SimpleNamespace)
    yield _plain_dictionary, "collections.defaultdict"
    yield from (set, frozenset, complex, slice, range, int, float, bool, str, list, dict, tuple)
    yield from (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)
    yield datetime.timezone
    for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"):
        # Of another system's path only its text is needed.
        pure = pathlib.PureWindowsPath if "Windows" in name else pathlib.PurePosixPath
        yield from ((pure, f"{module}.{name}") for module in ("pathlib", "pathlib._local"))
    yield from ((collections.OrderedDict, name) for name in _SUBCLASSES.split())
    yield from _numpy()


def _plain_dictionary(*arguments: object) -> collections.OrderedDict[Any, Any]:
    """In place of a dictionary that makes its values: torch's machine fills plain ones only."""
    return collections.OrderedDict()


_SUBCLASSES = """
lightning.fabric.utilities.data.AttributeDict lightning_fabric.utilities.data.AttributeDict
lightning.pytorch.utilities.parsing.AttributeDict pytorch_lightning.utilities.parsing.AttributeDict
easydict.EasyDict ml_collections.config_dict.config_dict.ConfigDict yacs.config.CfgNode
fvcore.common.config.CfgNode addict.addict.Dict timm.utils.misc.AttrDict munch.Munch
"""
"""Dictionaries with attributes, in which scripts keep their options."""


def _numpy() -> Iterator[Any]:
    newer = importlib.util.find_spec("numpy._core") is not None
    multiarray = importlib.import_module(f"numpy.{'_core' if newer else 'core'}.multiarray")
    yield np.dtype
    yield np.ndarray
    for kind in vars(np.dtypes).values():
        if isinstance(kind, type) and kind.__name__.startswith(_PLAIN_DTYPES):
            yield kind
    for function in (multiarray.scalar, multiarray._reconstruct):
        for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            yield function, f"{module}.{function.__name__}"


def _culprit(error: Exception) -> str:
    """What was refused, by its name, in one line."""
    message = str(error)
    names = re.findall(r"GLOBAL (\S+)", message) + re.findall(
        r"<(?:class|function) '?([\w.]+)", message
    )
    if "Unsupported operand" in message:
        return "its pickle has another protocol than torch's own, 2"
    if names:
        module = ", a whole module" if names[0].startswith("torch.nn.modules") else ""
        return printable(f"it holds {names[0]}{module}")
    return printable((message.splitlines() or [type(error).__name__])[0])


def is_torch(path: Path) -> bool:
    """Whether a file begins like one of torch.save, or like another kind that we recognise."""
    with path.open("rb") as file:
        start = file.read(512)
    return start.startswith((ZIP, PICKLE, HDF5)) or start[257:262] == TAR
