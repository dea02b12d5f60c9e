"""Teachers that are run now, for every batch."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from collegium.models.network import Network, freeze
from collegium.models.taps import Taps
from collegium.teachers.source import AbstractTeacherSource
from collegium.types import Batch, Layers, TeacherOutputs


class LiveTeachers(AbstractTeacherSource):
    """Frozen networks, each looking at the view in its own terms.

    Args:
        teachers: by name; kept in evaluation mode and without gradients.
        layers: which hidden layers are read.
        classes: C, for a source without teachers.
        precision: gives the context a forward runs in, autocast or nothing.
    """

    def __init__(
        self,
        teachers: Mapping[str, Network],
        layers: Layers | None = None,
        *,
        classes: int = 0,
        precision: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.names = tuple(teachers)
        self._networks = {name: freeze(network) for name, network in teachers.items()}
        paths = layers.teachers if layers else {}
        self._taps = {
            name: Taps(self._networks[name].body, paths[name]) for name in teachers if name in paths
        }
        self._classes, self._precision = classes, precision

    def outputs(self, batch: Batch) -> TeacherOutputs:
        """One forward of each teacher, in listed order."""
        logits = [self._answer(name, batch) for name in self.names]
        stacked_BTC = (
            torch.stack(logits, dim=1)
            if logits
            else batch.images_BDHW.new_empty(len(batch), 0, self._classes)
        )
        return TeacherOutputs(stacked_BTC, {name: taps.take() for name, taps in self._taps.items()})

    def _answer(self, name: str, batch: Batch) -> Tensor:
        network = self._networks[name]
        network.eval()  # whoever holds the module may have called train() on it
        with torch.no_grad(), self._precision():
            logits_BC: Tensor = network(batch.images_BDHW)
        return logits_BC.float()
