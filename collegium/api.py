"""The functions of `import collegium`: `distill`, `execute`, `resume`, `evaluate`."""

import dataclasses
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collegium.config.options import Machine
from collegium.config.run import Run
from collegium.errors import Interrupted, RequestError, ResourceError
from collegium.methods.base import AbstractMethod, check_parts
from collegium.records.results import Evaluation
from collegium.records.run_folder import Record
from collegium.runner.folders import check_folder, finished, foreign_parts, go_on
from collegium.utils.from_json import ImageSize, as_class_weights, as_labels, tuples
from collegium.utils.torch_state import as_ever

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

    from collegium.data import ImageData, Splits
    from collegium.models.network import Network


@as_ever
def distill(
    *,
    student: "str | nn.Module",
    teachers: "Mapping[str, str | nn.Module]",
    train: Any,
    val: Any = None,
    test: Any = None,
    method: AbstractMethod,
    out: Path | str,
    labels: Mapping[str, Any] | None = None,
    class_weights: "Mapping[str, float] | Path | str | None" = None,
    overwrite: bool = False,
    quiet: bool = False,
    tensorboard: bool = False,
    **options: Any,
) -> Record:
    """Train one student from several teachers.

    Args:
        student: any `nn.Module` that returns logits, trained in place, or a model string.
        teachers: modules or model strings by name; never changed.
        train: a data string, an `ImageData`, a pair of arrays, or a map-style data set of
            (image, label) with raw pixels.
        val: the split that chooses the best epoch; by default part of `train` is held out.
        test: the split for the final evaluation; by default `val`.
        method: for example `collegium.AMTML()`.
        out: the run folder.
        labels: label maps by teacher name, for teachers whose classes differ from the data's: a
            mapping from each class of the teacher to a class of the student, the names of the
            teacher's classes in the order of its logits, or a JSON file with either. Not needed if
            the names agree.
        class_weights: class weights of the cross entropy with the label: "balanced", a mapping from
            class names to weights, or a JSON or CSV file with one. Only the ratios of the weights
            matter, see `resolve_class_weights`.
        overwrite: replace a run that already exists in the folder.
        quiet: show no progress.
        tensorboard: write metrics as TensorBoard events too (needs the extra of that name).
        **options: any other option of a run by its name: epochs, batch_size, optimizer, lr, seed,
            validation, augment, views, label_smoothing, store, precision, devices, threads, ...
            docs/run-folder.md lists all of them with their defaults.

    Returns:
        The record: the run folder.

    Raises:
        RequestError: the request is invalid; training has not started.
        NumericsError: training gave a NaN or an infinity; the last checkpoint is kept.
    """
    from collegium.build import splits_from

    check_parts(teachers, method, "modules or model strings")
    if options.get("corrupt") is not None and not isinstance(train, str):
        raise RequestError("corrupt is for data strings: images from Python are decoded already")
    texts = {name: str(v) if isinstance(v, Path) else v for name, v in options.items()}
    run = Run.from_options(
        tuples(texts),
        data="",
        student="",
        teachers={},
        method=method,
        labels={name: as_labels(content) for name, content in (labels or {}).items()},
        class_weights=as_class_weights(class_weights),
    )
    data = train
    if not isinstance(train, str):
        data = splits_from(train, val, test, run.validation, run.seed)
    run = dataclasses.replace(run, data=data, student=student, teachers=dict(teachers))
    return execute(run, Path(out), overwrite=overwrite, quiet=quiet, tensorboard=tensorboard)


@as_ever
def execute(
    run: Run,
    out: Path | str,
    *,
    overwrite: bool = False,
    resume: bool = False,
    quiet: bool = False,
    label: str | None = None,
    tensorboard: bool = False,
    epochs: int | None = None,
    changed_code: bool = False,
) -> Record:
    """Carry out a run and write its record.

    Args:
        run: the request.
        out: the run folder.
        overwrite: replace a run that already exists in the folder.
        resume: continue from the newest checkpoint in the folder.
        quiet: show no progress.
        label: shown in front of progress lines.
        tensorboard: write metrics as TensorBoard events too; a resumed run that already has
            events continues them in any case.
        epochs: with `resume`, the new number of epochs. From the checkpoint on, the learning rate
            follows the schedule for that number.
        changed_code: with `resume`, continue although the source of a network has changed.
    """
    from collegium.config.same_run import doubts
    from collegium.records.tensorboard import wants_events
    from collegium.runner.resume_check import Allowed, check_epochs, recorded_threads
    from collegium.utils.progress import Display

    out = Path(out)
    if not resume and (epochs is not None or changed_code):
        raise RequestError("epochs and changed_code are for a resumed run: give resume=True too")
    check_folder(out, overwrite or resume)
    if resume and epochs is not None:
        more = dataclasses.replace(run.optimisation, epochs=check_epochs(Record(out), epochs))
        run = dataclasses.replace(run, optimisation=more)
    elif resume and finished(out):
        for doubt in doubts(out, Record(out).run):
            Display(quiet).warn(doubt)
        return Record(out)
    events = wants_events(out, tensorboard, resume)
    from collegium.models.user_modules import left_as_it_was
    from collegium.runner.carry_out import carry_out
    from collegium.runner.setup import prepare_run
    from collegium.utils.os_errors import describe
    from collegium.utils.signals import GracefulInterrupt, end_with_parent

    label = label or run.method.slug
    if os.environ.get("LOCAL_RANK", "0") != "0":  # one of several processes, started by another
        end_with_parent()
    try:
        with GracefulInterrupt() as interrupt, left_as_it_was(run.student):
            threads = recorded_threads(Record(out)) if resume else None
            prepared = prepare_run(run, quiet=quiet, label=label, threads=threads)
            return carry_out(
                prepared,
                out,
                interrupt=interrupt,
                events=events,
                overwrite=overwrite,
                resume=Allowed(epochs, changed_code) if resume else None,
            )
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted{go_on(run.to_json(), out)}") from None
    except (ResourceError, OSError, MemoryError, RuntimeError) as error:
        reason = str(error) if isinstance(error, ResourceError) else describe(error)
        if reason is None:
            raise
        raise ResourceError(f"{reason}{go_on(run.to_json(), out)}") from error


def resume(
    folder: Path | str,
    *,
    quiet: bool = False,
    epochs: int | None = None,
    changed_code: bool = False,
    tensorboard: bool = False,
    **machine: Any,
) -> Record:
    """Continue a stopped run exactly where it stopped; a finished run stays unchanged.

    Args:
        folder: the run folder.
        quiet: show no progress.
        epochs: the new number of epochs, also for a finished run, see `execute`.
        changed_code: continue although the source code of a network has changed.
        tensorboard: write metrics as TensorBoard events too; a run that already has events
            continues them in any case.
        **machine: options of `Machine` that differ from the run's: devices, accelerator, strategy,
            threads, workers, teacher_memory, teacher_batch, checkpoint_every. Results are rounded
            differently on other devices or with another number of threads.

    Raises:
        FolderError: the folder is no run folder, another process is writing it, or it is damaged.
        RequestError: the run was started with Python objects, which run.json cannot rebuild, or
            something that decides the result has changed.
    """
    from collegium.config.same_run import refuse_edited

    folder = Path(folder)
    run = Run.of(Record(folder))
    refuse_edited(str(folder), Record(folder).run)
    if foreign := foreign_parts(run.to_json()):
        raise RequestError(
            f"{folder} was started from Python with {', '.join(foreign)}; "
            "resume it from Python, with the same objects"
        )
    run = dataclasses.replace(run, machine=dataclasses.replace(run.machine, **machine))
    changes: dict[str, Any] = {"epochs": epochs, "changed_code": changed_code}
    return execute(run, folder, resume=True, quiet=quiet, tensorboard=tensorboard, **changes)


@as_ever
def evaluate(
    model: "str | nn.Module",
    data: "str | Splits",
    *,
    split: str | None = None,
    batch_size: int = 500,
    machine: Machine | None = None,
    validation: float = Run.validation,
    seed: int = Run.seed,
    image_size: ImageSize = Run.image_size,
    classes: tuple[str, ...] = (),
    labels: Any = None,
) -> Evaluation:
    """Accuracy, loss and calibration of a network on a split.

    Args:
        model: a model string with weights, a run folder, or a module.
        data: a data string or splits.
        split: "train", "validation" or "test"; by default test, else validation.
        batch_size: number of images in a batch.
        machine: where it runs.
        validation: fraction of the training data that is held out for validation.
        seed: seed that chooses the held-out part.
        image_size: rows and columns of image files, one number for both; None for the data's own.
        classes: the classes of the data to evaluate on; empty for all.
        labels: a label map if the classes of the network differ from the data's, see `distill`.

    Returns:
        The metrics, as attributes and as keys.

    Raises:
        RequestError: the model or the data do not exist, or the model has no weights.
        NumericsError: a logit is NaN or infinite.
    """
    from collegium.build import input_spec_of, make_runtime, make_splits, make_teacher, relate
    from collegium.models.features.work import multiply_adds
    from collegium.utils.progress import Display

    machine = machine or Machine()
    splits = make_splits(data, validation, seed, image_size, machine, classes=classes)
    chosen = split or splits.names()[-1]
    given = None if labels is None else as_labels(labels)
    network = make_teacher("", model, input_spec_of(splits.train), given)
    label_map = relate("", network.classes, splits.train.classes, given)
    for doubt in network.origin.doubts:
        Display(label="evaluate").warn(doubt)
    runtime = make_runtime(machine, "evaluate")
    runtime.set_threads(batch_size * multiply_adds(network, splits.train.shape))
    options = {"batch_size": batch_size, "labels": label_map}
    return _measured(network, splits.get(chosen), chosen, runtime.fabric, options)


def _measured(
    network: "Network", data: "ImageData", split: str, fabric: "Fabric", options: dict[str, Any]
) -> Evaluation:
    from collegium.evaluation.predict import check_measurable, predict
    from collegium.models.network import parameter_count

    started = time.perf_counter()
    network.to(fabric.device)
    found = predict(network, data, device=fabric.device, precision=fabric.autocast, **options)
    seconds = time.perf_counter() - started
    check_measurable(found, split)
    images = len(found.labels_N)
    return Evaluation(
        split=split,
        images=images,
        accuracy=found.accuracy,
        loss=found.loss,
        ece=found.ece,
        parameters=parameter_count(network),
        seconds=seconds,
        images_per_s=images / seconds,
        **found.of_known(),
        notes=list(network.origin.notes) or None,
    )
