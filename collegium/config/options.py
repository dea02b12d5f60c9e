"""Every option of a run, in groups: its type, default, help text, and whether it decides.

A new option is one new field here. The command line, `collegium.distill`, run.json and
docs/run-folder.md take it from here (`collegium.config.option`). Imports no torch.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from collegium.config.option import Aside, Option
from collegium.data.data_string import check_kind, parse_spec, with_option
from collegium.errors import RequestError
from collegium.utils.from_json import (
    ImageSize,
    as_class_weights,
    as_labels,
    as_names,
    as_size,
)

if TYPE_CHECKING:
    from torch import nn

    from collegium.data import Splits

Recipe = Literal["none", "crop", "flip", "crop-flip", "resized-crop", "large"]
Corrupt = Literal["fatal", "skip"]

COMPILE_STEPS = 5000
"""Fewer steps do not win back what compiling takes: some 30 s, at a few milliseconds a step."""

LARGEST = (1 << 63) - 1
"""Largest whole number of 64 bits."""
MOST = 65_536
"""Largest number of processes, threads or parts of a batch; larger ones overflow in C."""
MOST_EPOCHS = 1_000_000
"""A run lists its views of every epoch before it starts, which needs memory and time."""
DEFAULT_LR = {"sgd": 0.05, "adamw": 1e-3}
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def check_range(group: Any, least: int, most: int, *names: str) -> None:
    """Refuse options out of a range; None is always in it.

    Args:
        group: the dataclass that holds them.
        least: their smallest value.
        most: their largest value.
        *names: of the options.

    Raises:
        RequestError: names the first option out of the range.
    """
    for name in names:
        value = getattr(group, name)
        if value is not None and not least <= value <= most:
            bound = f"at least {least:,}" if value < least else f"at most {most:,}"
            raise RequestError(f"--{name.replace('_', '-')} must be {bound}, got {value}")


ImageSizeOption = Annotated[ImageSize, Option(read=as_size, metavar="ROWS,COLUMNS")]


@dataclass(frozen=True)
class DataSource:
    """The data, as they are on the disk."""

    data: Annotated["str | Splits", Option(decides=False, hashed=True)]
    """digits, cifar10:DIR, cifar100:DIR, mnist:DIR, fashion-mnist:DIR, tiny-imagenet:DIR,
    folder:DIR, hf:NAME_OR_PATH; options as in folder:DIR?val=test (docs/bring-your-own-data.md)."""
    _: KW_ONLY
    image_size: ImageSizeOption = None
    """Rows and columns of a folder's images, one number for both; by default what suits them."""
    corrupt: Aside[Corrupt | None] = None
    """Whether an image that cannot be decoded stops the command (fatal, the default) or is skipped;
    the same as DATA?corrupt=skip."""
    classes: Annotated[tuple[str, ...], Option(read=as_names, metavar="NAME,NAME")] = ()
    """Names of the classes that are used, comma-separated; by default all. Others are left out."""

    def __post_init__(self) -> None:
        if isinstance(self.data, str):
            check_kind(self.data)

    @property
    def source(self) -> Any:
        """The data; of a data string with the option `corrupt`."""
        return data_string(self.data, self.corrupt) if isinstance(self.data, str) else self.data


def data_string(data: str, corrupt: Corrupt | None) -> str:
    """A data string with the option `corrupt`, if one is given and it has not the same already."""
    if corrupt is None:
        return data
    given = parse_spec(data).options.get("corrupt")
    return data if given == corrupt else with_option(data, "corrupt", corrupt)


@dataclass(frozen=True, kw_only=True)
class DataConfig(DataSource):
    """The data, and which part of the training data is held out."""

    validation: float = 0.1
    """Part of the training data held out, where the data has no validation split of its own."""
    seed: int = 0
    """Seed of everything random: the student's start, the order of examples and views, the held-out
    part, the method's draws."""


@dataclass(frozen=True)
class StudentConfig:
    """The student."""

    student: "str | nn.Module"
    """The network that is trained: cifar:resnet20, small:cnn, timm:NAME, torchvision:NAME,
    hf:NAME_OR_DIR, path/to/file.py:function, a run folder; @FILE or @pretrained for its start."""


@dataclass(frozen=True)
class TeacherConfig:
    """The teachers."""

    teachers: Annotated[
        "Mapping[str, str | nn.Module]",
        Option(decides=False, hashed=True, name="teacher", pairs=True, metavar="NAME=MODEL"),
    ] = field(default_factory=dict)
    """A teacher, once for each; MODEL@FILE with its weights, MODEL@pretrained, hf:NAME_OR_DIR,
    onnx:FILE, or a run folder."""
    _: KW_ONLY
    labels: Annotated[
        Mapping[str, Any], Option(pairs=True, read=as_labels, metavar="NAME=FILE")
    ] = field(default_factory=dict)
    """A label map in JSON, for a teacher whose classes are not the data's: for each of its classes
    the student's class or classes, or the names of its classes in the order of its logits."""


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Augmentation."""

    augment: Recipe | None = None
    """View recipe; by default what suits the data."""
    views: int | None = None
    """Views of an example, 0 for a new one every epoch; by default a quarter of the epochs where
    teachers are used (so that their outputs can be stored), else 0."""
    view_seed: int = 0
    """Seed of the views' pixels; runs of other seeds share stored outputs while it is the same."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(ViewConfig):
    """Augmentation, and the cross entropy with the label."""

    watch_test: Annotated[bool, Option(name="best-test")] = False
    """Measure on the test split after every epoch too, and report its best epoch, which could not
    have been chosen without the test labels."""
    class_weights: Annotated[
        Mapping[str, float] | Literal["balanced"] | None,
        Option(read=as_class_weights, metavar="balanced|FILE"),
    ] = None
    """balanced, so that all classes count alike however many examples they have, or a JSON or CSV
    file with a weight for the name of each class, of which the ratios matter. They multiply the
    label's loss alone, `ce`; the loss on validation and test has none."""
    label_smoothing: float = 0.0
    """Part of the label that all classes share equally, at least 0 and below 1; of `ce` alone."""


@dataclass(frozen=True)
class Optimisation:
    """Optimisation."""

    epochs: int = 30
    """How often every training example is used."""
    batch_size: int = 128
    """Examples in a step, over all devices together."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum, or AdamW."""
    lr: float | None = None
    """Peak learning rate; by default 0.05 for sgd, 0.001 for adamw."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 5e-4
    """Weight decay of all parameters but the weighting's."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """How the learning rate falls: to 0 along a cosine, to a tenth at 1/2 and 3/4, or not."""
    skip_nonfinite: bool = False
    """Leave out steps with a NaN or an infinity, up to 10 in a row, instead of stopping."""

    def __post_init__(self) -> None:
        check_range(self, 1, MOST_EPOCHS, "epochs")
        check_range(self, 1, LARGEST, "batch_size")
        if self.lr is not None and not self.lr > 0:
            raise RequestError(f"--lr must be > 0, got {self.lr}")

    @property
    def peak_lr(self) -> float:
        """The learning rate given, or the optimiser's default."""
        return DEFAULT_LR[self.optimizer] if self.lr is None else self.lr


@dataclass(frozen=True)
class Machine:
    """Devices and speed."""

    precision: Literal["32", "bf16", "16"] = "32"
    """Arithmetic of the networks: float32, or autocast to bfloat16 or float16."""
    devices: Aside[int] = 1
    """Number of processes. The batch is divided among them; BatchNorm and terms that compare
    examples use each process's part alone. Another number rounds differently."""
    accelerator: Aside[Literal["auto", "cpu", "cuda", "mps"]] = "auto"
    """Kind of device; another one rounds differently."""
    strategy: Aside[Literal["auto", "ddp"]] = "auto"
    """How several processes share the work."""
    threads: Aside[int | None] = None
    """CPU threads of a process; by default chosen for the work of a step. Another number rounds
    differently, so run.json records it and a resumed run keeps it."""
    workers: Aside[int | None] = None
    """Processes that decode images which do not fit in memory; by default one for each core, at
    most 8; 0 for none."""

    micro_batches: int = 1
    """Parts of a batch that are computed one after the other, for less memory: the same step but
    for BatchNorm, whose statistics are then a part's, and for terms that compare examples."""
    channels_last: bool = True
    """Store images channels last, which is faster on CPUs and tensor cores, if the network can."""
    fold: bool = True
    """Fold the teachers' BatchNorm into their convolutions."""
    fused: bool = True
    """One kernel for the optimizer's step, where the device has it."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of student and teachers; auto: on a GPU, where a run is long enough to gain."""
    teacher_memory: Aside[Literal["resident", "bounded"]] = "resident"
    """Keep all teachers on the device, or one at a time (needs a store)."""
    teacher_batch: Aside[str] = "128"
    """Views in one forward pass of a teacher; auto: 128, and fewer once memory has run out."""
    checkpoint_every: Aside[str] = "10min"
    """How often a checkpoint is written, beside the ends of epochs: a number of steps, or a time
    like 90s, 10min, 2h."""

    def __post_init__(self) -> None:
        check_range(self, 1, MOST, "devices", "threads", "micro_batches")
        check_range(self, 0, MOST, "workers")
        if not re.fullmatch(r"auto|[1-9]\d{0,4}", self.teacher_batch):
            raise RequestError(
                f"--teacher-batch takes a number of views or auto, got {self.teacher_batch!r}"
            )
        read_interval(self.checkpoint_every)

    @property
    def teacher_block(self) -> int:
        """Views in one forward pass of a teacher, as long as there is memory for them."""
        return 128 if self.teacher_batch == "auto" else int(self.teacher_batch)

    @property
    def decoders(self) -> int:
        """Processes that decode images for one that trains."""
        if self.workers is not None:
            return self.workers
        return max(1, min(8, (os.cpu_count() or 1) // self.devices))

    def compiles(self, device: str, steps: int) -> bool:
        """Whether networks are compiled on this kind of device, for so many steps."""
        pays = device == "cuda" and steps >= COMPILE_STEPS
        return self.compile == "on" or (self.compile == "auto" and pays)


@dataclass(frozen=True)
class Interval:
    """How often something is done: after so many steps, or so many seconds."""

    steps: int | None = None
    seconds: float | None = None


def read_interval(text: str) -> Interval:
    """A number of steps, or a time.

    Raises:
        RequestError: it is neither, or 0.

    >>> read_interval("500"), read_interval("10min")
    (Interval(steps=500, seconds=None), Interval(steps=None, seconds=600.0))
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(s|min|h|)", text) if isinstance(text, str) else None
    number, unit = (float(found[1]), found[2]) if found else (0.0, "")
    if number <= 0 or (not unit and number != int(number)):
        raise RequestError(
            f"--checkpoint-every takes a number of steps, or a time like 10min, got {text!r}"
        )
    return Interval(seconds=number * _SECONDS[unit]) if unit else Interval(steps=int(number))


@dataclass(frozen=True)
class Storage:
    """Stored teacher outputs; what decides here decides only where a folder is given."""

    store: Aside[str | None] = None
    """Folder of stored teacher outputs: read where it has them, filled where it does not."""
    store_logits: str = "fp16"
    """How logits are stored: fp16, fp32, or topK (the K largest and the mass of the rest)."""
    store_hints: Literal["none", "fp16", "fp32", "int8"] = "none"
    """Store the hidden layers that hints read, too: many bytes, but no teacher runs in a step."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"fp16|fp32|top[1-9]\d*", self.store_logits):
            raise RequestError(
                f"--store-logits: answers cannot be stored as {self.store_logits!r}; give fp16, "
                "fp32, or topK with a number K"
            )
