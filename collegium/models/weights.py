"""Weights files: safetensors, or tensors in a .pt read without running anything in it."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from collegium.errors import WeightsError
from collegium.models.key_matching import COMPILED, LoadingReport, Match, Shape, match_keys
from collegium.models.network import Network
from collegium.models.safe_pickle import is_torch, read_pickle
from collegium.models.state import (
    EXTRA,
    decode,
    pack_state,
    set_extra_state,
    state_tensors,
    tensor_names,
)
from collegium.utils.files import json_object, with_metadata
from collegium.utils.text import some

EXTRA_WORD = "extra_state"
"""The key of a file's metadata that holds, as JSON, what modules keep beside tensors."""
_COPIED = 1 << 22
"""Numbers that are read at a time."""


class _TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read on access.

    So that loading a large network takes its own memory and little more, not twice as much.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with safe_open(path, framework="pt") as file:
            self._names = tuple(file.keys())
            self.metadata: dict[str, str] = file.metadata() or {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        with safe_open(self.path, framework="pt") as file:
            return file.get_tensor(name)

    def shapes(self) -> dict[str, Shape]:
        """Of every tensor, without reading any."""
        with safe_open(self.path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in self._names}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


_KEYS = "state_dict model_state_dict model_state model net network module weights params checkpoint"
NESTED = tuple(_KEYS.split())
"""Keys under which training scripts keep a network's tensors in a checkpoint."""
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "params_ema")
"""The same, averaged over training: what was evaluated, so they come first."""


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that was read.

    Attributes:
        source: where it lies.
        tensors: by name.
        metadata: of the file.
        taken: the part of a checkpoint the tensors stood in; empty for a bare file.
        ignored: its other parts.
        extra: what its modules kept beside tensors, by name in the state_dict.
    """

    source: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    taken: str = ""
    ignored: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def classes(self) -> tuple[str, ...]:
        """The names it has for its classes; empty where it has none.

        Raises:
            WeightsError: they cannot be read.
        """
        return read_classes(self.metadata, self.source)

    def shapes(self) -> dict[str, Shape]:
        """Of every tensor that is no extra state, without reading any."""
        if isinstance(self.tensors, _TensorFile):
            found = self.tensors.shapes()
        else:
            found = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        within = set(tensor_names(self._packed_extra()))
        return {n: s for n, s in found.items() if n not in within and not n.endswith(EXTRA)}

    def extra_state(self) -> dict[str, Any]:
        """What modules keep beside tensors (`get_extra_state`), by its name in a state_dict."""
        own = {name: self.tensors[name] for name in self.tensors if name.endswith(EXTRA)}
        packed = {n: decode(value, self.tensors) for n, value in self._packed_extra().items()}
        return {**self.extra, **own, **packed}

    def _packed_extra(self) -> dict[str, Any]:
        found = json_object(self.metadata.get(EXTRA_WORD, "{}"))
        if found is None:
            raise WeightsError(f"{self.source}: its extra state cannot be read")
        return found


def read_classes(metadata: Mapping[str, str], source: object) -> tuple[str, ...]:
    """The names of classes that metadata give; empty where they give none.

    Raises:
        WeightsError: the entry is no list of names.
    """
    try:
        names = json.loads(metadata.get("classes", "[]"))
    except (ValueError, TypeError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
        raise WeightsError(
            f"{source}: its list of classes cannot be read (expected JSON, as "
            '\'["cat", "dog"]\'); a teacher\'s are given by --labels NAME=FILE too'
        )
    return tuple(map(str, names))


def read_weights(path: Path) -> WeightsFile:
    """The tensors of a weights file and its metadata.

    Raises:
        WeightsError: missing, damaged, of another kind, or holding more than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"weights file {path}: no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pt", ".pth", ".th", ".bin", ".ckpt") or is_torch(path):
        return _read_torch(path)
    raise WeightsError(
        f"weights file {path}: unknown kind {path.suffix!r}; give .safetensors, .pt or .pth"
    )


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        _check_header(path)
        tensors = _TensorFile(path)
        return WeightsFile(path, tensors, tensors.metadata)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"weights file {path}: not a valid safetensors file ({error})") from None


def _check_header(path: Path) -> None:
    """Refuse a header with one key twice, of which every reader would take another.

    Raises:
        ValueError: it has one, or is no JSON.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"its header has {some(twice)} twice")
        return dict(pairs)

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length <= path.stat().st_size:  # else the library reports the error
            json.loads(file.read(length), object_pairs_hook=once)


def _read_torch(path: Path) -> WeightsFile:
    content = read_pickle(path)
    taken, state = _state_dict(content)
    if state is None:
        raise WeightsError(
            f"weights file {path}: expected a state_dict (names to tensors), found "
            f"{_describe(content)}"
        )
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    rest = {str(name): value for name, value in state.items() if name not in tensors}
    extra = {name: value for name, value in rest.items() if name.endswith(EXTRA)}
    others = [str(key) for key in content if taken and str(key) not in taken.split(".")]
    return WeightsFile(path, tensors, {}, taken, tuple(others), extra)


def _state_dict(content: Any, inside: str = "") -> tuple[str, Mapping[str, Any] | None]:
    """The first mapping of names to tensors under the usual keys, and its key."""
    if not isinstance(content, Mapping) or not content:
        return inside, None
    plain = [isinstance(value, Tensor) for value in content.values()]
    if all(plain):
        return inside, content
    for key in (*AVERAGED, *NESTED):
        taken, state = _state_dict(content.get(key), f"{inside}.{key}".strip("."))
        if state is not None:
            return taken, state
    # A state_dict may carry a module's extra state beside its tensors.
    return inside, content if any(plain) and all("." in str(key) for key in content) else None


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dictionary with keys {some(map(str, content))}" if content else "nothing"
    return f"a {type(content).__name__}"


def fit_weights(body: nn.Module, file: WeightsFile) -> LoadingReport:
    """Load tensors into a body, all of them or not at all.

    Raises:
        WeightsError: keys missing, of another shape or another architecture; a few of each, with
            the count and what is nearest.
    """
    match = _without_tied(match_file(body, file), body)
    if not match.fits:
        raise match.refusal(file.source)
    with torch.no_grad():
        for name, tensor in body.state_dict().items():
            if name in match.found and not name.endswith(EXTRA):
                _copy(file.tensors, match.found[name], tensor)
    match = _fit_extra(body, file, match)
    return LoadingReport(str(file.source), match, file.taken, file.ignored)


def _without_tied(match: Match, body: nn.Module) -> Match:
    """Names that a file leaves out because they are another name for a tensor that it has."""
    state = state_tensors(body)
    there = {(state[n].data_ptr(), state[n].shape) for n in match.found if state[n].numel()}
    missing = tuple(n for n in match.missing if (state[n].data_ptr(), state[n].shape) not in there)
    return dataclasses.replace(match, missing=missing)


def _fit_extra(body: nn.Module, file: WeightsFile, match: Match) -> Match:
    """Put extra state back, which is no tensor to copy into; what the file lacks is left out."""
    wanted = [name for name in body.state_dict() if name.endswith(EXTRA)]
    there = {
        match.added + name.replace(COMPILED, "").removeprefix(match.removed): value
        for name, value in file.extra_state().items()
    }
    for name in wanted:
        if name in there:
            set_extra_state(body, name, there[name])
    left_out = tuple(name for name in wanted if name not in there)
    return dataclasses.replace(match, left_out=(*match.left_out, *left_out))


def _copy(tensors: Mapping[str, Tensor], name: str, target: Tensor) -> None:
    """Fill a tensor of the same shape; of a safetensors file some rows at a time."""
    if not (isinstance(tensors, _TensorFile) and target.ndim):
        target.copy_(tensors[name])
        return
    rows = max(1, _COPIED // max(1, target[0].numel()))
    for start in range(0, len(target), rows):
        # Opened anew each time: the pages of an open file that were read count as ours.
        with safe_open(tensors.path, framework="pt") as file:
            part = file.get_slice(name)[start : start + rows]
            target[start : start + rows].copy_(part)


def shapes_of(body: nn.Module) -> dict[str, Shape]:
    """Of every parameter and buffer that is saved.

    Raises:
        WeightsError: there are lazy layers.
    """
    state = state_tensors(body)
    if lazy := next((name for name, tensor in state.items() if is_lazy(tensor)), None):
        raise WeightsError(
            f"weights cannot be loaded into the lazy {lazy}, whose shape is not known yet: build "
            "the network with sizes, or run it once where it is built"
        )
    return {n: tuple(value.shape) for n, value in state.items() if not n.endswith(EXTRA)}


def match_file(body: nn.Module, file: WeightsFile) -> Match:
    """Which tensor of a file belongs to which of a body.

    Raises:
        WeightsError: two sets of weights in the file fit equally well, or there are lazy layers.
    """
    return match_keys(shapes_of(body), file.shapes(), str(file.source))


def network_metadata(network: Network, **more: str) -> dict[str, str]:
    """Metadata of a weights file, enough to build its network again."""
    return {
        "architecture": network.spec,
        "classes": json.dumps(network.classes),
        **network.preprocess.metadata(),
        **network.origin.metadata,
        "format": "pt",
        **more,
    }


def network_bytes(network: Network, **more: str) -> bytes:
    """A safetensors file of the body under its own key names, and what builds it again."""
    state = network.body.state_dict()
    tensors, extra = pack_state(state, f"model {network.spec}")
    if extra:
        more = {**more, EXTRA_WORD: json.dumps(extra)}
    return with_metadata(save(tensors), network_metadata(network, **more))
