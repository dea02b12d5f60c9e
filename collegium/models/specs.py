"""From a model string to a network: "cifar:resnet20", "timm:NAME", "hf:DIR", "net.py:build", ..."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from collegium.errors import RequestError, WeightsError
from collegium.files import strayed
from collegium.models.bodies import make_body
from collegium.models.designs import Design, find_design
from collegium.models.network import Network, Preprocess, parse_size
from collegium.models.source_code import code_of_module, differing, in_words, recorded_code
from collegium.models.strings import ModelString, has_weights
from collegium.models.weights import read_weights
from collegium.types import MapShape

__all__ = ["Setting", "build_network", "check_logits", "has_weights", "seeded", "wrap_module"]

STUDENT_FILE = "student.safetensors"
_TELL = "; a teacher with other classes than the data's says which by --labels NAME=FILE"
UNKNOWN_SIGHT = (
    "nothing says how it wants its pixels, so it gets the normalisation of the data; if that is "
    "wrong give ?mean=...&std=..."
)


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


def build_network(spec: str, setting: Setting, seed: int = 0, *, learns: bool = False) -> Network:
    """The network a model string names, with its weights if the string brings some.

    Args:
        spec: see the module.
        setting: what it is for.
        seed: of the initial weights, where none are loaded.
        learns: it is a student, so its classes are the data's; a teacher has those it knows.

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
    if learns and not design.learns:
        raise RequestError(f"{string.name} cannot learn: it can only be a teacher")
    says = {**design.says, **says}
    source = Path(string.weights or string.name)
    setting = _check_classes(says, setting, source)
    with seeded(seed):
        body, origin = make_body(design, string, file, setting.classes, learns)
    origin = replace(origin, doubts=doubts)
    if origin.classes:
        setting = _check_classes({"classes": json.dumps(origin.classes)}, setting, source)
    preprocess = _preprocess(design, setting, says, string)
    network = Network(body, preprocess, setting.classes, string.name, origin)
    _finish(network, design, setting)
    if origin.trained and design.sees is None and not {"mean", "std"} & {*says, *string.options}:
        _note(network, UNKNOWN_SIGHT)
    check_logits(network, setting)
    _look_at_code(network, design, says)
    return network


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
    design: Design, setting: Setting, says: Mapping[str, str], string: ModelString
) -> Preprocess:
    """How it wants its pixels: by the string, else its weights, its library, or the data.

    A weights file that gives a normalisation gives the size too, or wants none.
    """
    channels = design.channels or len(setting.mean)
    preprocess = Preprocess(*setting.statistics(channels), design.smallest)
    stated = "mean" in says and "std" in says
    if has_weights(string.text) and design.sees is not None and not stated:
        preprocess = design.sees
    if stated:
        preprocess = _with_words(preprocess, says, string.weights or string.name, WeightsError)
    return _with_words(preprocess, string.options, string.text, RequestError)


def _with_words(
    preprocess: Preprocess, words: Mapping[str, str], source: str, error: type[RequestError]
) -> Preprocess:
    try:
        changes = {key: _numbers(words[key]) for key in ("mean", "std") if key in words}
        size = {"size": parse_size(words["size"])} if "size" in words else {}
    except ValueError:
        raise error(f"{source}: its mean, std or size is not numbers") from None
    if preprocess.channels == 3:  # one number stands for all three
        changes = {k: v * 3 if len(v) == 1 else v for k, v in changes.items()}
    how = {"interpolation": words["interpolation"]} if "interpolation" in words else {}
    return replace(preprocess, **changes, **size, **how)  # type: ignore[arg-type]


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split())


def _finish(network: Network, design: Design, setting: Setting) -> None:
    """What only trying tells: whether it takes the view's size, and how many classes it has."""
    count = _outputs(network, setting)
    if count is None and network.preprocess.size is None and design.native is not None:
        network.preprocess = replace(network.preprocess, size=design.native)
        count = _outputs(network, setting)
    if network.preprocess.size not in (None, setting.image_shape[1:]):
        _note(network, f"looks at every view as {network.preprocess.resizing}")
    name_classes(network, count, network.origin.classes, setting)


def _note(network: Network, text: str) -> None:
    network.origin = replace(network.origin, notes=(*network.origin.notes, text))


def name_classes(
    network: Network, count: int | None, names: Sequence[str], setting: Setting
) -> None:
    """Give a network the names of its classes: those it knows, the data's, or places.

    Raises:
        WeightsError: as many names as it has outputs were expected.
    """
    if names and count is not None and len(names) != count:
        raise WeightsError(f"model {network.spec} names {len(names)} classes and gives {count}")
    if names:
        network.classes = tuple(names)
    elif count is not None and count != len(setting.classes):
        network.classes = tuple(f"output {place}" for place in range(count))


def _outputs(network: Network, setting: Setting) -> int | None:
    """Number of logits, by one blank view; None where there are none or it fails."""
    network.eval()
    try:
        with torch.no_grad():
            logits = network(torch.zeros(1, *setting.image_shape))
    except Exception:
        return None
    finally:
        network.train()
    return logits.shape[1] if isinstance(logits, Tensor) and logits.ndim == 2 else None


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from this seed inside, and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def wrap_module(module: nn.Module, setting: Setting) -> Network:
    """A module given from Python, as a network; a `Network` stays as it is.

    Raises:
        RequestError: it does not give (B, C) logits for the data.
    """
    if isinstance(module, Network):
        return module
    mean, std = setting.statistics(_first_channels(module) or len(setting.mean))
    network = Network(module, Preprocess(mean, std), setting.classes, type(module).__name__)
    network.origin = replace(network.origin, code=code_of_module(module))
    training = module.training
    name_classes(network, _outputs(network, setting), (), setting)
    network.train(training)
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
            logits = network(torch.zeros(1, *setting.image_shape))
    except RequestError:
        raise
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
