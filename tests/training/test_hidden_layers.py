"""Students learn from hidden layers of another kind than their own, live and stored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import collegium as cg
from collegium.build import input_spec_of, make_dims, splits_from
from collegium.errors import RequestError
from collegium.losses import direction_hint
from collegium.methods import all_methods
from collegium.methods.base import AbstractMethod
from collegium.methods.soft_target import AbstractFeature
from collegium.models.features.discover import survey
from collegium.models.features.pairing import nearest_layer
from collegium.models.network import Network, Preprocess, weights_hash
from collegium.objectives import Hint
from collegium.teachers import LiveTeachers
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.teachers.optimize import InferenceOptions
from collegium.training.module import DistillBatch, DistillModule, student_layers
from collegium.types import Batch, HintPair
from tests.models.shapes import CLASSES, Merging, Transformer

SIZE = 16
HINTING = [
    slug
    for slug, kind in all_methods().items()
    if slug == "amtml" or (issubclass(kind, AbstractFeature) and slug != "ca_mkd")
]


def convolutional() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 4, 1), (4, 6, 2), (6, 9, 2)):
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        layers.append(nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU()))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, CLASSES))


def transformer() -> nn.Module:
    return Transformer((SIZE, SIZE), extra=1, depth=4)


def merging() -> nn.Module:
    return Merging(8, 8, patch=2)


KINDS = {"convolutional": convolutional, "transformer": transformer, "merging": merging}


def network(kind: str) -> Network:
    torch.manual_seed(0)
    return Network(KINDS[kind](), Preprocess((0.5,) * 3, (0.5,) * 3), "abcde")


def images(count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    return pixels, np.arange(count) % CLASSES


class World:
    """One student and teachers by name, with an objective on their layers."""

    def __init__(self, method: AbstractMethod, student: str, **teachers: str) -> None:
        input_spec = input_spec_of(splits_from(images(), None, None, 0.0, 0).train)
        pixels_BDHW = torch.rand(8, 3, SIZE, SIZE)
        builders = {name: (lambda kind=kind: network(kind)) for name, kind in teachers.items()}
        self.ensemble = TeacherEnsemble(builders, teachers, pixels_BDHW, InferenceOptions())
        self.student = network(student).train()
        self.dims = make_dims(
            len(input_spec.classes),
            survey(self.student, input_spec.image_shape),
            self.ensemble.infos,
            seed=0,
        )
        self.objective = method.resolve_teachers(
            tuple(teachers), dict.fromkeys(teachers, 0.5)
        ).build(self.dims)
        layers = student_layers(self.objective, self.dims)
        self.module = DistillModule(self.student, self.objective, layers)
        read = self.objective.layers.teachers
        self.source = LiveTeachers({n: self.ensemble.teacher(n, read.get(n, ())) for n in teachers})
        labels_B = torch.arange(8) % CLASSES
        self.batch = Batch(pixels_BDHW, labels_B, torch.arange(8), torch.zeros(8, dtype=torch.long))

    def terms(self) -> dict[str, Tensor]:
        """Of one batch."""
        terms, _, _ = self.module(DistillBatch(self.batch, self.source.outputs(self.batch)))
        return terms


@pytest.mark.parametrize("slug", HINTING)
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("convolutional", "transformer"),
        ("transformer", "convolutional"),
        ("transformer", "merging"),
    ],
)
def test_hints_cross_from_one_kind_of_network_to_another(
    slug: str, student: str, teacher: str
) -> None:
    world = World(all_methods()[slug](), student, t=teacher)
    before = weights_hash(world.ensemble.teacher("t").network)
    terms = world.terms()
    (hints,) = ([n for n in terms if n.partition(".")[0] in HINTED[slug]],)
    assert hints
    torch.stack([terms[name].sum() for name in hints]).sum().backward()
    gradients = [p.grad for p in world.student.parameters() if p.grad is not None]
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    own = [p for p in world.objective.parts.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in own if p.ndim > 1)
    assert not any(p.requires_grad for p in world.ensemble.teacher("t").network.parameters())
    assert weights_hash(world.ensemble.teacher("t").network) == before


HINTED = {
    "amtml": {"hint"},
    "fitnets": {"hint"},
    "at": {"at"},
    "sp": {"sp"},
    "fsp": {"fsp"},
    "rkd": {"distance", "angle"},
}


def test_several_teachers_of_several_kinds_hint_to_their_own_groups() -> None:
    world = World(cg.AMTML(), "convolutional", a="transformer", b="convolutional", c="merging")
    pairs = {pair.teacher: pair for pair in world.objective.layers.pairs}
    assert [pair.student_layer for pair in pairs.values()] == ["0", "1", "2"]
    assert pairs["b"].teacher_layer == "1"
    assert {name.partition(".")[2] for name in world.terms() if name[:4] == "hint"} == set("abc")


def lone_hint(own: Any, theirs: Any) -> Hint:
    dims = cg.Dims(2, ("t",), {"s": own}, {"t": {"l": theirs}})
    return Hint(HintPair("s", "t", "l"), dims, scale=1.0)


@pytest.mark.parametrize(
    "sizes", [((2, 6, 6), (3, 3, 3)), ((2, 3, 3), (3, 6, 6)), ((2, 4, 2), (3, 3, 3))]
)
def test_a_hint_at_two_resolutions_is_a_loop_over_the_smaller_grid(sizes: Any) -> None:
    own, theirs = sizes
    term = lone_hint(own, theirs)
    student_BDHW, teacher_BDHW = torch.randn(2, *own), torch.randn(2, *theirs)
    rows, columns = min(own[1], theirs[1]), min(own[2], theirs[2])
    weight_ED = term.regressor.weight[:, :, 0, 0]

    def pooled(map_DHW: Tensor, row: int, column: int) -> Tensor:
        """The mean over the positions that overlap a cell of the smaller grid."""
        height, width = map_DHW.shape[1:]
        up, down = row * height // rows, -(-(row + 1) * height // rows)
        left, right = column * width // columns, -(-(column + 1) * width // columns)
        return map_DHW[:, up:down, left:right].mean(dim=(1, 2))

    found = term.error(student_BDHW, teacher_BDHW)
    for example in range(2):
        gaps = []
        for row in range(rows):
            for column in range(columns):
                regressed = weight_ED @ pooled(student_BDHW[example], row, column)
                target = pooled(teacher_BDHW[example], row, column)
                gaps.append(2 - 2 * torch.cosine_similarity(regressed, target, dim=0))
        torch.testing.assert_close(found[example], torch.stack(gaps).mean())


def test_the_regressor_of_tokens_is_one_linear_layer_for_all() -> None:
    term = lone_hint((4, 2, 3), (5, 2, 3))
    tokens_BND, target_BNE = torch.randn(2, 6, 4), torch.randn(2, 6, 5)
    linear = nn.Linear(4, 5)
    with torch.no_grad():
        linear.weight.copy_(term.regressor.weight[:, :, 0, 0])
        linear.bias.copy_(term.regressor.bias)
    as_map = [t.mT.unflatten(2, (2, 3)) for t in (tokens_BND, target_BNE)]
    by_linear = linear(tokens_BND).mT.unflatten(2, (2, 3))
    torch.testing.assert_close(term.error(*as_map), direction_hint(by_linear, as_map[1]))


def test_a_classifier_on_the_mean_of_tokens_is_known_and_one_on_a_class_token_refused() -> None:
    world = World(cg.CAMKD(), "convolutional", t="merging")
    assert world.ensemble.infos["t"].head is not None
    assert torch.isfinite(world.terms()["hints"]).all()
    with pytest.raises(RequestError, match="t has no linear one on its last map; ca_mkd --hint-w"):
        World(cg.CAMKD(), "convolutional", t="transformer")
    assert "hints" not in World(cg.CAMKD(hint_weight=0.0), "merging", t="transformer").terms()


def distilled(folder: Path, method: AbstractMethod, student: str, **options: Any) -> cg.Record:
    torch.manual_seed(1)
    teachers = {"vit": transformer(), "cnn": convolutional()}
    torch.manual_seed(2)
    return cg.distill(
        student=KINDS[student](),
        teachers=teachers,
        train=images(40),
        method=method,
        out=folder,
        epochs=2,
        batch_size=16,
        quiet=True,
        views=1,
        **options,
    )


def student_bytes(record: cg.Record) -> bytes:
    return record.path("student.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("method", "kept_as"), [(cg.AMTML(), "4x4"), (cg.AT(), "strength"), (cg.FSP(), "flow")]
)
def test_stored_hints_leave_the_student_of_live_ones(
    tmp_path: Path, method: Any, kept_as: str
) -> None:
    student = "transformer"
    live = distilled(tmp_path / "live", method, student)
    kept = {"store": tmp_path / "answers", "store_logits": "fp32", "store_hints": "fp32"}
    stored = distilled(tmp_path / "stored", method, student, **kept)
    again = distilled(tmp_path / "again", method, student, **kept)
    assert student_bytes(live) == student_bytes(stored) == student_bytes(again)
    assert again.summary["store_hits"] == 1.0
    layers = {path.name for path in (tmp_path / "answers" / "teachers" / "vit").iterdir()}
    assert any(kept_as in name for name in layers), layers


def test_in_low_precision_hints_stay_finite(tmp_path: Path) -> None:
    kept = {"store": tmp_path / "answers", "store_hints": "int8"}
    record = distilled(tmp_path / "run", cg.RKD(), "transformer", precision="bf16", **kept)
    losses = [v for line in record.metrics("train") for k, v in line.items() if k[:5] == "loss."]
    assert np.isfinite(losses).all()


def test_the_record_says_who_hinted_where_in_words_that_can_be_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = distilled(tmp_path / "first", cg.AT(), "convolutional")
    hints = tuple(text for row in first.teachers for text in row["hints"])
    assert hints[:3] == ("0=vit:blocks.0@4x4", "1=vit:blocks.1@4x4", "2=vit:norm@4x4")
    second = distilled(tmp_path / "second", cg.AT(hint_pairs=hints), "convolutional")
    assert student_bytes(first) == student_bytes(second)
    assert json.loads(second.path("teachers.json").read_text()) == first.teachers


def test_any_layer_can_be_named_and_a_misspelt_one_is_refused(tmp_path: Path) -> None:
    pairs = ("1=vit:blocks.2.mlp.1", "1.0=cnn:0.0")
    record = distilled(tmp_path / "run", cg.FitNets(hint_pairs=pairs), "convolutional")
    assert [row["hints"] for row in record.teachers] == [
        ["1=vit:blocks.2.mlp.1@4x4"],
        ["1.0=cnn:0.0"],
    ]
    assert record.teachers[1]["changes"] == ["folded", "channels-last"]
    for pair, says in {
        "1=vit:block.2": "teacher vit has no layer 'block.2'; did you mean blocks.2",
        "first=vit:norm": "the student has no layer 'first'",
        "1=vgg:norm": "unknown teacher in the hint pair '1=vgg:norm' 'vgg'",
    }.items():
        with pytest.raises(RequestError) as refused:
            distilled(tmp_path / "no", cg.FitNets(hint_pairs=(pair,)), "convolutional")
        assert says in str(refused.value)
    assert not (tmp_path / "no").exists()


def test_ca_mkd_hints_before_a_teachers_classifier_whatever_the_resolution() -> None:
    world = World(cg.CAMKD(), "convolutional", t="merging")
    assert world.objective.layers.pairs == (HintPair("2", "t", "norm@2x2"),)
    assert nearest_layer(world.dims, "2", "t") == "stage2@4x4"
    with pytest.raises(RequestError, match="name its last layer, norm@2x2, not stage2@4x4"):
        cg.CAMKD(hint_pairs=("2=t:stage2",)).build(world.dims)
