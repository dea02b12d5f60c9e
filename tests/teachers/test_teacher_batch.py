"""A teacher that finds no memory is asked about fewer views at a time, and says the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from collegium.cli.main import main
from collegium.config.options import Machine
from collegium.errors import RequestError
from collegium.models.network import Network
from collegium.models.zoo.small import SMALL_MODELS
from collegium.teachers.optimize import InferenceOptions, prepare
from collegium.teachers.teacher import Teacher
from tests.teachers.test_prepare import network_of, pixels

OOM = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets no teacher take more than so many views at a time, from now on."""
    forward = Network.forward

    def limit(most: int) -> None:
        def limited(self: Network, images_BDHW: Tensor) -> Any:
            frozen = not any(p.requires_grad for p in self.parameters())
            if frozen and len(images_BDHW) > most:
                raise RuntimeError(OOM)
            return forward(self, images_BDHW)

        monkeypatch.setattr(Network, "forward", limited)

    return limit


def test_answers_and_layers_are_the_same_in_smaller_blocks(room: Callable[[int], None]) -> None:
    images, told = pixels(1, 8, 150), []
    inference = InferenceOptions(shrunk=told.append)
    done = prepare(lambda: network_of(SMALL_MODELS["cnn"](10), 1), images, inference, ("layer2",))
    assert {64, 128} <= set(done.blocks)
    teacher = Teacher(done, ("layer2",))
    whole = teacher.answer(images)
    room(64)
    again = teacher.answer(images)
    assert torch.equal(again.logits_BC, whole.logits_BC)
    assert torch.equal(again.maps["layer2"], whole.maps["layer2"])
    assert told == ["out of memory for 128 views at a time; going on with 64"]
    room(3)  # less than any block that is known to give the same bits
    torch.testing.assert_close(teacher.answer(images).logits_BC, whole.logits_BC)
    assert "may differ in their last bits" in told[-1]
    room(0)
    with pytest.raises(RuntimeError, match="can't allocate"):
        teacher.answer(images)


def test_it_is_prepared_in_as_little_memory(room: Callable[[int], None]) -> None:
    network, images, told = network_of(SMALL_MODELS["cnn"](10), 1), pixels(1, 8, 100), []
    room(64)
    with pytest.raises(RuntimeError, match="can't allocate"):
        prepare(lambda: network, images, InferenceOptions())
    done = prepare(lambda: network, images, InferenceOptions(shrunk=told.append))
    assert max(done.blocks) == 64
    assert prepare(lambda: network, images, InferenceOptions(most=32)).blocks[-1] == 32
    assert len(told) == 1


def test_only_memory_is_made_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    done = prepare(
        lambda: network_of(SMALL_MODELS["cnn"](10), 1),
        pixels(1, 8, 100),
        InferenceOptions(shrunk=print),
    )

    def fail(self: Network, images_BDHW: Tensor) -> Any:
        raise RuntimeError("something else")

    monkeypatch.setattr(Network, "forward", fail)
    with pytest.raises(RuntimeError, match="something else"):
        done.ask(pixels(1, 8, 100))


def test_the_command_goes_on_with_fewer_and_the_student_is_the_same(
    room: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make = "train --data digits --model small:cnn --epochs 1 --quiet --out a"
    assert main(make.split()) == 0
    words = "distill --data digits --student small:mlp --teacher a=a --epochs 1 --quiet --out"
    assert main([*words.split(), "whole", "avg_mkd"]) == 0
    room(64)
    capfd.readouterr()
    assert main([*words.split(), "none", "avg_mkd"]) == 1
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert "--teacher-batch auto" in told
    for batch in ("auto", "64"):
        code = main([*words.split(), batch, "--teacher-batch", batch, "avg_mkd"])
        told = capfd.readouterr().err
        assert code == 0
        assert ("teacher a: out of memory for 128 views" in told) == (batch == "auto")
        one, other = (Path(run, "student.safetensors").read_bytes() for run in ("whole", batch))
        assert one == other


@pytest.mark.parametrize("odd", ["0", "-1", "some", "1.5", ""])
def test_what_is_no_number_of_views_is_refused(odd: str) -> None:
    with pytest.raises(RequestError, match="--teacher-batch takes"):
        Machine(teacher_batch=odd)
