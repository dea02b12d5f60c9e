"""What a distillation step costs against its parts, interleaved in one run; JSON lines.

Rows, each with `images_per_s` from the median of the repeats:

    plain         the student's step on labels: views, student, optimiser, meter
    live          the AMTML step with teachers that run (relations, no hints)
    live_hints    the same with hints, the default of amtml
    stored        the AMTML step with logits from a store
    stored_hints  with logits and hint maps from a store
    teachers      the teachers' inference alone, each in its fastest form
    rival         with --rival: the authors' published step, eager float32 (see rival.py)

Every step is the one of the training loop itself, with data and augmentation. All rows run in one
process, so under one setting of the C library's heap: that of the command `collegium`, which keeps
freed memory, or with `--heap default` that of a program which imports collegium. The last line
gives the ratios.

    python benchmarks/step.py --precision bf16
    python benchmarks/step.py --precision bf16 --compile on --rival --heap default
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command `collegium` does

import torch
from rival import make_rival_step

import collegium as cg
from collegium.build import input_spec_of
from collegium.config.options import Machine, Optimisation, Storage
from collegium.config.run import Run
from collegium.data import ImageData, Splits
from collegium.methods.base import AbstractMethod
from collegium.models.network import Network
from collegium.models.registry import build_network
from collegium.records.run_folder import Record
from collegium.runner.setup import prepare_run
from collegium.training.metrics import Meter
from collegium.training.prepared import PreparedRun
from collegium.training.trainer import Trainer
from collegium.utils.memory import keep_freed_memory
from collegium.utils.signals import GracefulInterrupt

Work = Callable[[], None]


def noise(count: int) -> ImageData:
    """Random images of CIFAR's shape."""
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    labels, names = torch.arange(count) % 10, tuple(map(str, range(10)))
    return ImageData(images, labels, torch.arange(count), names, "noise", "crop-flip")


def calm(network: Network, data: ImageData) -> Network:
    """Statistics of the data in every BatchNorm: without, logits of a random ResNet-110 are 1e8."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(data.images_NDHW[:256].float() / 255)
    return network.eval()


def make_run(
    method: AbstractMethod,
    teachers: dict[str, Network],
    data: ImageData,
    options: argparse.Namespace,
    storage: Storage | None = None,
) -> PreparedRun:
    """A run of this method over one epoch of the data, put together but not started."""
    run = Run(
        data=Splits(data, data.subset(range(options.batch_size)), None),
        student=options.student,
        teachers=teachers if method.uses_teachers else {},
        method=method,
        optimisation=Optimisation(epochs=1, batch_size=options.batch_size),
        machine=Machine(
            precision=options.precision,
            threads=options.threads,
            compile=options.compile,
            accelerator=options.accelerator,
        ),
        storage=storage or Storage(),
        views=1,
    )
    return prepare_run(run, quiet=True)


def step_of(prepared: PreparedRun) -> Work:
    """The loop's own step on the next batch."""
    record = Record(Path(tempfile.mkdtemp()) / "run")
    training = Trainer(prepared, record, GracefulInterrupt())
    training.module.train()
    training.module.objective.start_epoch(0, 1)
    training.teachers.expect(*training.loader.keys(0))
    meter = Meter(training.teachers.names)
    batches = iter(training.loader.epoch(0))

    def step() -> None:
        batch = next(batches)
        training.step(0, batch, training.ask(batch, 0), meter)
        if batch.labels_B.is_cuda:
            torch.cuda.synchronize()

    return step


def teachers_of(prepared: PreparedRun) -> Work:
    """The teachers' inference on the next batch."""
    batches = iter(prepared.loader.epoch(0))

    def ask() -> None:
        prepared.source.outputs(next(batches))
        if prepared.runtime.fabric.device.type == "cuda":
            torch.cuda.synchronize()

    return ask


def measure(rows: dict[str, Work], repeats: int) -> dict[str, float]:
    """Median seconds of each, interleaved; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for repeat in range(repeats + 2):
        for name, work in rows.items():
            started = time.perf_counter()
            work()
            if repeat > 1:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="cifar:resnet20")
    parser.add_argument(
        "--teachers", nargs="+", default=["cifar:resnet32", "cifar:resnet56", "cifar:resnet110"]
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", default="32", choices=["32", "bf16"])
    parser.add_argument("--compile", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--heap", default="kept", choices=["kept", "default"])
    parser.add_argument("--rival", action="store_true")
    parser.add_argument("--repeats", type=int, default=9)
    return parser.parse_args()


def main() -> None:
    """Interleave the rows and print."""
    options = arguments()
    if options.heap == "kept":
        keep_freed_memory()
    torch.manual_seed(0)
    data = noise(options.batch_size * (options.repeats + 3))
    input_spec = input_spec_of(data)
    teachers = {spec: calm(build_network(spec, input_spec, 0), data) for spec in options.teachers}
    bare = cg.AMTML(hint_weight=0.0)
    with tempfile.TemporaryDirectory() as folder:
        kept = Storage(f"{folder}/logits"), Storage(f"{folder}/hints", store_hints="int8")
        live = make_run(bare, teachers, data, options)
        rows = {
            "plain": step_of(make_run(cg.Vanilla(), teachers, data, options)),
            "live": step_of(live),
            "live_hints": step_of(make_run(cg.AMTML(), teachers, data, options)),
            "stored": step_of(make_run(bare, teachers, data, options, kept[0])),
            "stored_hints": step_of(make_run(cg.AMTML(), teachers, data, options, kept[1])),
            "teachers": teachers_of(live),
        }
        if options.rival:
            images = data.images_NDHW.permute(0, 2, 3, 1).contiguous().numpy()
            rows["rival"] = make_rival_step(images, data.labels_N.numpy(), options.batch_size)
        seconds = measure(rows, options.repeats)
    for name, info in live.teachers.ensemble.infos.items():
        about_teacher = {"changes": info.changes, "notes": info.notes}
        print(json.dumps({"row": f"teacher {name}", **about_teacher}))
    about = {
        "precision": options.precision,
        "compile": options.compile,
        "heap": options.heap,
        "batch_size": options.batch_size,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    for name, value in seconds.items():
        row = {"row": name, "images_per_s": options.batch_size / value, "milliseconds": 1e3 * value}
        print(json.dumps({**row, **about}))
    ratios = {
        "stored / plain": seconds["plain"] / seconds["stored"],
        "stored_hints / plain": seconds["plain"] / seconds["stored_hints"],
        "live, by time, / (plain + teachers)": seconds["live"]
        / (seconds["plain"] + seconds["teachers"]),
    }
    if options.rival:
        for row in ("plain", "stored", "stored_hints", "live"):
            ratios[f"{row} / rival"] = seconds["rival"] / seconds[row]
    print(json.dumps({"row": "ratios", **ratios, **about}))


if __name__ == "__main__":
    main()
