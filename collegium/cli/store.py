"""The commands on the store of teacher answers: build, info, verify."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from tyro.conf import OmitArgPrefixes as Flat

from collegium.cli.options import (
    Answer,
    Call,
    Corrupt,
    Flag,
    Recipe,
    Size,
    chosen_classes,
    data_string,
    parse_labels,
    parse_teachers,
)
from collegium.config.options import Machine, Storage
from collegium.config.run import Run


@dataclass(frozen=True)
class AnswerOptions:
    """How answers are kept."""

    views: int = 8
    """How many views of each example."""
    augment: Recipe | None = None
    """View recipe; by default what suits the data."""
    view_seed: int = Run.view_seed
    """Of the views' pixels."""
    logits: str = Storage.store_logits
    """fp16, fp32, or topK (the K largest and the mass of the rest)."""
    layers: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """TEACHER:LAYER of a hidden layer to keep, once for each; LAYER@mean keeps its mean."""
    maps: Literal["int8", "fp16", "fp32"] = "int8"
    """How hidden layers are kept."""
    batch_size: int = 128
    """Views of one forward."""


def store_build(
    data: str,
    out: Path,
    teacher: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    labels: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    answers: Flat[AnswerOptions] = AnswerOptions(),
    image_size: Size = Run.image_size,
    classes: str = "",
    corrupt: Corrupt | None = None,
    machine: Flat[Machine] = Machine(),
    quiet: Flag = False,
    json: Flag = False,
) -> Call:
    """Have teachers answer ahead of training, and keep it: --data D --teacher NAME=M --out DIR.

    Several processes share the work (--devices N, or torchrun); a build that was stopped goes on.

    Args:
        data: whose training examples are asked about.
        out: folder of the store; what it has already is left.
        teacher: NAME=MODEL, once for each teacher.
        labels: NAME=FILE, a label map in JSON for a teacher whose class names are others.
        answers: what is kept.
        image_size: ROWS,COLUMNS a folder's images are brought to, one number for both.
        classes: names of those that are asked about, comma-separated; by default all.
        corrupt: whether an image that cannot be decoded is fatal or one to skip.
        machine: where it runs.
        quiet: show no progress.
        json: print the result as one JSON object on standard output.
    """
    told = parse_labels(labels)

    def call() -> Answer:
        from collegium.store.maintain import build

        found = build(
            out,
            data_string(data, corrupt),
            parse_teachers(teacher),
            image_size=image_size,
            labels=told,
            classes=chosen_classes(classes),
            machine=machine,
            quiet=quiet,
            **vars(answers),
        )
        text = (
            f"{found['computed']:,} answers computed in {found['seconds']:.0f} s; {found['views']} "
            f"views of {found['examples']:,} examples, {found['bytes'] / 1e6:.1f} MB in "
            f"{found['folder']}"
        )
        return Answer(found, text)

    return call


def store_info(folder: tyro.conf.Positional[Path], json: Flag = False) -> Call:
    """What a store holds: teachers, views, size, what rounding lost, how often it was of use.

    Args:
        folder: of the store.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        from collegium.store.maintain import describe, info

        found = info(folder)
        return Answer(found, describe(found))

    return call


def store_verify(
    folder: tyro.conf.Positional[Path],
    data: str | None = None,
    teacher: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    labels: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    image_size: Size = Run.image_size,
    sample: int = 128,
    machine: Flat[Machine] = Machine(),
    quiet: Flag = False,
    json: Flag = False,
) -> Call:
    """Check every shard's checksum, and ask the teachers again about a sample.

    Args:
        folder: of the store.
        data: by default what the store was made of.
        teacher: NAME=MODEL where a teacher is elsewhere now.
        labels: NAME=FILE, a label map in JSON for a teacher whose class names are others.
        image_size: ROWS,COLUMNS a folder's images are brought to, one number for both.
        sample: answers of each teacher that are asked for again; 0 for checksums alone.
        machine: where it runs.
        quiet: show no progress.
        json: print the result as one JSON object on standard output.
    """
    told = parse_labels(labels)

    def call() -> Answer:
        from collegium.store.maintain import verify

        found = verify(
            folder,
            data=data,
            teachers=parse_teachers(teacher),
            labels=told,
            image_size=image_size,
            sample=sample,
            machine=machine,
            quiet=quiet,
        )
        compared = [f"{name} moved by {moved:.2g}" for name, moved in found["compared"].items()]
        lines = [
            "sound" if found["sound"] else "not sound",
            *(f"damaged: {text}" for text in found["damaged"]),
            *found["wrong"],
            *([f"asked again: {', '.join(compared)} deviations at most"] if compared else []),
        ]
        return Answer(found, "\n".join(lines), 0 if found["sound"] else 1)

    return call
