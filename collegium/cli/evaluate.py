"""The commands that measure: evaluate, audit."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from collegium.cli.options import Answer, Command, Json, QuietCommand, of_data
from collegium.config.options import DataConfig, Machine, TeacherConfig
from collegium.errors import RequestError
from collegium.models.model_string import check_models


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Accuracy, loss and calibration of a network."""

    data: DataConfig
    model: str
    """A model string with weights, or a run folder."""
    split: Literal["train", "validation", "test"] | None = None
    """Which split; by default test, else validation."""
    labels: Path | None = None
    """A label map in JSON, where the network's classes are not the data's."""
    batch_size: int = 500
    """Images in one forward pass."""
    machine: Machine = field(default_factory=Machine)

    def run(self) -> Answer:
        """Measure the network."""
        check_models(self.model)
        from collegium.api import evaluate
        from collegium.utils.progress import Display

        how = self.given("split", "batch_size", "machine", "labels")
        result = evaluate(self.model, **how, **of_data(self.data))
        for note in result.get("notes", ()):
            Display(label="evaluate").say(f"model: {note}")
        return Answer(result, _in_words(result))


def _in_words(result: Json) -> str:
    known = ""
    if "accuracy_known" in result:
        known = f" ({100 * result['accuracy_known']:.2f} % of the {result['images_known']}"
        known += " whose class it knows)"
    return (
        f"{100 * result['accuracy']:.2f} % of {result['images']} images of the "
        f"{result['split']} split{known}; cross entropy {result['loss']:.4f}, calibration "
        f"error {result['ece']:.4f}; {result['parameters']:,} parameters, "
        f"{result['images_per_s']:.0f} images/s"
    )


@dataclass(frozen=True, kw_only=True)
class Audit(QuietCommand):
    """What teachers are worth on some data, alone and together, and which look loaded wrongly."""

    data: DataConfig
    teachers: TeacherConfig = field(default_factory=TeacherConfig)
    split: Literal["validation", "train", "test"] = "validation"
    """Which split; validation, so that nothing is chosen on test."""
    student: str | None = None
    """A network whose cost is compared with theirs."""
    store: Path | None = None
    """Folder of stored teacher outputs: read where it has them, filled where it does not."""
    probe: int = 512
    """Images that other normalisations, colours and sizes are tried on; 0 to try none."""
    out: Path | None = None
    """Folder for audit.json, audit.md and audit.html."""
    overwrite: bool = False
    """Replace the audit that is in the folder."""
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        if not self.teachers.teachers or self.probe < 0:
            raise RequestError("an audit needs --teacher NAME=MODEL, and --probe of at least 0")

    def run(self) -> Answer:
        """Measure the teachers."""
        check_models(self.student, *self.teachers.teachers.values())
        from collegium.audit.examine import audit
        from collegium.audit.record import check_folder, write_audit
        from collegium.audit.tables import terminal

        if self.out is not None:
            check_folder(self.out, self.overwrite)
        how = self.given("split", "student", "store", "probe", "machine", "quiet")
        found = audit(**vars(self.teachers), **of_data(self.data), **how)
        if self.out is None:
            return Answer(found, terminal(found))
        write_audit(self.out, found)
        text = f"{terminal(found)}\nresults saved to {self.out}"
        return Answer({**found, "folder": str(self.out)}, text)
