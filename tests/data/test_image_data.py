import dataclasses

import pytest
import torch

from collegium.errors import DataError, UnknownNameError


def test_length_shape_and_subset(noise_data):
    data = noise_data(10, shape=(1, 6, 9))
    assert (len(data), data.shape) == (10, (1, 6, 9))
    part = data.subset([7, 2]).subset([1, 0])
    assert part.index_N.tolist() == [2, 7]
    assert torch.equal(part.images_NDHW, data.images_NDHW[[2, 7]])
    assert part.labels_N.tolist() == data.labels_N[[2, 7]].tolist()


def test_subset_by_truth_values(noise_data):
    data = noise_data(10)
    assert data.subset(data.labels_N == 1).index_N.tolist() == [1, 5, 9]
    assert data.subset((data.labels_N == 1).numpy()).index_N.tolist() == [1, 5, 9]


def test_an_empty_subset_is_refused(noise_data):
    with pytest.raises(DataError, match="no pixels"):
        noise_data(3).subset([])


@pytest.mark.parametrize("position", [10, -1])
def test_positions_that_are_not_there(noise_data, position):
    with pytest.raises(IndexError):
        noise_data(10).subset([position])


def test_repr_is_short(noise_data):
    assert len(repr(noise_data(100))) < 200


def changed(data, **changes):
    return dataclasses.replace(data, **changes)


def test_fingerprint_sees_every_part_that_batches_depend_on(noise_data):
    data = noise_data(8)
    pixels = data.images_NDHW.clone()
    pixels[0, 0, 0, 0] ^= 1
    others = [
        changed(data, images_NDHW=pixels),
        changed(data, images_NDHW=data.images_NDHW.float() / 255),
        changed(data, images_NDHW=data.images_NDHW.view(8, 3, 4, 16)),
        changed(data, labels_N=data.labels_N.flip(0)),
        changed(data, index_N=data.index_N + 1),
        changed(data, classes=("a", "b", "c", "d")),
    ]
    prints = {part.fingerprint() for part in [data, *others]}
    assert len(prints) == 1 + len(others)


def test_fingerprint_ignores_name_layout_in_memory_and_recipe(noise_data):
    data = noise_data(8)
    strided = data.images_NDHW.contiguous(memory_format=torch.channels_last)
    other = changed(data, images_NDHW=strided, name="other", augment="flip")
    assert other.fingerprint() == data.fingerprint()
    assert len(data.fingerprint()) == 64


@pytest.mark.parametrize("as_float", [False, True])
def test_channel_statistics_equal_their_definition(noise_data, as_float):
    data = noise_data(700, shape=(3, 16, 16))
    images = data.images_NDHW.double() / 255
    if as_float:
        data = changed(data, images_NDHW=images.float())
    mean, std = data.channel_statistics()
    torch.testing.assert_close(
        torch.tensor([mean, std], dtype=torch.float64),
        torch.stack([images.mean((0, 2, 3)), images.std((0, 2, 3), correction=0)]),
        rtol=1e-6,
        atol=0,
    )


def test_a_constant_channel_has_no_spread(noise_data):
    data = noise_data(50)
    mean, std = changed(
        data, images_NDHW=torch.full_like(data.images_NDHW, 51)
    ).channel_statistics()
    assert mean == (0.2, 0.2, 0.2)
    assert std == (0.0, 0.0, 0.0)


def wrong(value, place=0, kind=torch.float32):
    images = torch.zeros(4, 3, 8, 8, dtype=kind)
    images.view(-1)[place] = value
    return images


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images_NDHW": wrong(2.64)}, "run from 0 to 2.64.*normalisation belongs to the model"),
        ({"images_NDHW": wrong(-0.5)}, "run from -0.5 to 0.*give raw pixels"),
        ({"images_NDHW": wrong(float("nan"), 5)}, "run from nan"),
        ({"images_NDHW": wrong(1, kind=torch.int64)}, "pixels are int64; give uint8"),
        ({"images_NDHW": wrong(1, kind=torch.float64)}, "pixels are float64"),
        ({"images_NDHW": torch.zeros(4, 4, 8, 8, dtype=torch.uint8)}, r"\(4, 4, 8, 8\)"),
        ({"images_NDHW": torch.zeros(4, 8, 8, dtype=torch.uint8)}, r"\(4, 8, 8\); expected"),
        ({"labels_N": torch.arange(3)}, r"4 images, but labels of the shape \(3,\)"),
        ({"labels_N": torch.zeros(4, 4).long()}, r"labels of the shape \(4, 4\)"),
        ({"labels_N": torch.zeros(4)}, "labels are float32; expected int64"),
        ({"index_N": torch.arange(5)}, r"index of the shape \(5,\)"),
        ({"labels_N": torch.tensor([0, 1, 4, 9])}, "example 2 has label 4, expected 0 to 3"),
        ({"labels_N": torch.tensor([0, -1, 4, 9])}, "example 1 has label -1"),
        ({"classes": ("a", "b", "c", "a")}, "occurs twice"),
    ],
)
def test_parts_that_do_not_fit_are_refused(noise_data, changes, message):
    with pytest.raises(DataError, match=message) as caught:
        changed(noise_data(4), **changes)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_is_refused(noise_data):
    with pytest.raises(UnknownNameError, match="view recipe 'fliip'"):
        noise_data(4, augment="fliip")
