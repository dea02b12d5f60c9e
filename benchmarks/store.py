"""What the store costs: filling, bytes, looking up, steps by the number of teachers; JSON lines.

Rows:

    first pass   filling one view against the teachers' inference alone on the same chunks, by time
    bytes        files against rows * teachers * classes * 2
    lookup       looking a batch up against the student's whole step, by time
    step         the stored AMTML step with T = 1, 3, 10 teachers, images_per_s

    python benchmarks/store.py --precision bf16
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import step
import torch

import collegium as cg
from collegium.build import input_spec_of
from collegium.config.options import Storage
from collegium.data import ImageData
from collegium.models.network import Network
from collegium.models.registry import build_network
from collegium.store import StoredTeachers


def main() -> None:
    """Measure and print."""
    options = arguments()
    torch.manual_seed(0)
    data = step.noise(options.images)
    about = {"precision": options.precision, "threads": torch.get_num_threads()}
    teachers = named(options.teachers, data)
    for row in (filling(teachers, data, options), *steps(data, options)):
        print(json.dumps({**row, **about}), flush=True)


def named(specs: list[str], data: ImageData) -> dict[str, Network]:
    """Random teachers with the data's statistics in their norms."""
    input_spec = input_spec_of(data)
    return {
        f"{place} {spec}": step.calm(build_network(spec, input_spec, place), data)
        for place, spec in enumerate(specs)
    }


def filling(
    teachers: dict[str, Network], data: ImageData, options: argparse.Namespace
) -> dict[str, Any]:
    """First pass and bytes."""
    ratios = []
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            kept = Storage(f"{folder}/store")
            prepared = step.make_run(bare(), teachers, data, options, kept)
            assert isinstance(prepared.source, StoredTeachers)
            pure = timed(lambda prepared=prepared: ask_all(prepared))
            filled = timed(
                lambda prepared=prepared: prepared.source.expect(*prepared.loader.keys(0))
            )
            again = timed(lambda prepared=prepared: ask_all(prepared))
            if repeat:  # the first one warms up
                ratios.append(2 * filled / (pure + again))
            files = list(Path(f"{folder}/store").glob("teachers/*/*/*"))
            written = sum(path.stat().st_size for path in files)
    raw = len(data) * len(teachers) * 10 * 2
    return {
        "row": "first pass",
        "filling / inference": statistics.median(ratios),
        "bytes": written,
        "bytes / raw": written / raw,
        "images": len(data),
        "teachers": len(teachers),
    }


def ask_all(prepared: Any) -> None:
    """Every teacher's inference alone, in the chunks that fill a store."""
    positions = torch.arange(len(prepared.loader.data))
    for name in prepared.teachers.ensemble.names:
        with prepared.teachers.ensemble.loaded(name) as teacher:
            for chunk in positions.split(prepared.run.optimisation.batch_size):
                teacher.answer(prepared.loader.views.of(chunk, torch.zeros_like(chunk)))


def steps(data: ImageData, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Steps with more and more teachers, interleaved with the student's own."""
    with tempfile.TemporaryDirectory() as folder:
        rows = {"plain": step.step_of(step.make_run(cg.Vanilla(), {}, data, options))}
        lookups: dict[str, Callable[[], None]] = {}
        for count in (1, 3, 10):
            teachers = named(["cifar:resnet8"] * count, data)
            kept = Storage(f"{folder}/{count}")
            prepared = step.make_run(bare(), teachers, data, options, kept)
            rows[f"stored T={count}"] = step.step_of(prepared)
            lookups[f"lookup T={count}"] = step.teachers_of(prepared)
        seconds = step.measure(rows | lookups, options.repeats + 4)
    return [
        {
            "row": name,
            "images_per_s": options.batch_size / value,
            "milliseconds": 1e3 * value,
            "share of the plain step": value / seconds["plain"],
        }
        for name, value in seconds.items()
    ]


def bare() -> cg.AMTML:
    """Without hints: logits only."""
    return cg.AMTML(hint_weight=0.0)


def timed(work: Callable[[], object]) -> float:
    """Seconds it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def arguments() -> argparse.Namespace:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="cifar:resnet20")
    parser.add_argument(
        "--teachers", nargs="+", default=["cifar:resnet32", "cifar:resnet56", "cifar:resnet110"]
    )
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", default="32", choices=["32", "bf16"])
    parser.add_argument("--compile", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=6)
    return parser.parse_args()


if __name__ == "__main__":
    main()
