"""What a method costs by itself: its objective, forward and backward, without any network.

Random answers of T teachers and maps of CIFAR ResNets; the gradients reach the student's logits and
maps, and what the objective learns. One JSON line a method, with its share of the plain step of a
ResNet-20 (views, student, optimiser) at the same batch and precision: the median of ratios of
interleaved runs. Of teachers' layers it is given what it names, as teachers and stores give it; the
share with whole maps, of which it makes means, strengths and flows itself, stands beside it. The
last line is the peak memory of RKD's angles at twice the batch.

    python benchmarks/methods.py
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from step import make_run, noise, step_of
from torch.profiler import ProfilerActivity, profile

import collegium as cg
from collegium.losses import angle
from collegium.methods import all_methods
from collegium.models.features.layer_names import read, source_layers
from collegium.types import StudentOutputs, TeacherOutputs

MAPS = {"layer1": (16, 32, 32), "layer2": (32, 16, 16), "layer3": (64, 8, 8)}
TEACHERS = ("r32", "r56", "r110")


def objective_step(
    slug: str, options: argparse.Namespace, whole: bool = False
) -> Callable[[], None]:
    """One forward and backward of a method's objective, given whole maps or what it names."""
    batch, classes, teachers = options.batch_size, options.classes, TEACHERS[: options.teachers]
    method = all_methods()[slug]()
    if method.uses_teachers:
        method = method.resolve_teachers(teachers, dict.fromkeys(teachers, 0.9))
        teachers = method.active_teachers(teachers)
    heads = {name: (torch.randn(classes, 64), torch.randn(classes)) for name in teachers}
    dims = cg.Dims(classes, teachers, MAPS, dict.fromkeys(teachers, MAPS), heads=heads)
    objective = method.build(dims)
    objective.start_epoch(1, 2)
    draw = torch.Generator().manual_seed(0)

    def maps(grad: bool) -> dict[str, torch.Tensor]:
        shapes = {name: (batch, *shape) for name, shape in MAPS.items()}
        # Laid out as networks and store give them.
        made = {
            name: torch.randn(shape, generator=draw).to(memory_format=torch.channels_last)
            for name, shape in shapes.items()
        }
        return {name: value.requires_grad_(grad) for name, value in made.items()}

    logits_BC = torch.randn(batch, classes, generator=draw, requires_grad=True)
    wanted = set(objective.layers.student)
    if objective.weighting is not None and objective.weighting.reads_student_map:
        wanted.add("layer3")
    own = {name: value for name, value in maps(True).items() if name in wanted}
    student = StudentOutputs(logits_BC, own)
    heard = {}
    for name, paths in objective.layers.teachers.items():
        drawn = maps(False)
        named = [part for path in paths for part in source_layers(path)] if whole else paths
        heard[name] = {path: read(drawn, path) for path in named}
    said_BTC = torch.randn(batch, max(len(teachers), 1), classes, generator=draw)
    answers = TeacherOutputs(said_BTC, heard)
    labels_B = torch.randint(classes, (batch,), generator=draw)
    learned = [logits_BC, *own.values(), *objective.parameters()]

    def work() -> None:
        for tensor in learned:
            tensor.grad = None
        loss = cg.total(objective(student, answers, labels_B))
        loss.backward()

    return work


def plain_step(options: argparse.Namespace) -> Callable[[], None]:
    """One step of the student on labels, with views, optimiser and meter."""
    count = options.batch_size * (2 * len(all_methods()) * options.repeats + 2)
    return step_of(make_run(cg.Vanilla(), {}, noise(count), options))


def seconds(work: Callable[[], None], times: int) -> float:
    """Mean over a few runs in a row."""
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


def angle_memory(examples: int, classes: int) -> int:
    """Peak bytes that angles over all triples take beyond their inputs, forward and backward."""
    student_BC = torch.randn(examples, classes, requires_grad=True)
    teacher_BC = torch.randn(examples, classes)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        angle(student_BC, teacher_BC).mean().backward()
    held, most = 0, 0
    for event in sorted(seen.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def main() -> None:
    """Every method, interleaved with the plain step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--teachers", type=int, default=3)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--student", default="cifar:resnet20")
    parser.add_argument("--compile", default="off")
    parser.add_argument("--accelerator", default="cpu")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    plain = plain_step(options)
    works = {
        (slug, whole): objective_step(slug, options, whole)
        for slug in all_methods()
        for whole in (False, True)
    }
    for work in (plain, *works.values()):
        seconds(work, 2)
    ratios: dict[tuple[str, bool], list[float]] = {key: [] for key in works}
    took: dict[tuple[str, bool], list[float]] = {key: [] for key in works}
    for _ in range(options.repeats):
        for slug in all_methods():
            step = seconds(plain, 2)
            for key in ((slug, False), (slug, True)):
                took[key].append(seconds(works[key], 5))
                ratios[key].append(took[key][-1] / step)
    for slug in all_methods():
        line = {
            "method": slug,
            "ms": 1000 * statistics.median(took[slug, False]),
            "share_of_plain_step": statistics.median(ratios[slug, False]),
            "share_with_whole_maps": statistics.median(ratios[slug, True]),
        }
        print(json.dumps(line))
    last = {
        "row": "angle_memory",
        "examples": 2 * options.batch_size,
        "mib": angle_memory(2 * options.batch_size, options.classes) / 2**20,
        "precision": options.precision,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    print(json.dumps(last))


if __name__ == "__main__":
    main()
