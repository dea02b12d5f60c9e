"""The command compare."""

from pathlib import Path

import tyro
from tyro.conf import OmitArgPrefixes as Flat

from collegium.cli.options import (
    Answer,
    Call,
    Corrupt,
    Flag,
    LabelOptions,
    Size,
    ViewOptions,
    data_string,
    parse_labels,
    parse_teachers,
)
from collegium.config.options import Machine, Optimisation, Storage
from collegium.config.run import Run
from collegium.errors import RequestError
from collegium.methods.base import LABEL_WEIGHT


def compare(
    data: str,
    student: str,
    methods: str,
    out: Path,
    teacher: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    labels: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    seeds: int = 3,
    control: str | None = None,
    published: Flag = False,
    temperature: float = 4.0,
    alpha: float = 0.9,
    label_weight: float | None = LABEL_WEIGHT,
    jobs: int | None = None,
    validation: float = Run.validation,
    image_size: Size = Run.image_size,
    best_test: Flag = False,
    corrupt: Corrupt | None = None,
    optimisation: Flat[Optimisation] = Optimisation(),
    label: Flat[LabelOptions] = LabelOptions(),
    view: Flat[ViewOptions] = ViewOptions(),
    machine: Flat[Machine] = Machine(),
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
        labels: NAME=FILE, a label map in JSON for a teacher whose class names are others.
        seeds: how many; each draws splits, start and order.
        control: the row others are compared with; by default avg_mkd, else the student alone.
        published: add each method once more as its paper sets it.
        temperature: of all soft targets that name none.
        alpha: weight of all soft targets that name none.
        label_weight: of the label beside teachers in all rows that name none; None for what alpha
            leaves of 1.
        jobs: runs at a time; by default one a core, each with one thread.
        validation: part of the training data held out, where the data has no split of its own.
        image_size: ROWS,COLUMNS a folder's images are brought to, one number for both.
        best_test: show the best epoch on the test split too, which nobody could have chosen.
        corrupt: whether an image that cannot be decoded is fatal or one to skip.
        optimisation: how long and how fast.
        label: what the label's cross entropy is.
        view: augmentation.
        machine: where it runs.
        quiet: show no progress.
        json: print the result as one JSON object on standard output.
    """
    from collegium.methods.method_string import read_rows

    rows = read_rows(methods, temperature, alpha, published, label_weight)
    told = parse_labels(labels)

    def call() -> Answer:
        from collegium.comparison.run import compare as compare_runs
        from collegium.records.comparison import markdown

        base = Run(
            data=data_string(data, corrupt),
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
            watch_test=best_test,
            labels=told,
            class_weights=label.weights,
            label_smoothing=label.label_smoothing,
        )
        if not base.teachers and any(row.method.uses_teachers for row in rows):
            raise RequestError("methods hear teachers and none was given: add --teacher NAME=MODEL")
        table = compare_runs(base, rows, seeds, out, control=control, jobs=jobs, quiet=quiet)
        failed = any(line["failures"] for line in table["rows"])
        text = markdown(table) + f"\nresults saved to {out}"
        return Answer({**table, "folder": str(out)}, text, exit_code=int(failed))

    return call
