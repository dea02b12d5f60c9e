"""What each command does, as functions that return an answer; imports of torch wait until called.

Each verb returns a callable, so that reading the options and doing the work are two steps.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from tyro.conf import OmitArgPrefixes as Flat

from collegium.errors import RequestError
from collegium.method import AbstractMethod
from collegium.methods import all_methods, find_method
from collegium.methods.vanilla import Vanilla
from collegium.record import Json, Record, next_free
from collegium.run import Run, check_folder, execute
from collegium.run import evaluate as evaluate_run
from collegium.run import resume as resume_run
from collegium.training.options import Machine, Optimisation, Storage

Recipe = Literal["none", "crop", "flip", "crop-flip", "resized-crop", "large"]
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
    """digits, cifar10:DIR, cifar100:DIR, folder:DIR."""
    validation: float = Run.validation
    """Part of the training data held out, where the data has no validation split of its own."""
    seed: int = Run.seed
    """Of everything random: the start, the order, the views, the held-out part."""
    image_size: int | None = Run.image_size
    """Rows and columns a folder's images are brought to; by default what suits them."""


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
class OutputOptions:
    """Where the run goes and what is shown."""

    out: Path | None = None
    """The run folder; by default a new one under runs/."""
    overwrite: Flag = False
    """Replace the run that is in the folder."""
    quiet: Flag = False
    """Show no progress."""
    json: Flag = False
    """Print the result as one JSON object on standard output."""

    def folder(self, name: str) -> Path:
        """The folder asked for, checked, or one of that name under runs/: the next free one."""
        usual = Path("runs") / name
        if self.out is None:
            return usual if self.overwrite else next_free(usual)
        check_folder(self.out, self.overwrite)
        return self.out


def demo(output: Flat[OutputOptions] = OutputOptions()) -> Call:
    """Real handwritten digits: three teachers, a student alone and the same student distilled."""

    def call() -> Answer:
        from collegium.demo import run_demo

        result, text = run_demo(output.folder("demo"), output.overwrite, output.quiet)
        return Answer(result, text)

    return call


def train(
    data: Flat[DataOptions],
    model: str,
    optimisation: Flat[Optimisation] = Optimisation(),  # noqa: B008 - frozen
    view: Flat[ViewOptions] = ViewOptions(),
    machine: Flat[Machine] = Machine(),  # noqa: B008
    output: Flat[OutputOptions] = OutputOptions(),
) -> Call:
    """One network on labels: how teachers and baselines are made.

    Args:
        data: what is learned from.
        model: the network: cifar:resnet20, small:cnn, path/to/file.py:function, a run folder;
            @FILE for its start.
        optimisation: how long and how fast.
        view: augmentation.
        machine: where it runs.
        output: where it goes.
    """
    do = functools.partial(_do, "train", data, model, {}, Vanilla(), optimisation, view)
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
    default = find_method("amtml").preset(presets.get("amtml", "default"))
    chosen: Any = Flat[tyro.conf.OmitSubcommandPrefixes[Union[choices]]]  # type: ignore[valid-type, misc] # noqa: UP007

    def verb(
        data: Flat[DataOptions],
        student: str,
        teacher: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
        optimisation: Flat[Optimisation] = Optimisation(),  # noqa: B008
        view: Flat[ViewOptions] = ViewOptions(),
        storage: Flat[Storage] = Storage(),  # noqa: B008
        machine: Flat[Machine] = Machine(),  # noqa: B008
        output: Flat[OutputOptions] = OutputOptions(),
        method: chosen = default,
    ) -> Call:
        named = parse_teachers(teacher)
        do = functools.partial(_do, method.slug, data, student, named, method, optimisation, view)
        return functools.partial(do, storage, machine, output)

    verb.__doc__ = distill.__doc__
    return verb


def distill(*arguments: Any, **options: Any) -> Call:  # noqa: D417 - those of the verb
    """One student from several teachers: --data D --student M --teacher NAME=M ... METHOD.

    Args:
        data: what is learned from.
        student: the network that is trained: cifar:resnet20, small:cnn, path/to/file.py:function.
        teacher: NAME=MODEL, once for each teacher; MODEL@FILE with its weights, or a run folder.
        optimisation: how long and how fast.
        view: augmentation.
        storage: what is kept of the teachers' answers.
        machine: where it runs.
        output: where it goes.
        method: whom the student hears, and how; its own options come after its name.
    """
    return distill_with({})(*arguments, **options)


def _description(kind: type[AbstractMethod]) -> str:
    presets = ", ".join(kind.presets)
    return kind.summary() + (f" Presets (--preset NAME): {presets}." if presets else "")


def parse_teachers(texts: tuple[str, ...]) -> dict[str, str]:
    """NAME=MODEL strings as a dictionary, in their order.

    Raises:
        RequestError: one is not of that form, or a name comes twice.

    >>> parse_teachers(("a=cifar:resnet32@a.safetensors", "b=runs/b"))
    {'a': 'cifar:resnet32@a.safetensors', 'b': 'runs/b'}
    """
    named: dict[str, str] = {}
    for text in texts:
        name, separator, model = text.partition("=")
        if not (name and separator and model):
            raise RequestError(f"--teacher takes NAME=MODEL, got {text!r}")
        if name in named:
            raise RequestError(f"two teachers are called {name!r}; every name must be its own")
        named[name] = model
    return named


def _do(
    label: str,
    data: DataOptions,
    student: str,
    teachers: dict[str, str],
    method: AbstractMethod,
    optimisation: Optimisation,
    view: ViewOptions,
    storage: Storage,
    machine: Machine,
    output: OutputOptions,
) -> Answer:
    run = Run(
        data=data.data,
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
    )
    out = output.folder(label)
    return _tell(execute(run, out, overwrite=output.overwrite, quiet=output.quiet, label=label))


def _tell(record: Record) -> Answer:
    if not record.path("summary.json").is_file():
        return Answer({})  # another process of the same run tells
    summary = record.summary
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


def resume(folder: tyro.conf.Positional[Path], quiet: Flag = False, json: Flag = False) -> Call:
    """Go on where a stopped run was.

    Args:
        folder: the run folder.
        quiet: show no progress.
        json: print the result as one JSON object on standard output.
    """
    return lambda: _tell(resume_run(folder, quiet=quiet))


def evaluate(
    data: Flat[DataOptions],
    model: str,
    split: Literal["train", "validation", "test"] | None = None,
    batch_size: int = 500,
    machine: Flat[Machine] = Machine(),  # noqa: B008
    json: Flag = False,
) -> Call:
    """Accuracy, loss and calibration of a network.

    Args:
        data: what it is measured on.
        model: a model string with weights, or a run folder.
        split: which split; by default test, else validation.
        batch_size: images at a time.
        machine: where it runs.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        result = evaluate_run(
            model,
            data.data,
            split=split,
            batch_size=batch_size,
            machine=machine,
            validation=data.validation,
            seed=data.seed,
            image_size=data.image_size,
        )
        text = (
            f"{100 * result['accuracy']:.2f} % of {result['images']} images of the "
            f"{result['split']} split; cross entropy {result['loss']:.4f}, calibration error "
            f"{result['ece']:.4f}; {result['parameters']:,} parameters, "
            f"{result['images_per_s']:.0f} images/s"
        )
        return Answer(result, text)

    return call


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


def compare(
    data: str,
    student: str,
    methods: str,
    out: Path,
    teacher: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    seeds: int = 3,
    control: str | None = None,
    published: Flag = False,
    temperature: float = 4.0,
    alpha: float = 0.9,
    jobs: int | None = None,
    validation: float = Run.validation,
    image_size: int | None = Run.image_size,
    optimisation: Flat[Optimisation] = Optimisation(),  # noqa: B008
    view: Flat[ViewOptions] = ViewOptions(),
    machine: Flat[Machine] = Machine(),  # noqa: B008
    quiet: Flag = False,
    json: Flag = False,
) -> Call:
    """Several methods on the same splits, starts and batches: --data D --student M --methods a,b.

    Runs that are there already are used, those that were stopped go on.

    Args:
        data: what is learned from.
        student: the network that is trained.
        methods: SLUG[:option=value...], comma-separated; the student alone is always compared too.
        out: folder of the comparison.
        teacher: NAME=MODEL, once for each teacher.
        seeds: how many; each draws splits, start and order.
        control: the row others are compared with; by default avg_mkd, else the student alone.
        published: add each method once more as its paper sets it.
        temperature: of all soft targets that name none.
        alpha: weight of all soft targets that name none; the label has the rest.
        jobs: runs at a time; by default one a core, each with one thread.
        validation: part of the training data held out, where the data has no split of its own.
        image_size: rows and columns a folder's images are brought to.
        optimisation: how long and how fast.
        view: augmentation.
        machine: where it runs.
        quiet: show no progress.
        json: print the result as one JSON object on standard output.
    """
    from collegium.rows import read_rows

    rows = read_rows(methods, temperature, alpha, published)

    def call() -> Answer:
        from collegium.compare import compare as compare_runs
        from collegium.table import markdown

        base = Run(
            data=data,
            student=student,
            teachers=parse_teachers(teacher),
            optimisation=optimisation,
            machine=machine,
            storage=Storage(store_hints="fp16"),
            validation=validation,
            augment=view.augment,
            views=view.views,
            view_seed=view.view_seed,
            image_size=image_size,
        )
        if not base.teachers and any(row.method.hears_teachers for row in rows):
            raise RequestError("methods hear teachers and none was given: add --teacher NAME=MODEL")
        table = compare_runs(base, rows, seeds, out, control=control, jobs=jobs, quiet=quiet)
        failed = any(line["failures"] for line in table["rows"])
        text = markdown(table) + f"\nresults saved to {out}"
        return Answer({**table, "folder": str(out)}, text, exit_code=int(failed))

    return call


def store_build(
    data: str,
    out: Path,
    teacher: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    answers: Flat[AnswerOptions] = AnswerOptions(),
    image_size: int | None = Run.image_size,
    machine: Flat[Machine] = Machine(),  # noqa: B008
    quiet: Flag = False,
    json: Flag = False,
) -> Call:
    """Have teachers answer ahead of training, and keep it: --data D --teacher NAME=M --out DIR.

    Several processes share the work (--devices N, or torchrun); a build that was stopped goes on.

    Args:
        data: whose training examples are asked about.
        out: folder of the store; what it has already is left.
        teacher: NAME=MODEL, once for each teacher.
        answers: what is kept.
        image_size: rows and columns a folder's images are brought to.
        machine: where it runs.
        quiet: show no progress.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        from collegium.answers import build

        found = build(
            out,
            data,
            parse_teachers(teacher),
            image_size=image_size,
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
        from collegium.answers import describe, info

        found = info(folder)
        return Answer(found, describe(found))

    return call


def store_verify(
    folder: tyro.conf.Positional[Path],
    data: str | None = None,
    teacher: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    image_size: int | None = Run.image_size,
    sample: int = 128,
    machine: Flat[Machine] = Machine(),  # noqa: B008
    quiet: Flag = False,
    json: Flag = False,
) -> Call:
    """Check every shard's checksum, and ask the teachers again about a sample.

    Args:
        folder: of the store.
        data: by default what the store was made of.
        teacher: NAME=MODEL where a teacher is elsewhere now.
        image_size: rows and columns a folder's images are brought to.
        sample: answers of each teacher that are asked for again; 0 for checksums alone.
        machine: where it runs.
        quiet: show no progress.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        from collegium.answers import verify

        found = verify(
            folder,
            data=data,
            teachers=parse_teachers(teacher),
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


def methods(slug: tyro.conf.Positional[str | None] = None, json: Flag = False) -> Call:
    """What methods there are and what they need; with a SLUG, one method's card.

    Args:
        slug: of the method whose card is shown.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        if slug is not None:
            kind = find_method(slug)
            return Answer(_card(kind), kind.card())
        known = all_methods()
        rows = [f"{name:<10} {kind.summary()} Needs: {kind.needs}." for name, kind in known.items()]
        return Answer({name: _card(kind) for name, kind in known.items()}, "\n".join(rows))

    return call


def _card(kind: type[AbstractMethod]) -> Json:
    return {
        "slug": kind.slug,
        "summary": kind.summary(),
        "needs": kind.needs,
        "options": kind().options(),
        "presets": {name: dict(changes) for name, changes in kind.presets.items()},
        "bibtex": kind.citation(),
    }


def cite(slug: tyro.conf.Positional[str], json: Flag = False) -> Call:
    """The paper of a method, as BibTeX.

    Args:
        slug: of the method.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        text = find_method(slug).citation()
        return Answer({"slug": slug, "bibtex": text}, text)

    return call


def doctor(json: Flag = False) -> Call:
    """Is this installation sound?

    Args:
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        from collegium.doctor import examine

        checks = examine()
        sound = all(check.sound for check in checks)
        text = "\n".join(str(check) for check in checks)
        result = {"sound": sound, "checks": [vars(check) for check in checks]}
        return Answer(result, text, 0 if sound else 1)

    return call
