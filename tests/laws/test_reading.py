"""What is read of a network is what it computed, and what is reported moves the student."""

import copy
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from layer_spec import check_reading, idle_terms
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import collegium as cg
from collegium.errors import RequestError
from collegium.methods import all_methods
from collegium.models.features.discover import every_layer, survey
from collegium.models.features.hooks import FeatureHooks
from collegium.models.network import Network, Preprocess
from collegium.models.zoo.cifar import CIFAR_MODELS
from collegium.models.zoo.small import SMALL_MODELS
from collegium.teachers.optimize import InferenceOptions, prepare
from collegium.teachers.teacher import Teacher

GREY, COLOUR = (1, 8, 8), (3, 16, 16)


class Hard(nn.Module):
    """Everything that libraries do in place, or the same with copies.

    Args:
        inplace: write over images and over what layers returned.
        drop: of a dropout that writes over a layer in training mode alone.
        channels: of the images.
    """

    def __init__(self, inplace: bool, drop: float = 0.0, channels: int = 1) -> None:
        super().__init__()
        self.inplace = inplace
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Dropout(drop))
        self.drop = nn.Dropout2d(drop, inplace)
        self.down = nn.Conv2d(8, 12, 3, padding=1, stride=2)
        self.last = nn.Conv2d(12, 12, 3, padding=1)
        self.head = nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        if self.inplace:
            images.sub_(0.5).div_(0.25)
        else:
            images = (images - 0.5) / 0.25
        stem = self.relu(self.norm(self.stem(images)))
        found = self.block(stem)
        if self.inplace:
            found += stem
        else:
            found = found + stem
        found = self.down(F.relu(found, inplace=self.inplace))
        found = F.relu(self.drop(found), inplace=self.inplace)
        found = self.last(found)
        found = F.silu(found[:, :], inplace=self.inplace)  # through a view
        return self.head(found.mean(dim=(2, 3)))


class Whole(nn.Module):
    """Blocks whose outputs the next ones write over, as some transformers' are."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in range(3)
        )
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).mT
        for block in self.blocks:
            before, tokens = tokens, block(tokens)
            tokens += before
        return self.head(tokens.mean(dim=1))


def hf(kind: str, **config: Any) -> nn.Module:
    folder, name = kind.lower(), kind
    configs = importlib.import_module(f"transformers.models.{folder}.configuration_{folder}")
    models = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    asked = getattr(configs, f"{name}Config")(num_labels=10, **config)
    built: nn.Module = getattr(models, f"{name}ForImageClassification")(asked)
    return built


VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 16,
    "patch_size": 4,
}
STAGES = {"hidden_sizes": [8, 8], "depths": [1, 1]}
HF: dict[str, dict[str, Any]] = {
    "ViT": VIT,
    "DeiT": VIT,
    "ResNet": {"embedding_size": 8, **STAGES},
    "ConvNext": {"num_stages": 2, **STAGES},
    "Swin": {
        "image_size": 16,
        "patch_size": 2,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    },
}
MAKERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "hard": (lambda: Hard(True), GREY),
    "hard-tokens": (Whole, COLOUR),
    **{f"small:{n}": (lambda make=make: make(10), GREY) for n, make in SMALL_MODELS.items()},
    **{f"hf:{n}": (lambda n=n, c=c: hf(n, **c), COLOUR) for n, c in HF.items()},
}
SLOW = {
    **{f"cifar:{n}": (lambda make=make: make(10), (3, 32, 32)) for n, make in CIFAR_MODELS.items()},
}


QUICK = {"hard", "hard-tokens", "small:mlp", "small:cnn", "hf:ViT", "hf:Swin"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in MAKERS]
)
def test_every_layer_is_read_as_it_was_returned(name: str) -> None:
    if name.startswith("hf:"):
        pytest.importorskip("transformers", reason="needs the extra hf")
    make, shape = MAKERS[name]
    torch.manual_seed(0)
    check_reading(make(), shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_layer_of_the_larger_zoo_is_read_as_it_was_returned(name: str) -> None:
    make, shape = SLOW[name]
    torch.manual_seed(0)
    check_reading(make(), shape)


def batch(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, *GREY, generator=generator), torch.arange(count)


def taught(inplace: bool, method: Any, train: bool) -> tuple[Any, list[Tensor | None]]:
    torch.manual_seed(0)
    teachers = {"a": Hard(inplace), "b": Hard(inplace)}
    student = Hard(inplace, drop=0.3)
    distiller = cg.Distiller(student, teachers, method, GREY).train(train)
    images, labels = batch()
    before = images.clone()
    torch.manual_seed(1)
    said = distiller(images, labels)
    said.loss.backward()
    assert torch.equal(images, before)
    return said, [parameter.grad for parameter in student.parameters()]


PAIRS = ("stem=a:norm", "block=b:block@strength", "down@strength=a:down", "last=b:last@mean")


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    "method",
    [
        cg.AMTML(),
        cg.CAMKD(hint_weight=0.0),
        cg.FSP(),
        cg.RKD(hint_pairs=PAIRS),
        cg.SP(hint_pairs=PAIRS),
        cg.AT(hint_pairs=PAIRS),
        cg.FitNets(hint_pairs=PAIRS),
    ],
    ids=lambda method: method.slug,
)
def test_operations_in_place_change_no_loss_and_no_gradient(method: Any, train: bool) -> None:
    (found, by_found), (expected, by_expected) = (taught(kind, method, train) for kind in (1, 0))
    assert found.terms.keys() == expected.terms.keys()
    for name, term_B in expected.terms.items():
        torch.testing.assert_close(found.terms[name], term_B)
    for gradient, wanted in zip(by_found, by_expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_a_run_with_operations_in_place_leaves_the_data_and_the_same_student(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    images = rng.random((24, 8, 8, 1), np.float32)
    labels = np.arange(24) % 10
    before = images.copy()

    def student(inplace: bool, **kept: Any) -> bytes:
        torch.manual_seed(0)
        teachers = {"a": Hard(inplace), "b": Hard(inplace)}
        record = cg.distill(
            student=Hard(inplace, drop=0.2),
            teachers=teachers,
            train=(images, labels),
            method=cg.AT(hint_pairs=PAIRS),
            out=tmp_path / f"{inplace}{len(kept)}",
            epochs=1,
            batch_size=8,
            views=1,
            quiet=True,
            **kept,
        )
        return record.path("student.safetensors").read_bytes()

    live = student(True)
    assert live == student(False)
    assert live == student(True, store=tmp_path / "s", store_logits="fp32", store_hints="fp32")
    assert np.array_equal(images, before)


def teachers() -> dict[str, nn.Module]:
    torch.manual_seed(2)
    return {"wide": SMALL_MODELS["cnn-wide"](10), "residual": SMALL_MODELS["resnet"](10)}


@pytest.mark.parametrize("network", ["mlp", "cnn", pytest.param("dense", marks=pytest.mark.slow)])
@pytest.mark.parametrize("slug", all_methods())
def test_every_reported_term_moves_the_student_or_is_refused(slug: str, network: str) -> None:
    kind = all_methods()[slug]
    method: Any = kind(teacher="wide") if slug == "kd" else kind()
    torch.manual_seed(0)
    student = SMALL_MODELS[network](10)
    if network == "mlp" and slug in ("at", "fsp"):
        with pytest.raises(RequestError, match=r"one position in common|the student share 1;"):
            cg.Distiller(student, teachers(), method, GREY)
        return
    assert idle_terms(cg.Distiller(student, teachers(), method, GREY), *batch()) == []


class Still(nn.Module):
    """A network that computes its first block without a gradient, in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, stride=2), nn.ReLU())
        self.head = nn.Linear(8, 10)
        if how == "frozen":
            self.first.requires_grad_(False)
        if how == "all frozen":
            self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        if self.training and self.how in ("reentrant", "checkpointed"):
            images = images.requires_grad_() if images.is_leaf else images
            found = checkpoint(
                lambda given: 1 * self.first(given), images, use_reentrant=self.how == "reentrant"
            )
        elif self.training and self.how == "reentrant output":
            images = images.requires_grad_() if images.is_leaf else images
            found = checkpoint(self.first, images, use_reentrant=True)
        elif self.how == "no_grad":
            with torch.no_grad():
                found = self.first(images)
        elif self.training and self.how == "not called":
            found = self.first[1](self.first[0](images))
        else:
            found = self.first(images)
        return self.head(self.second(found).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("reentrant", "no gradient gets from layer 'first' of the student"),
        ("no_grad", "no gradient gets from layer 'first' of the student"),
        ("frozen", "no gradient gets from layer 'first' of the student"),
        ("not called", "layer 'first' of the student was called on a blank image in evaluation"),
    ],
)
@pytest.mark.parametrize("slug", ["amtml", "at"])
def test_layers_without_a_gradient_are_refused(slug: str, how: str, says: str) -> None:
    distiller = cg.Distiller(Still(how), teachers(), all_methods()[slug](), GREY)
    with pytest.raises(RequestError, match=says) as told:
        distiller(*batch())
    assert "\n" not in str(told.value)
    distiller.eval()
    if how == "reentrant":  # which is for training alone
        assert distiller(*batch()).loss.isfinite()


@pytest.mark.parametrize("slug", ["amtml", "at", "fsp"])
@pytest.mark.parametrize("how", ["checkpointed", "reentrant output", "plain"])
def test_a_layer_with_a_gradient_is_read_and_moved(slug: str, how: str) -> None:
    torch.manual_seed(0)
    distiller = cg.Distiller(Still(how), teachers(), all_methods()[slug](), GREY)
    assert idle_terms(distiller, *batch()) == []
    distiller(*batch()).loss.backward()
    # What the backward computed again is not kept.
    assert not distiller._hooks._maps._values


def test_a_run_whose_student_learns_nothing_is_refused(tmp_path: Path) -> None:
    images, labels = batch(24)
    for how, says in (
        ("all frozen", "no parameter of the student Still"),
        ("no_grad", "layer 'first'"),
    ):
        with pytest.raises(RequestError, match=says):
            cg.distill(
                student=Still(how),
                teachers=teachers(),
                train=(images, labels % 10),
                method=cg.AT(),
                out=tmp_path / how,
                epochs=1,
                batch_size=8,
                quiet=True,
            )


def test_a_rehearsal_leaves_no_trace() -> None:
    """Statistics and random numbers of a student with hints are those of one without."""
    found = []
    for method in (cg.KD(teacher="wide"), cg.FitNets()):
        torch.manual_seed(0)
        student = Hard(True, drop=0.3)
        distiller = cg.Distiller(student, teachers(), method, GREY)
        torch.manual_seed(7)
        logits_BC = distiller(*batch()).logits_BC
        found.append((logits_BC, *student.buffers(), torch.rand(3)))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


class Shared(nn.Module):
    """One pool at two resolutions: what is read is its last call."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        found = self.pool(self.second(self.pool(self.first(images))))
        return self.head(found.mean(dim=(2, 3)))


def test_a_module_that_is_called_twice_has_the_shape_of_its_last_call() -> None:
    network = Shared()
    assert survey(network, COLOUR) == {
        "first": (8, 16, 16),
        "second": (8, 8, 8),
        "pool": (8, 4, 4),
    }
    assert every_layer(network, COLOUR)["pool"] == (8, 4, 4)
    check_reading(network, COLOUR)


def test_tokens_of_another_image_are_no_map() -> None:
    network = Whole()
    layer = "blocks.1@4x4"
    hooks = FeatureHooks(network, [layer], "the student")
    network(torch.rand(2, *COLOUR))
    assert hooks.take()[layer].shape == (2, 8, 4, 4)
    network(torch.rand(2, 3, 32, 32))
    with pytest.raises(RequestError, match=r"'blocks.1@4x4' of the student gave \(2, 64, 8\)"):
        hooks.take()


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
@pytest.mark.parametrize("reentrant", [True, False])
def test_hints_under_the_checkpointing_of_transformers_move_the_student(reentrant: bool) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    found = []
    for checkpointed in (True, False):
        torch.manual_seed(0)
        student, teacher = hf("ViT", **VIT), hf("ViT", **VIT)
        if checkpointed:
            kept = {"use_reentrant": reentrant}
            student.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kept)  # type: ignore[operator]
        method = cg.FitNets(hint_pairs=("vit.layers.1=t:vit.layers.1",), hint_weight=9.0)
        distiller = cg.Distiller(student, {"t": teacher}, method, COLOUR)
        images = torch.rand(4, *COLOUR, generator=torch.Generator().manual_seed(3))
        distiller(images, torch.arange(4)).terms["hint.t"].sum().backward()
        found.append([p.grad for p in student.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1])
    for gradient, expected in zip(*found, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


def test_what_is_written_over_late_is_told() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.late = nn.Conv2d(1, 2, 3), False

        def forward(self, images: Tensor) -> Tensor:
            found = self.one(images)
            return F.relu(found, inplace=self.late)

    network = Late()
    hooks = FeatureHooks(network, ["one"])
    for _ in range(2):
        network(batch()[0])
        hooks.take()
    network.late = True
    network(batch()[0])
    with pytest.raises(RequestError, match=r"layer 'one' .* was written over in place"):
        hooks.take()


class Wrapped(nn.Module):
    """A container that returns what its convolution gave; the norm comes after it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1))
        self.norm, self.aside, self.head = nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1), nn.Linear(6, 10)
        nn.init.uniform_(self.norm.running_mean, 1, 2)
        nn.init.uniform_(self.norm.weight, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        found = self.patch(images)
        if isinstance(self.aside, nn.Conv2d):
            self.aside(found)  # leads to no answer
        return self.head(self.norm(found).relu().mean(dim=(2, 3)))


@pytest.mark.parametrize("layer", ["patch", "patch.0", "patch.0@mean", "norm", "aside", "none"])
def test_folding_spares_what_is_read_under_any_name(layer: str) -> None:
    torch.manual_seed(0)
    network = Network(Wrapped(), Preprocess((0.5,), (0.2,)), [str(place) for place in range(10)])
    read = () if layer == "none" else (layer,)
    images = batch()[0]
    plain = prepare(lambda: copy.deepcopy(network), images, InferenceOptions(fold=False), read)
    fast = prepare(lambda: copy.deepcopy(network), images, InferenceOptions(), read)
    expected, found = (Teacher(one, read).answer(images) for one in (plain, fast))
    torch.testing.assert_close(found.logits_BC, expected.logits_BC)
    for name, map_BDHW in expected.maps.items():
        torch.testing.assert_close(found.maps[name], map_BDHW)
    assert ("folded" in fast.changes) == (layer in ("norm", "none"))
    if layer == "aside":
        assert any("layer 'aside' moved by" in note for note in fast.notes)


def test_a_hook_that_changes_an_output_is_read_as_it_changed_it() -> None:
    network = SMALL_MODELS["cnn"](10).eval()
    network.layer2.register_forward_hook(lambda module, inputs, output: output * 3)
    check_reading(network, GREY)
    distiller = cg.Distiller(network, teachers(), cg.AT(), GREY)
    assert idle_terms(distiller, *batch()) == []


def test_a_network_with_one_buffer_for_all_answers_is_heard_block_by_block() -> None:
    class Buffered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Identity(), nn.Identity()
            self.room, self.said = torch.zeros(4, 1, 8, 8), torch.zeros(4, 10)

        def forward(self, images: Tensor) -> Tensor:
            room, said = self.room[: len(images)], self.said[: len(images)]
            first = self.first(torch.mul(images, 2, out=room))
            second = self.second(torch.mul(images, 3, out=room))
            assert first.data_ptr() == second.data_ptr()
            return torch.mul(images.flatten(1)[:, :10], 5, out=said)

    images = batch(12)[0]
    network = Network(Buffered(), Preprocess((0.0,), (1.0,)), [str(place) for place in range(10)])
    read = ("first", "second", "first@mean")
    inference = InferenceOptions(fold=False, most=4)
    teacher = Teacher(prepare(lambda: network, images, inference, read), read)
    for _ in range(2):
        answer = teacher.answer(images)
        torch.testing.assert_close(answer.logits_BC, images.flatten(1)[:, :10] * 5)
        torch.testing.assert_close(answer.maps["first"], images * 2)
        torch.testing.assert_close(answer.maps["second"], images * 3)
        mean = (images * 2).mean(dim=(2, 3), keepdim=True)
        torch.testing.assert_close(answer.maps["first@mean"], mean)


@pytest.mark.parametrize("norm", ["channel_out", "channel_in"])
def test_directions_over_one_channel_are_refused(norm: Any) -> None:
    layer = "layer2@strength"
    pair = f"layer1=wide:{layer}" if norm == "channel_out" else f"{layer}=wide:layer1"
    with pytest.raises(RequestError, match="there is one channel: use hint_norm none"):
        cg.Distiller(
            SMALL_MODELS["cnn"](10),
            teachers(),
            cg.AMTML(hint_pairs=(pair,), hint_norm=norm),
            GREY,
        )


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_layers_computed_in_low_precision_are_read_without_overflow(kind: torch.dtype) -> None:
    network = SMALL_MODELS["cnn"](10).eval()
    with torch.no_grad():
        network.layer3[0].weight.mul_(3e3)
    hooks = FeatureHooks(
        network, ["layer3", "layer3@strength", "layer3@mean", "layer2+layer3@flow"]
    )
    with torch.autocast("cpu", dtype=kind), torch.no_grad():
        network(batch()[0])
        found = hooks.take()
    assert all(feature.isfinite().all() for feature in found.values())
    assert all(feature.dtype == torch.float32 for name, feature in found.items() if "@" in name)
