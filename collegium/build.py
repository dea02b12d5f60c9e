"""Builds the parts of a run from the strings and objects of a request."""

import contextlib
import dataclasses
import functools
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from collegium.config.options import Machine
from collegium.data import ImageData, Loader, Splits, keep_classes, load_data, splits_of
from collegium.data.class_names import missing_note
from collegium.errors import RequestError, UnknownNameError
from collegium.models.input_spec import InputSpec
from collegium.models.model_string import ModelString, check_family
from collegium.models.network import Network
from collegium.models.registry import build_network, has_weights, seeded, wrap_module, wrap_teacher
from collegium.models.user_modules import freeze
from collegium.teachers.ensemble import TeacherEnsemble, TeacherInfo
from collegium.teachers.label_map import LabelMap, match
from collegium.teachers.optimize import SAMPLE, InferenceOptions
from collegium.types import Dims, MapShape
from collegium.utils.from_json import ImageSize
from collegium.utils.memory import settle_heap
from collegium.utils.progress import Display
from collegium.utils.threads import TORCHS_NUMBER, choose_threads

Labels = Mapping[str, Any] | Sequence[str]
"""A teacher's classes: a mapping from each to a class of the student, or only their names."""

PRECISIONS: Mapping[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@dataclass(frozen=True)
class Runtime:
    """Where a command computes and shows its progress.

    Attributes:
        machine: the options of group `Machine`.
        fabric: devices, precision and processes, launched.
        display: progress and messages.
    """

    machine: Machine
    fabric: Fabric
    display: Display

    @property
    def first(self) -> bool:
        """Whether this is the first process, which writes files and shows messages."""
        return self.fabric.is_global_zero

    def set_threads(self, step_work: int, recorded: int | None = None) -> int:
        """Set the number of CPU threads to suit the amount of work.

        Args:
            step_work: multiply-adds of one step of this process; 0 if they cannot be counted.
            recorded: the number of threads of the run that is resumed; `TORCHS_NUMBER` for torch's.

        Returns:
            The number: `Machine.threads`, else `recorded`, else that of `choose_threads`, which is
            at most torch's number. On devices other than a CPU, torch's number is kept.
        """
        most = torch.get_num_threads()
        on_cpu = self.fabric.device.type == "cpu"
        if recorded == TORCHS_NUMBER:
            recorded = most
        threads = self.machine.threads or recorded or choose_threads(on_cpu * step_work, most)
        if recorded and threads > (cores := os.cpu_count() or 1):
            self.display.warn(f"the run's {threads} threads are more than {cores} cores can run")
        torch.set_num_threads(threads)
        return threads


def make_runtime(machine: Machine, label: str, quiet: bool = True) -> Runtime:
    """Launch the processes of a command; only the display of the first one shows messages.

    Raises:
        RequestError: the machine has no such device, or not as many.
    """
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    settle_heap()
    # Hide Fabric's messages about its internals.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # checked below, or advice on other hardware
        fabric = _fabric(machine)
        if machine.precision == "16" and fabric.device.type == "cpu":
            raise RequestError("--precision 16 needs a GPU: on a CPU give 32 or bf16")
        fabric.launch()
    return Runtime(machine, fabric, Display(quiet or not fabric.is_global_zero, label))


def _fabric(machine: Machine) -> Fabric:
    devices, nodes = _processes(machine)
    many = devices * nodes > 1 or machine.strategy == "ddp"
    # A step of a method may not use every parameter: frozen latent vectors, hints of stage one.
    strategy: Any = DDPStrategy(find_unused_parameters=True) if many else "auto"
    try:
        return Fabric(
            accelerator=machine.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            precision=PRECISIONS[machine.precision],
        )
    except (RuntimeError, ValueError) as error:
        requested = f"--accelerator {machine.accelerator} --devices {devices}"
        raise RequestError(f"{requested} cannot be had here: {error}") from None


def _processes(machine: Machine) -> tuple[int, int]:
    """Processes per machine and number of machines: as requested, or as torchrun started them.

    Raises:
        RequestError: torchrun started another number of processes than was requested.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return machine.devices, 1
    here, all_of_them = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if machine.devices not in (1, here):
        raise RequestError(
            f"torchrun started {here} processes here, --devices asks for {machine.devices}: leave "
            "--devices out, or give both the same number"
        )
    return here, all_of_them // here


def make_splits(
    data: str | Splits,
    validation: float,
    seed: int,
    image_size: ImageSize,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    display: Display | None = None,
    classes: Sequence[str] = (),
) -> Splits:
    """Load the splits that a data string names, or use the given ones; keep only `classes` if set.

    The first process shows notes on the data as warnings.
    """
    display = display or Display(quiet=True)
    splits = data
    if not isinstance(splits, Splits):
        known: dict[str, Any] = {"validation": validation, "seed": seed, "image_size": image_size}
        splits = load_data(splits, **known, workers=machine.decoders, tell=display.say)
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    for note in splits.notes if first else ():
        display.warn(note)
    return keep_classes(splits, classes)


def splits_from(train: Any, val: Any, test: Any, validation: float, seed: int) -> Splits:
    """Splits from Python data: each an `ImageData`, a pair of arrays, or a map-style data set.

    Without `val`, part of `train` is held out for validation unless `validation` is 0.
    """
    given = {"train": train, "validation": val, "test": test}
    splits = splits_of({part: data for part, data in given.items() if data is not None})
    present = set(splits.train.labels_N.tolist())
    start = f"{splits.train.name}: no training example is of"
    note = missing_note(start, splits.train.classes, present)
    return splits.with_notes(note).with_held_out(validation, seed)


def input_spec_of(train: ImageData) -> InputSpec:
    """The input specification of networks for this data: classes, image shape, statistics.

    The statistics include the held-out part of the training data. So the seed, which decides what
    is held out, changes neither a network's normalisation nor the identity of a stored teacher.
    """
    mean, std = train.whole.mean, train.whole.std
    # Avoid a division by 0 for constant channels.
    std = tuple(max(value, 1e-3) for value in std)
    return InputSpec(train.classes, train.shape, mean, std)


def make_student(model: str | nn.Module, input_spec: InputSpec, seed: int) -> Network:
    """Build the network that is trained."""
    if isinstance(model, str):
        return build_network(model, input_spec, seed, trainable=True)
    with seeded(seed):  # A lazy module initialises its weights in its first forward.
        return wrap_module(model, input_spec, trainable=True)


def make_teacher(
    name: str, model: str | nn.Module, input_spec: InputSpec, labels: Labels | None = None
) -> Network:
    """Build a frozen network; a module from Python is copied, so that the copy stays frozen.

    Args:
        name: name of the teacher; empty for a network that is no teacher.
        model: a model string, or a module.
        input_spec: input specification of the data; the teacher's own classes may differ.
        labels: its classes in the order of its logits, if its weights do not name them.

    Raises:
        RequestError: the teacher has no trained weights, or its outputs are not finite.
    """
    classes = tuple(labels) if labels else input_spec.classes
    input_spec = dataclasses.replace(
        input_spec, any_classes=True, classes=classes, named=labels is not None
    )
    with _named(name):
        return freeze(_teacher(model, input_spec))


def relate(
    name: str, theirs: tuple[str, ...], ours: tuple[str, ...], labels: Labels | None = None
) -> LabelMap | None:
    """The map from a teacher's classes to the student's, from a given mapping, else by names.

    Args:
        name: name of the teacher; empty for a network that is no teacher.
        theirs: the teacher's classes.
        ours: the student's classes.
        labels: the mapping, or the names of the teacher's classes.

    Raises:
        RequestError: the classes have nothing in common, or `labels` does not fit them.
    """
    with _named(name):
        if isinstance(labels, Mapping):
            return match(theirs, ours, labels)
        if labels is not None and len(labels) != len(theirs):
            raise RequestError(f"has {len(theirs)} classes, --labels names {len(labels)}")
        return match(labels or theirs, ours)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the teacher's name in front of an error's message, or "model" if the name is empty."""
    try:
        yield
    except RequestError as error:
        whose = f"teacher {name}" if name else "model"
        raise type(error).__new__(type(error), f"{whose}: {error}") from None


@dataclass(frozen=True)
class TeacherRequest:
    """The teachers that a command needs.

    Attributes:
        models: model strings or modules, by name.
        specs: how the user wrote each model, by name.
        labels: label maps of teachers whose classes differ from the data's, by name.
        layers: layers to read in addition to those of `survey`, by teacher.
    """

    models: Mapping[str, str | nn.Module]
    specs: Mapping[str, str]
    labels: Mapping[str, Labels] = field(default_factory=dict)
    layers: Mapping[str, Sequence[str]] = field(default_factory=dict)


def make_ensemble(
    request: TeacherRequest, splits: Splits, runtime: Runtime, steps: int, batch_size: int
) -> TeacherEnsemble:
    """Build the teachers of a command, optimised for inference as far as outputs stay exact.

    Args:
        request: the teachers.
        splits: the student's data.
        runtime: where they run.
        steps: number of batches they will get; in long runs they may be compiled.
        batch_size: size of these batches.

    Raises:
        UnknownNameError: a label map is of no teacher.
        RequestError: a teacher cannot be built, or does not have a requested layer.
    """
    labels, machine, fabric = request.labels, runtime.machine, runtime.fabric
    for name in labels:
        if name not in request.models:
            raise UnknownNameError("teacher in --labels", name, request.models)
    input_spec = input_spec_of(splits.train)
    builders = {
        name: functools.partial(make_teacher, name, model, input_spec, labels.get(name))
        for name, model in request.models.items()
    }
    sample = Loader(splits.validation or splits.train, SAMPLE, workers=0)
    inference = InferenceOptions(
        machine.fold,
        machine.channels_last,
        None if machine.precision == "32" else fabric.autocast,
        min(batch_size, SAMPLE) if machine.compiles(fabric.device.type, steps) else 0,
        machine.teacher_block,
        runtime.display.warn if machine.teacher_batch == "auto" else None,
    )
    return TeacherEnsemble(
        builders,
        request.specs,
        next(sample.epoch(0)).images_BDHW,
        inference,
        device=fabric.device,
        bounded=machine.teacher_memory == "bounded",
        relate=lambda name, theirs: relate(name, theirs, input_spec.classes, labels.get(name)),
        layers=request.layers,
    )


def teacher_work(ensemble: TeacherEnsemble) -> int:
    """Multiply-adds of all teachers for one image."""
    return sum(info.multiply_adds for info in ensemble.infos.values())


def _teacher(model: str | nn.Module, input_spec: InputSpec) -> Network:
    if isinstance(model, nn.Module):
        return wrap_teacher(model, input_spec)
    if not has_weights(model):
        check_family(ModelString.read(model))
        name = model.partition("?")[0]
        raise RequestError(
            f"{model} has no weights, so it has nothing to teach; give {name}@FILE, "
            f"{name}@pretrained (timm, torchvision, hf) or a run folder"
        )
    return build_network(model, input_spec)


def make_dims(
    classes: int, student_maps: Mapping[str, MapShape], infos: Mapping[str, TeacherInfo], seed: int
) -> Dims:
    """Names and shapes of classes, teachers and layers.

    Args:
        classes: number of classes.
        student_maps: shape of each layer of the student, by name.
        infos: the description of each teacher that the method uses, by name.
        seed: seed for the initial values of the method's parameters.
    """
    return Dims(
        classes,
        tuple(infos),
        student_maps,
        {name: info.maps for name, info in infos.items()},
        seed,
        {name: info.head for name, info in infos.items() if info.head},
    )
