"""Teachers are made fast, and say what they said."""

import copy
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from collegium.models.features.discover import survey
from collegium.models.network import Network, Preprocess, weights_hash
from collegium.models.user_modules import freeze
from collegium.models.zoo.cifar import CIFAR_MODELS
from collegium.models.zoo.small import SMALL_MODELS
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.teachers.optimize import EXACT, InferenceOptions, fold, prepare
from collegium.teachers.teacher import OptimizedTeacher, Teacher


def network_of(body: nn.Module, channels: int = 3) -> Network:
    """With statistics in its norms that are not those of a start."""
    torch.manual_seed(1)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    names = tuple(map(str, range(10)))
    return freeze(Network(body, Preprocess((0.5,) * channels, (0.3,) * channels), names, "test"))


def pixels(channels: int = 3, side: int = 32, count: int = 16) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


FAMILIES = ["resnet20", "resnet8x4", "resnet20b", "wrn-16-1", "vgg8", "mobilenetv2", "shufflenetv1"]


@pytest.mark.parametrize("name", FAMILIES)
def test_folding_changes_no_answer_of_a_familiar_network(name: str) -> None:
    network, images = network_of(CIFAR_MODELS[name](10)), pixels()
    before = network(images)
    had = norms(network)
    count = fold(network, images)
    assert norms(network) == had - count
    # Pre-activation networks use most outputs twice: by the next norm and by the shortcut.
    assert norms(network) == 0 or (name.startswith("wrn") and count > 3)
    assert (network(images) - before).abs().max() <= 1e-4 * before.std()


@pytest.mark.parametrize("name", list(SMALL_MODELS))
def test_small_networks_keep_their_answers_and_their_maps(name: str) -> None:
    network, images = network_of(SMALL_MODELS[name](10), 1), pixels(1, 8)
    before = Teacher(OptimizedTeacher(copy.deepcopy(network)), ("linear",)).answer(images)
    done = prepare(lambda: copy.deepcopy(network), images, InferenceOptions())
    after = Teacher(done, ("linear",)).answer(images)
    torch.testing.assert_close(after.logits_BC, before.logits_BC, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.maps["linear"], before.maps["linear"], rtol=1e-4, atol=1e-5)
    assert not done.notes


class Forked(nn.Module):
    """What the first convolution gave is used beside its norm too: folding would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        made = self.conv1(images)
        made = self.bn2(self.conv2(self.bn1(made).relu() + made))
        logits: Tensor = self.linear(made.relu().mean(dim=(2, 3)))
        return logits


def test_a_convolution_that_is_used_beside_its_norm_is_left_alone() -> None:
    network, images = network_of(Forked()), pixels()
    before = network(images)
    assert fold(network, images) == 1
    assert isinstance(network.body.bn1, nn.BatchNorm2d)
    assert isinstance(network.body.bn2, nn.Identity)
    torch.testing.assert_close(network(images), before, rtol=1e-4, atol=1e-5)


class Scaled(nn.Module):
    """Reads a weight of the convolution elsewhere, where no graph shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        size = self.conv.weight.detach().norm()
        logits: Tensor = self.linear(self.bn(self.conv(images)).relu().mean(dim=(2, 3)))
        return logits * size


def test_a_change_that_moves_the_answers_is_taken_back_and_told() -> None:
    network, images = network_of(Scaled()), pixels()
    done = prepare(lambda: copy.deepcopy(network), images, InferenceOptions())
    torch.testing.assert_close(done.network(images), network(images), rtol=1e-4, atol=1e-5)
    assert norms(done.network) == 1
    assert done.changes == ["channels-last"]
    (note,) = done.notes
    assert note.startswith("not folded: a logit moved by")
    assert f"bound {EXACT:g}" in note


class Fragile(nn.Module):
    """Gives no numbers for maps that lie in memory with their channels last."""

    def forward(self, made: Tensor) -> Tensor:
        return made if made.is_contiguous() else made * torch.nan


class WithFragileLayer(nn.Module):
    """A layer that is read and that the logits do not need."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.side, self.linear = nn.Conv2d(3, 8, 3), Fragile(), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        made = self.conv(images)
        self.side(made)
        logits: Tensor = self.linear(made.mean(dim=(2, 3)))
        return logits


def test_a_change_after_which_a_layer_gives_no_numbers_is_taken_back() -> None:
    network, read = network_of(WithFragileLayer()), ("conv", "side")
    done = prepare(lambda: copy.deepcopy(network), pixels(), InferenceOptions(), read)
    assert done.changes == []
    assert done.notes == ["not channels-last: layer 'side' moved by nan deviations, bound 0.001"]


class Activated(nn.BatchNorm2d):
    """A norm that does more than its name says."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).relu()


def body_with(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.Flatten(), nn.Linear(8 * 900, 10))


def test_only_plain_norms_are_folded_and_only_once() -> None:
    images = pixels()
    assert fold(network_of(body_with(nn.BatchNorm2d(8))), images) == 1
    assert fold(network_of(body_with(Activated(8))), images) == 0
    assert fold(network_of(body_with(nn.BatchNorm2d(8, track_running_stats=False))), images) == 0
    shared = nn.Conv2d(3, 3, 3)
    twice = nn.Sequential(shared, nn.BatchNorm2d(3), shared, nn.BatchNorm2d(3), nn.Flatten())
    assert fold(network_of(twice), images) == 0


def test_a_convolution_whose_output_is_read_stays() -> None:
    network, images = network_of(body_with(nn.BatchNorm2d(8))), pixels()
    assert fold(network, images, tapped=("0",)) == 0
    assert fold(network, images, tapped=("1",)) == 1


def test_low_precision_is_kept_where_the_answers_stay() -> None:
    def low() -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16)

    network, images = network_of(CIFAR_MODELS["resnet8"](10)), pixels(count=64)
    done = prepare(lambda: copy.deepcopy(network), images, InferenceOptions(low=low))
    assert done.precision is low
    assert done.changes[-1] == "low precision"

    class Touchy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3072, 10)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.linear(images.flatten(1))
            return (logits * 3000).sin()

    network = network_of(Touchy())
    done = prepare(lambda: copy.deepcopy(network), images, InferenceOptions(low=low))
    assert done.precision is not low
    assert done.notes[0].startswith("not in low precision: logits moved by")


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def large(names: list[str]) -> list[Any]:
    """Networks whose forward passes take seconds, for the slow tests."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "name", ["mlp", "cnn", "resnet8", *large(["resnet20", "vgg8", "mobilenetv2", "shufflenetv2"])]
)
def test_an_image_gets_the_same_bits_in_any_batch(name: str, layout: str, threads: int) -> None:
    small = name in SMALL_MODELS
    body = (SMALL_MODELS if small else CIFAR_MODELS)[name](10)
    images = pixels(1, 8, 80) if small else pixels(count=80)
    inference = InferenceOptions(fold=False, channels_last=layout == "channels_last")
    network = network_of(body, images.shape[1])
    done = prepare(lambda: copy.deepcopy(network), images, inference)
    layer = list(survey(done.network.body, tuple(images.shape[1:])))[-1]
    teacher = Teacher(done, (layer,))
    whole = teacher.answer(images)
    for count in (1, 3, 20, 33, 80):
        index = torch.randperm(80, generator=torch.Generator().manual_seed(count))[:count]
        given = images[index]
        if count % 2:  # nor does it matter how the pixels lie in memory
            given = given.contiguous(memory_format=torch.channels_last)
        part = teacher.answer(given)
        assert torch.equal(part.logits_BC, whole.logits_BC[index])
        assert torch.equal(part.maps[layer], whole.maps[layer][index])


def test_bounded_keeps_nobody_and_says_the_same() -> None:
    network, images = network_of(CIFAR_MODELS["resnet8"](10)), pixels()
    made: list[int] = []

    def build() -> Network:
        made.append(1)
        return copy.deepcopy(network)

    everyone = TeacherEnsemble({"a": build}, {"a": "x"}, images)
    one = TeacherEnsemble({"a": build}, {"a": "x"}, images, bounded=True)
    before = len(made)
    with everyone.loaded("a") as said, one.loaded("a") as again:
        assert torch.equal(said.answer(images).logits_BC, again.answer(images).logits_BC)
    assert len(made) == before + 1
    assert everyone.infos["a"].sha256 == one.infos["a"].sha256 == weights_hash(network)
    assert everyone.unchanged("a")
    with torch.no_grad(), everyone.loaded("a") as said:
        next(said.network.parameters()).add_(1)
    assert not everyone.unchanged("a")


def test_reading_layers_leaves_no_hook_behind() -> None:
    network, images = network_of(CIFAR_MODELS["resnet8"](10)), pixels()
    ensemble = TeacherEnsemble({"a": functools.partial(copy.deepcopy, network)}, {"a": "x"}, images)
    for _ in range(3):
        with ensemble.loaded("a", ("layer1", "layer3")) as teacher:
            assert set(teacher.answer(images).maps) == {"layer1", "layer3"}
    hooks = [m._forward_hooks for m in ensemble.teacher("a").network.modules()]
    assert not any(hooks)


@pytest.mark.slow
def test_compiled_teachers_say_the_same() -> None:
    # In a process of its own: the shape checks of the tests break the compiler.
    import subprocess
    import sys

    code = (
        "import dataclasses, torch; from tests.teachers.test_prepare import *\n"
        "network, images = network_of(CIFAR_MODELS['resnet8'](10)), pixels()\n"
        "inference = InferenceOptions(compile=16)\n"
        "done = prepare(lambda: copy.deepcopy(network), images, inference, ('layer2',))\n"
        "assert done.compiled is not None, done.notes\n"
        "fast = Teacher(done, ('layer2',))\n"
        "slow = Teacher(dataclasses.replace(done, compiled=None), ('layer2',))\n"
        "a, b = fast.answer(images), slow.answer(images)\n"
        "torch.testing.assert_close(a.logits_BC, b.logits_BC, rtol=1e-4, atol=1e-5)\n"
        "torch.testing.assert_close(a.maps['layer2'], b.maps['layer2'], rtol=1e-4, atol=1e-5)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
