import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.data import Loader, Views, make_views, view_at
from collegium.errors import DataError, RequestError, UnknownNameError


def indices(loader, epoch=0):
    return [batch.index_B.tolist() for batch in loader.epoch(epoch)]


def test_a_batch_holds_the_views_it_names(noise_data):
    data = noise_data(20).subset(range(5, 20))
    loader = Loader(data, 4, recipe="crop-flip", views=3, seed=2, view_seed=9, shuffle=True)
    for batch in loader.epoch(2):
        positions = batch.index_B - 5
        assert torch.equal(batch.labels_B, data.labels_N[positions])
        assert batch.view_B.tolist() == [view_at(2, 3, seed=2)] * len(batch)
        images = data.images_NDHW[positions]
        expected = make_views(images, batch.index_B, batch.view_B, "crop-flip", 9)
        assert torch.equal(batch.images_BDHW, expected)


def test_evaluation_is_everything_once_in_order_unchanged(noise_data):
    data = noise_data(10)
    loader = Loader(data, 4)
    batches = list(loader.epoch(5))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert len(loader) == 3
    images = torch.cat([batch.images_BDHW for batch in batches])
    assert torch.equal(images, data.images_NDHW.float() / 255)
    assert torch.cat([batch.index_B for batch in batches]).tolist() == list(range(10))
    assert all((batch.view_B == 0).all() for batch in batches)


def test_a_batch_larger_than_the_data_is_short_in_evaluation(noise_data):
    assert [len(batch) for batch in Loader(noise_data(3), 100).epoch(0)] == [3]


def test_an_epoch_can_be_asked_for_again(noise_data):
    data = noise_data(30)
    first = Loader(data, 7, seed=1, shuffle=True)
    indices(first, 0)
    assert indices(first, 3) == indices(Loader(data, 7, seed=1, shuffle=True), 3)
    assert indices(first, 3) != indices(first, 4)
    assert indices(first, 3) != indices(Loader(data, 7, seed=2, shuffle=True), 3)


def test_the_order_neither_reads_nor_moves_the_global_generator(noise_data):
    data = noise_data(30)
    torch.manual_seed(0)
    first = indices(Loader(data, 7, shuffle=True))
    before = torch.random.get_rng_state()
    second = indices(Loader(data, 7, shuffle=True))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1)
    assert first == second == indices(Loader(data, 7, shuffle=True))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4), st.booleans(), st.integers(0, 3))
def test_processes_together_see_what_one_sees(noise_data, count, batch, world, shuffle, epoch):
    if shuffle and not world <= batch <= count:
        return
    data = noise_data(count)
    options = {"batch_size": batch, "shuffle": shuffle, "seed": 3}
    shares = [
        indices(Loader(data, rank=rank, world=world, **options), epoch) for rank in range(world)
    ]
    flat = [index for share in shares for part in share for index in part]
    assert sorted(flat) == list(range(count))
    assert all(part for share in shares for part in share)
    for rank, share in enumerate(shares):
        assert len(share) == len(Loader(data, rank=rank, world=world, **options))
    if shuffle:
        assert len({len(share) for share in shares}) == 1
        alone = [index for part in indices(Loader(data, **options), epoch) for index in part]
        for step in range(len(shares[0])):
            merged = [index for share in shares for index in share[step]]
            start = step * batch
            assert sorted(merged) == sorted(alone[start : start + len(merged)])


def test_each_process_takes_every_second_example(noise_data):
    data = noise_data(16)
    alone = indices(Loader(data, 8, shuffle=True))
    first, second = (indices(Loader(data, 8, shuffle=True, rank=r, world=2)) for r in (0, 1))
    assert first == [batch[0::2] for batch in alone]
    assert second == [batch[1::2] for batch in alone]


@pytest.mark.parametrize(
    ("count", "batch", "world", "sizes"),
    [
        (9, 4, 1, [4, 5]),  # a tail of one joins
        (10, 4, 1, [4, 4, 2]),
        (11, 4, 2, [4, 7]),  # three make 2 + 1
        (12, 4, 2, [4, 4, 4]),
        (3, 2, 1, [3]),
        (5, 1, 1, [1] * 5),  # whoever asks for single examples gets them
        (4, 2, 2, [2, 2]),
        (5, 2, 2, [2, 3]),
    ],
)
def test_a_tail_too_small_for_statistics_joins(noise_data, count, batch, world, sizes):
    shares = [
        indices(Loader(noise_data(count), batch, shuffle=True, rank=rank, world=world))
        for rank in range(world)
    ]
    found = [sum(len(share[step]) for share in shares) for step in range(len(shares[0]))]
    assert found == sizes
    assert {len(share) for share in shares} == {len(sizes)}


def test_processes_without_a_share_get_nothing_in_evaluation(noise_data):
    data = noise_data(5)
    assert indices(Loader(data, 4, rank=0, world=3)) == [[0, 3], [4]]
    assert indices(Loader(data, 4, rank=2, world=3)) == [[2]]
    assert len(Loader(data, 4, rank=2, world=3)) == 1
    assert indices(Loader(data, 1, rank=1, world=2)) == []


def test_a_recipe_that_changes_nothing_has_one_view(noise_data):
    for batch in Loader(noise_data(8), 4, views=5, shuffle=True).epoch(3):
        assert batch.view_B.tolist() == [0] * 4


@pytest.mark.parametrize("views", [0, 5])
def test_evaluation_has_view_0_whatever_the_recipe_and_the_epoch(noise_data, views):
    for batch in Loader(noise_data(8), 4, recipe="flip", views=views).epoch(3):
        assert batch.view_B.tolist() == [0] * 4


def test_unlimited_views_are_new_in_every_epoch_and_for_every_seed():
    drawn = {view_at(epoch, 0, seed) for epoch in range(50) for seed in range(3)}
    assert len(drawn) == 150
    assert min(drawn) >= 0


@given(st.integers(1, 9), st.integers(0, 5), st.integers(-5, 2**70))
def test_every_view_comes_once_before_any_comes_again(views, turn, seed):
    epochs = range(turn * views, (turn + 1) * views)
    assert sorted(view_at(epoch, views, seed) for epoch in epochs) == list(range(views))


def test_the_order_of_views_depends_on_turn_and_seed():
    orders = [
        tuple(view_at(8 * turn + e, 8, seed) for e in range(8))
        for turn, seed in ((0, 0), (1, 0), (0, 1))
    ]
    assert len(set(orders)) == 3


def test_a_negative_number_of_views_is_refused():
    with pytest.raises(RequestError, match="-1"):
        view_at(0, -1, 0)


def test_views_are_found_by_index(noise_data):
    data = noise_data(20).subset([7, 3, 19, 4])
    views = Views(data, "crop-flip", 5)
    view = torch.tensor([2, 2])
    expected = make_views(data.images_NDHW[[2, 0]], torch.tensor([19, 7]), view, "crop-flip", 5)
    assert torch.equal(views.of(torch.tensor([19, 7]), view), expected)
    for missing in (0, 5, 99):
        with pytest.raises(DataError, match="no example"):
            views.of(torch.tensor([missing]), view[:1])


def test_float_data_are_given_out_and_left_alone(noise_data):
    data = noise_data(6)
    data = dataclasses.replace(data, images_NDHW=data.images_NDHW.float() / 255)
    before = data.images_NDHW.clone()
    for batch in Loader(data, 3).epoch(0):
        batch.images_BDHW.zero_()
    assert torch.equal(data.images_NDHW, before)


def test_refusals(noise_data):
    data = noise_data(10)
    with pytest.raises(DataError, match="batch size is 0"):
        Loader(data, 0)
    with pytest.raises(DataError, match="11 is larger than the 10 training examples of noise"):
        Loader(data, 11, shuffle=True)
    with pytest.raises(RequestError, match="process 2 of 2"):
        Loader(data, 4, rank=2, world=2)
    with pytest.raises(RequestError, match="at least 4, better 8"):
        Loader(data, 3, shuffle=True, rank=0, world=4)
    with pytest.raises(UnknownNameError, match="view recipe"):
        Loader(data, 4, recipe="crop-flop")
