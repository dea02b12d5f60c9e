"""Who hints where: each teacher its own group of student layers, like layers of each."""

import re

import pytest

import collegium as cg
from collegium.errors import RequestError
from collegium.models.features.pairing import (
    explicit_layers,
    nearest_layer,
    pair_layers,
    pair_table,
)
from collegium.types import HintPair

MAPS = {"one": (4, 8, 8), "two": (6, 4, 4), "three": (8, 2, 2)}
FLAT = {f"block{place}@4x4": (16, 4, 4) for place in range(4)}


def dims(teachers: str, student: dict | None = None, theirs: dict | None = None) -> cg.Dims:
    names = tuple(teachers)
    maps = MAPS if theirs is None else theirs
    return cg.Dims(5, names, MAPS if student is None else student, dict.fromkeys(names, maps))


@pytest.mark.parametrize(
    ("teachers", "assignment", "groups"),
    [
        ("a", "one_per_group", ["three"]),
        ("ab", "one_per_group", ["one", "three"]),
        ("abc", "one_per_group", ["one", "two", "three"]),
        ("abcde", "one_per_group", ["one", "one", "two", "two", "three"]),
        ("ab", "cyclic", ["one", "two", "three"]),
        ("abc", "all_to_one", ["two", "two", "two"]),
        ("abc", "skip_last", ["one", "three"]),
        ("a", "skip_last", ["three"]),
    ],
)
def test_who_hints_where(teachers: str, assignment: str, groups: list[str]) -> None:
    pairs = pair_layers(dims(teachers), assignment)  # type: ignore[arg-type]
    assert [pair.student_layer for pair in pairs] == groups
    assert all(pair.student_layer == pair.teacher_layer for pair in pairs)  # the same resolution
    if assignment == "cyclic":
        assert [pair.teacher for pair in pairs] == ["a", "b", "a"]


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
@pytest.mark.parametrize("teachers", [1, 2, 3, 4, 5])
def test_each_teacher_has_its_own_group_as_far_as_there_are_any(teachers: int, groups: int) -> None:
    student = {f"group{place}": (4, 2**place, 2**place) for place in reversed(range(groups))}
    names = "abcde"[:teachers]
    pairs = pair_layers(dims(names, student))
    assert [pair.teacher for pair in pairs] == list(names)  # each once, in listed order
    places = [list(student).index(pair.student_layer) for pair in pairs]
    assert places == sorted(places)  # from shallow to deep
    assert len(set(places)) == min(teachers, groups)  # its own; all groups, if they are enough
    assert places[-1] == groups - 1  # the deepest is never left out
    sizes = [places.count(place) for place in set(places)]
    assert max(sizes) - min(sizes) <= 1  # shared evenly


def test_the_nearest_resolution_is_paired() -> None:
    theirs = {"big": (4, 16, 16), "middle": (4, 5, 5), "small": (4, 1, 1)}
    world = dims("a", theirs=theirs)
    assert [nearest_layer(world, own, "a") for own in MAPS] == ["middle", "middle", "small"]


def test_of_equal_resolutions_the_nearest_depth_is_paired() -> None:
    theirs = {"a1": (4, 8, 8), "b1": (4, 4, 4), "b2": (4, 4, 4), "b3": (4, 4, 4), "c1": (4, 2, 2)}
    assert nearest_layer(dims("a", theirs=theirs), "two", "a") == "b2"


def test_where_one_network_has_one_resolution_depth_decides() -> None:
    world = dims("a", theirs=FLAT)
    found = [nearest_layer(world, own, "a") for own in MAPS]
    assert found == ["block0@4x4", "block1@4x4", "block3@4x4"]
    back = dims("a", student=FLAT)
    assert [nearest_layer(back, own, "a") for own in FLAT] == ["one", "two", "two", "three"]
    assert [nearest_layer(dims("a", FLAT, FLAT), own, "a") for own in FLAT] == list(FLAT)


def test_a_layer_alone_is_paired_by_its_resolution() -> None:
    alone = {"only": (4, 8, 8)}
    assert nearest_layer(dims("a", student=alone), "only", "a") == "one"
    assert nearest_layer(dims("a", student=alone, theirs=FLAT), "only", "a") == "block3@4x4"
    assert {nearest_layer(dims("a", theirs=alone), own, "a") for own in MAPS} == {"only"}


def test_explicit_pairs_replace_the_rule_and_may_leave_out_how_a_layer_is_read() -> None:
    pairs = pair_layers(dims("ab"), explicit=["one=b:three", "two=a:two"])
    assert pairs == [HintPair("one", "b", "three"), HintPair("two", "a", "two")]
    (pair,) = pair_layers(dims("a", theirs=FLAT), explicit=["one=a:block2"])
    assert pair.teacher_layer == "block2@4x4"
    assert pair_layers(dims("a", theirs=FLAT), explicit=[str(pair)]) == [pair]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("one=c:two", "unknown teacher in the hint pair 'one=c:two' 'c'"),
        ("ones=a:two", "did you mean 'one'"),
        ("one=a:twos", "unknown layer of teacher a 'twos'; did you mean 'two'"),
        ("nonsense", "a hint pair is STUDENT_LAYER=TEACHER:TEACHER_LAYER, found 'nonsense'"),
        ("one=a", "found 'one=a'"),
        ("=a:one", "found '=a:one'"),
    ],
)
def test_a_pair_that_cannot_be_is_refused(text: str, says: str) -> None:
    with pytest.raises(RequestError, match=re.escape(says)):
        pair_layers(dims("ab"), explicit=[text])


def test_what_pairs_name_is_known_before_any_network_is() -> None:
    layers = explicit_layers(["x=a:y", "x=b:z", "w=a:y"], ("a", "b"))
    assert layers.student == ("x", "w")
    assert layers.teachers == {"a": ("y",), "b": ("z",)}


def test_networks_without_maps_are_refused_with_what_would_work() -> None:
    with pytest.raises(RequestError, match="the student has none that can be read"):
        pair_layers(dims("a", student={}))
    blind = cg.Dims(5, ("a", "b"), MAPS, {"a": MAPS, "b": {}})
    with pytest.raises(RequestError, match="teacher b has none"):
        pair_layers(blind)


def test_the_table_shows_both_layers_and_both_shapes() -> None:
    world = dims("a", theirs=FLAT)
    table = pair_table([*pair_layers(world), HintPair("one", "a", "block0@4x4@mean")], world)
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["a", "block3@4x4", "16x4x4", "three", "8x2x2"],
        ["a", "block0@4x4@mean", "16x1x1", "one", "4x8x8"],
    ]
