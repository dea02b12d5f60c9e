"""Hidden layers read by forward hooks.

No network is edited: a layer is a module path, and a hook keeps what the module returned, read as a
map. Nothing else is kept.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from collegium.errors import UnknownNameError
from collegium.models import summaries
from collegium.models.reading import Reading, wholes


class Taps:
    """Keeps some layers of a network as maps (B, D, H, W), from one forward to the next.

    Of a layer that is read as a summary only that is kept. A flow is between an earlier layer and
    a later one, in this order.

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
        self._first: dict[str, Tensor] = {}
        modules = dict(network.named_modules())
        for layer in layers:
            for reading, hook in self._hooks(layer):
                if reading.path not in modules:
                    known = (name for name in modules if name)
                    raise UnknownNameError("layer", reading.path, known)
                self._handles.append(modules[reading.path].register_forward_hook(hook))

    def _hooks(self, layer: str) -> list[tuple[Reading, Any]]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            self._maps[layer] = reading.map(output)

        def keep_first(module: nn.Module, inputs: Any, output: Any) -> None:
            self._first[layer] = first.map(output)

        def keep_flow(module: nn.Module, inputs: Any, output: Any) -> None:
            self._maps[layer] = summaries.flow(self._first.pop(layer), second.map(output))

        if len(wholes(layer)) == 2:
            first, second = map(Reading.of, wholes(layer))
            return [(first, keep_first), (second, keep_flow)]
        reading = Reading.of(layer)
        return [(reading, keep)]

    def take(self) -> dict[str, Tensor]:
        """The maps of the last forward, in the order of the layers; forgets them."""
        maps = {layer: self._maps[layer] for layer in self._layers}
        self._maps.clear()
        return maps

    def close(self) -> None:
        """Leave the network alone from now on."""
        for handle in self._handles:
            handle.remove()
