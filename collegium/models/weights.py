"""Weights files: safetensors, or tensors in a .pt read without running anything in it."""

import json
import pickle
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from collegium.errors import WeightsError
from collegium.files import with_metadata
from collegium.models.network import Network

SHOWN = 3
"""How many keys of each kind a refusal lists."""


_COPIED = 1 << 22
"""Numbers that are read at a time."""


class _TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read when it is asked for.

    So that loading a large network takes its own memory and little more, not twice as much.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with safe_open(path, framework="pt") as file:
            self._names = tuple(file.keys())
            self.metadata: dict[str, str] = file.metadata() or {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        with safe_open(self._path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, without reading it."""
        with safe_open(self._path, framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def copy_to(self, target: Tensor, name: str) -> None:
        """Fill a tensor of the same shape, some rows at a time."""
        if not target.ndim:
            target.copy_(self[name])
            return
        rows = max(1, _COPIED // max(1, target[0].numel()))
        for start in range(0, len(target), rows):
            # Opened anew each time: the pages of an open file that were read count as ours.
            with safe_open(self._path, framework="pt") as file:
                part = file.get_slice(name)[start : start + rows]
                target[start : start + rows].copy_(part)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_weights(path: Path) -> tuple[Mapping[str, Tensor], dict[str, str]]:
    """The tensors of a weights file and its metadata.

    Raises:
        WeightsError: missing, damaged, of another kind, or holding more than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"weights file {path}: no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pt", ".pth", ".th", ".bin"):
        return _read_torch(path), {}
    raise WeightsError(
        f"weights file {path}: unknown kind {path.suffix!r}; give .safetensors, .pt or .pth"
    )


def _read_safetensors(path: Path) -> tuple[Mapping[str, Tensor], dict[str, str]]:
    try:
        tensors = _TensorFile(path)
        return tensors, tensors.metadata
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"weights file {path}: not a sound safetensors file ({error})") from None


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the pickle protocol; ours to refuse, not to note
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"weights file {path}: refused, it is not a plain file of tensors and would have to "
            f"run code to be read ({reason}); save its state_dict as .safetensors"
        ) from None
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(
            f"weights file {path}: expected a state_dict (names to tensors), found "
            f"{_describe(content)}"
        )
    return dict(content)


def _describe(content: Any) -> str:
    if isinstance(content, dict):
        return f"a dictionary with keys {_some(map(str, content))}"
    return f"a {type(content).__name__}"


def fit_weights(body: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Load tensors into a body, all of them or not at all.

    Raises:
        WeightsError: keys missing, unexpected or of another shape; a few of each, with the count.
    """
    own = body.state_dict()
    # Files of old or other tools leave out BatchNorm's step counter; nothing reads it here.
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    unexpected = [key for key in tensors if key not in own]
    wrong = [k for k in own if k in tensors and own[k].shape != _shape(tensors, k)]
    if missing or unexpected or wrong:
        shapes = [f"{k} {_size(_shape(tensors, k))} for {_size(own[k].shape)}" for k in wrong]
        parts = {"missing": missing, "unexpected": unexpected, "wrong shape": shapes}
        found = "; ".join(f"{len(v)} {k} ({_some(v)})" for k, v in parts.items() if v)
        raise WeightsError(
            f"weights file {source} does not fit the network: {found}{_other_classes(own, tensors)}"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            if isinstance(tensors, _TensorFile) and name in tensors:
                tensors.copy_to(tensor, name)
            elif name in tensors:
                tensor.copy_(tensors[name])


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if isinstance(tensors, _TensorFile):
        return tensors.shape(name)
    return tuple(tensors[name].shape)


def _other_classes(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """Say so where only the number of classes differs: the last tensor's first axis."""
    last = list(own)[-1]
    differ = [k for k in own if k in tensors and own[k].shape != _shape(tensors, k)]
    if last not in differ or len(differ) > 2 or set(tensors) - set(own):
        return ""
    return f"; it knows {_shape(tensors, last)[0]} classes, the data has {len(own[last])}"


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def network_metadata(network: Network, **more: str) -> dict[str, str]:
    """What a weights file says of its network: enough to build it again."""
    return {
        "architecture": network.spec,
        "classes": json.dumps(network.classes),
        "mean": " ".join(f"{value:.6g}" for value in network.preprocess.mean),
        "std": " ".join(f"{value:.6g}" for value in network.preprocess.std),
        "format": "pt",
        **more,
    }


def network_bytes(network: Network, **more: str) -> bytes:
    """A safetensors file of the body under its own key names, and what builds it again."""
    state = network.body.state_dict()
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    return with_metadata(save(tensors), network_metadata(network, **more))
