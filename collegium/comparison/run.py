"""Methods compared fairly: the same splits, starts, batches and views, seed by seed."""

import functools
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
from collegium.records import comparison
from collegium.records.comparison import Comparison, Json, Outcomes
from collegium.records.run_folder import Record
from collegium.runner.folders import finished
from collegium.utils.files import write_whole

if TYPE_CHECKING:
    from collegium.utils.progress import Display

ANSWERS = "answers"
"""Where in the folder the teachers' outputs are stored, unless the base says where."""


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
"""Runs at a time for each core; more need memory and gain nothing."""


def compare(
    base: Run,
    rows: Sequence[MethodSpec],
    seeds: int,
    out: Path,
    *,
    control: str | None = None,
    jobs: int | None = None,
    quiet: bool = False,
    tensorboard: bool = False,
) -> Comparison:
    """Run every method with every seed, and make the table of it.

    Finished runs are read, and stopped ones continue. Each teacher computes its outputs once: they
    are stored in the folder, or where the base says.

    Args:
        base: what all runs have in common; data, student and teachers as strings.
        rows: the methods, the student alone among them.
        seeds: how many, counted from that of the base; each decides the splits, the student's start
            and the order of batches.
        out: folder of the comparison: compare.md, compare.csv, compare.json and the runs.
        control: the row the others are compared with; by default avg_mkd, else the student alone.
        jobs: runs at a time; by default one a core on CPUs, each with one thread.
        quiet: show no progress.
        tensorboard: write metrics of every run as TensorBoard events too.

    Returns:
        The content of compare.json.

    Raises:
        RequestError: fewer than one seed or job, many more jobs than cores, or a control that is no
            row.
        FolderError: the folder holds runs of another comparison, or another process writes it.
    """
    _check_counts(seeds, jobs)
    control = check_control(control, rows)
    from collegium.utils.lock import only_writer
    from collegium.utils.signals import GracefulInterrupt

    count = jobs or _cores(base)
    numbers = range(base.seed, base.seed + seeds)
    todo = [job for seed in numbers for job in _jobs(base, rows, seed, out, count)]
    for job in todo:
        _check_same(job)
    with only_writer(out):
        try:
            with GracefulInterrupt():
                errors = dict(_carry_out(todo, count, quiet, tensorboard))
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command continues it") from None
        found = [_outcomes(row, todo, errors) for row in rows]
        parts = _common(base) | {"seeds": seeds, "strength": shared_strength(rows)}
        table = Comparison(comparison.make_table(found, control) | parts)
        _write(table, out)
    return table


def _common(base: Run) -> Json:
    """What compare.json records of the options that all rows have in common."""
    options = base.to_json()
    names = ("data", "student", "teachers", "class_weights", "label_smoothing")
    return {name: options[name] for name in names} | {"epochs": base.optimisation.epochs}


def _write(table: Comparison, out: Path) -> None:
    write_whole(out / "compare.json", (json.dumps(table, indent=2) + "\n").encode())
    write_whole(out / "compare.md", comparison.markdown(table).encode())
    write_whole(out / "compare.csv", comparison.comma_separated(table).encode())


def _check_counts(seeds: int, jobs: int | None) -> None:
    cores = os.cpu_count() or 1
    if seeds < 1 or (jobs is not None and jobs < 1):
        raise RequestError("--seeds and --jobs must be at least 1")
    if jobs is not None and jobs > _MOST_BY_CORE * cores:
        why = f"each is a process with libraries and data of its own, on {cores} cores here"
        raise RequestError(f"--jobs {jobs}: {why}; give at most {_MOST_BY_CORE * cores}")


def _cores(base: Run) -> int:
    import torch

    one = base.machine.accelerator in ("auto", "cpu") and base.machine.devices == 1
    return (os.cpu_count() or 1) if one and not torch.accelerator.is_available() else 1


def _jobs(base: Run, rows: Sequence[MethodSpec], seed: int, out: Path, count: int) -> Iterator[Job]:
    threads = base.machine.threads or (1 if count > 1 else None)
    store = base.storage.store or str(out / ANSWERS)
    # All rows train on the same pixels: where views are limited, the student alone too.
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
            storage=replace(base.storage, store=store if taught and views else None),
        )
        yield Job(row.name, run, out / "runs" / folder_name(row.name) / f"seed-{seed}")


def _check_same(job: Job) -> None:
    """Refuse to mix runs of two comparisons.

    Raises:
        FolderError: naming what differs.
    """
    from collegium.config.same_run import differences, other_code, refuse_edited
    from collegium.runner.resume_check import in_words

    record = Record(job.folder)
    if not record.holds_run():
        return
    Run.of(record)
    was, now = Run.complete(record.run), job.run.to_json()
    refuse_edited(str(job.folder), record.run)
    if now["options"].get("teacher", "") is None:  # chosen by the run itself
        now["options"]["teacher"] = was["options"].get("teacher")
    problem, advice = "", "choose another --out"
    if differ := differences(was, now, names=True):
        problem = f"was run with other options: {'; '.join(differ)}"
        if was["options"].get("label_weight", 1.0) is None:
            advice += ", or continue with --label-weight None"
    elif changed := other_code(was, {"code": _code_now(job.run)}):
        problem = f"was run with other code of {'; '.join(changed)}"
    elif changes := in_words(was.get("changes", ())):
        while_running = "; ".join(changes)
        problem = f"was changed while it ran ({while_running}): a new run would not be the same"
    if problem:
        raise FolderError(f"{job.folder} {problem}; {advice}")


def _code_now(run: Run) -> Json:
    """Digests of the user's files that the models of a run are built by."""
    from collegium.models.registry import code_of_string

    teachers = {name: code_of_string(str(spec)) for name, spec in run.teachers.items()}
    return {"student": code_of_string(str(run.student)), "teachers": teachers}


def _carry_out(
    todo: Sequence[Job], count: int, quiet: bool, tensorboard: bool
) -> Iterator[tuple[Path, str]]:
    """Do what is left, so many at a time; gives folder and reason of each run that failed."""
    from collegium.training.precision import notes_on
    from collegium.utils.process_pool import in_processes
    from collegium.utils.progress import Display

    display = Display(quiet, "compare")
    left = [job for job in todo if not finished(job.folder)]
    display.say(f"{len(todo)} runs, {len(todo) - len(left)} of them finished already")
    for note in notes_on(todo[0].run.machine):
        display.say(note)
    attempt = functools.partial(_attempt, tensorboard)
    several = count > 1 and len(left) > 1
    try:
        results = in_processes(attempt, left, count) if several else map(attempt, left)
        yield from _failures(left, results, display)
    except BrokenProcessPool:
        died = "its process died (out of memory?); the same command continues it"
        yield from ((job.folder, died) for job in left if not finished(job.folder))


def _failures(
    todo: Sequence[Job], results: Iterator[str | None], display: "Display"
) -> Iterator[tuple[Path, str]]:
    for place, (job, problem) in enumerate(zip(todo, results, strict=True), 1):
        title = f"{place}/{len(todo)} {job.row}, seed {job.run.seed}"
        if problem:
            display.say(f"{title} failed: {problem}")
            yield job.folder, problem
        else:
            display.say(f"{title}: {100 * Record(job.folder).answer().accuracy_last:.2f} %")


def _attempt(tensorboard: bool, job: Job) -> str | None:
    """Run it, or continue it; gives the reason where it cannot."""
    try:
        there = Record(job.folder).holds_run()
        title = f"{job.row}, seed {job.run.seed}"
        execute(job.run, job.folder, resume=there, tensorboard=tensorboard, quiet=True, label=title)
    except Interrupted:
        raise KeyboardInterrupt from None
    except CollegiumError as error:
        return " ".join(str(error).split())
    return None


def _outcomes(row: MethodSpec, todo: Sequence[Job], errors: Mapping[Path, str]) -> Outcomes:
    folders = {job.run.seed: job.folder for job in todo if job.row == row.name}
    failures = {seed: errors[place] for seed, place in folders.items() if place in errors}
    done = {seed: place for seed, place in folders.items() if place not in errors}
    runs = {seed: _summary(Record(place)) for seed, place in done.items()}
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
