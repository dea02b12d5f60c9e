"""Builds, describes and verifies a store without a training run."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from collegium.build import (
    Labels,
    Runtime,
    TeacherRequest,
    make_ensemble,
    make_runtime,
    make_splits,
    teacher_work,
)
from collegium.config.options import Machine
from collegium.data import Splits, Views, keep_classes
from collegium.errors import FolderError, RequestError
from collegium.models.features.layer_names import find_layer, source_layers
from collegium.store import Store
from collegium.store.identity import Codecs, check_answers
from collegium.store.open import StoreRequest
from collegium.store.plan import human_bytes
from collegium.store.store import LOGITS, parse_layer
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.utils.from_json import ImageSize
from collegium.utils.torch_state import as_ever

Json = dict[str, Any]


@as_ever
def build(
    folder: Path,
    data: str,
    teachers: Mapping[str, str],
    *,
    views: int = 8,
    augment: str | None = None,
    view_seed: int = 0,
    image_size: ImageSize = None,
    logits: str = "fp16",
    layers: tuple[str, ...] = (),
    maps: str = "int8",
    batch_size: int = 128,
    labels: Mapping[str, Labels] = {},
    classes: tuple[str, ...] = (),
    machine: Machine = Machine(),  # noqa: B008 - frozen
    quiet: bool = False,
) -> Json:
    """Fill a store before training; outputs that are already stored are kept.

    Args:
        folder: of the store.
        data: a data string; the store covers all its training examples, held out or not.
        teachers: model strings by name.
        views: number of views of each example; views are numbered from 0.
        augment: augmentation recipe of the views; by default the recipe of the data set.
        view_seed: seed of the views' pixels.
        image_size: rows and columns of a folder's images.
        logits: codec of the logits: fp16, fp32, topK.
        layers: "TEACHER:LAYER" strings: the features to store.
        maps: codec of these features: int8, fp16, fp32.
        batch_size: number of views in one forward pass.
        labels: label maps, for teachers whose classes differ from those of the data.
        classes: the classes whose examples are stored; by default all.
        machine: where teachers run; several processes share the work.
        quiet: show no progress.

    Raises:
        RequestError: there are no teachers or no views, or a layer does not exist.
        FolderError: the folder holds outputs for another request, or the disk has too little space.
    """
    if not teachers or views < 1:
        raise RequestError("a store needs --teacher NAME=MODEL and --views of at least 1")
    by_teacher: dict[str, list[str]] = {}
    for name, path in map(parse_layer, layers):
        by_teacher.setdefault(name, []).extend(source_layers(path))
    runtime = make_runtime(machine, "store", quiet)
    splits = make_splits(data, 0.0, 0, image_size, machine, runtime.display, classes)
    wanted = TeacherRequest(teachers, teachers, labels, by_teacher)
    recipe = augment or splits.train.augment
    request = _request(runtime, data, splits, wanted, recipe, view_seed, views, batch_size)
    numbers = [0] if request.views.recipe == "none" else list(range(views))
    _, volumes, writer = request.open(folder, _codecs(request.ensemble, logits, layers, maps))
    request.plan(folder, volumes, numbers, len(numbers))
    started = time.perf_counter()
    index_N = request.views.data.index_N.cpu().numpy()
    for name, kinds in volumes.items():
        for view in numbers:
            writer.fill(name, kinds, index_N, view)
    runtime.fabric.barrier()
    return {
        "folder": str(folder),
        "views": len(numbers),
        "examples": len(request.views.data),
        "computed": writer.stats.computed,
        "seconds": time.perf_counter() - started,
        "teacher_seconds": writer.stats.seconds,
        "bytes": sum(volume.bytes() for kinds in volumes.values() for volume in kinds.values()),
    }


def _request(
    runtime: Runtime,
    data: str,
    splits: Splits,
    teachers: TeacherRequest,
    recipe: str,
    view_seed: int,
    count: int = 1,
    batch_size: int = 128,
) -> StoreRequest:
    """A request for `count` views of all training examples of the data, held out or not."""
    machine, device = runtime.machine, runtime.fabric.device
    pixels = splits.train.to(device)
    views = Views(pixels, recipe, view_seed, machine.channels_last, machine.decoders)
    steps = count * -(-len(splits.train) // batch_size)
    ensemble = make_ensemble(teachers, splits, runtime, steps, batch_size)
    runtime.set_threads(machine.teacher_block * teacher_work(ensemble))
    return StoreRequest(data, views, ensemble, batch_size, runtime)


def _codecs(
    ensemble: TeacherEnsemble, logits: str, layers: tuple[str, ...], maps: str
) -> dict[str, Codecs]:
    codecs: dict[str, dict[str, str]] = {name: {LOGITS: logits} for name in ensemble.names}
    for text in layers:
        name, path = parse_layer(text)
        layer = find_layer(ensemble.infos[name].maps, path) if name in codecs else None
        if layer is None:
            known = [f"{n}:{p}" for n in ensemble.names for p in ensemble.infos[n].maps]
            raise RequestError(f"no layer {text!r}; there are: {', '.join(known)}")
        codecs[name][layer] = maps
    return dict(codecs)


def info(folder: Path) -> Json:
    """The content of a store: views, teachers, coverage, size, error of the codecs, hit rate.

    Raises:
        FolderError: the folder is not a store.
    """
    damaged: list[str] = []
    store = Store(folder, None, damaged.append)
    teachers: dict[str, Json] = {
        name: {
            "spec": identity.spec,
            "sha256": identity.sha256,
            "precision": identity.precision,
            "answers": {kind: _about(store, name, kind) for kind in store.kinds(name)},
        }
        for name, identity in store.teachers().items()
    }
    uses = store.uses()
    asked, computed = (sum(int(use.get(key, 0)) for use in uses) for key in ("asked", "computed"))
    return {
        "folder": str(folder),
        "data": store.views.data,
        "examples": store.views.examples,
        "classes": len(store.views.classes),
        "recipe": store.views.recipe,
        "view_seed": store.views.view_seed,
        "teachers": teachers,
        "bytes": sum(a["bytes"] for t in teachers.values() for a in t["answers"].values()),
        "runs": len(uses),
        "hits": 1 - computed / asked if asked else None,
        "damaged": damaged,
    }


def _about(store: Store, name: str, kind: str) -> Json:
    volume = store.stored(name, kind)
    coverage = volume.coverage()
    return {
        "codec": volume.codec.name,
        "shape": list(volume.codec.shape),
        "views": {str(view): count for view, count in coverage.items()},
        "answers": sum(coverage.values()),
        "bytes": volume.bytes(),
        "error": volume.error(),
    }


def describe(found: Json) -> str:
    """The result of `info` as readable text."""
    lines = [
        f"{found['folder']}: {found['data']}, {found['examples']:,} examples, {found['classes']} "
        f"classes, views {found['recipe']} of seed {found['view_seed']}"
    ]
    for name, teacher in found["teachers"].items():
        weights, precision = teacher["sha256"][:12], teacher["precision"]
        lines.append(f"{name}: {teacher['spec']} ({weights}), precision {precision}")
        for kind, about in teacher["answers"].items():
            whole = len(about["views"]) * found["examples"]
            share = 100 * about["answers"] / whole if whole else 0.0
            lost = "KL at most" if about["codec"].startswith("top") else "off by at most"
            lines.append(
                f"  {kind} {about['codec']}: {about['answers']:,} answers on {len(about['views'])} "
                f"views ({share:.1f} %), {human_bytes(about['bytes'])}, {lost} {about['error']:.2g}"
            )
    hits = "-" if found["hits"] is None else f"{100 * found['hits']:.1f} %"
    size = human_bytes(found["bytes"])
    lines.append(f"{size}; {found['runs']} runs, answers found without asking: {hits}")
    return "\n".join([*lines, *(f"damaged: {text}" for text in found["damaged"])])


@as_ever
def verify(
    folder: Path,
    *,
    data: str | None = None,
    teachers: Mapping[str, str] | None = None,
    labels: Mapping[str, Labels] = {},
    image_size: ImageSize = None,
    sample: int = 128,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    quiet: bool = False,
) -> Json:
    """Check the checksum of every shard, and recompute a sample of each teacher's outputs.

    Args:
        folder: of the store.
        data: a data string; by default the one the store was built with.
        teachers: model strings by name; by default those the store was built with.
        labels: label maps, for teachers that had one when the store was built.
        image_size: rows and columns of a folder's images.
        sample: number of outputs to recompute for each teacher; 0 checks only the checksums.
        machine: where teachers run.
        quiet: show no progress.

    Raises:
        FolderError: the folder is not a store, or belongs to other data or teachers.
    """
    started = time.perf_counter()
    store = Store(folder, None, lambda text: None)
    damaged = [
        text
        for name in store.teachers()
        for kind in store.kinds(name)
        for text in store.stored(name, kind).damaged()
    ]
    compared: dict[str, float] = {}
    wrong: list[str] = []
    known = data or store.views.data
    for name, identity in store.teachers().items() if sample else ():
        spec = (teachers or {}).get(name, identity.spec)
        _refuse_foreign(store, spec, known)
        precision: Any = identity.precision
        runtime = make_runtime(replace(machine, precision=precision), "store", quiet)
        splits = make_splits(known, 0.0, 0, image_size, runtime.machine, runtime.display)
        layers = [part for kind in store.kinds(name) for part in source_layers(kind)]
        layers = [layer for layer in layers if layer != LOGITS]
        own_labels = {name: labels[name]} if name in labels else {}
        wanted = TeacherRequest({name: spec}, {name: spec}, own_labels, {name: layers})
        splits, views = _as_stored(store, splits), store.views
        request = _request(runtime, known, splits, wanted, views.recipe, views.view_seed)
        codecs = {kind: how["codec"] for kind, how in store.kinds(name).items()}
        _, volumes, writer = request.open(folder, {name: codecs})
        try:
            compared[name] = check_answers(writer, name, volumes[name], sample)
        except FolderError as problem:
            wrong.append(str(problem))
    return {
        "folder": str(folder),
        "sound": not damaged and not wrong,
        "damaged": damaged,
        "compared": compared,
        "wrong": wrong,
        "seconds": time.perf_counter() - started,
    }


def _as_stored(store: Store, splits: Splits) -> Splits:
    """Keep only the store's classes; splits of other data stay unchanged and are rejected later."""
    classes = store.views.classes
    return keep_classes(splits, classes) if set(classes) <= set(splits.train.classes) else splits


def _refuse_foreign(store: Store, *specs: str) -> None:
    foreign = [spec for spec in specs if spec.startswith("<")]
    if foreign:
        raise FolderError(
            f"{store.folder} was filled from Python with {foreign[0]}: give --data and --teacher, "
            "or --sample 0 for checksums alone"
        )
