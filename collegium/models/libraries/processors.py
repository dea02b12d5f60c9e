"""The preprocessing of an image processor of transformers, as a `Preprocess`.

We run the processor on plain images and derive channel order, mean, standard deviation and size
from its outputs, whatever its class and options are. A processor that does more than resize, crop
and normalise is refused. The options themselves are read only for what outputs cannot show: the
interpolation, and the exact numbers behind float32.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.errors import RequestError
from collegium.models.libraries.config_keys import HF_PROCESSOR, USED, refused, unknown
from collegium.models.libraries.geometry import (
    ADVICE,
    SIDES,
    Prepare,
    find_size,
    one_colour,
    prepare_with,
    with_crop,
)
from collegium.models.network import Preprocess
from collegium.models.reported import reported

RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers; bicubic stands for every other filter."""
FILTERS = {1: "Lanczos", 4: "box", 5: "Hamming"}
"""Pillow's numbers of other filters."""
RARE_KEYS = {"do_flip_channel_order", "rescale_offset", "size_divisor"}
"""Keys that few classes know and that change the pixels."""
CLASS = ("image_processor_type", "feature_extractor_type")
"""Keys that name a class."""
PLAIN = "ViTImageProcessor"
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ProcessorSpec:
    """How a processor prepares images.

    Attributes:
        preprocess: size, crop and normalisation.
        keeps_ratio: images that are not square keep their aspect ratio.
        notes: for the user.
    """

    preprocess: Preprocess
    keeps_ratio: bool = False
    notes: tuple[str, ...] = ()


def read_processor(
    content: Mapping[str, Any], model: str, channels: int, smallest: int
) -> ProcessorSpec:
    """The preprocessing that a processor file describes.

    Args:
        content: of preprocessor_config.json.
        model: type of the network, which decides if the file names no processor.
        channels: of the network.
        smallest: rows and columns the network needs.

    Raises:
        RequestError: transformers has no such class, or it does more than resize, crop and
            normalise.
    """
    if reason := refused(HF_PROCESSOR, content):
        raise RequestError(f"its processor cannot be used ({reason}); {ADVICE}")
    failed: RequestError | None = None
    named = any(content.get(key) for key in CLASS)
    for name, note in _classes(content, model):
        try:
            spec = _followed(name, content, channels, smallest, named)
            return replace(spec, notes=tuple(filter(None, (note, *spec.notes))))
        except RequestError as error:
            failed = failed or error
    raise failed or RequestError(f"its processor file names no class; {ADVICE}")


def _followed(
    name: str, content: Mapping[str, Any], channels: int, smallest: int, named: bool
) -> ProcessorSpec:
    """The preprocessing of a processor of one class, which the file names or which is likely.

    Raises:
        RequestError: there is no such class, or it does more than resize, crop and normalise.
    """
    kind = _find(name)
    with reported(f"its {name} cannot be used", ADVICE):
        given, padding = _unpadded(kind, content)
        given, cut = (given, "") if named else _uncut(kind, given, channels)
        processor = kind(**given)
        prepare = prepare_with(processor, channels)
        scale_C, shift_C, flipped = _colours(prepare, channels)
        size, keeps_ratio = find_size(prepare)
    mean, std = _numbers(processor, scale_C, shift_C)
    normalised = _normalize_note(name, processor, content, (mean, std))
    if normalised and not named:
        raise RequestError(f"{normalised}, and its file names no class; {ADVICE}")
    how, filtered = _filter(processor)
    order = "bgr" if flipped else "rgb"
    preprocess = Preprocess(mean, std, smallest, size, interpolation=how, channel_order=order)
    preprocess = with_crop(prepare, preprocess, name)
    notes = (padding, cut, normalised, filtered, _ignored_note(name, kind, content))
    return ProcessorSpec(preprocess, keeps_ratio, notes)


def _classes(content: Mapping[str, Any], model: str) -> Iterator[tuple[str, str]]:
    """Classes a file may mean, likeliest first: named, else with its keys, else the network's."""
    named = next((str(content[key]) for key in CLASS if content.get(key)), "")
    name = named.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    if name := name.removesuffix("Pil"):
        yield name, ""
        return
    names = processor_names()
    own = names.get(model, "")
    # A rare key that the network's own class does not know shows which class the file is for.
    rare = RARE_KEYS & {key for key, value in content.items() if value}
    start = f"its processor file names no class; {', '.join(sorted(rare))} is a key of "
    for other in dict.fromkeys((own, *sorted(set(names.values())))) if rare else ():
        if other and rare <= set(keys_of(_find(other))):
            yield other, "" if other == own else f"{start}{other}, whose defaults are used"
            return
    if own:
        yield own, ""
    yield PLAIN, f"its processor file names no class, so its keys are read as those of {PLAIN}"


def processor_names() -> dict[str, str]:
    """The processor class of each type of network that classifies images; empty for none."""
    from transformers.models.auto import image_processing_auto, modeling_auto

    named: Any = vars(image_processing_auto)["IMAGE_PROCESSOR_MAPPING_NAMES"]
    kinds = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    return {kind: _base(named.get(kind)) for kind in kinds}


def _base(entry: Any) -> str:
    """Of a table's entry, which versions of the library write as a pair or a dictionary."""
    names = entry.values() if isinstance(entry, Mapping) else entry or ()
    found = [name for name in names if name]
    return found[0].removesuffix("Pil").removesuffix("Fast") if found else ""


def _find(name: str) -> Any:
    """A class by its name, the one that needs no torchvision where there are two."""
    import transformers

    for full in (f"{name}Pil", name):
        if (found := getattr(transformers, full, None)) is not None:
            return found
    raise RequestError(f"its processor {name!r} is none of transformers; {ADVICE}")


def keys_of(kind: Any) -> Sequence[str]:
    """The keys that a processor class knows."""
    known = getattr(kind, "valid_kwargs", None)
    if known is not None:
        return list(known.__annotations__)
    return list(inspect.signature(kind.__init__).parameters)


def _unpadded(kind: Any, content: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The keys, without a default crop that is larger than the size in the file."""
    given = {key: value for key, value in content.items() if key != "auto_map"}
    if "crop_size" in content or content.get("do_center_crop") or not content.get("size"):
        return given, ""
    blank = kind(**given)
    if not getattr(blank, "do_center_crop", None):
        return given, ""
    size, crop = (_least(getattr(blank, key, None)) for key in ("size", "crop_size"))
    if size is None or crop is None or crop <= size:
        return given, ""
    note = f"its processor file gives a size of {size} and no crop; its class's {crop} is not used"
    return given | {"do_center_crop": False}, note


def _uncut(kind: Any, given: dict[str, Any], channels: int) -> tuple[dict[str, Any], str]:
    """The keys, without the default crop of a class that the file does not name."""
    if "crop_pct" in given or "crop_pct" not in keys_of(kind):
        return given, ""
    share = getattr(processor := kind(**given), "crop_pct", 1)
    full = given | {"crop_pct": 1.0}
    image = [np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3)]
    cut, uncut = (prepare_with(one, channels)(image) for one in (processor, kind(**full)))
    if cut.shape == uncut.shape and np.allclose(cut, uncut):
        return given, ""
    note = f"its processor file gives no crop_pct; the {share:g} of its network's class is not used"
    return full, note


def _least(stated: Any) -> int | None:
    values = dict(stated).values() if isinstance(stated, Mapping) else vars(stated or {}).values()
    numbers = [value for value in values if isinstance(value, int)]
    return min(numbers, default=None)


def _colours(
    prepare: Prepare, channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """What pixels in 0..1 are multiplied by, what is added then, and whether RGB becomes BGR."""
    pure = [[255 * (c == place) for c in range(3)] for place in range(3)]
    colours = [[0] * 3, *(pure if channels == 3 else [[255] * 3]), [102, 153, 51], [255] * 3]
    border = f"its processor puts a border around images; {ADVICE}"
    if (one := prepare([one_colour([255, 200, 150], SIDES[0], SIDES[0])])).max() > 0 and (
        np.ptp(one, axis=(2, 3)).max() > 0.1 * np.abs(one).max()
    ):  # first of all, for it may be a large one
        raise RequestError(border)
    found = prepare([one_colour(colour, SIDES[0], SIDES[0]) for colour in colours])
    spread = np.ptp(found, axis=(2, 3)).max()
    means_NC = found.mean(axis=(2, 3))
    shift_C, slopes_CC = means_NC[0], (means_NC[1:-2] - means_NC[0]).T
    reach = max(float(np.abs(slopes_CC).max()), 1e-12)
    if spread > _TOLERANCE * reach:
        raise RequestError(border)
    flipped = bool(channels == 3 and abs(slopes_CC[0, 2]) > abs(slopes_CC[0, 0]))
    scale_C = np.diag(slopes_CC[:, ::-1] if flipped else slopes_CC)
    pixels_NC = np.array(colours)[:, :channels] / 255
    expected_NC = pixels_NC[:, :: -1 if flipped else 1] * scale_C + shift_C
    if not np.allclose(means_NC, expected_NC, atol=_TOLERANCE * reach) or scale_C.min() <= 0:
        raise RequestError(f"its processor does not normalise channel by channel; {ADVICE}")
    return scale_C, shift_C, flipped


def _numbers(
    processor: Any, scale_C: NDArray[np.float64], shift_C: NDArray[np.float64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels in 0..1: the file's digits if outputs agree."""
    found_2C = np.stack((-shift_C / scale_C, 1 / scale_C))
    stated_2C = _stated(processor, len(scale_C))
    if stated_2C is not None and np.allclose(found_2C, stated_2C, _TOLERANCE, _TOLERANCE):
        found_2C = stated_2C
    mean, std = (tuple(round(float(value), 6) for value in row) for row in found_2C)
    return mean, std


def _stated(processor: Any, channels: int) -> NDArray[np.float64] | None:
    """Mean and standard deviation by the options alone, for a processor without extras."""
    mean: Any = getattr(processor, "image_mean", None)
    std: Any = getattr(processor, "image_std", None)
    if not getattr(processor, "do_normalize", None):
        mean, std = 0.0, 1.0
    # It multiplies bytes by a factor before it normalises; our pixels are bytes divided by 255.
    factor = processor.rescale_factor if getattr(processor, "do_rescale", None) else 1
    try:
        stated_2C = np.stack([np.broadcast_to(value, (channels,)) for value in (mean, std)])
        return (stated_2C / (255 * factor)).astype(np.float64)
    except (TypeError, ValueError):
        return None


def _normalize_note(
    name: str,
    processor: Any,
    content: Mapping[str, Any],
    seen: tuple[tuple[float, ...], tuple[float, ...]],
) -> str:
    """A note if the class treats the file's do_normalize in a way of its own."""
    wanted = content.get("do_normalize")
    stated_2C = _stated(processor, len(seen[0]))
    if wanted is None or content.get("include_top") is not None or stated_2C is None:
        return ""
    if getattr(processor, "rescale_offset", False):  # 1 is taken off before all else
        stated_2C[0] += 1 / (255 * processor.rescale_factor)
    if np.allclose(seen, stated_2C, rtol=1e-3, atol=1e-3):
        return ""
    shown = f"mean {seen[0][0]:.4g}, std {seen[1][0]:.4g}"
    return f"its {name} treats do_normalize {str(wanted).lower()} differently ({shown})"


def _filter(processor: Any) -> tuple[str, str]:
    """The interpolation, and a note if another one has to stand for it."""
    number = getattr(processor, "resample", None)
    number = 2 if number is None else int(number)
    if number in RESAMPLE:
        return RESAMPLE[number], ""
    other = FILTERS.get(number, str(number))
    return "bicubic", f"its library resizes by the filter {other}, here bicubic stands for it"


def _ignored_note(name: str, kind: Any, content: Mapping[str, Any]) -> str:
    """A note on keys of the file that its class ignores; empty if there are none."""
    foreign = [
        key
        for key, value in content.items()
        if HF_PROCESSOR.get(key) == USED and value and not key.endswith("_type")
    ]
    known = set(keys_of(kind))
    found = [key for key in (*unknown(HF_PROCESSOR, content), *foreign) if key not in known]
    return f"{name} ignores {', '.join(found)} of its processor file" if found else ""
