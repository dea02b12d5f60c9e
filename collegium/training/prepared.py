"""The parts of a run as `collegium.runner.setup` builds them and the training loop uses them."""

from dataclasses import dataclass
from typing import Any

from collegium.build import Runtime
from collegium.config.run import Run
from collegium.data import Loader, Splits
from collegium.store import Store
from collegium.store.whole_splits import SplitPredictor
from collegium.teachers import AbstractTeacherSource
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.training.module import DistillModule


@dataclass(frozen=True)
class Teachers:
    """All teachers of a run, including those that its method does not use.

    Attributes:
        ensemble: the networks.
        predict_split: returns the predictions of a teacher, by name, on a split.
        measured: by teacher name, `accuracy` on the validation split; also `images_known` and
            `accuracy_known` for a teacher that knows only some of the classes.
        active: names of the teachers that the method uses.
    """

    ensemble: TeacherEnsemble
    predict_split: SplitPredictor
    measured: dict[str, dict[str, Any]]
    active: tuple[str, ...]


@dataclass(frozen=True)
class PreparedRun:
    """All parts of a run, built and checked; nothing is written yet.

    Attributes:
        run: the request, with every default resolved.
        runtime: devices, processes, display.
        splits: the data.
        teachers: the teachers.
        module: student and objective.
        loader: this process's part of the training data.
        source: returns the outputs of the active teachers, batch by batch.
        store: the store of these outputs; None if they are not stored.
        threads: CPU threads of this process.
    """

    run: Run
    runtime: Runtime
    splits: Splits
    teachers: Teachers
    module: DistillModule
    loader: Loader
    source: AbstractTeacherSource
    store: Store | None
    threads: int
