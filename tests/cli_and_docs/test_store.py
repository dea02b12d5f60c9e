"""The verbs `store build`, `store info` and `store verify`, and `--store`."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from collegium.build import _processes
from collegium.config.options import Machine
from collegium.data import load_data
from collegium.errors import RequestError
from collegium.store import Store


@pytest.fixture
def build(command: Any, teachers: dict[str, Path]) -> Any:
    """Runs a short `collegium store build`, with further words."""
    named = " ".join(f"--teacher {name}={folder}" for name, folder in teachers.items())
    return lambda words: command(f"store build --data digits {named} --augment crop {words}")


def shards() -> list[Path]:
    return sorted(Path("kept").glob("teachers/*/*/*.safetensors"))


def test_a_store_is_built_described_and_verified(build, command) -> None:
    result = build("--views 3 --out kept --json")
    assert result.code == 0
    assert result.json["computed"] == 2 * 3 * result.json["examples"]
    assert result.json["bytes"] == sum(path.stat().st_size for path in shards())
    assert "to write" in result.err
    assert build("--views 3 --out kept --json").json["computed"] == 0
    assert build("--views 4 --out kept --json").json["computed"] == 2 * result.json["examples"]
    about = command("store info kept --json").json
    assert about["teachers"]["wide"]["answers"]["logits"]["codec"] == "fp16"
    counts = about["teachers"]["wide"]["answers"]["logits"]["views"]
    assert counts == {str(view): result.json["examples"] for view in range(4)}
    assert about["hits"] is None
    assert "fp16" in command("store info kept").out
    verified = command("store verify kept --json")
    assert (verified.code, verified.json["sound"]) == (0, True)
    assert set(verified.json["compared"]) == {"wide", "residual"}
    assert max(verified.json["compared"].values()) < 1e-3


def test_training_finds_what_was_built_and_reports_the_hit_rate(build, distil, command) -> None:
    build("--views 1 --out kept")
    result = distil("--augment crop --store kept --json --out run amtml --hint-weight 0")
    assert result.json["store_hits"] == 1.0
    assert command("store info kept --json").json["hits"] == 1.0
    assert command("store info kept --json").json["runs"] == 1


def test_a_store_of_some_classes_serves_runs_on_them(build, distil, command) -> None:
    assert build("--views 1 --out kept --classes 3,1,4").code == 0
    assert command("store info kept --json").json["classes"] == 3
    assert command("store verify kept --json").json["sound"]
    result = distil(
        "--augment crop --classes 3,1,4 --store kept --json --out run kd --teacher wide"
    )
    assert result.json["store_hits"] == 1.0
    refused = build("--views 1 --out other --classes 3,eleven")
    assert (refused.code, "'eleven'" in refused.err) == (2, True)


def test_means_of_hidden_layers_are_kept_on_request(build, distil, command) -> None:
    words = "--layers wide:layer2@mean --layers wide:layer2 --maps fp32"
    assert build(f"--views 2 --out kept {words}").code == 0
    store = Store(Path("kept"), None)
    index = load_data("digits", validation=0.0).train.index_N[:5].numpy()
    whole, pooled = (
        store.stored("wide", kind).look_up(index, np.ones(5, int))
        for kind in ("layer2", "layer2@mean")
    )
    torch.testing.assert_close(whole.mean(dim=(2, 3), keepdim=True), pooled)
    assert "layer2@mean fp32" in command("store info kept").out
    result = distil("--augment crop --views 2 --store kept --store-hints fp32 --out run --json rkd")
    assert result.code == 0
    assert list(Path("kept/teachers/residual").glob("layer*mean"))


def test_torchrun_needs_no_devices(monkeypatch) -> None:
    assert _processes(Machine(devices=3)) == (3, 1)
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "LOCAL_WORLD_SIZE": "2",
        "WORLD_SIZE": "6",
    }.items():
        monkeypatch.setenv(name, value)
    assert _processes(Machine()) == _processes(Machine(devices=2)) == (2, 3)
    with pytest.raises(
        RequestError, match="torchrun started 2 processes here, --devices asks for 4"
    ):
        _processes(Machine(devices=4))


def test_hidden_layers_are_kept_on_request(build, distil) -> None:
    result = build("--views 1 --out kept --layers wide:layer2 --layers residual:layer3 --maps fp16")
    assert result.code == 0
    assert len(list(Path("kept/teachers/wide").iterdir())) == 3  # manifest, logits, layer2
    result = build("--views 1 --out kept --layers wide:layer9")
    assert result.code == 2
    assert "teacher wide has no layer 'layer9'; did you mean layer" in result.err
    result = distil("--augment crop --store other --store-hints int8 --out run amtml --json")
    assert result.code == 0
    assert list(Path("other/teachers/wide").glob("layer*"))
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert any("loss.hint.wide" in line for line in lines)


def test_verify_finds_damage_and_lies(build, command, teachers) -> None:
    build("--views 1 --out kept")
    path = shards()[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    result = command("store verify kept --sample 0 --json")
    assert result.code == 1
    assert result.json["damaged"] == [f"{path}: its checksum is wrong"]
    result = command("store verify kept")
    assert result.code == 1
    assert "not intact" in result.out
    assert "checksum" in result.out
    assert str(path) in command("store info kept").out
    swapped = f"--teacher wide={teachers['residual']}"
    result = command(f"store verify kept {swapped}")
    assert result.code == 2
    assert "teacher wide of store kept is for sha256" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--views 0 --out kept", "--views of at least 1"),
        ("--out kept --logits fp8", "answers cannot be stored as 'fp8'"),
        ("--out kept --logits top10", "top10 keeps 10 of a teacher's logits, and there are 10"),
        ("--out kept --layers x", "--layers takes TEACHER:LAYER"),
    ],
)
def test_builds_that_make_no_sense_are_refused(build, words, message) -> None:
    result = build(words)
    assert result.code == 2
    assert message in result.err
    assert not Path("kept").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--store kept --views 0", "with --views 0 no view comes twice"),
        ("--teacher-memory bounded", "needs --store DIR"),
        ("--store kept --teacher-memory bounded", "with --teacher-memory bounded give"),
        ("--store kept --store-logits int7", "cannot be stored as 'int7'"),
        ("--micro-batches 0", "--micro-batches must be at least 1"),
    ],
)
def test_runs_that_make_no_sense_are_refused(distil, words, message) -> None:
    result = distil(f"{words} --out run amtml")
    assert result.code == 2
    assert message in result.err
    assert not Path("run").exists()
    assert not Path("kept").exists()


def test_a_store_of_something_else_is_refused_before_the_run(build, distil, command) -> None:
    build("--views 1 --out kept")
    for words, message in {
        "--augment flip": "is for recipe crop (asked for flip)",
        "--augment crop --view-seed 1": "is for view_seed 0 (asked for 1)",
        "--augment crop --store-logits fp32": "keeps logits of wide as fp16",
    }.items():
        result = distil(f"--store kept {words} --out run kd --teacher wide")
        assert result.code == 2
        assert message in result.err
        assert not Path("run").exists()
    assert command("store info nowhere").code == 2
    assert "no store of answers" in command("store verify nowhere").err


def test_a_folder_that_cannot_be_written_is_named(build, tmp_path) -> None:
    Path("file").write_text("")
    result = build("--views 1 --out file/store")
    assert result.code == 2
    assert "file" in result.err


def start(words: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    script = str(Path(sys.executable).parent / "collegium")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([script, *words.split()], env=environment, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_build_that_is_killed_goes_on_where_it_was(build, command, teachers, all_digits) -> None:
    draw = random.Random(0)
    named = f"--teacher wide={teachers['wide']} --teacher residual={teachers['residual']}"
    words = f"store build --data digits {named} --augment crop --views 40 --batch-size 8 --out kept"
    for _ in range(6):
        process = start(words)
        while not shards() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert command("store verify kept --sample 0").code == 0
    assert build("--views 40 --out kept").code == 0
    assert build("--views 40 --out again").code == 0
    assert command("store verify kept").code == 0
    for path in shards():
        other = Path("again", *path.parts[1:])
        assert path.read_bytes() == other.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["apart", "ddp"])
def test_two_processes_build_one_store(build, command, teachers, how, all_digits) -> None:
    named = f"--teacher wide={teachers['wide']} --teacher residual={teachers['residual']}"
    words = f"store build --data digits {named} --augment crop --views 6 --out kept"
    if how == "ddp":
        processes = [start(f"{words} --devices 2 --accelerator cpu")]
    else:
        processes = [start(words), start(words)]
    assert [process.wait(timeout=300) for process in processes] == [0] * len(processes)
    assert build("--views 6 --out kept --json").json["computed"] == 0
    assert command("store verify kept").code == 0
