"""The commands that measure: evaluate, audit."""

from pathlib import Path
from typing import Literal

import tyro
from tyro.conf import OmitArgPrefixes as Flat

from collegium.api import evaluate as evaluate_run
from collegium.cli.options import Answer, Call, DataOptions, Flag, parse_labels, parse_teachers
from collegium.config.options import Machine
from collegium.errors import RequestError
from collegium.utils.progress import Display


def evaluate(
    data: Flat[DataOptions],
    model: str,
    split: Literal["train", "validation", "test"] | None = None,
    labels: Path | None = None,
    batch_size: int = 500,
    machine: Flat[Machine] = Machine(),
    json: Flag = False,
) -> Call:
    """Accuracy, loss and calibration of a network.

    Args:
        data: what it is measured on.
        model: a model string with weights, or a run folder.
        split: which split; by default test, else validation.
        labels: a label map in JSON, where the network's class names are others.
        batch_size: images at a time.
        machine: where it runs.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        result = evaluate_run(
            model,
            data.source,
            split=split,
            batch_size=batch_size,
            machine=machine,
            validation=data.validation,
            seed=data.seed,
            image_size=data.image_size,
            classes=data.chosen,
            labels=labels,
        )
        for note in result.get("notes", ()):
            Display(label="evaluate").say(f"model: {note}")
        if "accuracy_known" in result:
            known = f" ({100 * result['accuracy_known']:.2f} % of the {result['images_known']}"
            known += " whose class it knows)"
        else:
            known = ""
        text = (
            f"{100 * result['accuracy']:.2f} % of {result['images']} images of the "
            f"{result['split']} split{known}; cross entropy {result['loss']:.4f}, calibration "
            f"error {result['ece']:.4f}; {result['parameters']:,} parameters, "
            f"{result['images_per_s']:.0f} images/s"
        )
        return Answer(result, text)

    return call


def audit(
    data: Flat[DataOptions],
    teacher: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    labels: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    split: Literal["validation", "train", "test"] = "validation",
    student: str | None = None,
    store: Path | None = None,
    probe: int = 512,
    out: Path | None = None,
    overwrite: Flag = False,
    machine: Flat[Machine] = Machine(),
    quiet: Flag = False,
    json: Flag = False,
) -> Call:
    """What teachers are worth on some data, alone and together, and which look mis-loaded.

    Args:
        data: what they are measured on.
        teacher: NAME=MODEL, once for each teacher.
        labels: NAME=FILE, a label map in JSON for a teacher whose class names are others.
        split: which split; validation, so that nothing is chosen on test.
        student: a network whose cost theirs is compared with.
        store: folder of stored answers; used where it has them, filled where it has not.
        probe: images that other normalisations, colours and sizes are tried on; 0 to try none.
        out: folder for audit.json, audit.md and audit.html.
        overwrite: replace the audit that is in the folder.
        machine: where it runs.
        quiet: show no progress.
        json: print the result as one JSON object on standard output.
    """
    named, told = parse_teachers(teacher), parse_labels(labels)
    if not named or probe < 0:
        raise RequestError("an audit needs --teacher NAME=MODEL, and --probe of at least 0")

    def call() -> Answer:
        from collegium.audit.examine import audit as examine
        from collegium.audit.record import check_folder, write_audit
        from collegium.audit.tables import terminal

        if out is not None:
            check_folder(out, overwrite)
        found = examine(
            named,
            data.source,
            split=split,
            student=student,
            store=store,
            probe=probe,
            validation=data.validation,
            seed=data.seed,
            image_size=data.image_size,
            classes=data.chosen,
            labels=told,
            machine=machine,
            quiet=quiet,
        )
        if out is None:
            return Answer(found, terminal(found))
        write_audit(out, found)
        return Answer({**found, "folder": str(out)}, f"{terminal(found)}\nresults saved to {out}")

    return call
