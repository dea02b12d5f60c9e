"""Whose classes are whose, and that what is stored is what was said."""

import functools
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from collegium.build import input_spec_of, make_teacher, relate
from collegium.errors import FolderError, RequestError
from collegium.models.network import Network, Preprocess
from collegium.teachers import LiveTeachers
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.teachers.label_map import LabelMap, group_table, match
from collegium.types import UNKNOWN, Batch

DIGITS = tuple("0123456789")


def mapped(theirs, ours, given=None) -> LabelMap:
    found = match(theirs, ours, given)
    assert found is not None
    return found


def test_the_same_classes_in_the_same_order_need_no_map() -> None:
    assert match(DIGITS, DIGITS) is None


def test_a_permutation_changes_nothing_to_the_bit() -> None:
    order = torch.randperm(10)
    labels = mapped([DIGITS[place] for place in order], DIGITS)
    logits_BC = torch.randn(7, 10)
    assert labels.whole
    assert labels.note() == "knows 10 of 10 classes; put in their order by name"
    assert torch.equal(labels.read(logits_BC[:, order]), logits_BC)
    assert group_table([labels, None], 10) is None


def test_a_superset_is_renormalised_over_what_the_student_knows() -> None:
    labels = mapped(["x", *DIGITS, "y"], DIGITS)
    logits_BK = torch.randn(3, 12)
    expected = logits_BK.softmax(1)[:, 1:11]
    found = labels.read(logits_BK).softmax(1)
    assert torch.allclose(found, expected / expected.sum(1, keepdim=True))
    assert labels.note() == "knows 10 of 10 classes; has classes that are not used: x, y"


def test_a_subset_knows_nothing_of_the_rest() -> None:
    labels = mapped(["7", "2"], DIGITS)
    said_BC = labels.read(torch.tensor([[1.0, 3.0]]))
    assert said_BC[0, [2, 7]].tolist() == [3.0, 1.0]
    assert (said_BC == UNKNOWN).sum() == 8
    assert labels.unknown == tuple("01345689")
    assert group_table([None, labels], 10)[1].tolist() == [-1, -1, 2, -1, -1, -1, -1, 7, -1, -1]


def test_masses_of_several_classes_for_one_add_up() -> None:
    given = {"lynx": "cat", "tabby": "cat", "pug": "dog"}
    labels = mapped(list(given), ["dog", "cat"], given)
    logits_BK = torch.randn(4, 3)
    lynx_B, tabby_B, pug_B = logits_BK.softmax(1).unbind(1)
    found = labels.read(logits_BK).softmax(1)
    assert torch.allclose(found, torch.stack([pug_B, lynx_B + tabby_B], 1))
    assert labels.whole


def test_a_class_for_several_is_spread_evenly_and_taken_together() -> None:
    given = {"even": list("02468"), "odd": list("13579")}
    labels = mapped(["even", "odd"], DIGITS, given)
    said_BC = labels.read(torch.tensor([[0.0, 2.0]])).softmax(1)
    even, odd = torch.tensor([0.0, 2.0]).softmax(0).tolist()
    assert torch.allclose(said_BC[0], torch.tensor([even / 5, odd / 5] * 5))
    assert labels.group_of == (0, 1) * 5
    assert "does not tell apart 0 and 2 and 4 and 6 and 8, 1 and" in labels.note()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["tabby, tabby cat", "Egyptian_cat"], ["egyptian cat", "Tabby-Cat"]),
        (["b", "A", "a"], ["a", "B"]),
        (["ice  cream", "crane"], ["crane", "ice_cream"]),
    ],
)
def test_names_match_exactly_then_loosely(theirs: list[str], ours: list[str]) -> None:
    labels = mapped(theirs, ours)
    assert labels.unknown == ()
    assert labels.whole
    if "A" in theirs:
        assert labels.unused == ("A",)


@pytest.mark.parametrize(
    ("theirs", "ours", "given", "says"),
    [
        (["kat", "dogs"], ["cat", "dog"], None, "no name in common; nearest: 'kat' for 'cat'"),
        (["crane", "crane"], ["crane", "ox"], None, "'crane (no. 0)' or 'crane (no. 1)'"),
        (["ox, cow", "pig"], ["ox", "cow", "pig"], None, "'ox, cow' could be 'ox' or 'cow'"),
        (["cat", "emu"], ["cat", "dog"], None, "only cat"),
        (["a", "b"], ["x", "y"], {"a": "x", "c": "y"}, "unknown class of the teacher 'c'"),
        (["a", "b"], ["x", "y"], {"a": "x", "b": "z"}, "unknown class of the student 'z'"),
        (["a", "b"], ["x", "y"], {"a": ["x", "y"], "b": "y"}, "puts y into several groups"),
    ],
)
def test_what_cannot_be_matched_is_refused(theirs, ours, given, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        match(theirs, ours, given)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "given", [None, {"3": "0", "1": ["1", "2"], "0": None}, {"0": "5", "1": "5", "3": "7"}]
)
def test_packing_loses_nothing(given) -> None:
    labels = mapped(["3", "0", "1"], DIGITS, given)
    said_BC = labels.read(torch.randn(5, 3))
    packed_BG = labels.pack(said_BC)
    assert packed_BG.shape[1] == len(labels.groups)
    assert torch.equal(labels.spread(packed_BG), said_BC)


@pytest.mark.parametrize("given", [None, {"3": "0", "1": ["1", "2"], "0": None}])
def test_a_classifier_is_mapped_like_its_answers(given) -> None:
    labels = mapped(["3", "0", "1"], DIGITS, given)
    weight_CD, bias_C, feature_BD = torch.randn(3, 4), torch.randn(3), torch.randn(6, 4)
    head = labels.head((weight_CD, bias_C))
    assert head is not None
    expected = labels.read(feature_BD @ weight_CD.T + bias_C)
    assert torch.allclose(feature_BD @ head[0].T + head[1], expected, atol=1e-5)


def test_a_classifier_whose_classes_are_merged_is_none() -> None:
    labels = mapped(["a", "b", "c"], ["x", "y"], {"a": "x", "b": "x", "c": "y"})
    assert labels.head((torch.randn(3, 4), torch.randn(3))) is None


def specialist(classes: str, seed: int) -> Network:
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, len(classes)))
    return Network(body, Preprocess((0.5,), (0.3,)), tuple(classes), f"specialist {classes}")


def ensemble_of(data, given=None) -> TeacherEnsemble:
    networks = {"low": specialist("43210", 0), "high": specialist("3456789x", 1)}
    builders = {
        name: functools.partial(make_teacher, name, net, input_spec_of(data))
        for name, net in networks.items()
    }

    def connect(name: str, theirs: tuple[str, ...]) -> LabelMap | None:
        return relate(name, theirs, data.classes, (given or {}).get(name))

    specs = {name: network.spec for name, network in networks.items()}
    return TeacherEnsemble(builders, specs, data.images_NDHW[:64].float() / 255, relate=connect)


@pytest.mark.parametrize("codec", ["fp32", "top3"])
def test_stored_answers_of_specialists_are_live_ones(stored, data, codec: str) -> None:
    ensemble = ensemble_of(data)
    live = LiveTeachers({name: ensemble.teacher(name) for name in ensemble.names}, 10)
    source = stored(codec, ensemble=ensemble)
    index = data.index_N[:40]
    batch = Batch(
        source._writer.views.of(index, torch.zeros_like(index)),
        data.labels_N[:40],
        index,
        torch.zeros_like(index),
    )
    said, kept = live.outputs(batch), source.outputs(batch)
    assert said.groups_TC is not None
    assert torch.equal(said.groups_TC, kept.groups_TC)
    assert said.groups_TC.tolist() == [[0, 1, 2, 3, 4] + 5 * [-1], 3 * [-1] + list(range(3, 10))]
    if codec == "fp32":
        assert torch.equal(said.logits_BTC, kept.logits_BTC)
    mass_BTC = kept.logits_BTC.softmax(2)
    assert (mass_BTC[:, said.groups_TC < 0] == 0).all()
    largest = said.logits_BTC.topk(3, dim=2).indices
    near = torch.allclose(
        mass_BTC.gather(2, largest), said.logits_BTC.softmax(2).gather(2, largest), atol=1e-2
    )
    assert near


def test_a_store_made_with_another_mapping_is_refused(stored, data, tmp_path: Path) -> None:
    source = stored("fp32", ensemble=ensemble_of(data))
    source.expect(data.index_N[:8], torch.zeros_like(data.index_N[:8]))
    other = ensemble_of(data, {"low": {"4": "0", "3": "1", "2": "2", "1": "3", "0": "4"}})
    with pytest.raises(FolderError, match=r"teacher low .* is for labels"):
        stored("fp32", ensemble=other)
    stored("fp32", ensemble=ensemble_of(data, {"low": {name: name for name in "43210"}}))
    manifest = json.loads((tmp_path / "store/teachers/low/manifest.json").read_text())
    assert manifest["labels"].startswith("5 of 10: ")


def test_a_store_from_before_label_maps_is_read(stored, data, tmp_path: Path) -> None:
    source = stored("fp32")
    source.expect(data.index_N, torch.zeros_like(data.index_N))
    for path in (tmp_path / "store/teachers").glob("*/manifest.json"):
        content = json.loads(path.read_text())
        assert content.pop("labels") == ""
        path.write_text(json.dumps(content))
    again = stored("fp32")
    again.expect(data.index_N, torch.zeros_like(data.index_N))
    assert again.stats.computed == 0


def test_names_can_be_told_to_a_module_that_has_none(data) -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    network = make_teacher("t", body, input_spec_of(data), ["9", "1", "0"])
    assert network.classes == ("9", "1", "0")
    with pytest.raises(RequestError, match=r"teacher t: .*gave \(1, 3\).*--labels"):
        make_teacher("t", body, input_spec_of(data))
    with pytest.raises(RequestError, match="has 3 classes, --labels names 2"):
        relate("t", ("a", "b", "c"), data.classes, ["0", "1"])


def test_forms_of_unicode_are_one_name():
    theirs, ours = ["cafe\u0301", "tea"], ["caf\u00e9", "tea"]
    assert match(theirs, ours) is None
    found = match(theirs[::-1], ours)
    assert found is not None
    assert found.whole
    mapped = match(["x", "cafe\u0301"], ours, {"x": "tea", "caf\u00e9": "cafe\u0301"})
    assert mapped is not None
    assert mapped.group_of == (0, 1)
