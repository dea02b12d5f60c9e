"""What layers returned, kept as it was returned.

An operation in place that follows a layer, as `relu(inplace=True)` or `x += y`, writes over the
tensor that the layer returned, so that a reference to it gives another value after the forward.
Such a layer is copied when it returns. All others are kept as they are: torch counts the writes to
a tensor's memory, so a layer is copied until a forward has shown that nothing writes over it, and
the count is checked after every later forward.
"""

import contextlib
import copy
import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from collegium.errors import RequestError
from collegium.models.features.layer_names import LayerSpec, tensor_in
from collegium.models.outputs import describe_output


class _Value(NamedTuple):
    """One layer in one forward.

    Attributes:
        feature: what is read: a map, a summary, or what the module returned or a copy of it; empty
            where it cannot be read.
        layer_spec: how the feature is still to be read; by default as the map it is.
        returned: the very tensor the module returned; None where nothing is to be checked.
        version: its count of writes when it was returned.
        copied: whether the feature is a copy.
        training: whether the module was in training mode.
        wrong: why the layer cannot be read; nothing where it can.
    """

    feature: Tensor = torch.empty(0)
    layer_spec: LayerSpec = LayerSpec("")
    returned: Tensor | None = None
    version: int = 0
    copied: bool = True
    training: bool = False
    wrong: str = ""


_NOT_CALLED = _Value(
    wrong="was called on a blank image in evaluation mode, but not in this forward; name a layer "
    "that every forward calls"
)


class Kept:
    """The layers of one forward, from their hooks until they are taken.

    Of a module that is called several times the last call counts.

    Args:
        whose: the network is, in messages.
    """

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._values: dict[str, _Value] = {}
        self._written: dict[tuple[str, bool], bool] = {}
        self.rehearsing = False

    def put(self, layer: str, layer_spec: LayerSpec, module: nn.Module, output: object) -> None:
        """Keep what a module returned."""
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            return  # a checkpoint computes it again for the backward
        returned = tensor_in(output)
        if returned is None or layer_spec.shape(returned.shape[1:]) is None:
            mode = "training" if module.training else "evaluation"
            gave = f"gave {describe_output(output)} in {mode} mode, which cannot be read as it was"
            self._values[layer] = _Value(wrong=f"{gave} on a blank image; name another layer")
        elif layer_spec.summary and not torch.is_grad_enabled() and not self.rehearsing:
            self._values[layer] = _Value(layer_spec.map(returned))
        else:
            self._values[layer] = self._value(layer, layer_spec, module.training, returned)

    def _value(self, layer: str, layer_spec: LayerSpec, training: bool, returned: Tensor) -> _Value:
        safe = self._written.get((layer, training)) is False
        feature = returned if safe else _copy(returned)
        if torch.is_grad_enabled():
            # A summary is made when it is taken: what it saves for its backward could be written
            # over, or be missing where a checkpoint computes it again.
            feature = layer_spec.full_map(feature)
            layer_spec = LayerSpec("", summary=layer_spec.summary)
        # Else a view would have no gradient: the very tensor that a checkpoint with reentry
        # returns gets one after the hook.
        if torch.compiler.is_compiling() or returned.is_inference():  # torch counts no writes here
            return _Value(feature, layer_spec)
        return _Value(feature, layer_spec, returned, returned._version, not safe, training)

    def maps(self, layers: Iterable[str], examples: int | None = None) -> dict[str, Tensor]:
        """These layers of the last forward of so many examples, by name.

        Raises:
            RequestError: a layer was not called, gave another shape than its name requires, or was
                written over for the first time.
        """
        found = {}
        for layer in layers:
            value = self._values.get(layer, _NOT_CALLED)
            if wrong := value.wrong or self._wrong(layer, value, examples):
                raise RequestError(f"layer {layer!r} of {self._whose} {wrong}")
            found[layer] = value.layer_spec.map(value.feature)
        return found

    def _wrong(self, layer: str, value: _Value, examples: int | None) -> str:
        """Why a layer that was read cannot be used; notes whether it was written over."""
        if examples is not None and len(value.feature) != examples:
            rows = f"{len(value.feature)} rows for {examples} images"
            return f"gave {rows}, so it is no map of each; name another layer"
        if value.returned is None:
            return ""
        written = value.returned._version != value.version
        if written and not value.copied:
            return (
                "was written over in place in this forward and not in earlier ones; use "
                "inplace=False after it, or name another layer"
            )
        key = layer, value.training
        self._written[key] = written or self._written.get(key, False)
        return ""

    def clear(self) -> None:
        """Forget the last forward, but not what is written over."""
        self._values.clear()


def _copy(tensor: Tensor) -> Tensor:
    """The same values in the same layout, which decides how sums over them round."""
    if any(stride == 0 for stride in tensor.stride()):
        return tensor.clone()
    sizes, strides = tensor.shape, tensor.stride()
    return tensor.detach().new_empty_strided(sizes, strides).copy_(tensor)


@contextlib.contextmanager
def _counts_kept(network: nn.Module) -> Iterator[None]:
    """Restore extra state and attributes that are numbers or text afterwards."""
    parts = [part for part in network.modules() if not isinstance(part, torch.jit.ScriptModule)]
    plain = [
        (vars(part), {n: v for n, v in vars(part).items() if isinstance(v, int | float | str)})
        for part in parts
    ]
    extra = [
        (part, copy.deepcopy(part.get_extra_state()))
        for part in parts
        if type(part).get_extra_state is not nn.Module.get_extra_state
    ]
    try:
        yield
    finally:
        for held, values in plain:
            held.update(values)
        for part, state in extra:
            part.set_extra_state(state)


@contextlib.contextmanager
def random_states_kept(devices: Iterable[torch.device]) -> Iterator[None]:
    """Restore the global generators of torch, NumPy and Python afterwards.

    Args:
        devices: whose generators torch may use; at most one kind besides the CPU.
    """
    accelerators = [device for device in devices if device.type != "cpu"]
    kind = accelerators[0].type if accelerators else "cuda"
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([one.index or 0 for one in accelerators], device_type=kind):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextlib.contextmanager
def without_a_trace(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Run a network once more than the user did, and restore what that changes.

    Buffers, attributes that are numbers or text (such as step counts), extra state, and what
    the random generators had drawn.
    """
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in network.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        with _counts_kept(network), random_states_kept([device]), torch.no_grad():
            yield
    finally:
        # Weights that were rounded without a gradient must not be used again.
        torch.clear_autocast_cache()
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer
                buffer.copy_(value)
