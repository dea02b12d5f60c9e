"""What layers returned, kept as it was returned.

An operation in place that follows a layer, as `relu(inplace=True)` or `x += y`, writes over the
tensor that the layer returned, so that a reference to it gives another value after the forward.
Such a layer is copied when it returns. All others are kept as they are: torch counts the writes to
a tensor's memory, so a layer is copied until a forward has shown that nothing writes over it, and
the count is checked after every later forward.
"""

import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from collegium.errors import RequestError
from collegium.models.outputs import describe_output
from collegium.models.reading import Reading, tensor_in
from collegium.models.summaries import SUMMARIES


class _Value(NamedTuple):
    """One layer in one forward.

    Attributes:
        map_BDHW: the layer, or a copy of it.
        summary: what is made of the map when it is taken.
        returned: the very tensor the module returned; None where nothing is to be checked.
        version: its count of writes when it was returned.
        copied: whether the map is a copy.
        training: whether the module was in training mode.
    """

    map_BDHW: Tensor
    summary: str = ""
    returned: Tensor | None = None
    version: int = 0
    copied: bool = True
    training: bool = False


class Kept:
    """The layers of one forward, from their hooks until they are taken.

    Args:
        whose: the network is, in messages.
    """

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._values: dict[str, _Value] = {}
        self._written: dict[tuple[str, bool], bool] = {}
        self.rehearsing = False

    def put(self, layer: str, reading: Reading, module: nn.Module, output: object) -> None:
        """Keep what a module returned.

        Raises:
            RequestError: it is not what the layer's name says.
        """
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            return  # a checkpoint computes it again for the backward
        returned = tensor_in(output)
        if returned is None or reading.shape(returned.shape[1:]) is None:
            mode = "training" if module.training else "evaluation"
            raise RequestError(
                f"layer {layer!r} of {self._whose} gave {describe_output(output)} in {mode} mode, "
                "which cannot be read as it was on a blank image; name another layer"
            )
        if reading.summary and not torch.is_grad_enabled() and not self.rehearsing:
            self._values[layer] = _Value(reading.map(returned))
            return
        # A summary that gradients flow through is made when it is taken: what it saved for its
        # backward could be written over, or be missing where a checkpoint computes it again.
        safe = self._written.get((layer, module.training)) is False
        map_BDHW = reading.whole(returned if safe else _copy(returned))
        if torch.compiler.is_compiling() or returned.is_inference():  # nobody counts writes
            self._values[layer] = _Value(map_BDHW, reading.summary)
            return
        self._values[layer] = _Value(
            map_BDHW, reading.summary, returned, returned._version, not safe, module.training
        )

    def maps(self, layers: Iterable[str]) -> dict[str, Tensor]:
        """These layers of the last forward, by name.

        Raises:
            RequestError: a layer was not called, or written over for the first time.
        """
        found = {}
        for layer in layers:
            if layer not in self._values:
                raise RequestError(
                    f"layer {layer!r} of {self._whose} was called on a blank image in evaluation "
                    "mode, but not in this forward; name a layer that every forward calls"
                )
            value = self._values[layer]
            self._check(layer, value)
            map_BDHW = value.map_BDHW
            found[layer] = SUMMARIES[value.summary](map_BDHW) if value.summary else map_BDHW
        return found

    def _check(self, layer: str, value: _Value) -> None:
        if value.returned is None:
            return
        written = value.returned._version != value.version
        if written and not value.copied:
            raise RequestError(
                f"layer {layer!r} of {self._whose} was written over in place in this forward and "
                "not in earlier ones; use inplace=False after it, or name another layer"
            )
        key = layer, value.training
        self._written[key] = written or self._written.get(key, False)

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
def without_a_trace(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Run a network once more than was asked for: buffers and random numbers are put back."""
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in network.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    states = random.getstate(), np.random.get_state()
    devices = [] if device.type == "cpu" else [device.index or 0]
    kind = "cuda" if device.type == "cpu" else device.type
    try:
        with torch.random.fork_rng(devices, device_type=kind), torch.no_grad():
            yield
    finally:
        # Weights that were rounded without a gradient must not be found again.
        torch.clear_autocast_cache()
        random.setstate(states[0])
        np.random.set_state(states[1])
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer
                buffer.copy_(value)
