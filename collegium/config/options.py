"""How long, how fast and on what: options every kind of training shares. Imports no torch."""

import os
import re
from dataclasses import dataclass
from typing import Literal

from collegium.errors import RequestError

COMPILE_STEPS = 5000
"""Fewer steps do not win back what compiling takes: some 30 s, at a few milliseconds a step."""

MOST = 65_536
"""Processes, threads or parts of a batch: no machine has more, and numbers beyond end in C."""
MOST_EPOCHS = 1_000_000
"""A run looks at its views of every epoch before it starts: beyond, memory or patience ends."""
DEFAULT_LR = {"sgd": 0.05, "adamw": 1e-3}
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Optimisation:
    """What decides the course of a training."""

    epochs: int = 30
    """How often every training example is seen."""
    batch_size: int = 128
    """Examples a step, over all devices together."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum, or AdamW."""
    lr: float | None = None
    """Peak learning rate; by default 0.05 for sgd, 0.001 for adamw."""
    momentum: float = 0.9
    """Of sgd."""
    weight_decay: float = 5e-4
    """On everything but the weighting's parameters."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """How the learning rate falls: to 0 along a cosine, by 10 at 1/2 and 3/4, or not at all."""
    skip_nonfinite: bool = False
    """Leave out steps with a NaN or an infinity, up to 10 in a row, instead of stopping."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise RequestError(f"--{name.replace('_', '-')} must be at least 1")
        if self.epochs > MOST_EPOCHS:
            raise RequestError(f"--epochs must be at most {MOST_EPOCHS:,}, got {self.epochs}")
        if self.lr is not None and not self.lr > 0:
            raise RequestError(f"--lr must be > 0, got {self.lr}")

    @property
    def peak_lr(self) -> float:
        """The learning rate given, or the optimiser's default."""
        return DEFAULT_LR[self.optimizer] if self.lr is None else self.lr


@dataclass(frozen=True)
class Machine:
    """Where it runs and how fast; what changes the result beyond rounding says so."""

    precision: Literal["32", "bf16", "16"] = "32"
    """Arithmetic of the networks: float32, or autocast to bfloat16 or float16."""
    devices: int = 1
    """Number of processes; the batch is shared out among them, and BatchNorm and terms that compare
    examples see each process's share alone."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Kind of device."""
    strategy: Literal["auto", "ddp"] = "auto"
    """How several processes share the work."""
    threads: int | None = None
    """CPU threads of a process; by default as many as torch takes."""
    workers: int | None = None
    """Processes that decode images too many for memory; by default one a core, up to 8; 0 for
    none."""

    micro_batches: int = 1
    """Parts a batch is worked off in, one after the other, for less memory: the same step but for
    BatchNorm, whose statistics are then a part's, and for terms that compare examples."""
    channels_last: bool = True
    """Lay images out channels last, as CPUs and tensor cores like them, if the network takes it."""
    fold: bool = True
    """Fold the teachers' BatchNorm into their convolutions."""
    fused: bool = True
    """One kernel for the optimiser's step, where the device has it."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of student and teachers; auto: on a GPU, where a run is long enough to gain."""
    teacher_memory: Literal["resident", "bounded"] = "resident"
    """Keep all teachers on the device, or one at a time (needs a store)."""
    teacher_batch: str = "128"
    """Views a teacher looks at at a time; auto: 128, and fewer from when memory runs out."""
    checkpoint_every: str = "10min"
    """How often a run can go on from where it is, beside the ends of epochs: a number of steps, or
    a time like 90s, 10min, 2h."""

    def __post_init__(self) -> None:
        if self.micro_batches < 1:
            raise RequestError(f"--micro-batches must be at least 1, got {self.micro_batches}")
        if self.devices < 1:
            raise RequestError(f"--devices must be at least 1, got {self.devices}")
        if self.threads is not None and self.threads < 1:
            raise RequestError(f"--threads must be at least 1, got {self.threads}")
        if self.workers is not None and self.workers < 0:
            raise RequestError(f"--workers must be at least 0, got {self.workers}")
        for name in ("devices", "threads", "workers", "micro_batches"):
            if (getattr(self, name) or 0) > MOST:
                raise RequestError(f"--{name.replace('_', '-')} must be at most {MOST:,}")
        if not re.fullmatch(r"auto|[1-9]\d{0,4}", self.teacher_batch):
            raise RequestError(
                f"--teacher-batch takes a number of views or auto, got {self.teacher_batch!r}"
            )
        read_interval(self.checkpoint_every)

    @property
    def teacher_block(self) -> int:
        """Views that a teacher looks at at a time, as long as there is memory for them."""
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
    """What is kept of the teachers' answers."""

    store: str | None = None
    """Folder of stored answers; used where it has them, filled where it has not."""
    store_logits: str = "fp16"
    """How logits are kept: fp16, fp32, or topK (the K largest and the mass of the rest)."""
    store_hints: Literal["none", "fp16", "fp32", "int8"] = "none"
    """Keep the hidden layers that hints read, too: many bytes, no teacher in any step."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"fp16|fp32|top[1-9]\d*", self.store_logits):
            raise RequestError(
                f"--store-logits: answers cannot be stored as {self.store_logits!r}; give fp16, "
                "fp32, or topK with a number K"
            )
