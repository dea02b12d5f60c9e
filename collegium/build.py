"""From the strings and objects of a request to the parts of a run."""

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
from collegium.data import (
    ImageData,
    Loader,
    Splits,
    hold_out,
    keep_classes,
    load_data,
    splits_of,
)
from collegium.data.class_names import without_examples
from collegium.errors import RequestError, UnknownNameError
from collegium.models.architectures import check_family
from collegium.models.features.discover import every_layer, survey
from collegium.models.input_spec import InputSpec
from collegium.models.model_string import ModelString
from collegium.models.network import Network, freeze
from collegium.models.registry import build_network, has_weights, seeded, wrap_module, wrap_teacher
from collegium.teachers.ensemble import TeacherEnsemble, TeacherInfo
from collegium.teachers.label_map import LabelMap, match
from collegium.teachers.optimize import SAMPLE, InferenceOptions
from collegium.types import Dims, MapShape
from collegium.utils.from_json import ImageSize
from collegium.utils.memory import settle_heap
from collegium.utils.progress import Display
from collegium.utils.threads import choose_threads

Labels = Mapping[str, Any] | Sequence[str]
"""A teacher's classes: each with the student's it stands for, or their names alone."""

PRECISIONS: Mapping[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@dataclass(frozen=True)
class Runtime:
    """Where a command computes, and where it shows its progress.

    Attributes:
        machine: options of the machine.
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
        """Compute with as many threads as the work is worth.

        Args:
            step_work: multiply-adds of one step of this process; 0 where they cannot be counted.
            recorded: the number of threads of the run that is resumed.

        Returns:
            `Machine.threads`, else `recorded`, else `choose_threads` up to torch's number, which
            stays where the device is no CPU.
        """
        most = torch.get_num_threads()
        on_cpu = self.fabric.device.type == "cpu"
        threads = self.machine.threads or recorded or choose_threads(on_cpu * step_work, most)
        torch.set_num_threads(threads)
        return threads


def make_runtime(machine: Machine, label: str, quiet: bool = True) -> Runtime:
    """The processes of a command, launched, and their display: that of the first one alone shows.

    Raises:
        RequestError: the machine has no such device, or not as many.
    """
    fabric = make_fabric(machine)
    return Runtime(machine, fabric, Display(quiet or not fabric.is_global_zero, label))


def make_fabric(machine: Machine) -> Fabric:
    """Devices, precision and processes, launched.

    Raises:
        RequestError: the machine has no such device, or not as many.
    """
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    settle_heap()
    # Messages of Fabric on its own workings are not for the user.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # refused below, or advice on hardware we did not choose
        fabric = _fabric(machine)
        if machine.precision == "16" and fabric.device.type == "cpu":
            raise RequestError(
                "--precision 16 needs a GPU: CPUs train in 32 or bf16, give one of these"
            )
        fabric.launch()
    return fabric


def _fabric(machine: Machine) -> Fabric:
    devices, nodes = _processes(machine)
    many = devices * nodes > 1 or machine.strategy == "ddp"
    # A method may leave parameters out of a step: frozen latent vectors, hints of stage one.
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
    """Processes of a machine and number of machines: as requested, or as torchrun started them.

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
    """The splits a string names, or those given; of some classes alone, if these are named.

    Notes on the data are shown as warnings.
    """
    display = display or Display(quiet=True)
    splits = (
        data
        if isinstance(data, Splits)
        else load_data(
            data,
            validation=validation,
            seed=seed,
            image_size=image_size,
            workers=machine.decoders,
            tell=display.say,
        )
    )
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    for note in splits.notes if first else ():
        display.warn(note)
    return keep_classes(splits, classes)


def splits_from(train: Any, val: Any, test: Any, validation: float, seed: int) -> Splits:
    """Splits of data from Python: each an `ImageData`, two arrays, or a map-style data set."""
    given = {"train": train, "validation": val, "test": test}
    splits = splits_of({part: data for part, data in given.items() if data is not None})
    names, counts = splits.train.classes, splits.train.labels_N.bincount(minlength=1)
    splits = splits.with_notes(without_examples(splits.train.name, names, counts.tolist()))
    if splits.validation is not None or validation == 0:
        return splits
    train_data, held_out = hold_out(splits.train, validation, seed)
    return dataclasses.replace(splits, train=train_data, validation=held_out)


def input_spec_of(train: ImageData) -> InputSpec:
    """What networks for this data are built for.

    Its statistics are of all training data. So the seed, which decides what is held out, changes
    neither the normalisation of a network nor the identity of a stored teacher.
    """
    mean, std = train.whole.mean, train.whole.std
    # A constant channel would be divided by 0.
    std = tuple(max(value, 1e-3) for value in std)
    return InputSpec(train.classes, train.shape, mean, std)


def make_student(model: str | nn.Module, input_spec: InputSpec, seed: int) -> Network:
    """The network that is trained."""
    if isinstance(model, str):
        return build_network(model, input_spec, seed, trainable=True)
    with seeded(seed):  # A lazy module draws its weights when it is first run.
        return wrap_module(model, input_spec, trainable=True)


def hidden_layers(
    model: str, data: str | Splits, image_size: ImageSize = None, classes: Sequence[str] = ()
) -> tuple[dict[str, MapShape], dict[str, MapShape]]:
    """The layers of a network that hints choose from, and all that can be named, with their shapes.

    Raises:
        RequestError: no such model or data.
    """
    input_spec = input_spec_of(make_splits(data, 0.0, 0, image_size, classes=classes).train)
    network = make_student(model, input_spec, seed=0)
    return survey(network, input_spec.image_shape), every_layer(network, input_spec.image_shape)


def make_teacher(
    name: str, model: str | nn.Module, input_spec: InputSpec, labels: Labels | None = None
) -> Network:
    """A frozen network; a module given from Python is copied, so that ours stays frozen.

    Args:
        name: of the teacher; empty for a network that is no teacher.
        model: a model string, or a module.
        input_spec: of the data; the teacher's own classes may be others.
        labels: its classes in the order of its logits, where its weights do not name them.

    Raises:
        RequestError: a teacher that was never trained, or whose outputs are not finite.
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
    """The map from a teacher's classes to the student's: by a mapping, else by names.

    Raises:
        RequestError: they have nothing in common, or the mapping does not fit.
    """
    with _named(name):
        if isinstance(labels, Mapping):
            return match(theirs, ours, labels)
        if labels is not None and len(labels) != len(theirs):
            raise RequestError(f"has {len(theirs)} classes, --labels names {len(labels)}")
        return match(labels or theirs, ours)


def check_labels(labels: Mapping[str, Labels], teachers: Mapping[str, object]) -> None:
    """Refuse a label map for a teacher that does not exist.

    Raises:
        UnknownNameError: there is no teacher of that name.
    """
    for name in labels:
        if name not in teachers:
            raise UnknownNameError("teacher in --labels", name, teachers)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Name the teacher in an error, or the model where the name is empty."""
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
        specs: what the user calls each model.
        labels: label maps of teachers whose class names are others.
        layers: hidden layers to read beside those of `survey`, by teacher.
    """

    models: Mapping[str, str | nn.Module]
    specs: Mapping[str, str]
    labels: Mapping[str, Labels] = field(default_factory=dict)
    layers: Mapping[str, Sequence[str]] = field(default_factory=dict)


def make_ensemble(
    request: TeacherRequest, splits: Splits, runtime: Runtime, steps: int, batch_size: int
) -> TeacherEnsemble:
    """The teachers of a command, made as fast as exact outputs allow.

    Args:
        request: which teachers.
        splits: the student's data.
        runtime: where they run.
        steps: how many batches they will get: in long runs they may be compiled.
        batch_size: of these batches.

    Raises:
        RequestError: a teacher cannot be built, or has none of the layers requested of it.
    """
    labels, machine = request.labels, runtime.machine
    check_labels(labels, request.models)
    input_spec = input_spec_of(splits.train)
    builders = {
        name: functools.partial(make_teacher, name, model, input_spec, labels.get(name))
        for name, model in request.models.items()
    }
    sample = Loader(splits.validation or splits.train, SAMPLE, workers=0)
    return TeacherEnsemble(
        builders,
        request.specs,
        next(sample.epoch(0)).images_BDHW,
        _inference_options(runtime, steps, batch_size),
        device=runtime.fabric.device,
        bounded=machine.teacher_memory == "bounded",
        relate=lambda name, theirs: relate(name, theirs, input_spec.classes, labels.get(name)),
        layers=request.layers,
    )


def _inference_options(runtime: Runtime, steps: int, batch_size: int) -> InferenceOptions:
    machine, fabric = runtime.machine, runtime.fabric
    return InferenceOptions(
        machine.fold,
        machine.channels_last,
        None if machine.precision == "32" else fabric.autocast,
        min(batch_size, SAMPLE) if machine.compiles(fabric.device.type, steps) else 0,
        machine.teacher_block,
        runtime.display.warn if machine.teacher_batch == "auto" else None,
    )


def teacher_work(ensemble: TeacherEnsemble) -> int:
    """Multiply-adds of all teachers on one image."""
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
    student: Network,
    teachers: Mapping[str, TeacherInfo],
    input_spec: InputSpec,
    seed: int,
    layers: Sequence[str] = (),
) -> Dims:
    """Names and shapes, by one blank view through every network.

    Args:
        student: the network that is trained.
        teachers: the description of each.
        input_spec: of the data.
        seed: of the method's random starts.
        layers: of the student, requested beside those of `survey`.

    Raises:
        RequestError: the student has no such layer.
    """
    return Dims(
        classes=len(input_spec.classes),
        teachers=tuple(teachers),
        student_maps=survey(student, input_spec.image_shape, layers, "the student"),
        teacher_maps={name: info.maps for name, info in teachers.items()},
        seed=seed,
        heads={name: info.head for name, info in teachers.items() if info.head},
    )
