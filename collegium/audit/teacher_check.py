"""The checks of one teacher: signs of a wrong load, cheap explanations first."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from collegium.audit.change import LEAST
from collegium.audit.cost import Cost, Sample, fitting
from collegium.audit.ensemble import shuffled
from collegium.audit.finding import BROKEN, REMEDIES, Finding, most_likely
from collegium.audit.loading import examine_network, reported_accuracy
from collegium.audit.remedies import try_remedies, try_sizes
from collegium.audit.statistics import examine_statistics, misfit
from collegium.audit.symptoms import FEW, compare_with_reported, examine_outputs, has_poor_head
from collegium.build import Runtime, TeacherRequest, make_teacher
from collegium.data import ImageData, Loader
from collegium.evaluation.predict import Predictions
from collegium.models.input_spec import InputSpec
from collegium.models.network import Network
from collegium.models.outputs import logits_of
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.teachers.label_map import LabelMap

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
        request: the teachers.
        ensemble: the loaded teachers.
        runtime: where they run.
    """

    data: ImageData
    input_spec: InputSpec
    request: TeacherRequest
    ensemble: TeacherEnsemble
    runtime: Runtime

    @property
    def device(self) -> torch.device:
        """Where networks and images are."""
        return self.runtime.fabric.device

    def network(self, name: str) -> Network:
        """A teacher as it was loaded; its logits are those of `Predictions.own`."""
        model, labels = self.request.models[name], self.request.labels.get(name)
        network = make_teacher(name, model, self.input_spec, labels)
        if (known := self.ensemble.infos[name].labels) is not None:
            network.body = Translated(network.body, known, network.spec).eval()
        return network.to(self.device)

    def sample(self, count: int, labels: LabelMap | None = None) -> Sample:
        """At most so many random examples of the split, of classes that the labels know."""
        data = self.data
        if labels is not None:
            numbers_C = torch.tensor(labels.numbers, device=data.labels_N.device)
            data = data.subset(numbers_C[data.labels_N] >= 0)
        some = data.subset(shuffled(len(data))[:count].sort().values)
        batch = next(Loader(some, len(some), device=self.device).epoch(0))
        known_B = batch.labels_B if labels is None else numbers_C.to(self.device)[batch.labels_B]
        return Sample(batch.images_BDHW, known_B)


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
        outputs = self.whole.own()
        if not len(outputs.labels_N):
            text = "knows the class of none of these images, so nothing was measured"
            return [Finding("unknown-classes", text)]
        labels, classes = self.whole.labels, self.context.data.classes
        found = list(examine_outputs(outputs, labels.group_names if labels else classes))
        sample = self.context.sample(max(probe, SIZE_PROBE), labels)
        sample = dataclasses.replace(sample, block=fitting(self.cost))
        found += examine_network(self.network, sample, has_poor_head(outputs))
        found += compare_with_reported(outputs, self._reported())
        worth = probe and len(sample) >= FEW and outputs.finite_N.all()
        if worth and not self._explained(found):
            found += self._remedies(sample, outputs)
        return most_likely(found)

    def _reported(self) -> float | None:
        return reported_accuracy(self.context.request.specs[self.name], self.context.data.name)

    def _enough(self) -> float:
        """Accuracy above which no further explanation is needed."""
        return WEAK * max(self.best, self._reported() or 0.0, WEAK)

    def _explained(self, found: Sequence[Finding]) -> bool:
        remedies = [finding.mended or 0.0 for finding in found if finding.kind in REMEDIES]
        fixed = max(remedies, default=0.0)
        return fixed >= self._enough() or any(finding.kind in BROKEN for finding in found)

    def _remedies(self, sample: Sample, outputs: Predictions) -> list[Finding]:
        name, network, display = self.name, self.network, self.context.runtime.display
        display.say(f"teacher {name}: trying other preprocessing on {len(sample)} images")
        statistics = self.context.input_spec.mean, self.context.input_spec.std
        found = list(try_remedies(network, sample, statistics))
        weak = outputs.accuracy < WEAK * max(self.best, self._reported() or 0.0, 0.5)
        far = misfit(network, sample)
        foreign = list(examine_statistics(network, sample, far, weak))
        found = foreign if _much_better(foreign, found) else found
        scaled = far.foreign is not None and far.foreign.scaled  # which no other size causes
        if weak and not ((scaled or found != foreign) and self._explained(found)):
            display.say(f"teacher {name}: trying images of other sizes")
            found += try_sizes(network, sample.first(SIZE_PROBE), self._enough())
        return found


def _much_better(foreign: Sequence[Finding], pixels: Sequence[Finding]) -> bool:
    """Whether new statistics help where other pixels do not, or at least halve their errors.

    New statistics compensate for most wrong normalisations, so those have priority.
    """
    left = min((1 - (finding.mended or 0.0) for finding in pixels), default=2.0)
    best = max((finding.mended or 0.0 for finding in foreign if finding.alarm), default=0.0)
    return not pixels or 1 - best < min(left / 2, left - LEAST)
