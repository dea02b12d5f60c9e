import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.data import ImageData, Splits, hold_out
from collegium.errors import DataError, UnknownNameError


def labelled(labels, classes):
    count = len(labels)
    return ImageData(
        torch.zeros(count, 1, 2, 2, dtype=torch.uint8),
        torch.tensor(labels),
        torch.arange(count) + 100,
        tuple(map(str, range(classes))),
        "tiny",
        "none",
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=6, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(),
)
def test_nothing_is_lost_and_every_class_stays(labels, fraction, seed):
    data = labelled(labels, 5)
    rest, held = hold_out(data, fraction, seed)
    assert held is not None
    together = torch.cat([rest.index_N, held.index_N])
    assert torch.equal(together.sort().values, data.index_N)
    assert torch.equal(rest.index_N, rest.index_N.sort().values)
    assert set(rest.labels_N.tolist()) == set(labels)
    for part in (rest, held):
        assert torch.equal(part.labels_N, data.labels_N[part.index_N - 100])
    assert len(held) <= max(1, round(fraction * len(labels)))


def test_each_class_gives_its_share():
    data = labelled([0] * 100 + [1] * 50 + [2] * 10, 3)
    _, held = hold_out(data, 0.1, 0)
    assert torch.bincount(held.labels_N).tolist() == [10, 5, 1]


def test_remainders_add_up():
    data = labelled([label for label in range(10) for _ in range(15)], 10)
    _, held = hold_out(data, 0.1, 0)
    counted = torch.bincount(held.labels_N)
    assert counted.sum() == 15
    assert set(counted.tolist()) == {1, 2}


def test_the_seed_decides():
    data = labelled([0, 1] * 100, 2)
    first, second, third = (hold_out(data, 0.2, seed)[1].index_N for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_the_choice_follows_the_index_not_the_order():
    data = labelled([0, 1] * 50, 2)
    shuffled = data.subset(torch.randperm(100, generator=torch.Generator().manual_seed(0)))
    assert set(hold_out(shuffled, 0.2, 3)[1].index_N.tolist()) == set(
        hold_out(data, 0.2, 3)[1].index_N.tolist()
    )


def test_every_example_is_held_out_equally_often():
    data = labelled([0, 1] * 20, 2)
    counted = torch.zeros(140)
    for seed in range(400):
        counted[hold_out(data, 0.25, seed)[1].index_N] += 1
    assert (counted[100:] - 100).abs().max() < 40  # standard deviation 8.7


def test_nothing_is_held_out_for_the_fraction_0():
    data = labelled([0, 1], 2)
    assert hold_out(data, 0.0, 0) == (data, None)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_fractions_out_of_range_are_refused(fraction):
    with pytest.raises(DataError, match=f"validation is {fraction}; give a fraction"):
        hold_out(labelled([0, 0], 1), fraction, 0)


def test_classes_of_one_example_cannot_give():
    with pytest.raises(DataError, match="no class has two training examples"):
        hold_out(labelled([0, 1, 2], 3), 0.5, 0)


def test_evaluation_takes_the_best_there_is():
    train, validation, test = (labelled([0, 0], 1) for _ in range(3))
    assert Splits(train, validation, test).evaluation is test
    assert Splits(train, validation, None).evaluation is validation
    assert Splits(train, None, None).evaluation is train


def test_get():
    train, test = labelled([0, 0], 1), labelled([0], 1)
    splits = Splits(train, None, test)
    assert splits.get("test") is test
    assert splits.names() == ("train", "test")
    with pytest.raises(DataError, match="tiny has no validation split here; it has: train, test"):
        splits.get("validation")
    with pytest.raises(UnknownNameError, match="unknown split 'tset'; did you mean 'test'"):
        splits.get("tset")


def test_splits_must_agree():
    train = labelled([0, 0], 1)
    with pytest.raises(DataError, match="test has 2 classes, train 1"):
        Splits(train, None, labelled([0, 1], 2))
    larger = dataclasses.replace(train, images_NDHW=torch.zeros(2, 1, 3, 2, dtype=torch.uint8))
    with pytest.raises(DataError, match=r"images of validation have the shape \(1, 3, 2\)"):
        Splits(train, larger, None)
