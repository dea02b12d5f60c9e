"""Peak memory of filling a store, by the number of teachers, in both modes; JSON lines.

Each row is a process of its own that fills a store for the digits with T teachers of 100 million
parameters (400 MB each). `above` is its peak resident memory less that of a process that does the
same with one teacher of a few thousand parameters: what the teachers and their activations take.

    python benchmarks/memory.py
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from collegium.build import input_spec_of
from collegium.data import load_data
from collegium.models.network import parameter_count
from collegium.models.registry import build_network
from collegium.models.weights import network_bytes

# Not ru_maxrss: a process starts with that of its parent.
CODE = (
    "import sys, re, pathlib; from collegium.cli.main import main; code = main();"
    "status = pathlib.Path('/proc/self/status').read_text();"
    "print(1024 * int(re.search(r'VmHWM:\\s+(\\d+)', status)[1])); sys.exit(code)"
)

LARGE = """
from torch import nn

def build(classes):
    layers = [nn.Flatten(), nn.Linear(64, 5000), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Linear(5000, 5000), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(5000, classes))
"""


def peak(model: str, count: int, mode: str) -> int:
    """Bytes of resident memory that a build of a store needed at its peak."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["store", "build", "--data", "digits", "--views", "1", "--out", f"{folder}/store"]
        words += ["--quiet", "--json", "--batch-size", "32", "--teacher-memory", mode]
        for place in range(count):
            words += ["--teacher", f"t{place}={model}"]
        command = [sys.executable, "-c", CODE, *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
        return int(done.stdout.splitlines()[-1])


def save(spec: str, folder: str) -> tuple[str, int]:
    """A model string with weights, and the bytes of its parameters."""
    network = build_network(spec, input_spec_of(load_data("digits").train), 0)
    path = Path(folder) / f"{spec.rpartition(':')[2]}.safetensors"
    path.write_bytes(network_bytes(network))
    return f"{spec}@{path}", 4 * parameter_count(network)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 3, 10])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, _ = save("small:cnn", folder)
        file = Path(folder) / "large.py"
        file.write_text(LARGE)
        model, size = save(f"{file}:build", folder)
        floor = peak(small, 1, "resident")
        for mode in ("resident", "bounded"):
            for count in options.counts:
                above = peak(model, count, mode) - floor
                row = {"row": f"{mode} T={count}", "above": above, "above / teacher": above / size}
                print(json.dumps({**row, "teacher": size, "floor": floor}), flush=True)


if __name__ == "__main__":
    main()
