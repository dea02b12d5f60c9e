"""What a live distillation step costs against its parts, interleaved in one run; JSON lines.

Rows: `plain` (the student's step on labels), `teachers` (their inference alone), `live` (the whole
AMTML step: views, teachers, student, weights, relations, hints, optimiser). Each has `images_per_s`
from the median of the repeats; the last line gives live / (plain + teachers), by time.

    python benchmarks/step.py --precision bf16
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch

import collegium as cg
from collegium.assembly import make_dims, make_fabric, setting_of, student_layers
from collegium.data import ImageData, Loader
from collegium.method import AbstractMethod
from collegium.models.network import Network, freeze
from collegium.models.specs import build_network
from collegium.objective import total
from collegium.teachers import LiveTeachers
from collegium.training.learner import Learner, Lesson, make_optimizer
from collegium.training.options import Machine, Optimisation


def make_step(
    method: AbstractMethod,
    data: ImageData,
    teachers: dict[str, Network],
    options: argparse.Namespace,
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step with this method, and the teachers' inference alone."""
    fabric = make_fabric(Machine(precision=options.precision, threads=options.threads))
    setting = setting_of(data)
    student = build_network(options.student, setting, 0)
    heard = teachers if method.hears_teachers else {}
    dims = make_dims(student, heard, setting, 0)
    objective = method.build(dims)
    learner = Learner(student, objective, student_layers(objective, dims))
    optimisation = Optimisation(batch_size=options.batch_size)
    module, optimizer = fabric.setup(learner, make_optimizer(learner, optimisation))
    source = LiveTeachers(heard, objective.layers, classes=10, precision=fabric.autocast)
    loader = Loader(data, options.batch_size, recipe="crop-flip", shuffle=True)
    batches = iter(loader.epoch(0))

    def step() -> None:
        batch = next(batches)
        answers = source.outputs(batch)
        optimizer.zero_grad()
        terms, _, _ = module(Lesson(batch, answers))
        fabric.backward(total(terms))
        optimizer.step()

    def ask() -> None:
        source.outputs(next(batches))

    return step, ask


def main() -> None:
    """Interleave the three and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", default="cifar:resnet20")
    parser.add_argument(
        "--teachers", nargs="+", default=["cifar:resnet32", "cifar:resnet56", "cifar:resnet110"]
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", default="32", choices=["32", "bf16"])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()

    torch.manual_seed(0)
    count = options.batch_size * (2 * options.repeats + 4)
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    names = tuple(map(str, range(10)))
    labels = torch.arange(count) % 10
    data = ImageData(images, labels, torch.arange(count), names, "noise", "crop-flip")
    setting = setting_of(data)
    teachers = {spec: freeze(build_network(spec, setting, 0)) for spec in options.teachers}

    plain, _ = make_step(cg.Vanilla(), data, teachers, options)
    live, ask = make_step(cg.AMTML(), data, teachers, options)
    rows = {"plain": plain, "teachers": ask, "live": live}
    times: dict[str, list[float]] = {name: [] for name in rows}
    for repeat in range(options.repeats + 1):
        for name, work in rows.items():
            started = time.perf_counter()
            work()
            if repeat:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    about = {
        "precision": options.precision,
        "batch_size": options.batch_size,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    for name, value in seconds.items():
        row = {"row": name, "images_per_s": options.batch_size / value, "milliseconds": 1e3 * value}
        print(json.dumps({**row, **about}))
    ratio = seconds["live"] / (seconds["plain"] + seconds["teachers"])
    print(json.dumps({"row": "live / (plain + teachers), by time", "ratio": ratio, **about}))


if __name__ == "__main__":
    main()
