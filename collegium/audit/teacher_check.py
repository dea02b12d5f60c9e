"""The checks of one teacher: signs of a wrong load, cheap explanations first."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from collegium.audit.change import LEAST
from collegium.audit.cost import Cost, Sample, fitting
from collegium.audit.ensemble import shuffled
from collegium.audit.finding import BROKEN, REMEDIES, Finding, most_likely
from collegium.audit.loading import examine_network, reported_accuracy
from collegium.audit.remedies import fixed_by, try_remedies, try_sizes
from collegium.audit.statistics import examine_statistics, misfit
from collegium.audit.symptoms import FEW, compare_with_reported, examine_outputs, has_poor_head
from collegium.build import Labels, make_teacher
from collegium.data import ImageData, Loader
from collegium.evaluation.predict import Predictions
from collegium.models.input_spec import InputSpec
from collegium.models.network import Network
from collegium.models.outputs import logits_of
from collegium.plots.words import listed
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.teachers.label_map import LabelMap
from collegium.utils.progress import Display

SIZE_PROBE = 128
"""Images that other sizes are tried on."""
WEAK = 0.9
"""A teacher is weak below this part of the best one's accuracy; a remedy that lifts it above
explains its weakness."""


class Translated(nn.Module):
    """A teacher's module with logits of the classes of the data, or groups of them, that it knows.

    Args:
        body: of a teacher.
        labels: maps its classes to those of the data.
        spec: its name in messages.
    """

    def __init__(self, body: nn.Module, labels: LabelMap, spec: str) -> None:
        super().__init__()
        self.body, self.labels, self.spec = body, labels, spec

    def forward(self, images_BDHW: Tensor) -> Tensor:
        """Logits of the groups in `labels`."""
        return self.labels.own(self.labels.read(logits_of(self.body(images_BDHW), self.spec)))


@dataclass(frozen=True)
class AuditContext:
    """What the checks of all teachers share.

    Attributes:
        data: the split of the audit.
        input_spec: shape, classes and statistics that networks are built for.
        models: model strings or modules, by name.
        specs: how the user named each.
        ensemble: the loaded teachers.
        display: shows progress.
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
        """At most so many random examples of the split, of classes that the labels know."""
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
        """Names of the classes of the data, or groups of them, that a teacher distinguishes."""
        labels = self.ensemble.infos[name].labels
        return tuple(self.data.classes) if labels is None else labels.group_names


@dataclass(frozen=True)
class TeacherCheck:
    """Searches the reason why one teacher is mis-loaded, cheap explanations first.

    Attributes:
        context: what the checks of all teachers share.
        name: of the teacher.
        network: as it was loaded.
        whole: its outputs for the whole split.
        cost: of one view.
        best: largest accuracy of any teacher.
    """

    context: AuditContext
    name: str
    network: Network
    whole: Predictions
    cost: Cost
    best: float

    def findings(self, probe: int) -> list[Finding]:
        """The causes that show; else the remedies that help, tried on so many images."""
        outputs, name = self.whole.own(), self.name
        if not len(outputs.labels_N):
            text = "knows the class of none of these images, so nothing was measured"
            return [Finding(name, "unknown-classes", text)]
        found = list(examine_outputs(name, outputs, self.context.classes(name)))
        labels = self.context.ensemble.infos[name].labels
        sample = self.context.sample(max(probe, SIZE_PROBE), labels)
        sample = dataclasses.replace(sample, block=fitting(self.cost))
        causes = examine_network(name, self.network, sample.images_BDHW, has_poor_head(outputs))
        found += causes
        found += compare_with_reported(name, outputs, self._reported())
        if not probe or self._explained(found) or not outputs.finite_N.all():
            return most_likely(found)
        if len(sample) >= FEW:
            found += self._remedies(sample, outputs)
        return most_likely(found)

    def _reported(self) -> float | None:
        return reported_accuracy(self.context.specs[self.name], self.context.data.name)

    def _enough(self) -> float:
        """Accuracy above which no further explanation is needed."""
        return WEAK * max(self.best, self._reported() or 0.0, WEAK)

    def _explained(self, found: Sequence[Finding]) -> bool:
        remedies = [finding.mended or 0.0 for finding in found if finding.kind in REMEDIES]
        fixed = max(remedies, default=0.0)
        return fixed >= self._enough() or any(finding.kind in BROKEN for finding in found)

    def _remedies(self, sample: Sample, outputs: Predictions) -> list[Finding]:
        name, network, context = self.name, self.network, self.context
        context.display.say(f"teacher {name}: trying other preprocessing on {len(sample)} images")
        statistics = context.input_spec.mean, context.input_spec.std
        found = list(fixed_by(name, try_remedies(network, sample, statistics)))
        weak = outputs.accuracy < WEAK * max(self.best, self._reported() or 0.0, 0.5)
        far = misfit(network, sample)
        foreign = list(examine_statistics(name, network, sample, far, weak))
        found = foreign if _much_better(foreign, found) else found
        scaled = far.foreign is not None and far.foreign.scaled  # which no other size causes
        if weak and not ((scaled or found != foreign) and self._explained(found)):
            context.display.say(f"teacher {name}: trying images of other sizes")
            found += self._sizes(sample.first(SIZE_PROBE))
        return found

    def _sizes(self, sample: Sample) -> Iterator[Finding]:
        sizes = try_sizes(self.network, sample, self._enough())
        yield from fixed_by(self.name, sizes.trials, sizes.remark)
        if sizes.left_out and not sizes.trials:
            text = f"not tried because of their cost: {listed(sizes.left_out)}"
            yield Finding(self.name, "not-tried", text)


def _much_better(foreign: Sequence[Finding], pixels: Sequence[Finding]) -> bool:
    """Whether new statistics help where other pixels do not, or at least halve their errors.

    New statistics compensate for most wrong normalisations, so those have priority.
    """
    left = min((1 - (finding.mended or 0.0) for finding in pixels), default=2.0)
    best = max((finding.mended or 0.0 for finding in foreign if finding.alarm), default=0.0)
    return not pixels or 1 - best < min(left / 2, left - LEAST)
