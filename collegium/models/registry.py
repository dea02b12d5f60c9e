"""From a model string to a network: "cifar:resnet20", "timm:NAME", "hf:DIR", "net.py:build", ..."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from collegium.errors import RequestError, WeightsError
from collegium.models.architectures import Design, find_design, has_weights
from collegium.models.build import make_body
from collegium.models.input_spec import InputSpec, check_student, find_preprocess, preprocess_notes
from collegium.models.model_string import ModelString
from collegium.models.network import Network, Origin, Preprocess, note_grey
from collegium.models.outputs_check import LOGITS, ONE_OUTPUT, check_finite, kind_of_outputs
from collegium.models.source_code import code_of_module, differing, in_words, recorded_code
from collegium.models.unregistered import unregistered
from collegium.models.user_modules import (
    check_tensors,
    copied,
    evaluating,
    first_tensor,
    seeded,
    unwrapped,
)
from collegium.models.weights import WeightsFile, read_classes, read_weights
from collegium.utils.files import strayed
from collegium.utils.text import first_line

__all__ = ["build_network", "check_logits", "has_weights", "seeded", "wrap_module"]

STUDENT_FILE = "student.safetensors"
_TELL = "; a teacher with other classes than the data's says which by --labels NAME=FILE"
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
    string = ModelString.read(spec)
    doubts: tuple[str, ...] = ()
    if string.is_run:
        doubts, string = _doubts_of_run(string), _of_run(string)
    file = read_weights(string.file) if string.file else None
    says: Mapping[str, str] = file.metadata if file else {}
    design = find_design(string, {**says, **string.options})
    if trainable and not design.trainable:
        raise RequestError(f"{string.name} cannot learn: it can only be a teacher")
    if input_spec.any_classes and design.unfit:
        raise RequestError(f"{string.name} {design.unfit}")
    source = Path(string.weights or string.name)
    file, says, notes = _heed_names(file, {**design.metadata, **says}, input_spec, source)
    input_spec = _check_classes(says, input_spec, source)
    with seeded(seed):
        body, origin = make_body(design, string, file, input_spec.classes, trainable)
    check_tensors(body, "the student" if trainable else string.name, trainable, lazy=True)
    if origin.trained:
        check_finite(body, source)
    origin = replace(_described(origin, design, says, string, notes), doubts=doubts)
    if origin.classes:
        input_spec = _check_classes({"classes": json.dumps(origin.classes)}, input_spec, source)
    preprocess = find_preprocess(design, input_spec, says, string)
    if trainable:
        if "resize" not in string.options:
            preprocess = replace(preprocess, resize=None)  # it learns from the whole view
        check_student(preprocess, string.name)
    network = Network(body, preprocess, input_spec.classes, string.name, origin)
    with seeded(seed):  # A lazy module draws its weights when it is first run.
        _finish(network, design, input_spec)
    if (
        origin.trained
        and design.preprocess is None
        and not {"mean", "std"} & {*says, *string.options}
    ):
        _note(network, UNKNOWN_PREPROCESS)
    _check_outputs(network, input_spec)
    check_logits(network, input_spec)
    _look_at_code(network, design, says)
    return network


def _heed_names(
    file: WeightsFile | None, says: Mapping[str, str], input_spec: InputSpec, source: Path
) -> tuple[WeightsFile | None, Mapping[str, str], tuple[str, ...]]:
    """Without an entry of classes that cannot be read, where their names were given."""
    try:
        read_classes(says, source)
    except WeightsError:
        if not input_spec.named:
            raise
        says = {key: value for key, value in says.items() if key != "classes"}
        note = f"the classes in {source} cannot be read; those of --labels are taken"
        return (None if file is None else replace(file, metadata=says)), says, (note,)
    return file, says, ()


def _described(
    origin: Origin,
    design: Design,
    says: Mapping[str, str],
    string: ModelString,
    notes: tuple[str, ...],
) -> Origin:
    """With what stands beside the weights: their licence, and what is to be said."""
    if not origin.trained:
        return origin
    from_library = design.licence if string.file is None else ""
    entries = ({**string.options}, says)
    found = [words[key] for words in entries for key in ("licence", "license") if key in words]
    licence = (found or [from_library])[0]
    return replace(origin, licence=licence, notes=(*origin.notes, *notes, *design.notes))


def _check_outputs(network: Network, input_spec: InputSpec) -> None:
    """Take logarithms where a teacher gives probabilities; refuse what is no classifier."""
    if not input_spec.any_classes or len(input_spec.classes) == 1:
        return
    with evaluating(network):
        network.gives = kind_of_outputs(network, input_spec.image_shape)
    if network.gives != LOGITS:
        _note(network, "gives probabilities, not logits: their logarithms are taken")


def _look_at_code(network: Network, design: Design, says: Mapping[str, str]) -> None:
    """Note whose code it is, and whether its weights were trained by another.

    At the end: what a forward imports has been run by then.
    """
    code = dict(design.code())
    other = differing(recorded_code(says), code) if code and "code" in says else []
    doubts = [f"its code is not what its weights were trained with: {in_words(other)}"] * bool(
        other
    )
    origin = network.origin
    network.origin = replace(origin, code=code, doubts=(*origin.doubts, *doubts))


def code_of_string(spec: str) -> dict[str, str]:
    """Digests of the user's files that a model string builds from; empty for a library's.

    Raises:
        RequestError: there is no such file, or it fails.
    """
    string = ModelString.read(spec)
    if string.is_run:
        string = _of_run(string)
    return dict(find_design(string, {}).code()) if string.family == "py" else {}


def _of_run(string: ModelString) -> ModelString:
    """The model string of a run's student."""
    file = Path(string.name) / STUDENT_FILE
    if not file.is_file():
        raise WeightsError(f"{string.name} is no finished run folder: it has no {STUDENT_FILE}")
    architecture = read_weights(file).metadata.get("architecture")
    if not architecture:
        raise WeightsError(f"{file} does not say which network it is; give MODEL@{file}")
    return replace(string, name=architecture, weights=str(file))


def _doubts_of_run(string: ModelString) -> tuple[str, ...]:
    if not strayed(Path(string.name), [STUDENT_FILE]):
        return ()
    return (f"{Path(string.name) / STUDENT_FILE} is not what this run wrote",)


def _check_classes(metadata: Mapping[str, str], input_spec: InputSpec, source: Path) -> InputSpec:
    """The setting with the classes that the network is built for."""
    known = read_classes(metadata, source)
    if known and input_spec.any_classes:
        return replace(input_spec, classes=known)
    if known and known != input_spec.classes:
        how = "in another order" if sorted(known) == sorted(input_spec.classes) else "others"
        raise RequestError(
            f"{source} knows {len(known)} classes ({', '.join(known[:3])}, ...), the data has "
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
    for note in preprocess_notes(network, design, input_spec):
        _note(network, note)
    note_grey(network, input_spec.image_shape)
    name_classes(network, count, network.origin.classes, input_spec)


def _note(network: Network, text: str) -> None:
    network.origin = replace(network.origin, notes=(*network.origin.notes, text))


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
        with torch.no_grad(), evaluating(network):
            logits = network(_blank(network, input_spec))
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
    mean, std = input_spec.statistics(_first_channels(module) or len(input_spec.mean))
    network = Network(module, Preprocess(mean, std), input_spec.classes, _kind(module))
    network.training = getattr(module, "training", False)
    network.origin = replace(network.origin, code=code_of_module(module))
    check_finite(module, _kind(module))
    if doubt := unregistered(module):
        network.origin = replace(network.origin, doubts=(*network.origin.doubts, doubt))
    if removed:
        _note(network, f"taken out of {', '.join(removed)}")
    note_grey(network, input_spec.image_shape)
    name_classes(network, _outputs(network, input_spec), (), input_spec)
    _check_outputs(network, input_spec)
    check_logits(network, input_spec)
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
        _note(network, f"taken out of {', '.join(removed)}")
    return network


def _kind(module: nn.Module) -> str:
    """The class of a module; of TorchScript what it was before."""
    return str(getattr(module, "original_name", None) or type(module).__name__)


def _first_channels(module: nn.Module) -> int | None:
    convolutions = (m for m in module.modules() if isinstance(m, nn.Conv2d))
    return next((m.in_channels for m in convolutions), None)


def check_logits(network: Network, input_spec: InputSpec) -> None:
    """Run one blank view through the network and look at what comes back.

    Raises:
        RequestError: it fails, or gives something else than (1, C) logits.
    """
    try:
        with torch.no_grad(), evaluating(network):
            logits = network(_blank(network, input_spec))
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(
            f"model {network.spec} cannot take a view of {_shape(input_spec.image_shape)}: "
            f"{first_line(error)}"
        ) from error
    expected = (1, len(input_spec.classes))
    if isinstance(logits, Tensor) and tuple(logits.shape) in ((1,), (1, 1)) and expected[1] > 1:
        raise RequestError(ONE_OUTPUT.format(network.spec))
    if not isinstance(logits, Tensor) or logits.shape != expected:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise RequestError(
            f"model {network.spec} gave {found}, expected logits of shape {expected}: "
            f"one for each of its classes{_TELL if input_spec.any_classes else ''}"
        )


def _blank(network: Network, input_spec: InputSpec) -> Tensor:
    """A black view in pixels, where the network is."""
    found = first_tensor(network.body)
    device = network.mean.device if found is None else found.device
    if network.mean.device != device:
        network.mean, network.std = network.mean.to(device), network.std.to(device)
    return torch.zeros(1, *input_spec.image_shape, device=device)


def _shape(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
