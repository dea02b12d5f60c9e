"""Hidden layers read by forward hooks.

No network is edited: a layer is a module path, and a hook keeps what the module returned, read as a
map, as it was when the module returned it. Nothing else is kept.
"""

import itertools
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from collegium.errors import UnknownNameError
from collegium.models.features.captured import Kept, without_a_trace
from collegium.models.features.layer_names import FLOW, LayerSpec, read, source_layers


class FeatureHooks:
    """Keeps some layers of a network as maps (B, D, H, W), from one forward to the next.

    Of a layer that is read as a summary only that is kept; of a flow both layers, until they are
    taken. Hooks are there from the beginning until `close()`; a `with` puts them back for its time.

    Args:
        network: read, never changed.
        layers: module paths as in `network.named_modules()`, each with how it is read.
        whose: the network is, in messages.

    Raises:
        UnknownNameError: a path is not in the network.
    """

    def __init__(
        self, network: nn.Module, layers: Sequence[str], whose: str = "the network"
    ) -> None:
        self._maps = Kept(whose)
        self.layers = tuple(layers)
        self._rehearsed: set[bool] = set()
        self._handles: list[RemovableHandle] = []
        self.network = network
        # A flow is computed when both of its layers have been read.
        parts = (source_layers(layer) if layer.endswith(FLOW) else (layer,) for layer in layers)
        self._read_layers = tuple(dict.fromkeys(itertools.chain.from_iterable(parts)))
        self._open()

    def _open(self) -> None:
        _OPEN.add(self)
        modules = dict(self.network.named_modules()) if self._read_layers else {}
        for layer in self._read_layers:
            layer_spec = LayerSpec.of(layer)
            if layer_spec.path not in modules:
                raise UnknownNameError("layer", layer_spec.path, (name for name in modules if name))
            hook = self._hook(layer, layer_spec)
            self._handles.append(modules[layer_spec.path].register_forward_hook(hook))

    def _hook(self, layer: str, layer_spec: LayerSpec) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            self._maps.put(layer, layer_spec, module, output)

        return keep

    def wants_rehearsal(self, training: bool) -> bool:
        """Whether the next forward is the first with gradients in this mode."""
        return bool(self.layers) and training not in self._rehearsed and torch.is_grad_enabled()

    def try_step(self, network: nn.Module, images_BDHW: Tensor) -> None:
        """Find out what is written over, before the first forward with gradients in a mode.

        A layer's copy that turns out to be needless would change the order in which gradients are
        added.

        Args:
            network: that the layers are of, what it is in, or a copy, which has the same hooks; run
                once in the mode it is in.
            images_BDHW: what it will be given.

        Raises:
            RequestError: a layer that is not called, or gives something else than it did.
        """
        self._maps.rehearsing = True
        try:
            with without_a_trace(network, images_BDHW.device):
                network(images_BDHW.clone())
                self.take(len(images_BDHW))
        finally:
            self._maps.rehearsing = False
        self._rehearsed.add(network.training)

    def take(self, examples: int | None = None) -> dict[str, Tensor]:
        """The maps of the last forward, in the order of the layers; forgets them.

        Args:
            examples: of that forward; None to take what there is.

        Raises:
            RequestError: a layer was not called, or gives no map for each example.
        """
        try:
            given = self._maps.maps(self._read_layers, examples)
        finally:
            self._maps.clear()
        return {layer: read(given, layer) for layer in self.layers}

    def forget(self) -> None:
        """Forget a forward whose maps are not needed."""
        self._maps.clear()

    def close(self) -> None:
        """Leave the network alone from now on."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._maps.clear()
        _OPEN.discard(self)

    def __enter__(self) -> "FeatureHooks":
        if not self._handles:
            self._open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_OPEN: "weakref.WeakSet[FeatureHooks]" = weakref.WeakSet()
"""All that read some network: whoever gives a network back closes those of it."""


def close_hooks(module: nn.Module) -> None:
    """Stop reading layers of a module or of a part of it, whoever began to."""
    modules = set(module.modules())
    for hooks in list(_OPEN):
        if hooks.network in modules:
            hooks.close()
