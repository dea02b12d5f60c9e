import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.data import RECIPES, VIEW_VERSION, find_recipe, make_views
from collegium.data.rng import Stream, fold
from collegium.errors import UnknownNameError


def noise(count, shape=(3, 32, 32), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)


def drawn(count, *parts):
    return ((fold(*parts) >> 33) * count) >> 31


def brute_force(image_DHW, index, view, seed, crop=True, flip=True):
    """One view, by padding, slicing and mirroring."""
    _, height, width = image_DHW.shape
    down, across = (height // 8, width // 8) if crop else (0, 0)
    top = drawn(2 * down + 1, seed, Stream.CROP_ROW, index, view)
    left = drawn(2 * across + 1, seed, Stream.CROP_COLUMN, index, view)
    padded = np.pad(image_DHW, ((0, 0), (down, down), (across, across)))
    cut = padded[:, top : top + height, left : left + width]
    if flip and drawn(2, seed, Stream.FLIP, index, view):
        cut = cut[:, :, ::-1]
    return cut.astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("recipe", ["none", "crop", "flip", "crop-flip"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (3, 24, 40), (1, 4, 4)])
def test_views_equal_brute_force(recipe, shape):
    images, index, view = noise(20, shape), torch.arange(20) * 7, torch.arange(20) % 3
    views = make_views(images, index, view, recipe, seed=-5)
    chosen = RECIPES[recipe]
    for place in range(20):
        expected = brute_force(
            images[place].numpy(),
            int(index[place]),
            int(view[place]),
            -5,
            crop=chosen.crop,
            flip=chosen.flip,
        )
        np.testing.assert_array_equal(views[place].numpy(), expected)


@settings(max_examples=50, deadline=None)
@given(
    st.permutations(range(12)),
    st.integers(1, 12),
    st.sampled_from(sorted(RECIPES)),
    st.sampled_from([(3, 32, 32), (1, 13, 7), (3, 1, 5), (3, 21, 10)]),
    st.integers(-(2**70), 2**70),
)
def test_a_view_depends_on_nothing_but_seed_index_and_view(order, batch, recipe, shape, seed):
    images, index = noise(12, shape), torch.arange(100, 112)
    view = torch.arange(12) % 5
    together = make_views(images, index, view, recipe, seed)
    positions = torch.tensor(order)
    parts = [
        make_views(images[part], index[part], view[part], recipe, seed)
        for part in positions.split(batch)
    ]
    assert torch.equal(torch.cat(parts), together[positions])


def test_no_global_random_state_is_touched():
    before = torch.random.get_rng_state()
    make_views(noise(4), torch.arange(4), torch.arange(4), "crop-flip", 0)
    assert torch.equal(torch.random.get_rng_state(), before)


def marked_views(count, recipe="crop-flip"):
    """Where pixel (16, 8) of an all-black image went, in `count` views of it."""
    image = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    image[0, 0, 16, 8] = 255
    views = make_views(
        image.expand(count, -1, -1, -1), torch.zeros(count).long(), torch.arange(count), recipe, 0
    )
    return views.flatten(1).argmax(1)


def test_all_162_outcomes_occur_evenly():
    counted = torch.bincount(marked_views(16_200))
    counted = counted[counted > 0].double()
    assert len(counted) == 162
    chi_square = ((counted - 100).square() / 100).sum()
    assert 90 < chi_square < 250  # 161 degrees of freedom: mean 161, standard deviation 18


def test_about_half_are_mirrored_and_nothing_else_moves():
    places = marked_views(2_000, recipe="flip")
    kept, mirrored = 16 * 32 + 8, 16 * 32 + 23
    assert set(places.tolist()) == {kept, mirrored}
    assert abs((places == mirrored).double().mean() - 0.5) < 0.05


def test_crop_never_mirrors():
    columns = marked_views(500, recipe="crop") % 32
    assert (columns.min(), columns.max()) == (4, 12)


@pytest.mark.parametrize("change", ["seed", "index", "view"])
def test_other_seeds_indices_and_views_give_other_pixels(change):
    images = noise(1).expand(50, -1, -1, -1)
    index, view = torch.arange(50), torch.arange(50)
    first = make_views(images, index, view, "crop-flip", 0)
    step = {"index": 1000, "view": 1000, "seed": 1}
    second = make_views(
        images,
        index + step["index"] * (change == "index"),
        view + step["view"] * (change == "view"),
        "crop-flip",
        step["seed"] * (change == "seed"),
    )
    same = (first == second).flatten(1).all(1)
    assert same.sum() < 5  # one in 162 by chance


def test_float_pixels_are_cut_as_uint8_pixels_are():
    images, index, view = noise(16), torch.arange(16), torch.zeros(16).long()
    as_float = make_views(images.float() / 255, index, view, "crop-flip", 3)
    assert torch.equal(as_float, make_views(images, index, view, "crop-flip", 3))


def test_the_function_is_the_one_its_version_names():
    """A failure means stored answers would be taken for other pixels: raise VIEW_VERSION too."""
    ramp = (torch.arange(8 * 3 * 32 * 32) % 251).to(torch.uint8).view(8, 3, 32, 32)
    views = make_views(ramp, torch.arange(8), torch.arange(8) % 2, "crop-flip", 42)
    digest = hashlib.sha256((views * 255).round().to(torch.uint8).numpy().data).hexdigest()
    assert (VIEW_VERSION, digest[:16]) == (1, "c6f759b85946d961")


def test_refusals():
    with pytest.raises(UnknownNameError, match="did you mean 'crop-flip'"):
        find_recipe("crop_flip")


@pytest.mark.parametrize("recipe", ["crop", "flip", "crop-flip"])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_large_images_are_cut_one_by_one_to_the_same_pixels(recipe, kind, monkeypatch):
    images = torch.randint(0, 256, (8, 3, 12, 20)).to(kind) / (1 if kind == torch.uint8 else 255)
    images, index = images.to(kind), torch.arange(8)
    together = make_views(images, index, index + 1, recipe, 3)
    monkeypatch.setattr("collegium.data.augment._LARGE", 1)
    assert torch.equal(make_views(images, index, index + 1, recipe, 3), together)
    assert not torch.equal(together, make_views(images, index, index, "none", 3))
