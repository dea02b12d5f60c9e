"""The number of CPU threads: chosen by the work, recorded, kept on resume, put back afterwards."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import collegium as cg
from collegium.cli.main import main
from collegium.data import load_data
from collegium.models.features.work import multiply_adds
from collegium.models.input_spec import InputSpec
from collegium.models.registry import build_network
from collegium.records.run_folder import Record
from collegium.utils.threads import WORK_PER_THREAD, choose_threads


@pytest.fixture
def two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("spec", ["small:mlp", "small:cnn", "small:resnet", "cifar:mobilenetv2"])
def test_work_is_half_of_what_torch_counts_as_flops(spec: str) -> None:
    shape = (3, 32, 32)
    network = build_network(spec, InputSpec(tuple("abcd"), shape, (0.5,) * 3, (0.2,) * 3), 0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    assert multiply_adds(network, shape) == counter.get_total_flops() // 2


def test_more_work_gets_more_threads_up_to_all() -> None:
    numbers = [choose_threads(half * WORK_PER_THREAD // 2, most=3) for half in (1, 3, 4, 7, 90)]
    assert numbers == [1, 1, 2, 3, 3]
    assert choose_threads(0, most=3) == 3  # unknown


def test_the_number_is_recorded_kept_and_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_threads: Any
) -> None:
    seen: list[int] = []
    step = cg.Vanilla.active_teachers

    def counted(self: Any, *arguments: Any) -> Any:
        seen.append(torch.get_num_threads())
        return step(self, *arguments)

    monkeypatch.setattr(cg.Vanilla, "active_teachers", counted)
    monkeypatch.chdir(tmp_path)
    start = "train --data digits --model small:mlp --epochs 1 --quiet --out"
    assert main([*start.split(), "chosen"]) == 0
    record = Record(Path("chosen"))
    assert (record.run["threads"], record.run["machine"]["threads"]) == (1, None)
    assert torch.get_num_threads() == 2
    content = dict(record.run)
    del content["threads"]  # as an earlier version wrote it: torch's own number
    record.write_json("run.json", content)
    assert main(["resume", "chosen", "--epochs", "2", "--quiet"]) == 0
    record.write_json("run.json", record.run | {"threads": 1})
    assert main(["resume", "chosen", "--epochs", "3", "--quiet"]) == 0
    assert seen == [1, 2, 1]


def test_an_evaluation_puts_the_number_back(two_threads: Any) -> None:
    data = load_data("digits")
    network = build_network(
        "small:mlp", InputSpec(data.train.classes, (1, 8, 8), (0.5,), (0.2,)), 0
    )
    cg.evaluate(network, data)
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc")
def test_freed_memory_is_not_faulted_in_again() -> None:
    """Blocks of 8 MiB, as activations are, come and go; without, each causes 2,000 faults."""
    code = """
import resource
from collegium.utils.memory import settle_heap
SETTLE
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    blocks = [bytearray(b"x") * (8 << 20) for _ in range(5)]
step(); step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""
    counts = []
    for settled in ("settle_heap()", ""):
        words = [sys.executable, "-c", code.replace("SETTLE", settled)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        counts.append(int(done.stdout))
    assert counts[0] < 500 < 5000 < counts[1]
