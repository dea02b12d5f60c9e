"""Weights of classes and label smoothing: what `ce` is with them, for every method."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from world import World, every, make_method, shares, terms_at

import collegium as cg
from collegium.config.run import Run
from collegium.config.same_run import differences
from collegium.errors import RequestError, UnknownNameError
from collegium.losses import cross_entropy
from collegium.methods.soft_target import AbstractSoftTarget
from collegium.objectives import HardLabel
from collegium.objectives.hard_label import resolve_class_weights, set_hard_label
from collegium.objectives.objective import Objective
from collegium.utils.from_json import as_class_weights, as_number

WEIGHTS_C = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0])
LABELS_N = torch.tensor([0, 0, 0, 0, 1, 1, 2])
CLASSES = ("a", "b", "c")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights_C", [None, WEIGHTS_C])
def test_the_cross_entropy_is_torchs_for_each_example(
    weights_C: Tensor | None, smoothing: float
) -> None:
    world = World.make()
    found_B = cross_entropy(world.logits_BC, world.labels_B, 2.0, weights_C, smoothing)
    log_q_BC = torch.log_softmax(world.logits_BC / 2, dim=1)
    weight_C = torch.ones(5) if weights_C is None else weights_C
    label_BC = (1 - smoothing) * F.one_hot(world.labels_B, 5) + smoothing / 5
    assert torch.allclose(found_B, -(label_BC * weight_C * log_q_BC).sum(dim=1))
    options: Any = {"weight": weight_C.double(), "label_smoothing": smoothing}
    torchs = F.cross_entropy(world.logits_BC / 2, world.labels_B, **options)
    assert torch.allclose(found_B.sum() / weight_C[world.labels_B].sum(), torchs)


@every
def test_both_options_reach_the_label_of_every_method_and_nothing_else(
    slug: str, preset: str
) -> None:
    world = World.make()
    method: Any = make_method(slug, preset, world.names)
    weights_BT = shares(6, len(method.active_teachers(world.names)))
    objective, before = terms_at(method, world, weights_BT)
    keys = list(objective.state_dict())
    if not any(isinstance(part, HardLabel) for part in objective.modules()):
        pytest.skip("has no label's cross entropy, and so is refused")
    set_hard_label(objective, slug, WEIGHTS_C, 0.1)
    assert list(objective.state_dict()) == keys
    inputs = world.student(), world.teachers(method.active_teachers(world.names)), world.labels_B
    after = objective(*inputs, weights_BT)
    hot = method.temperature if getattr(method, "ce_softened", False) else 1
    own = isinstance(method, AbstractSoftTarget)
    scale = method.ce_weight if own else objective.terms["ce"].scale
    options: Any = {"weight": WEIGHTS_C.double(), "label_smoothing": 0.1, "reduction": "none"}
    expected_B = F.cross_entropy(world.logits_BC / hot, world.labels_B, **options)
    assert torch.allclose(after["ce"], scale * expected_B)
    for name in before.keys() - {"ce"}:
        assert torch.equal(before[name], after[name]), name


def test_a_method_without_a_label_has_nothing_to_weigh() -> None:
    world = World.make()
    deaf = cg.AvgMKD(label_weight=0.0).build(world.dims())
    set_hard_label(deaf, "avg_mkd", None, 0.0)
    for objective in (deaf, Objective({"kd": deaf.terms["kd"]}, deaf.weighting)):
        for options in ((WEIGHTS_C, 0.0), (None, 0.1)):
            with pytest.raises(RequestError, match="learns from no label"):
                set_hard_label(objective, "avg_mkd", *options)


def test_balanced_is_scikit_learns() -> None:
    found_C = resolve_class_weights("balanced", CLASSES, LABELS_N)
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=LABELS_N.numpy())
    assert found_C.tolist() == pytest.approx(theirs.tolist())


@pytest.mark.parametrize("asked", ["balanced", {"c": 9.0, "a": 0.5, "b": 2.0}])
def test_weights_have_mean_1_over_the_examples_so_that_all_of_them_are_torchs_mean(
    asked: Any,
) -> None:
    found_C = resolve_class_weights(asked, CLASSES, LABELS_N)
    assert found_C[LABELS_N].mean().item() == pytest.approx(1)
    logits_NC = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    torchs = F.cross_entropy(logits_NC, LABELS_N, weight=3 * found_C)
    assert cross_entropy(logits_NC, LABELS_N, 1.0, found_C).mean().item() == pytest.approx(
        torchs.item()
    )
    if asked != "balanced":
        double = {name: 2 * weight for name, weight in asked.items()}
        assert torch.allclose(resolve_class_weights(double, CLASSES, LABELS_N), found_C)
        assert found_C[1] / found_C[0] == pytest.approx(4)


@pytest.mark.parametrize(
    ("asked", "classes", "complaint"),
    [
        ("balanced", (*CLASSES, "nobody"), "no training example of class nobody"),
        ({"a": 1.0, "b": 1.0, "d": 1.0}, CLASSES, "unknown class in --class-weights 'd'"),
        ({"a": 1.0, "b": 1.0}, CLASSES, "no weight for class c"),
        ({"a": 0.0, "b": 0.0, "c": 0.0}, CLASSES, "has weight 0"),
        ({"a": 0.0, "b": 0.0, "c": 0.0, "nobody": 1.0}, (*CLASSES, "nobody"), "has weight 0"),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_refused(
    asked: Any, classes: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises((RequestError, UnknownNameError), match=complaint):
        resolve_class_weights(asked, classes, LABELS_N)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w.json", '{"a": 1, "b": 2.5}'),
        ("w.csv", "class,weight\na,1\nb,2.5\n"),
        ("w.csv", '\ufeff"a" , 1\n\nb, 2.5'),
    ],
)
def test_a_file_of_weights_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert as_class_weights(tmp_path / name) == {"a": 1.0, "b": 2.5}


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    weights = as_class_weights({"a": np.float32(1), "b": np.int64(2), "c": torch.tensor(3.0)})
    assert json.loads(json.dumps(weights)) == {"a": 1, "b": 2, "c": 3}
    assert type(as_number(np.float32(0.5))) is float
    for wrong in (np.bool_(True), np.float32("nan"), np.ones(1)):
        with pytest.raises(RequestError, match="must be a number >= 0"):
            as_class_weights({"a": wrong})


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("w.json", '{"a": 1, "a": 2}', "class 'a' twice"),
        ("w.json", '{"a": -1}', "must be a number >= 0"),
        ("w.json", '{"a": NaN}', "must be a number >= 0"),
        ("w.json", '{"a": 1e999}', "must be a number >= 0"),
        ("w.json", '{"a": true}', "must be a number >= 0"),
        ("w.json", '{"a": "1"}', "must be a number >= 0"),
        ("w.json", "[1, 2]", "found something else"),
        ("w.json", "{}", "found something else"),
        ("w.json", "{", "cannot be read"),
        ("w.json", "\udcff", "cannot be read"),
        ("w.csv", "a,1\na,2", "class 'a' twice"),
        ("w.csv", "a,1,2", "line 1: give two columns"),
        ("w.csv", "name,weight\na,1", "line 1: the weight 'weight' is not a number"),
        ("w.csv", "", "found something else"),
        ("w.csv", "a,inf", "must be a number >= 0"),
    ],
)
def test_a_file_that_is_no_table_of_weights_is_refused(
    tmp_path: Path, name: str, text: str, complaint: str
) -> None:
    (tmp_path / name).write_text(text, errors="surrogateescape")
    with pytest.raises(RequestError, match=complaint):
        as_class_weights(tmp_path / name)


def test_run_json_says_both_is_read_strictly_and_may_lack_them() -> None:
    run = Run("digits", "small:cnn", class_weights={"a": 1.0}, label_smoothing=0.1)
    content = json.loads(json.dumps(run.to_json()))
    assert Run.from_json(content) == run
    old = {k: v for k, v in content.items() if k not in ("class_weights", "label_smoothing")}
    plain = Run("digits", "small:cnn")
    assert Run.from_json(old) == plain
    assert differences(old, plain.to_json()) == []
    assert differences(old, run.to_json()) == [
        "class_weights None then, {'a': 1.0} now",
        "label_smoothing 0.0 then, 0.1 now",
    ]
    for wrong in ("balance", {"a": "1"}, {"a": -1.0}, 3):
        with pytest.raises(RequestError):
            Run.from_json(content | {"class_weights": wrong})
    for wrong in (1.0, -0.1, "0.1", None, float("nan")):
        with pytest.raises(RequestError):
            Run.from_json(content | {"label_smoothing": wrong})


def test_a_run_from_before_the_label_had_its_whole_weight_means_what_it_meant() -> None:
    method: Any = cg.Gated(label_weight=None)
    old = json.loads(json.dumps(Run("digits", "small:cnn", {"a": "b"}, method).to_json()))
    read: Any = Run.from_json(old).method
    assert (read.ce_weight, cg.Gated().ce_weight) == (pytest.approx(0.1), 1.0)
    now = Run("digits", "small:cnn", {"a": "b"}, cg.Gated()).to_json()
    assert differences(old, now) == ["label_weight None then, 1.0 now"]
