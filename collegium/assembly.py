"""From the strings and objects of a request to the parts of a run."""

import copy
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from collegium.data import ImageData, Splits, as_image_data, load_data
from collegium.errors import RequestError
from collegium.method import AbstractMethod
from collegium.models.network import Network, freeze
from collegium.models.specs import Setting, build_network, has_weights, wrap_module
from collegium.models.taps import survey
from collegium.objective import Objective
from collegium.training.options import Machine
from collegium.types import Dims, MapShape

PRECISIONS: Mapping[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def make_fabric(machine: Machine) -> Fabric:
    """Devices, precision and processes, launched.

    Raises:
        RequestError: the machine has no such device, or not as many.
    """
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    # What it reports on itself is not what a user asked to see.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    many = machine.devices > 1 or machine.strategy == "ddp"
    # A method may leave parameters out of a step: frozen latent vectors, hints of stage one.
    strategy: Any = DDPStrategy(find_unused_parameters=True) if many else "auto"
    try:
        fabric = Fabric(
            accelerator=machine.accelerator,
            devices=machine.devices,
            strategy=strategy,
            precision=PRECISIONS[machine.precision],
        )
    except (RuntimeError, ValueError) as error:
        asked = f"--accelerator {machine.accelerator} --devices {machine.devices}"
        raise RequestError(f"{asked} cannot be had here: {error}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on hardware we did not choose
        fabric.launch()
    return fabric


def make_splits(data: str | Splits, validation: float, seed: int, image_size: int | None) -> Splits:
    """The splits a string names, or those given."""
    if isinstance(data, Splits):
        return data
    return load_data(data, validation=validation, seed=seed, image_size=image_size)


def splits_from(train: Any, val: Any, test: Any, validation: float, seed: int) -> Splits:
    """Splits of data from Python: each an `ImageData`, two arrays, or a map-style data set."""
    from collegium.data import hold_out

    train_data = as_image_data(train)
    classes = train_data.classes
    rest = [None if part is None else as_image_data(part, classes=classes) for part in (val, test)]
    if rest[0] is None and validation > 0:
        train_data, rest[0] = hold_out(train_data, validation, seed)
    return Splits(train_data, rest[0], rest[1])


def setting_of(train: ImageData) -> Setting:
    """What networks for this data are built for."""
    mean, std = train.channel_statistics()
    # A constant channel would be divided by 0.
    std = tuple(max(value, 1e-3) for value in std)
    return Setting(train.classes, train.shape, mean, std)


def make_student(model: str | nn.Module, setting: Setting, seed: int) -> Network:
    """The network that is trained."""
    if isinstance(model, str):
        return build_network(model, setting, seed)
    return wrap_module(model, setting)


def make_teachers(models: Mapping[str, str | nn.Module], setting: Setting) -> dict[str, Network]:
    """Frozen networks by name; modules given from Python are copied, so that ours stay frozen.

    Raises:
        RequestError: a teacher that was never trained, or whose answers are not finite.
    """
    networks = {}
    for name, model in models.items():
        try:
            networks[name] = freeze(_teacher(model, setting))
        except RequestError as error:
            raise type(error).__new__(type(error), f"teacher {name}: {error}") from None
    return networks


def _teacher(model: str | nn.Module, setting: Setting) -> Network:
    if isinstance(model, nn.Module):
        return wrap_module(copy.deepcopy(model), setting)
    if not has_weights(model):
        raise RequestError(
            f"{model} has no weights, so it has nothing to teach; give {model}@FILE or a run folder"
        )
    return build_network(model, setting)


def make_dims(
    student: Network, teachers: Mapping[str, Network], setting: Setting, seed: int
) -> Dims:
    """Names and shapes, by one blank view through every network."""

    def maps(network: Network) -> dict[str, MapShape]:
        shape = network.prepare(torch.zeros(1, *setting.image_shape)).shape[1:]
        return survey(network.body, (shape[0], shape[1], shape[2]))

    return Dims(
        classes=len(setting.classes),
        teachers=tuple(teachers),
        student_maps=maps(student),
        teacher_maps={name: maps(network) for name, network in teachers.items()},
        seed=seed,
    )


def student_layers(objective: Objective, dims: Dims) -> tuple[str, ...]:
    """The student layers to read, shallow to deep: those of the terms, the weighting's last."""
    wanted = set(objective.layers.student)
    if objective.weighting is not None and objective.weighting.reads_student_map:
        wanted.add(list(dims.student_maps)[-1])
    return tuple(path for path in dims.student_maps if path in wanted)


def settle(
    method: AbstractMethod, teachers: tuple[str, ...], accuracy: Mapping[str, float]
) -> AbstractMethod:
    """The method, having chosen whom it hears.

    Raises:
        RequestError: it hears teachers and none was given.
    """
    if method.hears_teachers and not teachers:
        raise RequestError(
            f"method {method.slug} hears teachers and none was given: add --teacher NAME=MODEL, "
            "or use vanilla"
        )
    return method.heard(teachers, accuracy)
