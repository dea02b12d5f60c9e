"""The commands on stored teacher outputs: store build, store info, store verify."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from collegium.cli.options import Answer, Command, Folder, Json, QuietCommand, of_data
from collegium.config.option import Option
from collegium.config.options import (
    Corrupt,
    DataSource,
    ImageSizeOption,
    Machine,
    Storage,
    TeacherConfig,
    ViewConfig,
    data_string,
)
from collegium.data.data_string import check_kind
from collegium.models.model_string import check_models


@dataclass(frozen=True, kw_only=True)
class StoreBuild(QuietCommand):
    """Compute teacher outputs ahead of training and store them: --data D --teacher N=M --out DIR.

    Several processes share the work (--devices N, or torchrun); a build that was stopped continues.
    """

    data: DataSource
    out: Path
    """Folder of the store; outputs that it already has are kept."""
    teachers: TeacherConfig = field(default_factory=TeacherConfig)
    logits: Annotated[str, Option(also=("store_logits",))] = Storage.store_logits
    """How logits are stored: fp16, fp32, or topK (the K largest and the mass of the rest)."""
    layers: tuple[str, ...] = ()
    """TEACHER:LAYER of hidden layers to store; LAYER@mean stores the mean over positions."""
    maps: Annotated[Literal["int8", "fp16", "fp32"], Option(also=("store_hints",))] = "int8"
    """How hidden layers are stored."""
    batch_size: int = 128
    """Views in one forward pass."""
    view: ViewConfig = field(default_factory=lambda: ViewConfig(views=8))
    machine: Machine = field(default_factory=Machine)

    def run(self) -> Answer:
        """Fill the store."""
        check_models(*self.teachers.teachers.values())
        from collegium.store.maintain import build

        how = self.given("logits", "layers", "maps", "batch_size", "machine", "quiet")
        how |= vars(self.view) | vars(self.teachers) | of_data(self.data)
        found = build(self.out, **how)
        text = (
            f"{found['computed']:,} outputs computed in {found['seconds']:.0f} s; {found['views']} "
            f"views of {found['examples']:,} examples, {found['bytes'] / 1e6:.1f} MB in "
            f"{found['folder']}"
        )
        return Answer(found, text)


@dataclass(frozen=True, kw_only=True)
class StoreInfo(Command):
    """What a store holds: teachers, views, size, rounding errors, how often it was used."""

    folder: Folder
    """The store."""

    def run(self) -> Answer:
        """Describe the store."""
        from collegium.store.maintain import describe, info

        found = info(self.folder)
        return Answer(found, describe(found))


@dataclass(frozen=True, kw_only=True)
class StoreVerify(QuietCommand):
    """Check every shard's checksum, and compute a sample of the outputs again."""

    folder: Folder
    """The store."""
    data: str | None = None
    """The data; by default those that the store was made of."""
    teachers: TeacherConfig = field(default_factory=TeacherConfig)
    image_size: ImageSizeOption = None
    """Rows and columns of a folder's images, one number for both; by default what suits them."""
    corrupt: Corrupt | None = None
    """Whether an image that cannot be decoded stops the command (fatal, the default) or is skipped;
    of --data."""
    sample: int = 128
    """Outputs of each teacher that are computed again; 0 for checksums alone."""
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        if self.data is not None:
            check_kind(self.data)

    def run(self) -> Answer:
        """Check the store."""
        from collegium.store.maintain import verify

        how = self.given("image_size", "sample", "machine", "quiet") | vars(self.teachers)
        data = None if self.data is None else data_string(self.data, self.corrupt)
        found = verify(self.folder, data=data, **how)
        return Answer(found, _in_words(found), 0 if found["sound"] else 1)


def _in_words(found: Json) -> str:
    compared = [f"{name} differs by {error:.2g}" for name, error in found["compared"].items()]
    lines = [
        "intact" if found["sound"] else "not intact",
        *(f"damaged: {text}" for text in found["damaged"]),
        *found["wrong"],
    ]
    if compared:
        lines.append(f"computed again: {', '.join(compared)} standard deviations at most")
    return "\n".join(lines)
