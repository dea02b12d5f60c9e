"""The commands that train: demo, train, distill, resume."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from tyro.conf import OmitArgPrefixes as Flat

from collegium.api import execute
from collegium.api import resume as resume_run
from collegium.cli.options import (
    Answer,
    Call,
    DataOptions,
    Flag,
    LabelOptions,
    OutputOptions,
    ViewOptions,
    parse_labels,
    parse_teachers,
)
from collegium.config.options import Machine, Optimisation, Storage
from collegium.config.run import Run
from collegium.methods import DEFAULT, all_methods, find_method
from collegium.methods.base import AbstractMethod
from collegium.methods.vanilla import Vanilla
from collegium.records.run_folder import Record


def demo(output: Flat[OutputOptions] = OutputOptions()) -> Call:
    """Real handwritten digits: three teachers, a student alone and the same student distilled."""

    def call() -> Answer:
        from collegium.demo import run_demo

        out = output.folder("demo")
        result, text = run_demo(out, output.overwrite, output.quiet, output.tensorboard)
        return Answer(result, text)

    return call


def train(
    data: Flat[DataOptions],
    model: str,
    optimisation: Flat[Optimisation] = Optimisation(),
    label: Flat[LabelOptions] = LabelOptions(),
    view: Flat[ViewOptions] = ViewOptions(),
    machine: Flat[Machine] = Machine(),
    output: Flat[OutputOptions] = OutputOptions(),
) -> Call:
    """One network on labels: how teachers and baselines are made.

    Args:
        data: what is learned from.
        model: the network: cifar:resnet20, small:cnn, timm:NAME, torchvision:NAME, hf:NAME_OR_DIR,
            path/to/file.py:function, a run folder; @FILE or @pretrained for its start.
        optimisation: how long and how fast.
        label: what the label's cross entropy is.
        view: augmentation.
        machine: where it runs.
        output: where it goes.
    """
    do = functools.partial(_do, "train", data, model, {}, Vanilla(), optimisation, label, view)
    return functools.partial(do, Storage(), machine, output)


def distill_with(presets: dict[str, str]) -> Callable[..., Call]:
    """The verb `distill`, whose methods start from these presets (by slug)."""
    choices = tuple(
        Annotated[
            kind,
            tyro.conf.subcommand(
                slug,
                default=kind.preset(presets.get(slug, "default")),
                description=_description(kind),
            ),
        ]
        for slug, kind in all_methods().items()
    )
    default = find_method(DEFAULT).preset(presets.get(DEFAULT, "default"))
    chosen: Any = Flat[tyro.conf.OmitSubcommandPrefixes[Union[choices]]]  # type: ignore[valid-type, misc] # noqa: UP007

    def verb(
        data: Flat[DataOptions],
        student: str,
        teacher: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
        labels: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
        optimisation: Flat[Optimisation] = Optimisation(),
        label: Flat[LabelOptions] = LabelOptions(),
        view: Flat[ViewOptions] = ViewOptions(),
        storage: Flat[Storage] = Storage(),
        machine: Flat[Machine] = Machine(),
        output: Flat[OutputOptions] = OutputOptions(),
        method: chosen = default,
    ) -> Call:
        named, told = parse_teachers(teacher), parse_labels(labels)
        shared = (optimisation, label, view, storage, machine, output, told)
        return functools.partial(_do, method.slug, data, student, named, method, *shared)

    verb.__doc__ = distill.__doc__
    return verb


def distill(*arguments: Any, **options: Any) -> Call:  # noqa: D417 - those of the verb
    """One student from several teachers: --data D --student M --teacher NAME=M ... METHOD.

    Args:
        data: what is learned from.
        student: the network that is trained: cifar:resnet20, small:cnn, timm:NAME,
            torchvision:NAME, hf:NAME_OR_DIR, path/to/file.py:function.
        teacher: NAME=MODEL, once for each teacher; MODEL@FILE with its weights, MODEL@pretrained,
            hf:NAME_OR_DIR, onnx:FILE, or a run folder.
        labels: NAME=FILE, a label map in JSON for a teacher whose class names are others.
        optimisation: how long and how fast.
        label: what the label's cross entropy is.
        view: augmentation.
        storage: what is kept of the teachers' answers.
        machine: where it runs.
        output: where it goes.
        method: whom the student hears, and how; its own options come after its name. By default
            gated, which is never far from the best of the others.
    """
    return distill_with({})(*arguments, **options)


def _description(kind: type[AbstractMethod]) -> str:
    presets = ", ".join(kind.presets)
    return kind.summary() + (f" Presets (--preset NAME): {presets}." if presets else "")


def _do(
    name: str,
    data: DataOptions,
    student: str,
    teachers: dict[str, str],
    method: AbstractMethod,
    optimisation: Optimisation,
    label: LabelOptions,
    view: ViewOptions,
    storage: Storage,
    machine: Machine,
    output: OutputOptions,
    labels: Mapping[str, Any] | None = None,
) -> Answer:
    run = Run(
        data=data.source,
        student=student,
        teachers=teachers,
        method=method,
        optimisation=optimisation,
        machine=machine,
        storage=storage,
        seed=data.seed,
        validation=data.validation,
        augment=view.augment,
        views=view.views,
        view_seed=view.view_seed,
        image_size=data.image_size,
        classes=data.chosen,
        labels=labels or {},
        class_weights=label.weights,
        label_smoothing=label.label_smoothing,
    )
    out = output.folder(name)
    record = execute(
        run,
        out,
        overwrite=output.overwrite,
        quiet=output.quiet,
        label=name,
        tensorboard=output.tensorboard,
    )
    return _tell(record)


def _tell(record: Record) -> Answer:
    if not record.path("summary.json").is_file():
        return Answer({})  # another process of the same run tells
    summary = record.answer()
    lines = [f"{100 * summary['accuracy_last']:.2f} % on the {summary['split']} split"]
    if summary.get("accuracy_at_best_validation") is not None:
        best = 100 * summary["accuracy_at_best_validation"]
        lines.append(f"{best:.2f} % with the weights that were best on validation")
    heard = [f"{k[8:]} {v:.3f}" for k, v in summary.items() if k.startswith("weights.")]
    if heard:
        lines.append("heard: " + ", ".join(heard))
    lines.append(f"{summary['seconds']:.0f} s, {summary['images_per_s']:.0f} images/s")
    lines.append(f"results saved to {record.folder}")
    return Answer({**summary, "folder": str(record.folder)}, "\n".join(lines))


def resume(
    folder: tyro.conf.Positional[Path],
    devices: int | None = None,
    accelerator: Literal["auto", "cpu", "cuda", "mps"] | None = None,
    threads: int | None = None,
    workers: int | None = None,
    checkpoint_every: str | None = None,
    teacher_batch: str | None = None,
    epochs: int | None = None,
    changed_code: Flag = False,
    quiet: Flag = False,
    json: Flag = False,
) -> Call:
    """Go on where a stopped run was, or give a finished one more epochs.

    Everything is as it was, but for these options, which do not decide what is trained.

    Args:
        folder: the run folder.
        devices: number of processes; another number rounds otherwise.
        accelerator: kind of device; another one rounds otherwise.
        threads: CPU threads of a process; another number rounds otherwise.
        workers: processes that decode images too many for memory.
        checkpoint_every: a number of steps, or a time like 90s, 10min, 2h.
        teacher_batch: views a teacher looks at at a time, or auto.
        epochs: how many epochs there are to be in all, also of a finished run. It goes on from the
            last checkpoint, and from there the learning rate follows the schedule of so many.
        changed_code: go on though the source of a network (path/to/file.py:function) is not what it
            was.
        quiet: show no progress.
        json: print the result as one JSON object on standard output.
    """
    asked = {
        "devices": devices,
        "accelerator": accelerator,
        "threads": threads,
        "workers": workers,
        "checkpoint_every": checkpoint_every,
        "teacher_batch": teacher_batch,
    }
    changed = {name: value for name, value in asked.items() if value is not None}
    return lambda: _tell(
        resume_run(folder, quiet=quiet, epochs=epochs, changed_code=changed_code, **changed)
    )
