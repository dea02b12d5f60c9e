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
        self._halves: dict[str, dict[int, Tensor]] = {}
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

        def keep_half(place: int, half: Reading) -> Any:
            def keep_it(module: nn.Module, inputs: Any, output: Any) -> None:
                self._halves.setdefault(layer, {})[place] = half.map(output)

            return keep_it

        if len(wholes(layer)) == 2:
            halves = [Reading.of(whole) for whole in wholes(layer)]
            return [(half, keep_half(place, half)) for place, half in enumerate(halves)]
        reading = Reading.of(layer)
        return [(reading, keep)]

    def take(self) -> dict[str, Tensor]:
        """The maps of the last forward, in the order of the layers; forgets them."""
        for layer, halves in self._halves.items():
            self._maps[layer] = summaries.flow(halves[0], halves[1])
        self._halves.clear()
        maps = {layer: self._maps[layer] for layer in self._layers}
        self._maps.clear()
        return maps

    def close(self) -> None:
        """Leave the network alone from now on."""
        for handle in self._handles:
            handle.remove()
