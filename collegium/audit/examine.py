"""`audit`: teachers measured, compared and looked through on one split."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from collegium.audit.advice import advise, names
from collegium.audit.calibration import calibrate
from collegium.audit.cost import Cost, measure_cost, measure_rate
from collegium.audit.finding import Finding
from collegium.audit.headroom import HeadRoom, half_width, head_room
from collegium.audit.loading import promise
from collegium.audit.pairs import compare_pairs
from collegium.audit.record import without_nan
from collegium.audit.symptoms import FEW, find_duplicates
from collegium.audit.teacher_check import SIZE_PROBE, Examination, Panel
from collegium.build import (
    Labels,
    TeacherRequest,
    input_spec_of,
    make_ensemble,
    make_runtime,
    make_splits,
    make_student,
    teacher_work,
)
from collegium.config.options import Machine
from collegium.config.run import describe
from collegium.data import Splits
from collegium.errors import RequestError
from collegium.evaluation.predict import Predictions, predict
from collegium.models.registry import has_weights
from collegium.models.user_modules import left_as_it_was
from collegium.store.whole_splits import SplitPredictor
from collegium.teachers.label_map import group_table
from collegium.utils.from_json import ImageSize
from collegium.utils.torch_state import as_ever

Json = dict[str, Any]
PROBE = 512
"""Images that other ways of preprocessing are tried on."""


@as_ever
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
    image_size: ImageSize = None,
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
    runtime = make_runtime(machine, "audit", quiet)
    fabric, display = runtime.fabric, runtime.display
    splits = make_splits(data, validation, seed, image_size, machine, display, classes)
    examined = splits.get(split)
    specs = {name: describe(model) for name, model in teachers.items()}
    request = TeacherRequest(teachers, specs, labels)
    ensemble = make_ensemble(request, splits, runtime, steps=0, batch_size=128)
    runtime.set_threads(machine.teacher_block * teacher_work(ensemble))
    input_spec = input_spec_of(splits.train)
    panel = Panel(examined, input_spec, teachers, specs, ensemble, display, fabric.device, labels)
    asked = SplitPredictor(ensemble, machine, fabric, display, store, describe(data))
    said = {}
    for name in ensemble.names:
        display.say(f"teacher {name}: measuring on {len(examined):,} images")
        said[name] = asked(name, examined)
    report = _report(panel, said, probe)
    report["student"] = None if student is None else _student(panel, student, seed)
    about = {"data": describe(data), "split": split, "examples": len(examined)}
    about["classes"] = list(examined.classes)
    return without_nan(about | report | {"seconds": time.perf_counter() - started})


def _report(panel: Panel, said: Mapping[str, Predictions], probe: int) -> Json:
    finite = [name for name in said if bool(said[name].finite_N.all())]
    own = {name: one.own() for name, one in said.items()}
    best = max((own[name].accuracy for name in finite if len(own[name].labels_N)), default=0.0)
    rows: list[Json] = []
    findings: list[Finding] = []
    for name in said:
        network = panel.network(name)
        cost = measure_cost(network, panel.blank())
        rows.append(_row(panel, name, said[name], cost))
        findings += Examination(panel, name, network, said[name], cost, best).findings(probe)
    hashes = {name: panel.ensemble.infos[name].sha256 for name in finite}
    findings += find_duplicates({name: said[name] for name in finite}, hashes)
    alarmed = {finding.teacher for finding in findings if finding.alarm}
    sound = [name for name in finite if name not in alarmed]
    room, known_mask = _room(said, finite), _room_of_knowing(said, finite)
    fewer = _room(said, sound) if sound != finite else None
    advice = advise(finite, room, findings, fewer, known_mask)
    left_out = [name for name in said if name not in finite]
    return {
        "teachers": rows,
        "pairs": _pairs(said),
        "head_room": _room_json(finite, room),
        "head_room_of_knowing": _room_json(finite, known_mask),
        "head_room_of_sound": _room_json(sound, fewer),
        "findings": [dataclasses.asdict(f) | {"alarm": f.alarm} for f in findings],
        "advice": [advice[0], *_caveats(len(panel.data), left_out), *advice[1:]],
    }


def _caveats(examples: int, left_out: Sequence[str]) -> Iterator[str]:
    if examples < FEW:
        yield f"{examples} images are too few to tell whether a teacher was loaded wrongly."
    if left_out:
        yield f"Not in the figures on several teachers, for NaN or infinity: {names(left_out)}."


def _row(panel: Panel, name: str, said: Predictions, cost: Cost) -> Json:
    """What is measured of one teacher."""
    info, count, accuracy = panel.ensemble.infos[name], len(said.labels_N), said.accuracy
    return {
        "name": name,
        "spec": info.spec,
        "sha256": info.sha256,
        "accuracy": accuracy,
        "accuracy_half_width": half_width(accuracy, count),
        **said.of_known(),
        "top5": said.top5,
        "promised": promise(info.spec, panel.data.name),
        **_calibration(said),
        "classes": len(info.classes),
        **dataclasses.asdict(cost),
        "images_per_s": info.images_per_s,
        "mean": list(info.mean),
        "std": list(info.std),
        "changes": list(info.changes),
        "notes": list(info.notes),
    }


def _calibration(said: Predictions) -> Json:
    """Of the examples whose class it knows and whose logits are numbers."""
    own, extra = said.own(), 0.0
    finite_N = own.finite_N
    if not finite_N.any():
        return {}
    if said.labels is not None:  # of the classes in a group it says nothing: each is as likely
        sizes_G = torch.tensor([float(len(group)) for group in said.labels.groups])
        extra = sizes_G.log()[own.labels_N[finite_N]].mean().item()
    return dataclasses.asdict(calibrate(own.logits_NC[finite_N], own.labels_N[finite_N], extra))


def _pairs(said: Mapping[str, Predictions]) -> Json:
    return {"teachers": list(said), **dataclasses.asdict(compare_pairs(list(said.values())))}


def _groups(said: Mapping[str, Predictions], teachers: Sequence[str]) -> Tensor | None:
    logits_NC = said[teachers[0]].logits_NC
    return group_table([said[name].labels for name in teachers], logits_NC.shape[1])


def _room(said: Mapping[str, Predictions], teachers: Sequence[str]) -> HeadRoom | None:
    if not teachers:
        return None
    logits_NTC = torch.stack([said[name].logits_NC for name in teachers], dim=1)
    return head_room(logits_NTC, said[teachers[0]].labels_N, _groups(said, teachers))


def _room_of_knowing(said: Mapping[str, Predictions], teachers: Sequence[str]) -> HeadRoom | None:
    """The same over the teachers that know each example's class; None where all know all."""
    known = [said[name].known_N for name in teachers]
    if all(bool(known_N.all()) for known_N in known):
        return None
    rows_N = torch.stack(known).any(dim=0)
    if not rows_N.any():
        return None
    logits_MTC = torch.stack([said[name].logits_NC[rows_N] for name in teachers], dim=1)
    labels_M = said[teachers[0]].labels_N[rows_N]
    return head_room(logits_MTC, labels_M, _groups(said, teachers), known_mask=True)


def _room_json(teachers: Sequence[str], room: HeadRoom | None) -> Json | None:
    return None if room is None else {"teachers": list(teachers), **dataclasses.asdict(room)}


def _student(panel: Panel, model: str | nn.Module, seed: int) -> Json:
    """What the student costs, and what it can do already if it was trained."""
    with left_as_it_was(model):
        return _student_row(panel, model, seed)


def _student_row(panel: Panel, model: str | nn.Module, seed: int) -> Json:
    network = make_student(model, panel.input_spec, seed).to(panel.device)
    images_BDHW = panel.sample(SIZE_PROBE).images_BDHW
    trained = not isinstance(model, str) or has_weights(model)
    found = predict(network, panel.data, device=panel.device) if trained else None
    return {
        "spec": describe(model),
        "accuracy": None if found is None else found.accuracy,
        **dataclasses.asdict(measure_cost(network, images_BDHW[:1])),
        "images_per_s": measure_rate(network, images_BDHW),
    }
