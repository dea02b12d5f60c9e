"""The commands that train: demo, train, distill, resume."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from collegium.cli.options import (
    Answer,
    Folder,
    QuietCommand,
    RunCommand,
    StudentCommand,
    options_of,
    require_teachers,
)
from collegium.config.option import changeable
from collegium.config.options import DataConfig, Machine, Optimisation, TrainingConfig
from collegium.config.run import Run
from collegium.methods import DEFAULT, find_method
from collegium.methods.base import AbstractMethod
from collegium.models.model_string import check_models

if TYPE_CHECKING:
    from collegium.records.run_folder import Record

    MachineChange = Machine
else:
    MachineChange = changeable(Machine, "By default as it was.")


@dataclass(frozen=True, kw_only=True)
class Demo(RunCommand):
    """Real handwritten digits: three teachers, a student alone and the same student distilled."""

    machine: Machine = field(default_factory=Machine)

    def run(self) -> Answer:
        """Train all of it."""
        from collegium.demo import run_demo

        how = self.given("overwrite", "quiet", "tensorboard", "machine")
        return Answer(*run_demo(self.folder("demo"), **how))


@dataclass(frozen=True, kw_only=True)
class Train(RunCommand):
    """One network on labels: how teachers and baselines are made."""

    data: DataConfig
    model: str
    """The network: cifar:resnet20, small:cnn, timm:NAME, torchvision:NAME, hf:NAME_OR_DIR,
    path/to/file.py:function, a run folder; @FILE or @pretrained for its start."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    optimisation: Optimisation = field(default_factory=Optimisation)
    machine: Machine = field(default_factory=Machine)

    def run(self) -> Answer:
        """Train the network."""
        parts = options_of(self.data, self.training) | self.given("optimisation", "machine")
        return _train(self, "train", Run(student=self.model, **parts))


@dataclass(frozen=True, kw_only=True)
class Distill(StudentCommand, RunCommand):
    """One student from several teachers: --data D --student M --teacher NAME=M ... METHOD.

    The method's own options come after its name.
    """

    method: AbstractMethod | None = None

    def __post_init__(self) -> None:
        method = self._method
        given = self.teachers.teachers or not method.uses_teachers
        require_teachers(f"method {method.slug}", given)

    def run(self) -> Answer:
        """Train the student."""
        return _train(self, self._method.slug, self.base(method=self._method))

    @property
    def _method(self) -> AbstractMethod:
        """The method; known methods are imported only where none is named or one is needed."""
        return self.method or find_method(DEFAULT)()


def _train(command: RunCommand, name: str, run: Run) -> Answer:
    check_models(run.student, *run.teachers.values())
    from collegium.api import execute  # imports torch

    how = command.given("overwrite", "quiet", "tensorboard")
    return _answer(execute(run, command.folder(name), label=name, **how))


def _answer(record: "Record") -> Answer:
    if not record.path("summary.json").is_file():
        return Answer({})  # the first process of the run answers
    summary = record.answer()
    lines = [f"{100 * summary['accuracy_last']:.2f} % on the {summary['split']} split"]
    if summary.get("accuracy_at_best_validation") is not None:
        best = 100 * summary["accuracy_at_best_validation"]
        lines.append(f"{best:.2f} % with the weights that were best on validation")
    weights = [f"{name} {weight:.3f}" for name, weight in summary.weights.items()]
    if weights:
        lines.append("mean teacher weights: " + ", ".join(weights))
    lines.append(f"{summary['seconds']:.0f} s, {summary['images_per_s']:.0f} images/s")
    lines.append(f"results saved to {record.folder}")
    return Answer({**summary, "folder": str(record.folder)}, "\n".join(lines))


@dataclass(frozen=True, kw_only=True)
class Resume(QuietCommand):
    """Continue a run that was stopped, or give a finished one more epochs.

    Everything stays as it was, but for these options, which do not decide what is trained.
    """

    folder: Folder
    """The run folder."""
    epochs: int | None = None
    """Epochs in all, also of a finished run. It continues from the last checkpoint, and from there
    the learning rate follows the schedule of so many."""
    changed_code: bool = False
    """Continue although the source code of a network (path/to/file.py:function) has changed."""
    tensorboard: bool = False
    """Write metrics as TensorBoard events too; a run that has some always continues them."""
    machine: MachineChange = field(default_factory=MachineChange)

    def run(self) -> Answer:
        """Continue the run."""
        from collegium.api import resume

        machine = {name: value for name, value in vars(self.machine).items() if value is not None}
        how = self.given("quiet", "epochs", "changed_code", "tensorboard")
        return _answer(resume(self.folder, **how, **machine))
