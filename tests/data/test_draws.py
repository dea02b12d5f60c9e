import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.data.rng import Stream, below, fold, fold_in, signed

int64 = st.integers(-(2**63), 2**63 - 1)


def test_first_numbers_are_those_published_for_splitmix64():
    golden = 0x9E3779B97F4A7C15
    state = 1234567
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [fold(state + step * golden) for step in range(3)] == published


@settings(max_examples=50, deadline=None)
@given(st.integers(), int64, int64)
def test_tensors_and_integers_fold_alike(seed, index, view):
    key = torch.tensor([signed(fold(seed, Stream.FLIP))])
    words = fold_in(key, torch.tensor([index]), torch.tensor([view]))
    assert words.item() == signed(fold(seed, Stream.FLIP, index, view))


@pytest.mark.parametrize("count", [1, 2, 9, 162, 2**31])
def test_below_stays_below_at_both_ends(count):
    ends = torch.tensor([0, -1, 2**63 - 1, -(2**63)])
    drawn = below(count, ends)
    assert drawn[0] == 0
    assert drawn[1] == count - 1
    assert drawn.min() >= 0
    assert drawn.max() < count


def test_below_is_even():
    words = fold_in(torch.tensor(signed(fold(3))), torch.arange(90_000))
    counted = torch.bincount(below(9, words), minlength=9)
    assert (counted - 10_000).abs().max() < 400  # four standard deviations of 94


def test_streams_have_nothing_in_common():
    index = torch.arange(10_000)
    coins = [
        below(2, fold_in(torch.tensor(signed(fold(0, stream))), index)).double()
        for stream in Stream
    ]
    correlation = torch.corrcoef(torch.stack(coins)) - torch.eye(len(coins))
    assert correlation.abs().max() < 0.05
