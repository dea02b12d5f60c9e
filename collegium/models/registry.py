"""From a model string to a network: "cifar:resnet20", "timm:NAME", "hf:DIR", "net.py:build", ..."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from collegium.errors import RequestError, WeightsError
from collegium.models.architectures import Design, find_design, has_weights
from collegium.models.build import make_body
from collegium.models.input_spec import InputSpec, check_student, find_preprocess, preprocess_notes
from collegium.models.key_matching import size
from collegium.models.model_string import ModelString
from collegium.models.network import Network, Preprocess
from collegium.models.outputs import describe_output
from collegium.models.outputs_check import LOGITS, check_finite, kind_of_outputs
from collegium.models.reported import reported
from collegium.models.source_code import code_of_module, differing, recorded_code
from collegium.models.unregistered import unregistered
from collegium.models.user_modules import (
    check_tensors,
    copied,
    evaluating,
    first_tensor,
    seeded,
    unwrapped,
)
from collegium.models.weights import read_classes, read_weights
from collegium.utils.files import strayed
from collegium.utils.text import some_of

__all__ = ["build_network", "check_logits", "has_weights", "seeded", "wrap_module"]

STUDENT_FILE = "student.safetensors"
_BY_LABELS = "; a teacher with other classes than the data's says which by --labels NAME=FILE"
TAKEN_OUT = "taken out of {}"
ONE_OUTPUT = (
    "model {} gives one output, a yes or no of one class (a binary classifier); here a classifier "
    "gives one output for each class: wrap it so that it returns (0, output) for (no, yes)"
)
UNKNOWN_PREPROCESS = (
    "nothing says how it wants its pixels, so it gets the normalisation of the data; if that is "
    "wrong give ?mean=...&std=..."
)


def build_network(
    spec: str, input_spec: InputSpec, seed: int = 0, *, trainable: bool = False
) -> Network:
    """The network a model string names, with its weights if the string brings some.

    Args:
        spec: see the module.
        input_spec: what it is for.
        seed: of the initial weights, where none are loaded.
        trainable: it is a student, so its classes are the data's; a teacher has those it knows.

    Raises:
        UnknownNameError: no such family or name.
        WeightsError: weights that cannot be read or do not fit.
        RequestError: a library that is missing, a user's file that fails, or a network that does
            not give (B, C) logits.
    """
    string, doubts = _read_string(spec)
    file = read_weights(string.file) if string.file else None
    metadata: Mapping[str, str] = file.metadata if file else {}
    design = find_design(string, {**metadata, **string.options})
    if trainable and not design.trainable:
        raise RequestError(f"{string.name} cannot learn: it can only be a teacher")
    if input_spec.any_classes and design.unfit:
        raise RequestError(f"{string.name} {design.unfit}")
    source = Path(string.weights or string.name)
    metadata = {**design.metadata, **metadata}
    if notes := _unreadable_classes(metadata, input_spec, source):
        metadata = {key: value for key, value in metadata.items() if key != "classes"}
        file = file and replace(file, metadata=metadata)
    input_spec = _check_classes(read_classes(metadata, source), input_spec, source)
    with seeded(seed):
        body, origin = make_body(design, string, file, input_spec.classes, trainable)
    check_tensors(body, "the student" if trainable else string.name, trainable, lazy=True)
    if origin.trained:
        check_finite(body, source)
        licence = _licence(design, metadata, string)
        notes = (*origin.notes, *notes, *design.notes)
        origin = replace(origin, licence=licence, notes=notes)
    input_spec = _check_classes(origin.classes, input_spec, source)
    preprocess = find_preprocess(design, input_spec, metadata, string)
    if trainable:
        if "resize" not in string.options:
            preprocess = replace(preprocess, resize=None)  # it learns from the whole view
        check_student(preprocess, string.name)
    origin = replace(origin, doubts=doubts)
    network = Network(body, preprocess, input_spec.classes, string.name, origin)
    with seeded(seed):  # A lazy module draws its weights when it is first run.
        _finish(network, design, input_spec)
    stated = design.preprocess is not None or {"mean", "std"} & {*metadata, *string.options}
    if origin.trained and not stated:
        network.note(UNKNOWN_PREPROCESS)
    _check_outputs(network, input_spec)
    _look_at_code(network, design, metadata)
    return network


def _unreadable_classes(
    metadata: Mapping[str, str], input_spec: InputSpec, source: Path
) -> tuple[str, ...]:
    """A note where an entry of classes cannot be read and their names were given; else empty."""
    try:
        read_classes(metadata, source)
    except WeightsError:
        if not input_spec.named:
            raise
        return (f"the classes in {source} cannot be read; those of --labels are taken",)
    return ()


def _licence(design: Design, metadata: Mapping[str, str], string: ModelString) -> str:
    """The licence that stands beside the weights; of a library's weights else the library's."""
    for words in (string.options, metadata):
        for key in ("licence", "license"):
            if key in words:
                return words[key]
    return design.licence if string.file is None else ""


def _check_outputs(network: Network, input_spec: InputSpec) -> None:
    """Take logarithms where a teacher gives probabilities; refuse what is no classifier."""
    if input_spec.any_classes and len(input_spec.classes) > 1:
        with evaluating(network):
            network.gives = kind_of_outputs(network, input_spec.image_shape)
        if network.gives != LOGITS:
            network.note("gives probabilities, not logits: their logarithms are taken")
    check_logits(network, input_spec)


def _look_at_code(network: Network, design: Design, metadata: Mapping[str, str]) -> None:
    """Note whose code it is, and whether its weights were trained by another.

    At the end: what a forward imports has been run by then.
    """
    code = dict(design.code())
    network.origin = replace(network.origin, code=code)
    other = differing(recorded_code(metadata), code) if code and "code" in metadata else []
    if other:
        network.doubt(f"its code is not what its weights were trained with: {some_of(other, 4)}")


def code_of_string(spec: str) -> dict[str, str]:
    """Digests of the user's files that a model string builds from; empty for a library's.

    Raises:
        RequestError: there is no such file, or it fails.
    """
    string, _ = _read_string(spec)
    return dict(find_design(string, {}).code()) if string.family == "py" else {}


def _read_string(spec: str) -> tuple[ModelString, tuple[str, ...]]:
    """A model string, of a run folder that of its student; and doubts about that student."""
    string = ModelString.read(spec)
    if not string.is_run:
        return string, ()
    folder = Path(string.name)
    file = folder / STUDENT_FILE
    if not file.is_file():
        raise WeightsError(f"{folder} is no finished run folder: it has no {STUDENT_FILE}")
    architecture = read_weights(file).metadata.get("architecture")
    if not architecture:
        raise WeightsError(f"{file} does not say which network it is; give MODEL@{file}")
    changed = strayed(folder, [STUDENT_FILE])
    doubts = (f"{file} is not what this run wrote",) if changed else ()
    return replace(string, name=architecture, weights=str(file)), doubts


def _check_classes(names: tuple[str, ...], input_spec: InputSpec, source: Path) -> InputSpec:
    """The setting with the classes that the network is built for: those it names, if any."""
    if names and input_spec.any_classes:
        return replace(input_spec, classes=names)
    if names and names != input_spec.classes:
        how = "in another order" if sorted(names) == sorted(input_spec.classes) else "others"
        raise RequestError(
            f"{source} knows {len(names)} classes ({', '.join(names[:3])}, ...), the data has "
            f"{len(input_spec.classes)} ({', '.join(input_spec.classes[:3])}, ...), {how}: "
            "a student must have the classes of the data, in its order"
        )
    return input_spec


def _finish(network: Network, design: Design, input_spec: InputSpec) -> None:
    """What only trying tells: whether it takes the view's size, and how many classes it has."""
    count = _outputs(network, input_spec)
    if count is None and network.preprocess.size is None and design.native is not None:
        network.preprocess = replace(network.preprocess, size=design.native)
        count = _outputs(network, input_spec)
    network.note(*preprocess_notes(network, design, input_spec))
    network.note_grey(input_spec.image_shape)
    name_classes(network, count, network.origin.classes, input_spec)


def name_classes(
    network: Network, count: int | None, names: Sequence[str], input_spec: InputSpec
) -> None:
    """Give a network the names of its classes: those it knows, the data's, or places.

    Raises:
        WeightsError: as many names as it has outputs were expected.
    """
    if names and count is not None and len(names) != count:
        raise WeightsError(f"model {network.spec} names {len(names)} classes and gives {count}")
    if names:
        network.classes = tuple(names)
    elif count is not None and count != len(input_spec.classes):
        network.classes = tuple(f"output {place}" for place in range(count))


def _outputs(network: Network, input_spec: InputSpec) -> int | None:
    """Number of logits, by one blank view; None where there are none or it fails."""
    try:
        logits = _try(network, input_spec)
    except Exception:
        return None
    return logits.shape[1] if isinstance(logits, Tensor) and logits.ndim == 2 else None


def wrap_module(module: nn.Module, input_spec: InputSpec, *, trainable: bool = False) -> Network:
    """A module given from Python, as a network; a `Network` stays as it is.

    Args:
        module: may be wrapped by torch.compile, DataParallel or the like; its training mode is
            left as it is.
        input_spec: what it is for.
        trainable: it is a student.

    Raises:
        RequestError: it does not give (B, C) logits for the data, or its tensors hold no numbers.
    """
    module, removed = unwrapped(module)
    check_tensors(module, "the student" if trainable else f"model {_kind(module)}", trainable)
    if isinstance(module, Network):
        if trainable:
            check_student(module.preprocess, module.spec or "the student")
        return module
    convolutions = (part for part in module.modules() if isinstance(part, nn.Conv2d))
    channels = next((one.in_channels for one in convolutions), 0)  # 0 in a lazy one, too
    mean, std = input_spec.statistics(channels or len(input_spec.mean))
    network = Network(module, Preprocess(mean, std), input_spec.classes, _kind(module))
    network.training = getattr(module, "training", False)
    network.origin = replace(network.origin, code=code_of_module(module))
    check_finite(module, _kind(module))
    if doubt := unregistered(module):
        network.doubt(doubt)
    if removed:
        network.note(TAKEN_OUT.format(", ".join(removed)))
    network.note_grey(input_spec.image_shape)
    name_classes(network, _outputs(network, input_spec), (), input_spec)
    _check_outputs(network, input_spec)
    return network


def wrap_teacher(module: nn.Module, input_spec: InputSpec) -> Network:
    """A copy, on the CPU, of a module given from Python that is only looked at, as a network.

    Raises:
        RequestError: it cannot be copied, or as `wrap_module`.
    """
    inner, removed = unwrapped(module)
    check_tensors(inner, "it", trainable=False)
    network = wrap_module(copied(inner, "it").cpu(), input_spec)
    if removed:
        network.note(TAKEN_OUT.format(", ".join(removed)))
    return network


def _kind(module: nn.Module) -> str:
    """The class of a module; of TorchScript what it was before."""
    return str(getattr(module, "original_name", None) or type(module).__name__)


def check_logits(network: Network, input_spec: InputSpec) -> None:
    """Run one blank view through the network and look at what comes back.

    Raises:
        RequestError: it fails, or gives something else than (1, C) logits.
    """
    with reported(f"model {network.spec} cannot take a view of {size(input_spec.image_shape)}"):
        logits = _try(network, input_spec)
    expected = (1, len(input_spec.classes))
    shape = logits.shape if isinstance(logits, Tensor) else None
    if shape in ((1,), (1, 1)) and expected[1] > 1:
        raise RequestError(ONE_OUTPUT.format(network.spec))
    if shape != expected:
        raise RequestError(
            f"model {network.spec} gave {describe_output(logits)}, expected logits of shape "
            f"{expected}: one for each of its classes{_BY_LABELS if input_spec.any_classes else ''}"
        )


def _try(network: Network, input_spec: InputSpec) -> Any:
    """What it gives for a black view in pixels, where the network is."""
    found = first_tensor(network.body)
    device = network.mean.device if found is None else found.device
    network.mean, network.std = network.mean.to(device), network.std.to(device)
    with torch.no_grad(), evaluating(network):
        return network(torch.zeros(1, *input_spec.image_shape, device=device))
