"""Model strings: "cifar:resnet20", "small:cnn", "file.py:build", a run folder, "...@weights"."""

import contextlib
import importlib.machinery
import inspect
import json
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from collegium.errors import RequestError, UnknownNameError, WeightsError
from collegium.models.cifar import CIFAR_MODELS
from collegium.models.network import Network, Preprocess
from collegium.models.small import SMALL_MODELS
from collegium.models.weights import fit_weights, read_weights
from collegium.types import MapShape

FAMILIES: Mapping[str, Mapping[str, Callable[[int], nn.Module]]] = {
    "cifar": CIFAR_MODELS,
    "small": SMALL_MODELS,
}
SMALLEST = {"cifar": 32}
"""Rows and columns below which a family's networks get their view enlarged."""
CHANNELS = {"cifar": 3, "small": 1}
"""What a family's first layer takes; colour is averaged to grey, grey is repeated."""
STUDENT_FILE = "student.safetensors"
_TELL = "; a teacher with other classes than the data's says which by --labels NAME=FILE"


@dataclass(frozen=True)
class Setting:
    """What a network is built for.

    Attributes:
        classes: names of the classes, in the order of the labels.
        image_shape: channels, rows and columns of a view.
        mean: per channel of the training pixels; the normalisation where weights bring none.
        std: per channel of the training pixels.
        any_classes: it may have been trained on other classes than these: a teacher, or something
            that is only looked at. Its own are then those of its weights.
    """

    classes: tuple[str, ...]
    image_shape: MapShape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    any_classes: bool = False

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation for a network of 1 or 3 channels, whatever the data has."""
        if channels == len(self.mean):
            return self.mean, self.std
        mean, std = sum(self.mean) / len(self.mean), sum(self.std) / len(self.std)
        return (mean,) * channels, (std,) * channels


def build_network(spec: str, setting: Setting, seed: int = 0) -> Network:
    """The network a model string names, with its weights if the string brings some.

    Args:
        spec: see the module.
        setting: what it is for.
        seed: of the initial weights, where none are loaded.

    Raises:
        UnknownNameError: no such family or name.
        WeightsError: weights that cannot be read or do not fit.
        RequestError: a user's file that fails, or a network that does not give (B, C) logits.
    """
    name, _, weights = spec.partition("@")
    if not weights and Path(name).is_dir():
        return _from_run(Path(name), setting)
    tensors, metadata = read_weights(Path(weights)) if weights else ({}, {})
    return _assemble(name, setting, seed, tensors, metadata, Path(weights))


def has_weights(spec: str) -> bool:
    """Whether a model string brings trained weights (a user's function may load its own)."""
    return "@" in spec or Path(spec).is_dir() or ".py:" in spec


def _from_run(folder: Path, setting: Setting) -> Network:
    file = folder / STUDENT_FILE
    if not file.is_file():
        raise WeightsError(f"{folder} is no finished run folder: it has no {STUDENT_FILE}")
    tensors, metadata = read_weights(file)
    if not metadata.get("architecture"):
        raise WeightsError(f"{file} does not say which network it is; give MODEL@{file}")
    return _assemble(metadata["architecture"], setting, 0, tensors, metadata, file)


def _assemble(
    name: str,
    setting: Setting,
    seed: int,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    source: Path,
) -> Network:
    setting = _check_classes(metadata, setting, source)
    preprocess = _preprocess(name, setting, metadata, source)
    with seeded(seed):
        body = _build_body(name, len(setting.classes))
    if tensors:
        fit_weights(body, tensors, source)
    network = Network(body, preprocess, setting.classes, name)
    check_logits(network, setting)
    return network


def _check_classes(metadata: Mapping[str, str], setting: Setting, source: Path) -> Setting:
    """The setting with the classes that the network is built for."""
    try:
        known = tuple(json.loads(metadata.get("classes", "[]")))
    except (ValueError, TypeError):
        raise WeightsError(f"{source}: its list of classes cannot be read") from None
    if known and setting.any_classes:
        return replace(setting, classes=known)
    if known and known != setting.classes:
        how = "in another order" if sorted(known) == sorted(setting.classes) else "others"
        raise RequestError(
            f"{source} knows {len(known)} classes ({', '.join(known[:3])}, ...), the data has "
            f"{len(setting.classes)} ({', '.join(setting.classes[:3])}, ...), {how}: "
            "a student must have the classes of the data, in its order"
        )
    return setting


def _preprocess(
    name: str, setting: Setting, metadata: Mapping[str, str], source: Path
) -> Preprocess:
    family = name.partition(":")[0]
    mean, std = setting.statistics(CHANNELS.get(family, len(setting.mean)))
    if "mean" in metadata and "std" in metadata:
        try:
            mean, std = (_numbers(metadata[key]) for key in ("mean", "std"))
        except ValueError:
            raise WeightsError(f"{source}: its mean or std is not numbers") from None
    return Preprocess(mean, std, SMALLEST.get(family, 1))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split())


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from this seed inside, and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _build_body(name: str, classes: int) -> nn.Module:
    path, _, function = name.rpartition(":")
    if path.endswith(".py"):
        return _from_file(Path(path), function, classes)
    family, _, member = name.partition(":")
    if family not in FAMILIES:
        known = [*(f"{key}:NAME" for key in FAMILIES), "path/to/file.py:function", "a run folder"]
        raise UnknownNameError("model", name, known)
    if member not in FAMILIES[family]:
        raise UnknownNameError(f"{family} model", member, FAMILIES[family])
    return FAMILIES[family][member](classes)


def _from_file(path: Path, function: str, classes: int) -> nn.Module:
    """Run a user's Python file: the one way to run code that is not ours."""
    if not path.is_file():
        raise RequestError(f"model file {path}: no such file")
    try:
        loader = importlib.machinery.SourceFileLoader(f"collegium_user_{path.stem}", str(path))
        module = types.ModuleType(loader.name)
        module.__file__ = str(path)
        loader.exec_module(module)
    except Exception as error:
        raise RequestError(f"model file {path} failed: {type(error).__name__}: {error}") from error
    if not hasattr(module, function):
        functions = [n for n, f in vars(module).items() if inspect.isfunction(f)]
        raise UnknownNameError(f"function of {path}", function, functions)
    return _call(getattr(module, function), classes, f"{path}:{function}")


def _call(function: Callable[..., Any], classes: int, where: str) -> nn.Module:
    try:
        takes = bool(inspect.signature(function).parameters)
        body = function(classes) if takes else function()
    except Exception as error:
        raise RequestError(f"{where} failed: {type(error).__name__}: {error}") from error
    if not isinstance(body, nn.Module):
        raise RequestError(f"{where} returned a {type(body).__name__}, expected an nn.Module")
    return body


def wrap_module(module: nn.Module, setting: Setting) -> Network:
    """A module given from Python, as a network; a `Network` stays as it is.

    Raises:
        RequestError: it does not give (B, C) logits for the data.
    """
    if isinstance(module, Network):
        return module
    mean, std = setting.statistics(_first_channels(module) or len(setting.mean))
    network = Network(module, Preprocess(mean, std), setting.classes, type(module).__name__)
    check_logits(network, setting)
    return network


def _first_channels(module: nn.Module) -> int | None:
    convolutions = (m for m in module.modules() if isinstance(m, nn.Conv2d))
    return next((m.in_channels for m in convolutions), None)


def check_logits(network: Network, setting: Setting) -> None:
    """Run one blank view through the network and look at what comes back.

    Raises:
        RequestError: it fails, or gives something else than (1, C) logits.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            logits = network.body(network.prepare(torch.zeros(1, *setting.image_shape)))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise RequestError(
            f"model {network.spec} cannot take a view of {_shape(setting.image_shape)}: {reason}"
        ) from error
    finally:
        network.train(was_training)
    expected = (1, len(setting.classes))
    if not isinstance(logits, Tensor) or logits.shape != expected:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise RequestError(
            f"model {network.spec} gave {found}, expected logits of shape {expected}: "
            f"one for each of its classes{_TELL if setting.any_classes else ''}"
        )


def _shape(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
