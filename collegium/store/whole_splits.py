"""Teacher predictions for whole splits without augmentation, from a store if there is one.

Besides the training views, a store folder holds one store of unaugmented views for each data set:
`plain/FINGERPRINT-PRECISION`. It stores logits in float32, so metrics computed from them equal
metrics computed from live outputs.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from collegium.build import Runtime
from collegium.data import ImageData, Views
from collegium.errors import NumericsError
from collegium.evaluation.predict import Predictions, collect
from collegium.store.identity import check_answers
from collegium.store.open import CHECKED, StoreRequest
from collegium.store.store import LOGITS, PLAIN
from collegium.teachers.ensemble import TeacherEnsemble


@dataclass(frozen=True)
class SplitPredictor:
    """Computes teacher predictions for whole splits.

    Attributes:
        ensemble: the teachers.
        runtime: where the teachers run.
        store: folder of stored outputs, to which missing outputs are added; None runs the teachers
            without a store.
        data: the data string the user gave.
    """

    ensemble: TeacherEnsemble
    runtime: Runtime
    store: Path | None = None
    data: str = ""

    def __call__(self, name: str, data: ImageData, *, fill: bool = True) -> Predictions:
        """One teacher's predictions for a split; NaN and infinity are returned but never stored.

        Args:
            name: of the teacher.
            data: the split.
            fill: store missing outputs; otherwise the store is only read.

        Raises:
            FolderError: the store holds a different teacher with this name.
        """
        if self.store is not None:
            try:
                found = self._stored(name, data, self.store, fill)
            except NumericsError:
                found = None  # run it live: the caller handles NaN and infinity
            if found is not None:
                return found
        with self.ensemble.loaded(name) as teacher:
            return collect(
                lambda batch: teacher.answer(batch.images_BDHW).logits_BC,
                data,
                device=self.runtime.fabric.device,
                labels=teacher.labels,
            )

    def _stored(self, name: str, data: ImageData, store: Path, fill: bool) -> Predictions | None:
        whole, machine = data.whole, self.runtime.machine
        pixels = replace(data, origin=whole).to(self.runtime.fabric.device)
        views = Views(pixels, "none", 0, machine.channels_last, machine.decoders)
        request = StoreRequest(self.data, views, self.ensemble, 128, self.runtime)
        folder = store / PLAIN / f"{whole.fingerprint[:16]}-{machine.precision}"
        _, volumes, writer = request.open(folder, {name: {LOGITS: "fp32"}})
        index_N = data.index_N.cpu().numpy()
        if not fill and volumes[name][LOGITS].absent(index_N, 0).any():
            return None
        check_answers(writer, name, volumes[name], CHECKED)
        # Every process needs all outputs now and computes them itself, without waiting for others.
        writer.fill(name, volumes[name], index_N, 0, alone=True)
        logits_NC = volumes[name][LOGITS].look_up(index_N, np.zeros_like(index_N))
        labels = self.ensemble.infos[name].labels
        if labels is not None:
            logits_NC = labels.spread(logits_NC)
        return Predictions(logits_NC, data.labels_N.cpu(), torch.from_numpy(index_N), labels)
