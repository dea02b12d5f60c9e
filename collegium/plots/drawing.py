"""The figures of a run, for any class that provides its numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from collegium.errors import FolderError, UnknownNameError
from collegium.plots import plots, words
from collegium.plots.chart import Chart
from collegium.plots.heat import Heat
from collegium.plots.matrices import agreement_matrix, class_matrix, confusion_matrix, names_in
from collegium.plots.notebook import card
from collegium.plots.tables import Table, accuracy_of_teachers, names_of, teachers_table

_Part = TypeVar("_Part")

_NO_WEIGHTS = "no teacher has a weight so far"
_FEW = "fewer than two teachers have weights so far"
_EARLY = "the run did not get there"


class AbstractDrawing(Protocol):
    """Figures of a run: each shows itself in a notebook, and `save` writes it as SVG.

    Each raises `FolderError` with the reason where its numbers are missing.
    """

    folder: Path

    @property
    def run(self) -> dict[str, Any]:
        """run.json."""

    @property
    def teachers(self) -> Sequence[dict[str, Any]]:
        """teachers.json."""

    @property
    def weights(self) -> dict[str, NDArray[Any]]:
        """weights.npz; empty where there is none."""

    @property
    def predictions(self) -> dict[str, NDArray[Any]]:
        """predictions.npz; empty where there is none."""

    def metrics(self, split: str | None = None) -> Sequence[dict[str, Any]]:
        """The lines of metrics.jsonl, of one split or all."""

    def found(self) -> dict[str, Any]:
        """summary.json; empty while the run is not finished."""

    def plot_accuracy(self) -> Chart:
        """Accuracy by epoch, between the worst and the best teacher."""
        chart = plots.accuracy_chart(self.metrics(), self.teacher_accuracy())
        return self._required(chart, _EARLY)

    def plot_losses(self) -> Chart:
        """Every term of the loss by epoch."""
        return self._required(plots.loss_chart(self.metrics()), _EARLY)

    def plot_hints(self) -> Chart:
        """The hint losses by pair of teacher and layer."""
        return self._required(plots.hint_chart(self.metrics()), "no layers were compared so far")

    def plot_gradients(self) -> Chart:
        """Each term's share of the student's gradient by epoch."""
        return self._required(plots.gradient_chart(self.metrics()), "there are no two terms so far")

    def plot_weights(self) -> Chart:
        """Mean weight of each teacher by epoch."""
        return self._required(plots.weights_chart(self.metrics()), _NO_WEIGHTS)

    def plot_entropy(self) -> Chart:
        """Entropy of the weights, and their spread between examples."""
        return self._required(plots.entropy_chart(self.metrics()), _FEW)

    def plot_distribution(self) -> Chart:
        """Histogram of each teacher's weights over the training examples."""
        return self._required(plots.distribution_chart(self.weights), self._late(_FEW))

    def plot_correctness(self) -> Chart:
        """Mean weight of each teacher where it is right, and where it is wrong."""
        chart = plots.correctness_chart(self.predictions, names_of(self.teachers))
        return self._required(chart, self._late(_FEW))

    def plot_classes(self) -> Heat:
        """Mean weight of each teacher by class."""
        table = class_matrix(self.weights, names_in(self.predictions, "classes"))
        return Heat(self._required(table, self._late(_FEW)))

    def plot_confusions(self, teacher: str | None = None) -> Heat:
        """The student's classes against the truth, or against a teacher's, in percent of a row.

        Args:
            teacher: its name; None for the truth.

        Raises:
            UnknownNameError: there is no such teacher.
        """
        names = names_of(self.teachers)
        if teacher is not None and teacher not in names:
            raise UnknownNameError("teacher", teacher, names)
        arrays = self._required(self.predictions, _EARLY)
        other_N = arrays["teachers"][names.index(teacher)] if teacher else arrays["labels"]
        classes = names_in(arrays, "classes")
        return Heat(confusion_matrix(teacher or "the truth", other_N, arrays["student"], classes))

    def plot_agreement(self) -> Heat:
        """How often each two of truth, student and teachers give the same class."""
        arrays = self._required(self.predictions, _EARLY)
        return Heat(agreement_matrix(names_of(self.teachers), arrays))

    def teacher_accuracy(self) -> dict[str, float]:
        """Of each teacher: on the evaluation split, or before the end on validation."""
        return accuracy_of_teachers(self.teachers, self.found())

    def _late(self, why: str) -> str:
        """The reason why a part is missing that is written at the end of a run."""
        return why if self.found() else _EARLY

    def _required(self, part: _Part | None, why: str) -> _Part:
        """The part itself.

        Raises:
            FolderError: it is missing or empty, for this reason.
        """
        if not part:
            raise FolderError(f"{self.folder} has nothing to draw here: {why}")
        return part

    def _repr_html_(self) -> str:
        problems: list[str] = []

        def part(make: Callable[[], _Part]) -> _Part | None:
            try:
                return make()
            except (AttributeError, LookupError, TypeError, ValueError, FolderError) as error:
                problems.append(str(error))
                return None

        answer = part(self._answer) or "This run has no summary."
        table = part(self._teachers_table) if part(lambda: self.teachers) else None
        made = [part(self.plot_accuracy), part(self.plot_weights) if table else None]
        figures = [figure for figure in made if figure]
        return card(str(self.folder), answer, table, figures, list(dict.fromkeys(problems)))

    def _answer(self) -> str:
        ends = self.found()
        if ends:
            return words.about_one(self.run, ends)
        lines = self.metrics()
        epochs = words.epochs_of(self.run, lines)
        return words.about_unfinished(epochs, lines[-1:], "this run is not finished")

    def _teachers_table(self) -> Table:
        train = self.metrics("train")
        return teachers_table(self.teachers, train[-1] if train else {}, self.found())
