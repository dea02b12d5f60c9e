"""The state of a module as plain, separate tensors and JSON, and its hash.

A `state_dict` holds more than that: one tensor under two names, extra state that is a dictionary,
packed int8 weights, sparse tensors. What a file can hold is written; the rest is refused by name.
"""

import copy
import hashlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from collegium.errors import RequestError

EXTRA = "_extra_state"
"""The last part of the name that extra state has in a `state_dict`."""
Extra = dict[str, Any]
"""JSON by name: what is no tensor, with the names of the tensors in it."""


def pack_state(state: Mapping[str, Any], whose: str) -> tuple[dict[str, Tensor], Extra]:
    """Tensors and JSON of a `state_dict`.

    Args:
        state: what `state_dict()` gave.
        whose: it is, in messages.

    Returns:
        Tensors by name, contiguous, on the CPU, none sharing memory with another; and what is no
        tensor, empty for most networks.

    Raises:
        RequestError: naming what no file can hold.
    """
    tensors: dict[str, Tensor] = {}
    extra: Extra = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            tensors[name] = _storable(value, name, whose)
        else:
            extra[name] = _encode(value, name, whose, tensors)
    return separate(tensors), extra


def unpack_state(tensors: Mapping[str, Tensor], extra: Extra) -> dict[str, Any]:
    """What `pack_state` was given."""
    within = set(tensor_names(extra))
    state: dict[str, Any] = {name: t for name, t in tensors.items() if name not in within}
    return state | {name: decode(value, tensors) for name, value in extra.items()}


def separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same on the CPU, contiguous; what shares memory with an earlier one is copied."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        plain[name] = value.clone() if place in seen else value
        seen.add(place)
    return plain


def snapshot(module: nn.Module) -> dict[str, Any]:
    """A copy of a module's state as it is now."""
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in module.state_dict().items()
    }


def state_tensors(module: nn.Module) -> dict[str, Tensor]:
    """What is a tensor in a module's state, by name."""
    return {n: value for n, value in _complete_state(module).items() if isinstance(value, Tensor)}


def _storable(tensor: Tensor, name: str, whose: str) -> Tensor:
    """The tensor, if a weights file can hold it.

    Raises:
        RequestError: it is sparse, quantised, without numbers or of an unknown type.
    """
    kind = ""
    if tensor.is_quantized:
        kind = "a quantised tensor, which cannot be trained: give the network before quantisation"
    elif tensor.layout != torch.strided:
        kind = f"{tensor.layout}: make it dense, or register it with persistent=False"
    elif tensor.is_meta:
        kind = "on the meta device, which holds no numbers: use to_empty() and load its weights"
    elif any(s == 0 and n > 1 for s, n in zip(tensor.stride(), tensor.shape, strict=True)):
        kind = "an expanded tensor, which load_state_dict() cannot fill: register its .clone()"
    elif not _has_type(tensor.dtype):
        kind = f"{tensor.dtype}, which safetensors cannot hold: use another type"
    if kind:
        raise RequestError(f"{whose} cannot be saved: {name} is {kind}")
    return tensor


def _has_type(dtype: torch.dtype) -> bool:
    try:
        save({"": torch.empty(0, dtype=dtype)})
    except (SafetensorError, ValueError, KeyError, RuntimeError):
        return False
    return True


def _encode(value: Any, name: str, whose: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for what is no tensor; tensors in it are put to the others."""
    if isinstance(value, Tensor | np.ndarray):
        place = f"{name}.{sum(other.startswith(f'{name}.') for other in tensors)}"
        found = value if isinstance(value, Tensor) else torch.from_numpy(value.copy())
        tensors[place] = _storable(found, name, whose)
        return {"tensor" if isinstance(value, Tensor) else "array": place}
    if isinstance(value, Mapping):
        pairs = [[_encode(part, name, whose, tensors) for part in pair] for pair in value.items()]
        return {"dict": pairs}
    if isinstance(value, tuple | list):
        parts = [_encode(part, name, whose, tensors) for part in value]
        return {"tuple": parts} if isinstance(value, tuple) else parts
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    raise RequestError(
        f"{whose} cannot be saved: its state {name} holds a {type(value).__name__}; let "
        "get_extra_state() give tensors, numbers, text, lists and dictionaries"
    )


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What was encoded."""
    if isinstance(value, list):
        return [decode(part, tensors) for part in value]
    if not isinstance(value, Mapping):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {decode(k, tensors): decode(v, tensors) for k, v in content}
    if kind == "tuple":
        return tuple(decode(part, tensors) for part in content)
    if kind == "dtype":
        return getattr(torch, content)
    if kind == "bytes":
        return bytes.fromhex(content)
    return tensors[content].numpy() if kind == "array" else tensors[content]


def tensor_names(value: Any) -> Iterator[str]:
    """The names of the tensors that encoded values refer to."""
    if isinstance(value, list):
        for part in value:
            yield from tensor_names(part)
    elif isinstance(value, Mapping):
        for kind, content in value.items():
            if kind in ("tensor", "array") and isinstance(content, str):
                yield content
            else:
                yield from tensor_names(content)


def set_extra_state(module: nn.Module, name: str, value: Any) -> None:
    """Put extra state back into the module that its name in a `state_dict` gives."""
    path = name.removesuffix(EXTRA).rstrip(".")
    module.get_submodule(path).set_extra_state(value)


def hash_state(module: nn.Module) -> str:
    """SHA-256 over a module's state: name, type, shape and bytes of every tensor, and the rest."""
    digest = hashlib.sha256()
    state = _complete_state(module)
    for name, value in (*((name, state[name]) for name in sorted(state)), *_constants(module)):
        _feed(digest, name, value)
    return digest.hexdigest()


def _complete_state(module: nn.Module) -> dict[str, Any]:
    """A module's state, with the parameters that a `state_dict` of the user's leaves out."""
    try:
        state = dict(module.state_dict())
    except TypeError:  # an override without the arguments that torch gives to parts
        state = dict(module.named_buffers())
    return {**dict(module.named_parameters()), **state}


def _feed(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        _feed_tensor(digest, name, value.detach())
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _feed(digest, f"{name}.{key}", part)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for place, part in enumerate(value):
            _feed(digest, f"{name}.{place}", part)
    else:
        plain = isinstance(value, str | bytes | int | float | torch.dtype | None)
        content = repr(value).encode() if plain else _pickled(value)
        digest.update(f"{name} {type(value).__name__} ".encode() + content + b"\n")


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception:  # Whatever a user's object raises.
        return b""


def _feed_tensor(digest: Any, name: str, tensor: Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    if tensor.is_meta:
        return
    if tensor.is_quantized:
        digest.update(f"{tensor.qscheme()}\n".encode())
        _feed_tensor(digest, "values", tensor.int_repr())
        _feed_tensor(digest, "numbers", tensor.dequantize())
    elif tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        _feed_tensor(digest, "indices", tensor.indices())
        _feed_tensor(digest, "values", tensor.values())
    elif tensor.layout != torch.strided:
        _feed_tensor(digest, "dense", tensor.to_dense())
    elif hasattr(tensor, "__tensor_flatten__"):
        names, context = tensor.__tensor_flatten__()
        digest.update(f"{context}\n".encode())
        for part in names:
            _feed(digest, part, getattr(tensor, part))
    else:
        plain = tensor.cpu().contiguous().view(-1)
        digest.update(plain.view(torch.uint8).numpy().data)


def _constants(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What TorchScript keeps outside of its state: a frozen network has all its weights there."""
    for path, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            graph = getattr(part, "inlined_graph", None)
            for place, node in enumerate(graph.nodes() if graph is not None else ()):
                yield f"{path}:{place}", node.kind()
                if node.kind() == "prim::Constant" and node.outputsSize():
                    yield f"{path}:{place}", _constant(node)


def _constant(node: Any) -> Any:
    try:
        value = node.output().toIValue()
    except RuntimeError:
        return None
    return value if isinstance(value, Tensor) else repr(value)
