"""The results of a run as dataclasses: the keys of its JSON files, their kinds and meanings.

Each is also the JSON object it is written as (`FlatRecord`): `summary.accuracy_last` and
`summary["accuracy_last"]` are the same. The tables of docs/run-folder.md have the same texts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from collegium.records.schema import LARGEST, ByName, FlatRecord, Number, Share
from collegium.utils.from_json import Range

Epoch = Annotated[int, Range(0, LARGEST - 1)]
Step = Annotated[int, Range(0, 10**12 - 1)]
SharesByTeacher = Annotated[Mapping[str, Share], ByName("TEACHER")]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Summary(FlatRecord):
    """summary.json: the results of a finished run.

    Attributes:
        method: slug of the method.
        split: the evaluation split; all accuracies here are of it.
        accuracy_last: the student after the last epoch.
        accuracy_at_best_validation: the student of `best_epoch`; null without validation.
        best_epoch: the epoch that was best on validation; null without validation.
        ece: expected calibration error over 15 equal bins, 0 to 1.
        agreement: how often the student predicts the same class as the teacher, on the examples
            whose class the teacher knows.
        accuracy: of each teacher.
        accuracy_known: only of teachers that do not know every class: on the examples whose class
            it knows.
        parameters: of the student.
        seconds: of training, over all sessions.
        teacher_seconds: the part of `seconds` spent in teachers.
        images_per_s: of training, over all sessions.
        inference_images_per_s: images a second the student classifies, over the evaluation split.
        store_hits: part of the teachers' outputs in this session that the store had, 0 to 1; 0
            without a store.
        changes: only where epochs or code were changed on purpose during the run: what, and after
            which epoch, in words.
        weights: mean weight of the teacher over the training examples in the last epoch.
        accuracy_best_test: the largest accuracy of the `watched` lines, where there are any; it is
            optimistic, since that epoch is chosen on the test split.
    """

    needed: ClassVar = ("method", "split", "accuracy_last", "seconds", "images_per_s")

    method: str
    split: str
    accuracy_last: Share
    accuracy_at_best_validation: Share | None
    best_epoch: int | None
    ece: Share
    agreement: SharesByTeacher = field(default_factory=dict)
    accuracy: SharesByTeacher = field(default_factory=dict)
    accuracy_known: SharesByTeacher = field(default_factory=dict)
    parameters: int
    seconds: float
    teacher_seconds: float
    images_per_s: float
    inference_images_per_s: float
    store_hits: float
    changes: list[str] | None = None
    weights: Annotated[Mapping[str, float], ByName("TEACHER")] = field(default_factory=dict)
    accuracy_best_test: Share | None = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MetricsLine(FlatRecord):
    """A line of metrics.jsonl: one epoch on one split.

    Attributes:
        epoch: number of the epoch, from 0.
        step: steps so far.
        split: `train`, `validation` or `test`; `watched` is the test split after each epoch, only
            with `compare --best-test`.
        accuracy: on `train` of the augmented views, as training saw them.
        terms: mean of each term, scaled; they add up to `loss`.
        loss: on `train` the training loss, else the mean cross entropy in nats.
        weights: mean weight of each teacher that is used.
        weights_entropy: mean entropy of the weights, divided by ln T: 0 is one teacher, 1 is
            uniform.
        weights_variance: variance of the weights between examples, the mean over teachers: 0 means
            the example does not matter.
        weights_from_uniform: half the L1 distance to uniform: 0 is uniform, 1 - 1/T one teacher.
        lr: learning rate of the student at the last step.
        images_per_s: speed of training.
        seconds: of the epoch; on `validation` and `watched` of the measurement.
        teacher_seconds: the part of `seconds` spent in teachers.
        skipped: only with `--skip-nonfinite`: steps that were left out.
        gradient_share: each term's part of the student's gradient, by norm, on up to 32 examples in
            evaluation mode at the epoch's end.
        warning: only where learned weights collapsed.
    """

    epoch: Epoch
    step: Step
    split: str
    accuracy: Number
    terms: Annotated[Mapping[str, Number], ByName("TERM", "loss")] = field(default_factory=dict)
    loss: Number
    weights: Annotated[Mapping[str, Number], ByName("TEACHER")] = field(default_factory=dict)
    weights_entropy: Number | None = None
    weights_variance: Number | None = None
    weights_from_uniform: Number | None = None
    lr: Number | None = None
    images_per_s: Number | None = None
    seconds: Number | None = None
    teacher_seconds: Number | None = None
    skipped: int | None = None
    gradient_share: Annotated[Mapping[str, Number], ByName("TERM")] = field(default_factory=dict)
    warning: str | None = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TeacherRecord(FlatRecord):
    """An object of teachers.json.

    Attributes:
        name: as the run calls it.
        spec: its model string.
        sha256: of every parameter and saved buffer.
        classes: names of its classes, in the order of its logits.
        mean: its normalisation, by channel.
        std: its normalisation, by channel.
        resizing: what it resizes every view to, such as `224x224 bicubic`; empty where it takes
            views as they are.
        parameters: their number.
        changes: what made it fast: `folded`, `channels-last`, `low precision`, `compiled in ...`.
        licence: of its weights, as their file, their library or `?licence=` says; `unknown` where
            none of them does.
        accuracy: on the validation split, if there is one, and of that on 1,000 images, unless the
            method chooses by it; too high for a teacher that was trained on these very images.
        images_known: only of a teacher that does not know every class: how many of these images
            have a class it knows.
        accuracy_known: accuracy on these `images_known`.
        labels: only where its classes are not the student's: which of `theirs` are which of `ours`.
        hints: its layers and the student's that were compared, as `--hint-pairs` takes them.
        code: only of a user's own network: its source, as in run.json.
    """

    needed: ClassVar = ("name",)

    name: str
    spec: str
    sha256: str
    classes: list[str]
    mean: list[float]
    std: list[float]
    resizing: str
    parameters: int
    changes: list[str]
    licence: str
    accuracy: Share | None = None
    images_known: int | None = None
    accuracy_known: Share | None = None
    labels: Any = None
    hints: list[str]
    code: dict[str, str] | None = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Evaluation(FlatRecord):
    """The result of `evaluate`: one network on one split.

    Attributes:
        split: its name.
        images: their number.
        accuracy: of all images.
        loss: mean cross entropy in nats, of the images whose class the model knows.
        ece: expected calibration error, of the images whose class the model knows.
        parameters: of the model.
        seconds: of the measurement.
        images_per_s: speed of the measurement.
        images_known: only of a model that does not know every class: images whose class it knows.
        accuracy_known: accuracy on these `images_known`.
        notes: how its weights were loaded, where there is something to note.
    """

    split: str
    images: int
    accuracy: Share
    loss: Number
    ece: Number
    parameters: int
    seconds: float
    images_per_s: float
    images_known: int | None = None
    accuracy_known: Share | None = None
    notes: list[str] | None = None
