"""`audit`: teachers measured, compared and looked through on one split."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from collegium.assembly import (
    Labels,
    make_fabric,
    make_faculty,
    make_splits,
    make_student,
    make_teacher,
    setting_of,
)
from collegium.audit.advice import advise
from collegium.audit.calibration import calibrate
from collegium.audit.cost import measure_cost, measure_rate
from collegium.audit.finding import Finding, most_likely
from collegium.audit.headroom import HeadRoom, half_width, head_room, shuffled
from collegium.audit.loading import examine_network, promise
from collegium.audit.pairs import compare_pairs
from collegium.audit.record import without_nan
from collegium.audit.remedies import mended_by, try_remedies, try_sizes
from collegium.audit.statistics import unsettled
from collegium.audit.symptoms import (
    compare_with_promise,
    examine_answers,
    find_twins,
    says_too_little,
)
from collegium.data import ImageData, Loader, Splits
from collegium.errors import RequestError
from collegium.models.given import left_as_it_was
from collegium.models.network import Network
from collegium.models.outputs import logits_of
from collegium.models.specs import Setting, has_weights
from collegium.plain import PlainAnswers
from collegium.run import describe
from collegium.teachers.faculty import Faculty
from collegium.teachers.labels import LabelMap
from collegium.training.evaluate import Predictions, predict
from collegium.training.options import Machine
from collegium.training.progress import Display

Json = dict[str, Any]
PROBE = 512
"""Images that other ways of preprocessing are tried on."""
SIZE_PROBE = 128
"""Images that other sizes are tried on, which takes longer."""
WEAK = 0.9
"""Other sizes are tried on teachers below this part of the best one's accuracy."""


class Translated(nn.Module):
    """A body whose logits are put into the classes of the data.

    Args:
        body: of a teacher.
        labels: how its classes are those of the data.
        spec: what it is called in messages.
    """

    def __init__(self, body: nn.Module, labels: LabelMap, spec: str) -> None:
        super().__init__()
        self.body, self.labels, self.spec = body, labels, spec

    def forward(self, images_BDHW: Tensor) -> Tensor:
        """Logits of the classes of the data."""
        return self.labels.read(logits_of(self.body(images_BDHW), self.spec))


@dataclass(frozen=True)
class Panel:
    """Everything the examination of teachers needs.

    Attributes:
        data: the split they are examined on.
        setting: what networks are built for.
        models: model strings or modules, by name.
        specs: what each is called by the user.
        faculty: the teachers as they answer.
        display: where progress is shown.
        device: where they run.
        labels: label maps of teachers whose class names are others.
    """

    data: ImageData
    setting: Setting
    models: Mapping[str, str | nn.Module]
    specs: Mapping[str, str]
    faculty: Faculty
    display: Display
    device: torch.device
    labels: Mapping[str, Labels]

    def network(self, name: str) -> Network:
        """A teacher as it was loaded, its answers put into the classes of the data."""
        network = make_teacher(name, self.models[name], self.setting, self.labels.get(name))
        labels = self.faculty.profiles[name].labels
        if labels is not None:
            network.body = Translated(network.body, labels, network.spec).eval()
        return network.to(self.device)

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """Pixels and labels of up to so many examples from all over the split."""
        some = self.data.subset(shuffled(len(self.data))[:count].sort().values)
        batch = next(Loader(some, len(some), device=self.device).epoch(0))
        return batch.images_BDHW, batch.labels_B


def audit(
    teachers: Mapping[str, str | nn.Module],
    data: str | Splits,
    *,
    split: str = "validation",
    student: str | nn.Module | None = None,
    store: Path | None = None,
    probe: int = PROBE,
    validation: float = 0.1,
    seed: int = 0,
    image_size: int | None = None,
    classes: Sequence[str] = (),
    labels: Mapping[str, Labels] = {},
    machine: Machine = Machine(),  # noqa: B008 - frozen
    quiet: bool = False,
) -> Json:
    """Measure what teachers are worth on some data, and look for what was loaded wrongly.

    Args:
        teachers: model strings or modules, by name; never changed.
        data: a data string or splits.
        split: "validation", where choices belong, "train" or "test".
        student: a network to compare their cost with; measured too if it has weights.
        store: folder of stored answers, used where it has them and filled where it has not.
        probe: images that other ways of preprocessing are tried on; 0 to try none.
        validation: part of the training data that counts as validation.
        seed: of that part.
        image_size: rows and columns of a folder's images.
        classes: names of the classes that count; by default all.
        labels: label maps of teachers whose class names are others.
        machine: where they run.
        quiet: show no progress.

    Returns:
        The content of audit.json: see docs/choosing-teachers.md.

    Raises:
        RequestError: no teacher, no such split, or a model that cannot be built.
        FolderError: the store is for other teachers.
    """
    started = time.perf_counter()
    if not teachers or probe < 0:
        raise RequestError("an audit needs --teacher NAME=MODEL, and --probe of at least 0")
    fabric = make_fabric(machine)
    display = Display(quiet or not fabric.is_global_zero, "audit")
    splits = make_splits(data, validation, seed, image_size, machine, display, classes)
    examined = splits.get(split)
    specs = {name: describe(model) for name, model in teachers.items()}
    faculty = make_faculty(
        teachers, specs, splits, machine, 0, 128, fabric, labels, display=display
    )
    setting = setting_of(splits.train)
    panel = Panel(examined, setting, teachers, specs, faculty, display, fabric.device, labels)
    asked = PlainAnswers(faculty, machine, fabric, display, store, describe(data))
    said = {}
    for name in faculty.names:
        display.say(f"teacher {name}: measuring on {len(examined):,} images")
        said[name] = asked(name, examined)
    report = _report(panel, said, probe)
    report["student"] = None if student is None else _student(panel, student, seed)
    about = {"data": describe(data), "split": split, "examples": len(examined)}
    about["classes"] = list(examined.classes)
    return without_nan(about | report | {"seconds": time.perf_counter() - started})


def _report(panel: Panel, said: Mapping[str, Predictions], probe: int) -> Json:
    finite = [n for n in said if bool(said[n].logits_NC.isfinite().all())]
    best = max((said[name].accuracy for name in finite), default=0.0)
    rows: list[Json] = []
    findings: list[Finding] = []
    for name in said:
        network = panel.network(name)
        rows.append(_row(panel, name, network, said[name]))
        findings += _findings(panel, name, network, said[name], best, probe)
    hashes = {name: panel.faculty.profiles[name].sha256 for name in finite}
    findings += find_twins({name: said[name] for name in finite}, hashes)
    alarmed = {finding.teacher for finding in findings if finding.alarm}
    sound = [name for name in finite if name not in alarmed]
    room = _room(said, finite)
    fewer = _room(said, sound) if sound != finite else None
    return {
        "teachers": rows,
        "pairs": _pairs(said),
        "head_room": _room_json(finite, room),
        "head_room_of_sound": _room_json(sound, fewer),
        "findings": [dataclasses.asdict(f) | {"alarm": f.alarm} for f in findings],
        "advice": advise(finite, room, findings, fewer),
    }


def _row(panel: Panel, name: str, network: Network, said: Predictions) -> Json:
    """What is measured of one teacher."""
    profile, count = panel.faculty.profiles[name], len(said.labels_N)
    blank = torch.zeros(1, *panel.setting.image_shape, device=panel.device)
    right_N = _right(said)
    accuracy = right_N.double().mean().item()
    return {
        "name": name,
        "spec": profile.spec,
        "sha256": profile.sha256,
        "accuracy": accuracy,
        "accuracy_half_width": half_width(accuracy, count),
        "top5": _top5(said),
        "promised": promise(profile.spec, panel.data.name),
        **_calibration(said),
        "classes": len(profile.classes),
        **dataclasses.asdict(measure_cost(network, blank)),
        "images_per_s": profile.images_per_s,
        "mean": list(profile.mean),
        "std": list(profile.std),
        "changes": list(profile.changes),
        "notes": list(profile.notes),
    }


def _right(said: Predictions) -> Tensor:
    """Where it is right; answers that are no numbers never are."""
    return (said.classes_N == said.labels_N) & said.logits_NC.isfinite().all(dim=1)


def _top5(said: Predictions) -> float | None:
    if said.logits_NC.shape[1] <= 5:
        return None
    among_N = (said.logits_NC.topk(5).indices == said.labels_N[:, None]).any(dim=1)
    finite_N = said.logits_NC.isfinite().all(dim=1)
    return (among_N & finite_N).double().mean().item()


def _calibration(said: Predictions) -> Json:
    finite_N = said.logits_NC.isfinite().all(dim=1)
    if not finite_N.any():
        return {}
    return dataclasses.asdict(calibrate(said.logits_NC[finite_N], said.labels_N[finite_N]))


def _findings(
    panel: Panel, name: str, network: Network, said: Predictions, best: float, probe: int
) -> list[Finding]:
    """What is wrong with one teacher: causes where they show, else what would mend it."""
    classes = panel.data.classes
    found = list(examine_answers(name, said, classes))
    images_BDHW, labels_B = panel.sample(max(probe, SIZE_PROBE))
    causes = list(examine_network(name, network, images_BDHW, says_too_little(said)))
    promised = promise(panel.specs[name], panel.data.name)
    found += [*causes, *compare_with_promise(name, said, promised)]
    if probe and not causes and said.logits_NC.isfinite().all():
        panel.display.say(f"teacher {name}: trying other preprocessing on {len(labels_B)} images")
        weak = said.accuracy < WEAK * max(best, promised or 0.0, 0.5)
        found += _remedies(panel, name, network, images_BDHW, labels_B, weak)
    return most_likely(found)


def _remedies(
    panel: Panel, name: str, network: Network, images_BDHW: Tensor, labels_B: Tensor, weak: bool
) -> list[Finding]:
    statistics = panel.setting.mean, panel.setting.std
    found = list(mended_by(name, try_remedies(network, images_BDHW, labels_B, statistics)))
    if weak:
        few = slice(SIZE_PROBE)
        found += mended_by(name, try_sizes(network, images_BDHW[few], labels_B[few]))
    return found or list(unsettled(name, network, images_BDHW, labels_B))


def _pairs(said: Mapping[str, Predictions]) -> Json:
    labels_N = next(iter(said.values())).labels_N
    classes_NT = torch.stack([one.classes_N for one in said.values()], dim=1)
    found = dataclasses.asdict(compare_pairs(classes_NT, labels_N))
    return {"teachers": list(said), **found}


def _room(said: Mapping[str, Predictions], names: Sequence[str]) -> HeadRoom | None:
    if not names:
        return None
    logits_NTC = torch.stack([said[name].logits_NC for name in names], dim=1)
    return head_room(logits_NTC, said[names[0]].labels_N)


def _room_json(names: Sequence[str], room: HeadRoom | None) -> Json | None:
    return None if room is None else {"teachers": list(names), **dataclasses.asdict(room)}


def _student(panel: Panel, model: str | nn.Module, seed: int) -> Json:
    """What the student costs, and what it can do already if it was trained."""
    with left_as_it_was(model):
        return _student_row(panel, model, seed)


def _student_row(panel: Panel, model: str | nn.Module, seed: int) -> Json:
    network = make_student(model, panel.setting, seed).to(panel.device)
    images_BDHW, _ = panel.sample(SIZE_PROBE)
    trained = not isinstance(model, str) or has_weights(model)
    found = predict(network, panel.data, device=panel.device) if trained else None
    return {
        "spec": describe(model),
        "accuracy": None if found is None else found.accuracy,
        **dataclasses.asdict(measure_cost(network, images_BDHW[:1])),
        "images_per_s": measure_rate(network, images_BDHW),
    }
