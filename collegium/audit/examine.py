"""`audit`: measure, compare and check teachers on one split."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from collegium.audit.advice import advise
from collegium.audit.calibration import calibrate
from collegium.audit.cost import Cost, measure_cost, measure_rate
from collegium.audit.finding import Finding
from collegium.audit.headroom import HeadRoom, compare_pairs, half_width, head_room
from collegium.audit.loading import reported_accuracy
from collegium.audit.record import without_nan
from collegium.audit.symptoms import FEW, find_duplicates
from collegium.audit.teacher_check import SIZE_PROBE, AuditContext, TeacherCheck
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
from collegium.plots.words import listed
from collegium.store.whole_splits import SplitPredictor
from collegium.teachers.label_map import group_table
from collegium.utils.from_json import ImageSize
from collegium.utils.torch_state import as_ever

Json = dict[str, Any]
PROBE = 512
"""Images that other preprocessing is tried on."""


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
    """Measure teachers on some data, alone and together, and find those that are mis-loaded.

    Args:
        teachers: model strings or modules, by name; never changed.
        data: a data string or splits.
        split: "validation", where choices belong, "train" or "test".
        student: a network to compare their cost with; its accuracy is measured if it has weights.
        store: folder of stored outputs; used where it has them, filled where it has not.
        probe: images that other preprocessing is tried on; 0 to try none.
        validation: part of the training data that counts as validation.
        seed: of that part.
        image_size: rows and columns of a folder's images.
        classes: names of the classes to keep; by default all.
        labels: label maps of teachers whose class names are others.
        machine: where they run.
        quiet: show no progress.

    Returns:
        The content of audit.json: see docs/choosing-teachers.md.

    Raises:
        RequestError: no teacher, no such split, or a model that cannot be built.
        FolderError: the store belongs to other teachers.
    """
    started = time.perf_counter()
    if not teachers or probe < 0:
        raise RequestError("an audit needs --teacher NAME=MODEL, and --probe of at least 0")
    runtime = make_runtime(machine, "audit", quiet)
    splits = make_splits(data, validation, seed, image_size, machine, runtime.display, classes)
    examined, input_spec = splits.get(split), input_spec_of(splits.train)
    specs = {name: describe(model) for name, model in teachers.items()}
    request = TeacherRequest(teachers, specs, labels)
    ensemble = make_ensemble(request, splits, runtime, steps=0, batch_size=128)
    runtime.set_threads(machine.teacher_block * teacher_work(ensemble))
    context = AuditContext(examined, input_spec, request, ensemble, runtime)
    predictor = SplitPredictor(ensemble, runtime, store, describe(data))
    report = _report(context, _outputs(context, predictor), probe)
    report["student"] = None if student is None else _student(context, student, seed)
    about = {"data": describe(data), "split": split, "examples": len(examined)}
    about["classes"] = list(examined.classes)
    return without_nan(about | report | {"seconds": time.perf_counter() - started})


def _outputs(context: AuditContext, predictor: SplitPredictor) -> dict[str, Predictions]:
    """The outputs of each teacher for the split, from the store where it has them."""
    outputs = {}
    for name in context.ensemble.names:
        context.runtime.display.say(f"teacher {name}: measuring on {len(context.data):,} images")
        outputs[name] = predictor(name, context.data)
    return outputs


def _report(context: AuditContext, outputs: Mapping[str, Predictions], probe: int) -> Json:
    finite = [name for name in outputs if bool(outputs[name].finite_N.all())]
    own = [outputs[name].own() for name in finite]
    best = max((one.accuracy for one in own if len(one.labels_N)), default=0.0)
    rows: list[Json] = []
    findings: list[Finding] = []
    for name in outputs:
        network = context.network(name)
        cost = measure_cost(network, context.sample(1).images_BDHW)
        rows.append(_row(context, name, outputs[name], cost))
        check = TeacherCheck(context, name, network, outputs[name], cost, best)
        findings += [replace(finding, teacher=name) for finding in check.findings(probe)]
    hashes = {name: context.ensemble.infos[name].sha256 for name in finite}
    findings += find_duplicates({name: outputs[name] for name in finite}, hashes)
    alarmed = {finding.teacher for finding in findings if finding.alarm}
    healthy = [name for name in finite if name not in alarmed]
    room, known = _room(outputs, finite), _room(outputs, finite, known_only=True)
    fewer = _room(outputs, healthy) if healthy != finite else None
    advice = advise(finite, room, findings, fewer, known)
    left_out = [name for name in outputs if name not in finite]
    return {
        "teachers": rows,
        "pairs": {"teachers": list(outputs), **compare_pairs(list(outputs.values()))},
        "head_room": _room_json(finite, room),
        "head_room_of_knowing": _room_json(finite, known),
        "head_room_of_sound": _room_json(healthy, fewer),
        "findings": [finding.to_json() for finding in findings],
        "advice": [advice[0], *_caveats(len(context.data), left_out), *advice[1:]],
    }


def _caveats(examples: int, left_out: Sequence[str]) -> Iterator[str]:
    if examples < FEW:
        yield f"{examples} images are too few to find out whether a teacher is mis-loaded."
    if left_out:
        yield f"Left out of all joint figures, for NaN or infinite logits: {listed(left_out)}."


def _row(context: AuditContext, name: str, outputs: Predictions, cost: Cost) -> Json:
    """The measurements of one teacher."""
    info, count, accuracy = context.ensemble.infos[name], len(outputs.labels_N), outputs.accuracy
    return {
        "name": name,
        "spec": info.spec,
        "sha256": info.sha256,
        "accuracy": accuracy,
        "accuracy_half_width": half_width(accuracy, count),
        **outputs.of_known(),
        "top5": outputs.top5,
        "promised": reported_accuracy(info.spec, context.data.name),
        **calibrate(outputs),
        "classes": len(info.classes),
        **asdict(cost),
        "images_per_s": info.images_per_s,
        "mean": list(info.mean),
        "std": list(info.std),
        "changes": list(info.changes),
        "notes": list(info.notes),
    }


def _room(
    outputs: Mapping[str, Predictions], teachers: Sequence[str], *, known_only: bool = False
) -> HeadRoom | None:
    """Head-room of some teachers; None without any.

    With `known_only`, each example counts only the teachers that know its class; None where all
    know all classes, or no teacher knows any.
    """
    if not teachers:
        return None
    chosen = [outputs[name] for name in teachers]
    known_NT = torch.stack([one.known_N for one in chosen], dim=1)
    if known_only and (known_NT.all() or not known_NT.any()):
        return None
    rows_N = known_NT.any(dim=1) if known_only else torch.ones(len(known_NT), dtype=torch.bool)
    logits_MTC = torch.stack([one.logits_NC[rows_N] for one in chosen], dim=1)
    groups_TC = group_table([one.labels for one in chosen], logits_MTC.shape[2])
    return head_room(logits_MTC, chosen[0].labels_N[rows_N], groups_TC, known_mask=known_only)


def _room_json(teachers: Sequence[str], room: HeadRoom | None) -> Json | None:
    return None if room is None else {"teachers": list(teachers), **asdict(room)}


def _student(context: AuditContext, model: str | nn.Module, seed: int) -> Json:
    """The cost of the student, and its accuracy if it was trained."""
    trained = not isinstance(model, str) or has_weights(model)
    with left_as_it_was(model):
        network = make_student(model, context.input_spec, seed).to(context.device)
        images_BDHW = context.sample(SIZE_PROBE).images_BDHW
        found = predict(network, context.data, device=context.device) if trained else None
        return {
            "spec": describe(model),
            "accuracy": None if found is None else found.accuracy,
            **asdict(measure_cost(network, images_BDHW[:1])),
            "images_per_s": measure_rate(network, images_BDHW),
        }
