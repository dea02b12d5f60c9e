"""The commands on a machine that another program uses too; JSON lines.

Each row is run alone and beside a competitor, alternately: a product of large matrices in two
threads, without end. `beside / alone` is the ratio of the shortest times. Two rows:

    digits   `collegium distill` on digits with two teachers, from start to end (with --demo:
             `collegium demo`)
    resnet20 seconds of a ResNet-20 training step on CIFAR's shape, batch size 128, in a process
             with the variables that the command sets

The aims of issue 17 on two cores: digits at most 2, resnet20 at most 3.

    python benchmarks/shared_machine.py --repeats 3 --demo
    GOMP_SPINCOUNT=100000 python benchmarks/shared_machine.py --rows resnet20
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

COMMAND = "import sys; from collegium.cli.main import entry; sys.exit(entry())"
COMPETITOR = """
import torch
torch.set_num_threads(2)
left, right = torch.rand(2048, 2048), torch.rand(2048, 2048)
print("ready", flush=True)
while True:
    torch.mm(left, right)
"""
STEPS = """
import sys, time
from collegium.cli import main as cli

def steps():
    import argparse
    import step, collegium as cg
    options = argparse.Namespace(student="cifar:resnet20", batch_size=128, precision="32",
                                 threads=None, compile="off", accelerator="cpu")
    count = int(sys.argv[1])
    work = step.step_of(step.make_run(cg.Vanilla(), {}, step.noise(128 * (count + 2)), options))
    seconds = []
    for _ in range(count + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    print(sorted(seconds[1:])[count // 2])
    return 0

cli.main = steps
cli.entry()
"""


def run(code: str, *words: str, folder: Path) -> str:
    """Standard output of a Python process that can import the package and the benchmarks."""
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        check=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    return done.stdout


@contextlib.contextmanager
def competitor() -> Iterator[None]:
    """A busy program of two threads."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMPETITOR], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()


def digits(folder: Path, epochs: int) -> Callable[[], float]:
    """Seconds of a short distillation; its teachers are trained here."""
    teachers = []
    for name, model in (("wide", "small:cnn-wide"), ("residual", "small:resnet")):
        words = f"train --data digits --model {model} --epochs 2 --quiet --out {name}"
        run(COMMAND, *words.split(), folder=folder)
        teachers += ["--teacher", f"{name}={name}"]
    words = ["distill", "--data", "digits", "--student", "small:cnn", *teachers]
    words += ["--epochs", str(epochs), "--out", "run", "--overwrite", "--quiet", "amtml"]
    return lambda: seconds_of(lambda: run(COMMAND, *words, folder=folder))


def demo(folder: Path) -> Callable[[], float]:
    """Seconds of the whole demo."""
    words = ("demo", "--out", "demo", "--overwrite", "--quiet")
    return lambda: seconds_of(lambda: run(COMMAND, *words, folder=folder))


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(name: str, measure: Callable[[], float], repeats: int) -> None:
    """Measure alone and beside the competitor, alternately, and print a line."""
    alone, beside = [], []
    for _ in range(repeats):
        alone.append(measure())
        with competitor():
            beside.append(measure())
    ratio = min(beside) / min(alone)
    row = {"row": name, "alone": min(alone), "beside": min(beside), "beside / alone": ratio}
    print(json.dumps(row | {"cores": os.cpu_count(), "repeats": repeats}), flush=True)


def main() -> None:
    """Print a line for each row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=["digits", "resnet20"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--demo", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "digits" in options.rows:
            work = demo(folder) if options.demo else digits(folder, options.epochs)
            compare("demo" if options.demo else "digits", work, options.repeats)
        if "resnet20" in options.rows:
            steps = str(options.steps)
            compare("resnet20", lambda: float(run(STEPS, steps, folder=folder)), options.repeats)


if __name__ == "__main__":
    main()
