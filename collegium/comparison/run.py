"""Methods compared fairly: the same splits, starts, batches and views, seed by seed."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from collegium.api import execute
from collegium.config.run import Run
from collegium.errors import CollegiumError, FolderError, Interrupted, RequestError
from collegium.methods.method_string import MethodSpec, check_control, folder_name, shared_strength
from collegium.records.comparison import (
    Comparison,
    Json,
    Outcomes,
    comma_separated,
    make_table,
    markdown,
)
from collegium.records.run_folder import Record
from collegium.runner.folders import finished
from collegium.utils.files import write_whole

if TYPE_CHECKING:
    from collegium.utils.progress import Display

ANSWERS = "answers"
"""Where in the folder the teachers' answers are kept."""


@dataclass(frozen=True)
class Job:
    """One run of a comparison.

    Attributes:
        row: its name.
        run: what to do.
        folder: where.
    """

    row: str
    run: Run
    folder: Path


_MOST_BY_CORE = 4
"""Runs at a time beyond which memory ends before anything is won."""


def compare(
    base: Run,
    rows: Sequence[MethodSpec],
    seeds: int,
    out: Path,
    *,
    control: str | None = None,
    jobs: int | None = None,
    quiet: bool = False,
) -> Comparison:
    """Run every method with every seed, and make the table of it.

    Runs that are finished are read, those that were stopped go on. Teachers are asked once: their
    answers are kept in the folder.

    Args:
        base: what all runs have in common; data, student and teachers as strings.
        rows: the methods, the student alone among them.
        seeds: 0 to `seeds` - 1; each draws the splits, the student's start and the batches' order.
        out: folder of the comparison: compare.md, compare.csv, compare.json and the runs.
        control: the row the others are compared with; by default avg_mkd, else the student alone.
        jobs: runs at a time; by default one a core on CPUs, each with one thread.
        quiet: show no progress.

    Returns:
        The content of compare.json.

    Raises:
        RequestError: fewer than one seed or job, many more jobs than cores, or a control that is no
            row.
        FolderError: the folder holds runs of another comparison, or one is going on in it.
    """
    _check_counts(seeds, jobs)
    control = check_control(control, rows)
    todo = [job for seed in range(seeds) for job in _jobs(base, rows, seed, out, jobs)]
    for job in todo:
        _check_same(job)
    from collegium.utils.lock import only_writer
    from collegium.utils.signals import GracefulInterrupt

    with only_writer(out):
        try:
            with GracefulInterrupt():
                errors = dict(_carry_out(todo, jobs or _cores(base), quiet))
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command goes on") from None
        found = [_outcomes(row, todo, errors) for row in rows]
        parts = {
            "data": base.to_json()["data"],
            "student": base.to_json()["student"],
            "teachers": base.to_json()["teachers"],
            "epochs": base.optimisation.epochs,
            "seeds": seeds,
            "strength": shared_strength(rows),
            "class_weights": base.class_weights,
            "label_smoothing": base.label_smoothing,
        }
        table = Comparison(make_table(found, control) | parts)
        write_whole(out / "compare.json", (json.dumps(table, indent=2) + "\n").encode())
        write_whole(out / "compare.md", markdown(table).encode())
        write_whole(out / "compare.csv", comma_separated(table).encode())
    return table


def _check_counts(seeds: int, jobs: int | None) -> None:
    cores = os.cpu_count() or 1
    if seeds < 1 or (jobs is not None and jobs < 1):
        raise RequestError("--seeds and --jobs must be at least 1")
    if jobs is not None and jobs > _MOST_BY_CORE * cores:
        raise RequestError(
            f"--jobs {jobs}: every job is a process with libraries and data of its own, and this "
            f"machine has {cores} cores; give at most {_MOST_BY_CORE * cores}"
        )


def _cores(base: Run) -> int:
    alone = base.machine.accelerator in ("auto", "cpu") and base.machine.devices == 1
    return (os.cpu_count() or 1) if alone and not _has_accelerator() else 1


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


def _jobs(
    base: Run, rows: Sequence[MethodSpec], seed: int, out: Path, jobs: int | None
) -> Iterator[Job]:
    count = jobs or _cores(base)
    threads = base.machine.threads or (1 if count > 1 else None)
    # Everybody sees the same pixels: where views are limited, also the student alone.
    views = -(-base.optimisation.epochs // 4) if base.views is None else base.views
    for row in rows:
        taught = row.method.uses_teachers
        run = replace(
            base,
            method=row.method,
            seed=seed,
            views=views,
            teachers=base.teachers if taught else {},
            labels=base.labels if taught else {},
            machine=replace(base.machine, threads=threads),
            storage=replace(
                base.storage,
                store=str(out / ANSWERS) if taught and views and not base.storage.store else None,
            ),
        )
        yield Job(row.name, run, out / "runs" / folder_name(row.name) / f"seed-{seed}")


def _check_same(job: Job) -> None:
    """Refuse to mix runs of two comparisons.

    Raises:
        FolderError: naming what differs.
    """
    from collegium.config.same_run import NAMED, differences, other_code, refuse_edited
    from collegium.runner.changes import in_words

    record = Record(job.folder)
    if not record.holds_run():
        return
    Run.of(record)
    was, asked = Run.complete(record.run), job.run.to_json()
    refuse_edited(str(job.folder), record.run)
    if asked["options"].get("teacher", "") is None:  # chosen by the run itself
        asked["options"]["teacher"] = was["options"].get("teacher")
    if differ := differences(was, asked, NAMED):
        earlier = was["options"].get("label_weight", 1.0) is None
        kept = ", or go on with --label-weight None" if earlier else ""
        raise FolderError(
            f"{job.folder} was run with other options: {'; '.join(differ)}; choose another "
            f"--out{kept}"
        )
    if changed := other_code(was, {"code": _code_now(job.run)}):
        raise FolderError(
            f"{job.folder} was run with other code of {'; '.join(changed)}; choose another --out"
        )
    if changes := in_words(was.get("changes", ())):
        raise FolderError(
            f"{job.folder} was changed on the way ({'; '.join(changes)}), so it is not what a "
            "new run would be; choose another --out"
        )


def _code_now(run: Run) -> Json:
    """Digests of the user's files that the models of a run are built by."""
    from collegium.models.registry import code_of_string

    teachers = {name: code_of_string(str(spec)) for name, spec in run.teachers.items()}
    return {"student": code_of_string(str(run.student)), "teachers": teachers}


def _carry_out(todo: Sequence[Job], jobs: int, quiet: bool) -> Iterator[tuple[Path, str]]:
    """Do what is left; gives the folder and the reason of each run that failed."""
    from collegium.training.precision import notes_on
    from collegium.utils.process_pool import in_processes
    from collegium.utils.progress import Display

    display = Display(quiet, "compare")
    left = [job for job in todo if not _is_finished(job)]
    display.say(f"{len(todo)} runs, {len(todo) - len(left)} of them finished already")
    for note in notes_on(todo[0].run.machine):
        display.say(note)
    if jobs == 1 or len(left) < 2:
        yield from _told(left, map(_attempt, left), display)
        return
    try:
        yield from _told(left, in_processes(_attempt, left, jobs), display)
    except BrokenProcessPool:
        done = (job for job in left if not _is_finished(job))
        died = "its process died (out of memory?); the same command goes on"
        yield from ((job.folder, died) for job in done)


def _told(
    todo: Sequence[Job], results: Iterator[str | None], display: "Display"
) -> Iterator[tuple[Path, str]]:
    for place, (job, problem) in enumerate(zip(todo, results, strict=True), 1):
        summary = "" if problem else f": {100 * Record(job.folder).answer()['accuracy_last']:.2f} %"
        said = f" failed: {problem}" if problem else summary
        display.say(f"{place}/{len(todo)} {job.row}, seed {job.run.seed}{said}")
        if problem:
            yield job.folder, problem


def _is_finished(job: Job) -> bool:
    return finished(job.folder)


def _attempt(job: Job) -> str | None:
    """Run or go on; the reason where it cannot."""
    try:
        there = Record(job.folder).holds_run()
        label = f"{job.row}, seed {job.run.seed}"
        execute(job.run, job.folder, resume=there, quiet=True, label=label)
    except Interrupted:
        raise KeyboardInterrupt from None
    except CollegiumError as error:
        return " ".join(str(error).split())
    return None


def _outcomes(row: MethodSpec, todo: Sequence[Job], errors: Mapping[Path, str]) -> Outcomes:
    runs, failures = {}, {}
    for job in (job for job in todo if job.row == row.name):
        if job.folder in errors:
            failures[job.run.seed] = errors[job.folder]
        else:
            runs[job.run.seed] = _summary(Record(job.folder))
    return Outcomes(row.name, row.published, runs, failures)


def _summary(record: Record) -> Json:
    summary = record.answer()
    agreements = list(summary.agreement.values())
    lines = record.metrics("train")
    return {
        **summary,
        "agreement": sum(agreements) / len(agreements) if agreements else None,
        "weights_entropy": lines[-1].weights_entropy if lines else None,
    }
