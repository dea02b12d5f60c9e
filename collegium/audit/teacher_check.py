"""One teacher looked through: what was loaded wrongly, cheap explanations first."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from collegium.audit.advice import names
from collegium.audit.blocks import Sample, fitting
from collegium.audit.cost import Cost
from collegium.audit.ensemble import shuffled
from collegium.audit.finding import REMEDIES, Finding, most_likely
from collegium.audit.loading import examine_network, promise
from collegium.audit.remedies import fixed_by, try_remedies, try_sizes
from collegium.audit.statistics import examine_statistics, misfit
from collegium.audit.symptoms import (
    FEW,
    LEAST,
    compare_with_promise,
    examine_answers,
    says_too_little,
)
from collegium.build import Labels, make_teacher
from collegium.data import ImageData, Loader
from collegium.evaluation.predict import Predictions
from collegium.models.input_spec import InputSpec
from collegium.models.network import Network
from collegium.models.outputs import logits_of
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.teachers.label_map import LabelMap
from collegium.utils.progress import Display

SIZE_PROBE = 128
"""Images that other sizes are tried on, which takes longer."""
WEAK = 0.9
"""A teacher is weak below this part of the best one's accuracy; a cause that brings it above
explains it."""


class Translated(nn.Module):
    """A body whose logits are of those classes of the data, or groups of them, that it tells apart.

    Args:
        body: of a teacher.
        labels: how its classes are those of the data.
        spec: what it is called in messages.
    """

    def __init__(self, body: nn.Module, labels: LabelMap, spec: str) -> None:
        super().__init__()
        self.body, self.labels, self.spec = body, labels, spec

    def forward(self, images_BDHW: Tensor) -> Tensor:
        """Logits of the groups in `labels`."""
        return self.labels.own(self.labels.read(logits_of(self.body(images_BDHW), self.spec)))


@dataclass(frozen=True)
class Panel:
    """Everything the examination of teachers needs.

    Attributes:
        data: the split they are examined on.
        input_spec: what networks are built for.
        models: model strings or modules, by name.
        specs: what each is called by the user.
        ensemble: the teachers as they answer.
        display: where progress is shown.
        device: where they run.
        labels: label maps of teachers whose class names are others.
    """

    data: ImageData
    input_spec: InputSpec
    models: Mapping[str, str | nn.Module]
    specs: Mapping[str, str]
    ensemble: TeacherEnsemble
    display: Display
    device: torch.device
    labels: Mapping[str, Labels]

    def network(self, name: str) -> Network:
        """A teacher as it was loaded; its logits are those of `Predictions.own`."""
        network = make_teacher(name, self.models[name], self.input_spec, self.labels.get(name))
        labels = self.ensemble.infos[name].labels
        if labels is not None:
            network.body = Translated(network.body, labels, network.spec).eval()
        return network.to(self.device)

    def sample(self, count: int, labels: LabelMap | None = None) -> Sample:
        """Up to so many examples from all over the split, of classes that the labels know."""
        data, labels_N = self.data, self.data.labels_N
        if labels is not None and not labels.whole:
            labels_N = torch.tensor(labels.numbers, device=labels_N.device)[labels_N]
            data = data.subset(labels_N >= 0)
        some = data.subset(shuffled(len(data))[:count].sort().values)
        batch = next(Loader(some, len(some), device=self.device).epoch(0))
        labels_B = batch.labels_B
        if labels is not None:
            labels_B = torch.tensor(labels.numbers, device=labels_B.device)[labels_B]
        return Sample(batch.images_BDHW, labels_B)

    def blank(self) -> Tensor:
        """One view of zeros."""
        return torch.zeros(1, *self.input_spec.image_shape, device=self.device)

    def classes(self, name: str) -> tuple[str, ...]:
        """Names of the classes of the data, or groups of them, that a teacher tells apart."""
        labels = self.ensemble.infos[name].labels
        return tuple(self.data.classes) if labels is None else labels.group_names


@dataclass(frozen=True)
class Examination:
    """Looks for what is wrong with one teacher, cheap explanations first, until one is found.

    Attributes:
        panel: what all have in common.
        name: of the teacher.
        network: as it was loaded.
        whole: its outputs for the whole split.
        cost: of one view.
        best: largest accuracy of any teacher.
    """

    panel: Panel
    name: str
    network: Network
    whole: Predictions
    cost: Cost
    best: float

    def findings(self, probe: int) -> list[Finding]:
        """Causes where they show, else what would mend it, tried on so many images."""
        said, name = self.whole.own(), self.name
        if not len(said.labels_N):
            text = "knows the class of none of these images, so nothing was measured"
            return [Finding(name, "unknown-classes", text)]
        found = list(examine_answers(name, said, self.panel.classes(name)))
        labels = self.panel.ensemble.infos[name].labels
        sample = self.panel.sample(max(probe, SIZE_PROBE), labels)
        sample = dataclasses.replace(sample, block=fitting(self.cost))
        causes = examine_network(name, self.network, sample.images_BDHW, says_too_little(said))
        found += causes
        found += compare_with_promise(name, said, self._promised())
        if not probe or self._explained(found) or not said.finite_N.all():
            return most_likely(found)
        if len(sample) >= FEW:
            found += self._remedies(sample, said)
        return most_likely(found)

    def _promised(self) -> float | None:
        return promise(self.panel.specs[self.name], self.panel.data.name)

    def _enough(self) -> float:
        """Accuracy from which on nothing more needs to be explained."""
        return WEAK * max(self.best, self._promised() or 0.0, WEAK)

    def _explained(self, found: Sequence[Finding]) -> bool:
        causes = ("fresh-network", "fresh-head", "fresh-statistics", "unsteady", "batch-dependent")
        remedies = [finding.mended or 0.0 for finding in found if finding.kind in REMEDIES]
        mended = max(remedies, default=0.0)
        return mended >= self._enough() or any(finding.kind in causes for finding in found)

    def _remedies(self, sample: Sample, said: Predictions) -> list[Finding]:
        name, network, panel = self.name, self.network, self.panel
        panel.display.say(f"teacher {name}: trying other preprocessing on {len(sample)} images")
        statistics = panel.input_spec.mean, panel.input_spec.std
        found = list(fixed_by(name, try_remedies(network, sample, statistics)))
        weak = said.accuracy < WEAK * max(self.best, self._promised() or 0.0, 0.5)
        far = misfit(network, sample.images_BDHW, sample.block)
        foreign = list(examine_statistics(name, network, sample, far, weak))
        found = foreign if _much_better(foreign, found) else found
        scaled = far.foreign is not None and far.foreign.scaled  # which no other size would do
        if weak and not ((scaled or found != foreign) and self._explained(found)):
            panel.display.say(f"teacher {name}: trying images of other sizes")
            found += self._sizes(sample.first(SIZE_PROBE))
        return found

    def _sizes(self, sample: Sample) -> Iterator[Finding]:
        sizes = try_sizes(self.network, sample, self._enough())
        yield from fixed_by(self.name, sizes.trials, sizes.remark)
        if sizes.left_out and not sizes.trials:
            text = f"not tried, for what it would cost: {names(sizes.left_out)}"
            yield Finding(self.name, "not-tried", text)


def _much_better(foreign: Sequence[Finding], pixels: Sequence[Finding]) -> bool:
    """Whether new statistics help where other pixels do not, or leave but half of their errors.

    New statistics make up for most wrong normalisations, so these come first.
    """
    left = min((1 - (finding.mended or 0.0) for finding in pixels), default=2.0)
    best = max((finding.mended or 0.0 for finding in foreign if finding.alarm), default=0.0)
    return not pixels or 1 - best < min(left / 2, left - LEAST)
