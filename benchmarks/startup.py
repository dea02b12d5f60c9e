"""Seconds from a command to its first step, and where they go; one JSON line a run.

A process of its own is started for each run, with `collegium distill` on CIFAR-10 and the real
ResNet-32/44/56 as teachers, and stopped when its first step is done. `seconds` counts from before
the process was started, importing and reading the data included; the others are parts of it.
`processor` is the time of all cores together, which says more on a machine that others use too.
Where nothing is compiled, as by default in short runs, this is what a user waits.

    python benchmarks/startup.py --data DIR --weights DIR --runs 3
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEACHERS = ("resnet32", "resnet44", "resnet56")

CHILD = """
import json, os, sys, time
begun = float(sys.argv.pop(1))
from collegium.runner import setup
from collegium.cli.main import main
from collegium.training.trainer import Trainer
spent = {"imports": time.time() - begun}

def timed(owner, name, part):
    inner = getattr(owner, name)
    def outer(*words, **more):
        started, worked = time.time(), time.process_time()
        try:
            return inner(*words, **more)
        finally:
            spent[part] = time.time() - started
            spent[part + ", processor"] = time.process_time() - worked
    setattr(owner, name, outer)

timed(setup, "make_splits", "data")
timed(setup, "make_student", "student")
timed(setup, "make_ensemble", "teachers")
timed(setup, "_measure_teachers", "accuracy of teachers")
step = Trainer.step

def first(*words):
    step(*words)
    spent.update(seconds=time.time() - begun, processor=time.process_time())
    print(json.dumps(spent), flush=True)
    os._exit(0)

Trainer.step = first
main(sys.argv[1:])
"""


def one(words: list[str]) -> dict[str, float]:
    """The parts of one start, in seconds."""
    command = [sys.executable, "-c", CHILD, str(time.time()), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {
        part: round(value, 2) for part, value in json.loads(done.stdout.splitlines()[-1]).items()
    }


def main() -> None:
    """Several starts, and the median of each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--student", default="cifar:resnet20")
    parser.add_argument("--runs", type=int, default=3)
    options, rest = parser.parse_known_args()
    words = ["distill", "--data", f"cifar10:{options.data}", "--student", options.student]
    for name in TEACHERS:
        file = Path(options.weights) / f"{name}.safetensors"
        words += ["--teacher", f"{name}=cifar:{name}@{file}"]
    found = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            found.append(one([*words, "--quiet", "--out", f"{folder}/run", *rest, "amtml"]))
        print(json.dumps(found[-1]), flush=True)
    medians = {part: statistics.median(run[part] for run in found) for part in found[0]}
    print(json.dumps({"median of": options.runs} | medians))


if __name__ == "__main__":
    main()
