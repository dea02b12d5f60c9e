"""What teachers say of whole splits as they are, from a store where there is one.

A folder of stored answers holds, beside the views that are trained on, a store of plain views for
each data set: `plain/FINGERPRINT-PRECISION`. Logits are kept there in full precision, so what is
measured on them is what would be measured live.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from collegium.config.options import Machine
from collegium.data import ImageData, Views
from collegium.errors import NumericsError
from collegium.evaluation.predict import Predictions, collect
from collegium.store.identity import check_answers
from collegium.store.open import CHECKED, StoreRequest
from collegium.store.store import LOGITS, PLAIN
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.utils.progress import Display


@dataclass(frozen=True)
class SplitPredictor:
    """Asks teachers about splits.

    Attributes:
        ensemble: who is asked.
        machine: what they compute in.
        fabric: processes and devices.
        display: where progress is shown.
        store: folder of stored answers, which is filled where it has none; None to ask live.
        data: what the data are called by the user.
    """

    ensemble: TeacherEnsemble
    machine: Machine
    fabric: Fabric
    display: Display
    store: Path | None = None
    data: str = ""

    def __call__(self, name: str, data: ImageData, *, fill: bool = True) -> Predictions:
        """What one teacher says of a split; NaN and infinities are said, and never stored.

        Args:
            name: of the teacher.
            data: the split.
            fill: write down what the store does not have; else it is only read.

        Raises:
            FolderError: the store holds another teacher of that name.
        """
        if self.store is not None:
            try:
                found = self._stored(name, data, self.store, fill)
            except NumericsError:
                found = None  # whoever looks at the answers decides what that means
            if found is not None:
                return found
        with self.ensemble.loaded(name) as teacher:
            return collect(
                lambda batch: teacher.answer(batch.images_BDHW).logits_BC,
                data,
                device=self.fabric.device,
                labels=teacher.labels,
            )

    def _stored(self, name: str, data: ImageData, store: Path, fill: bool) -> Predictions | None:
        whole = data.whole
        pixels = replace(data, origin=whole).to(self.fabric.device)
        views = Views(pixels, "none", 0, self.machine.channels_last, self.machine.decoders)
        request = StoreRequest(
            self.data, views, self.ensemble, self.machine, 128, self.fabric, self.display
        )
        folder = store / PLAIN / f"{whole.fingerprint[:16]}-{self.machine.precision}"
        _, volumes, writer = request.open(folder, {name: {LOGITS: "fp32"}})
        index_N = data.index_N.cpu().numpy()
        if not fill and volumes[name][LOGITS].absent(index_N, 0).any():
            return None
        check_answers(writer, name, volumes[name], CHECKED)
        # Every process needs all of it, at once: none waits for the others.
        writer.fill(name, volumes[name], index_N, 0, alone=True)
        logits_NC = volumes[name][LOGITS].look_up(index_N, np.zeros_like(index_N))
        labels = self.ensemble.infos[name].labels
        if labels is not None:
            logits_NC = labels.spread(logits_NC)
        return Predictions(logits_NC, data.labels_N.cpu(), torch.from_numpy(index_N), labels)
