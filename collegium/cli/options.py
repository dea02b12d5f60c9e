"""What several commands share: their answer, and their options as dataclasses."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from collegium.config.run import Run
from collegium.errors import RequestError
from collegium.records.run_folder import Json, next_free
from collegium.runner.folders import check_folder
from collegium.utils.from_json import ImageSize, as_class_weights, as_labels, as_size, written

Recipe = Literal["none", "crop", "flip", "crop-flip", "resized-crop", "large"]
Corrupt = Literal["fatal", "skip"]
Size = Annotated[
    ImageSize,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="ROWS,COLUMNS",
        instance_from_str=lambda words: as_size(words[0]),
        is_instance=lambda value: value is None or isinstance(value, int | tuple),
        str_from_instance=lambda value: ["None" if value is None else written(value)],
    ),
]
"""An option for rows and columns."""
Flag = tyro.conf.FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Attributes:
        result: for `--json`.
        text: for people.
        exit_code: 0 unless what was examined is not in order.
    """

    result: Json
    text: str = ""
    exit_code: int = 0


Call = Callable[[], Answer]


@dataclass(frozen=True)
class DataOptions:
    """What is learned from."""

    data: str
    """digits, cifar10:DIR, cifar100:DIR, mnist:DIR, fashion-mnist:DIR, tiny-imagenet:DIR,
    folder:DIR, hf:NAME_OR_PATH; options as in folder:DIR?val=test (docs/bring-your-own-data.md)."""
    validation: float = Run.validation
    """Part of the training data held out, where the data has no validation split of its own."""
    seed: int = Run.seed
    """Of everything random: the start, the order, the views, the held-out part."""
    image_size: Size = Run.image_size
    """ROWS,COLUMNS a folder's images are brought to, one number for both; by default what suits
    them."""
    corrupt: Corrupt | None = None
    """Whether an image that cannot be decoded is fatal (the default) or one to skip; the same as
    DATA?corrupt=skip."""
    classes: str = ""
    """Names of the classes that count, comma-separated; by default all. Others are left out."""

    @property
    def source(self) -> str:
        """The data string with what was said of corrupt images."""
        return data_string(self.data, self.corrupt)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The names in `classes`."""
        return chosen_classes(self.classes)


def chosen_classes(text: str) -> tuple[str, ...]:
    """Comma-separated names of classes; none for nothing."""
    return tuple(name.strip() for name in text.split(",")) if text else ()


def data_string(data: str, corrupt: Corrupt | None) -> str:
    """The data string with what was said of corrupt images."""
    if corrupt is None:
        return data
    from collegium.data.data_string import with_option

    return with_option(data, "corrupt", corrupt)


@dataclass(frozen=True)
class ViewOptions:
    """What becomes of the images in training."""

    augment: Recipe | None = None
    """View recipe; by default what suits the data."""
    views: int | None = Run.views
    """Views of an example, 0 for a new one every epoch; by default a quarter of the epochs where
    teachers are heard (so that answers can be kept), else 0."""
    view_seed: int = Run.view_seed
    """Of the views' pixels; runs of other seeds share stored answers while it is the same."""


@dataclass(frozen=True)
class LabelOptions:
    """What the label's cross entropy is."""

    class_weights: str | None = None
    """balanced, so that all classes count alike however many examples they have, or a JSON or CSV
    file with a weight for the name of each class, of which the ratios matter. They multiply the
    label's loss alone, `ce`; the loss on validation and test has none."""
    label_smoothing: float = Run.label_smoothing
    """Part of the label that all classes share equally, at least 0 and below 1; of `ce` alone."""

    @property
    def weights(self) -> Any:
        """Of the classes, by name; "balanced"; or None."""
        return as_class_weights(self.class_weights)


@dataclass(frozen=True)
class OutputOptions:
    """Where the run goes and what is shown."""

    out: Path | None = None
    """The run folder; by default a new one under runs/."""
    overwrite: Flag = False
    """Replace the run that is in the folder."""
    quiet: Flag = False
    """Show no progress."""
    tensorboard: Flag = False
    """Write metrics as TensorBoard events too, into tensorboard/ in the run folder (needs the extra
    of that name)."""
    json: Flag = False
    """Print the result as one JSON object on standard output."""

    def folder(self, name: str) -> Path:
        """The folder asked for, checked, or one of that name under runs/: the next free one."""
        usual = Path("runs") / name
        if self.out is None:
            return usual if self.overwrite else next_free(usual)
        check_folder(self.out, self.overwrite)
        return self.out


def parse_teachers(texts: tuple[str, ...]) -> dict[str, str]:
    """NAME=MODEL strings as a dictionary, in their order.

    Raises:
        RequestError: one is not of that form, or a name comes twice.

    >>> parse_teachers(("a=cifar:resnet32@a.safetensors", "b=runs/b"))
    {'a': 'cifar:resnet32@a.safetensors', 'b': 'runs/b'}
    """
    return _named(texts, "--teacher", "MODEL", "two teachers are called")


def parse_labels(texts: tuple[str, ...]) -> dict[str, Any]:
    """The contents of the label maps in NAME=FILE strings, by the teacher's name.

    Raises:
        RequestError: one is not of that form, a name comes twice, or a file cannot be read.
    """
    files = _named(texts, "--labels", "FILE", "two label maps are for")
    return {name: as_labels(file) for name, file in files.items()}


def _named(texts: tuple[str, ...], option: str, what: str, twice: str) -> dict[str, str]:
    named: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (name and separator and value):
            raise RequestError(f"{option} takes NAME={what}, got {text!r}")
        if name in named:
            raise RequestError(f"{twice} {name!r}; every name must be its own")
        named[name] = value
    return named
