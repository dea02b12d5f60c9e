"""The preprocessing of a network: from its string, its weights, its library, or the data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from collegium.errors import RequestError, WeightsError
from collegium.models.architectures import Design, has_weights
from collegium.models.model_string import ModelString
from collegium.models.network import Network, Preprocess, parse_size
from collegium.types import MapShape

NO_STUDENT = (
    "{} {}, which an exported student cannot store: it can be a teacher; a student starts {}"
)


@dataclass(frozen=True)
class InputSpec:
    """What a network is built for.

    Attributes:
        classes: names of the classes, in the order of the labels.
        image_shape: channels, rows and columns of a view.
        mean: per channel of the training pixels; the normalisation where weights bring none.
        std: per channel of the training pixels.
        any_classes: it may have been trained on other classes: a teacher, or a network that is only
            inspected. Its classes are then those of its weights.
        named: the user gave the names of its classes, which replace those of its weights.
    """

    classes: tuple[str, ...]
    image_shape: MapShape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    any_classes: bool = False
    named: bool = False

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation for a network of 1 or 3 channels, whatever the data has."""
        if channels == len(self.mean):
            return self.mean, self.std
        mean, std = sum(self.mean) / len(self.mean), sum(self.std) / len(self.std)
        return (mean,) * channels, (std,) * channels


def check_student(preprocess: Preprocess, name: str) -> None:
    """Refuse a student whose preprocessing cannot be stored in its files.

    Raises:
        RequestError: its channels are BGR, or it crops views.
    """
    if preprocess.channel_order == "bgr":
        other = "from other weights, or from @random"
        raise RequestError(NO_STUDENT.format(name, "sees channels in the order BGR", other))
    if preprocess.resize is not None:
        sees = f"looks at {preprocess.resizing}"
        raise RequestError(NO_STUDENT.format(name, sees, "without resize, from the whole view"))


def find_preprocess(
    design: Design, input_spec: InputSpec, metadata: Mapping[str, str], string: ModelString
) -> Preprocess:
    """How it wants its pixels: by the string, else its weights, its library, or the data.

    A weights file that gives a normalisation gives the size too, or wants none.

    Raises:
        WeightsError: the metadata of its file cannot be.
        RequestError: those of its string cannot be.
    """
    channels = design.channels or len(input_spec.mean)
    preprocess = Preprocess(*input_spec.statistics(channels), design.smallest)
    stated = "mean" in metadata and "std" in metadata
    if has_weights(string.text) and design.preprocess is not None and not stated:
        preprocess = design.preprocess
    if stated:
        source = string.weights or string.name
        preprocess = _with_metadata(preprocess, metadata, source, WeightsError)
    preprocess = _with_metadata(preprocess, string.options, string.text, RequestError)
    return preprocess.for_views(*input_spec.image_shape[1:])


def preprocess_notes(network: Network, design: Design, input_spec: InputSpec) -> Iterator[str]:
    """Notes for the user on the preprocessing of a network."""
    sees, (rows, columns) = network.preprocess, input_spec.image_shape[1:]
    if sees.size not in (None, (rows, columns)) or sees.resize or sees.channel_order == "bgr":
        yield f"looks at every view as {sees.resizing}"
    if sees.size is None or sees.resize is not None:
        return
    if design.keeps_ratio and rows != columns:
        yield f"its library keeps the ratio of sides; {rows}x{columns} becomes a square"
    evaluated = design.evaluated if input_spec.any_classes and network.origin.trained else None
    if evaluated and sees == design.preprocess:
        whole = replace(sees, resize=evaluated).for_views(rows, columns).resize
        if whole is not None:
            size, of = (",".join(map(str, dict.fromkeys(s))) for s in (sees.size, evaluated))
            yield (
                f"its library shows the centre of views resized to {of}, here the whole view is "
                f"shown; ?size={size}&resize={of} does as its library"
            )


def _with_metadata(
    preprocess: Preprocess, metadata: Mapping[str, str], source: str, error: type[RequestError]
) -> Preprocess:
    try:
        changes: dict[str, Any] = {
            key: _numbers(metadata[key]) for key in ("mean", "std") if key in metadata
        }
        if preprocess.channels == 3:  # one number stands for all three
            changes = {k: v * 3 if len(v) == 1 else v for k, v in changes.items()}
        # An explicit size replaces the crop of the weights: the user names a crop, or wants none.
        if "size" in metadata:
            changes |= {"size": parse_size(metadata["size"]), "resize": None}
        if "resize" in metadata:
            changes["resize"] = tuple(int(part) for part in metadata["resize"].split())
    except ValueError:
        raise error(f"{source}: its mean, std, size or resize is not numbers") from None
    changes |= {key: metadata[key] for key in ("interpolation", "channel_order") if key in metadata}
    return replace(preprocess, **changes)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split())
