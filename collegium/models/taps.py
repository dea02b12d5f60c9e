"""Hidden layers read by forward hooks.

No network is edited: a layer is a module path, and a hook keeps what the module returned, read as a
map. Nothing else is kept.
"""

import itertools
import weakref
from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor, nn

from collegium.errors import UnknownNameError
from collegium.models.reading import FLOW, Reading, read, wholes


class Taps:
    """Keeps some layers of a network as maps (B, D, H, W), from one forward to the next.

    Of a layer that is read as a summary only that is kept; of a flow both layers, until they are
    taken.

    Args:
        network: read, never changed.
        layers: module paths as in `network.named_modules()`, each with how it is read.

    Raises:
        UnknownNameError: a path is not in the network.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        self._maps: dict[str, Tensor] = {}
        self._layers = tuple(layers)
        self._handles = []
        self._network = network
        _OPEN.add(self)
        modules = dict(network.named_modules())
        # Two layers make one only when both have been seen.
        heard = (wholes(layer) if layer.endswith(FLOW) else (layer,) for layer in layers)
        for layer in dict.fromkeys(itertools.chain.from_iterable(heard)):
            reading = Reading.of(layer)
            if reading.path not in modules:
                raise UnknownNameError("layer", reading.path, (name for name in modules if name))
            hook = self._hook(layer, reading)
            self._handles.append(modules[reading.path].register_forward_hook(hook))

    def _hook(self, layer: str, reading: Reading) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            self._maps[layer] = reading.map(output)

        return keep

    def take(self) -> dict[str, Tensor]:
        """The maps of the last forward, in the order of the layers; forgets them."""
        maps = {layer: read(self._maps, layer) for layer in self._layers}
        self._maps.clear()
        return maps

    def close(self) -> None:
        """Leave the network alone from now on."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._maps.clear()
        _OPEN.discard(self)

    def reads(self, modules: Collection[nn.Module]) -> bool:
        """Whether the network is one of these modules."""
        return self._network in modules

    def __enter__(self) -> "Taps":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_OPEN: "weakref.WeakSet[Taps]" = weakref.WeakSet()
"""All that read some network: whoever gives a network back closes those of it."""


def close_taps(module: nn.Module) -> None:
    """Stop reading layers of a module or of a part of it, whoever began to."""
    modules = set(module.modules())
    for taps in list(_OPEN):
        if taps.reads(modules):
            taps.close()
