"""Views of larger images, against one picture at a time in plain Python and numpy."""

import hashlib
import math

import numpy as np
import pytest
import torch

from collegium.data import RECIPES, ViewRecipe, make_views
from collegium.data import augment as views_module
from collegium.data.augment_large import (
    CROP_AREA,
    CROP_ASPECT,
    ERASE_AREA,
    ERASE_ASPECT,
    JITTER,
    Draws,
    jitter,
)
from collegium.data.rng import Stream, fold

SHAPES = [(3, 24, 24), (1, 17, 40), (3, 1, 30), (3, 33, 8)]
WEIGHTS = (19595, 38470, 7471)  # of red, green and blue in grey


def noise(count, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)


class One:
    """The draws of one view."""

    def __init__(self, index, view, seed):
        self.key = (index, view, seed)

    def below(self, stream, count):
        index, view, seed = self.key
        return ((fold(seed, stream, index, view) >> 33) * count) >> 31

    def between(self, stream, low, high):
        return low + (high - low) * (self.below(stream, 65537) / 65536)

    def box(self, area, aspect, height, width):
        share = self.between(area[0], *area[1])
        low, high = aspect[1]
        ratio = low * math.exp(math.log(high / low) / 63 * self.below(aspect[0], 64))
        rows = round(math.sqrt(share * (height * width) / ratio))
        columns = round(math.sqrt(share * (height * width) * ratio))
        return min(max(rows, 1), height), min(max(columns, 1), width)


def crop_box(draws, height, width):
    rows, columns = draws.box(
        (Stream.CROP_AREA, CROP_AREA), (Stream.CROP_ASPECT, CROP_ASPECT), height, width
    )
    top = draws.below(Stream.CROP_ROW, height - rows + 1)
    return top, draws.below(Stream.CROP_COLUMN, width - columns + 1), rows, columns


def stretched(lines, size):
    """Linear interpolation along the first axis, pixel centres at halves."""
    count = len(lines)
    out = np.empty((size, *lines.shape[1:]), np.float32)
    for place in range(size):
        at = min(max((place + 0.5) * (count / size) - 0.5, 0), count - 1)
        low = math.floor(at)
        weight = np.float32(at - low)
        out[place] = lines[low] * (1 - weight) + lines[min(low + 1, count - 1)] * weight
    return out


def brute_force(image_DHW, index, view, seed, flip=True):
    draws, (_, height, width) = One(index, view, seed), image_DHW.shape
    top, left, rows, columns = crop_box(draws, height, width)
    part = image_DHW[:, top : top + rows, left : left + columns].astype(np.float32)
    tall = stretched(part.transpose(1, 0, 2), height).transpose(1, 0, 2)
    whole = stretched(tall.transpose(2, 0, 1), width).transpose(1, 2, 0)
    if flip and draws.below(Stream.FLIP, 2):
        whole = whole[:, :, ::-1]
    scale = np.float32(255 if image_DHW.dtype == np.uint8 else 1)
    return np.clip(whole / scale, 0, 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_resized_crop_is_the_brute_force_one_to_the_last_bit(shape):
    images, index, view = noise(24, shape), torch.arange(24) * 5, torch.arange(24) % 4
    views = make_views(images, index, view, "resized-crop", seed=-3)
    assert views.min() >= 0
    assert views.max() <= 1
    for place in range(24):
        expected = brute_force(images[place].numpy(), int(index[place]), int(view[place]), -3)
        np.testing.assert_array_equal(views[place].numpy(), expected)


def test_floats_give_the_views_of_their_bytes():
    images, index = noise(8, (3, 20, 20)), torch.arange(8)
    for recipe in ("resized-crop", "large"):
        bytewise = make_views(images, index, index, recipe, 0)
        floats = make_views(images.float() / 255, index, index, recipe, 0)
        torch.testing.assert_close(floats, bytewise, rtol=0, atol=1e-5)


@pytest.mark.parametrize("as_float", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_colours_and_holes_are_the_brute_force_ones_to_the_last_bit(shape, as_float):
    images, index, view = noise(40, shape), torch.arange(40), torch.arange(40) % 3
    images = images / 255 if as_float else images
    views = make_views(images, index, view, "large", 7)
    for place in range(40):
        expected = brute_force(images[place].numpy(), place, place % 3, 7)
        draws = One(place, place % 3, 7)
        expected = jittered(expected, draws)
        erased(expected, draws)
        np.testing.assert_array_equal(views[place].numpy(), expected)


def jittered(pixels_DHW, draws):
    bright, contrast, saturation = (
        np.float32(draws.between(stream, 0.6, 1.4))
        for stream in (Stream.BRIGHTNESS, Stream.CONTRAST, Stream.SATURATION)
    )
    pixels = np.clip(pixels_DHW * bright, 0, 1)
    pixels = np.clip(pixels * contrast + mean_grey(pixels) * (1 - contrast), 0, 1)
    if len(pixels) == 1:
        return pixels
    red, green, blue = (pixels[place] * np.float32(WEIGHTS[place] / 65536) for place in range(3))
    return np.clip(pixels * saturation + (red + green + blue) * (1 - saturation), 0, 1)


def mean_grey(pixels_DHW):
    levels = np.rint(pixels_DHW * np.float32(1023)).astype(np.int64)
    grey = np.tensordot(WEIGHTS, levels, 1) >> 16 if len(levels) == 3 else levels[0]
    return np.float32(grey.sum() / (1023 * grey.size))


def erased(pixels_DHW, draws):
    _, height, width = pixels_DHW.shape
    if draws.below(Stream.ERASE, 4):
        return
    rows, columns = draws.box(
        (Stream.ERASE_AREA, ERASE_AREA), (Stream.ERASE_ASPECT, ERASE_ASPECT), height, width
    )
    top = draws.below(Stream.ERASE_ROW, height - rows + 1)
    left = draws.below(Stream.ERASE_COLUMN, width - columns + 1)
    pixels_DHW[:, top : top + rows, left : left + columns] = 0


@pytest.mark.parametrize("recipe", ["resized-crop", "large"])
def test_threads_and_neighbours_do_not_matter(recipe):
    images, index = noise(48, (3, 65, 70)), torch.arange(48)
    before = torch.get_num_threads()
    found = []
    try:
        for threads, size in ((1, 48), (2, 48), (2, 7), (1, 1)):
            torch.set_num_threads(threads)
            parts = index.split(size)
            found.append(torch.cat([make_views(images[p], p, p % 5, recipe, 1) for p in parts]))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(views, found[0]) for views in found)


def test_crops_have_the_areas_and_aspects_they_say():
    draws = Draws(torch.arange(4000), torch.arange(4000) % 7, 3)
    area = draws.between(Stream.CROP_AREA, *CROP_AREA)
    assert 0.08 <= area.min() < 0.09
    assert 0.99 < area.max() <= 1
    assert abs(area.mean() - 0.54) < 0.02
    aspect = draws.aspect(Stream.CROP_ASPECT, *CROP_ASPECT)
    assert (aspect.min().item(), aspect.max().item()) == pytest.approx((3 / 4, 4 / 3))
    assert abs(aspect.log().mean()) < 0.02
    assert abs((aspect > 1).double().mean() - 0.5) < 0.03


@pytest.mark.parametrize("stream", [Stream.BRIGHTNESS, Stream.CONTRAST, Stream.SATURATION])
def test_factors_of_colour_are_even_in_their_range(stream):
    draws = Draws(torch.arange(4000), torch.zeros(4000).long(), 3)
    factor = draws.between(stream, 1 - JITTER, 1 + JITTER)
    assert 0.6 <= factor.min() < 0.61
    assert 1.39 < factor.max() <= 1.4
    assert abs(factor.mean() - 1) < 0.02
    assert abs(factor.std() - 0.8 / math.sqrt(12)) < 0.01


def flat_views(level):
    """4,000 large views of an image of one grey level: the holes and the brightness alone."""
    images = torch.full((1, 1, 32, 32), level, dtype=torch.uint8).expand(4000, -1, -1, -1)
    return make_views(images, torch.arange(4000), torch.arange(4000) % 7, "large", 3)


def test_one_view_in_four_has_a_hole_of_the_size_it_should():
    holes_BHW = (flat_views(200) == 0)[:, 0]
    share = holes_BHW.flatten(1).double().mean(1)
    assert abs((share > 0).double().mean() - 0.25) < 0.03
    holes_BHW, share = holes_BHW[share > 0], share[share > 0]
    assert 0.01 < share.min() < 0.03
    assert 0.31 < share.max() < 0.36
    rows, columns = (holes_BHW.any(axis).sum(1).double() for axis in (2, 1))
    assert torch.equal(rows * columns / 1024, share)  # rectangles
    assert abs((columns / rows).log().mean()) < 0.1
    assert (columns / rows).log().abs().max() < math.log(3.4) + 0.4  # rounded to whole pixels
    reached = holes_BHW.any(0)
    assert reached.all()  # also the corners


def test_brightness_reaches_both_ends_of_its_range():
    factor = flat_views(100).flatten(1).amax(1) / (100 / 255)
    assert 0.59 < factor.min() < 0.62
    assert 1.38 < factor.max() < 1.41


def test_grey_pictures_stay_grey():
    images = noise(10, (1, 16, 16)).expand(-1, 3, -1, -1)
    views = make_views(images, torch.arange(10), torch.arange(10), "large", 0)
    assert (views.amax(1) - views.amin(1)).max() < 1e-6


def test_contrast_0_would_be_the_mean_grey():
    class Flat(Draws):
        def between(self, stream, low, high):
            value = {Stream.BRIGHTNESS: 1.0, Stream.CONTRAST: 0.0, Stream.SATURATION: 1.0}[stream]
            return torch.full((4,), value, dtype=torch.float64)

    pixels = noise(4, (3, 9, 9)).float() / 255
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    mean = (pixels * weights).sum(1).mean((1, 2))
    flat = jitter(pixels.clone(), Flat(torch.arange(4), torch.arange(4), 0))
    expected = mean[:, None, None, None].expand_as(flat)
    torch.testing.assert_close(flat, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("chosen", "like"),
    [
        (ViewRecipe(resize=True), (False, False)),
        (ViewRecipe(crop=True, jitter=True), (True, False)),
        (ViewRecipe(erase=True), (False, True)),
        (ViewRecipe(jitter=True, erase=True), (True, True)),
    ],
)
def test_each_part_of_a_recipe_stands_alone(chosen, like, monkeypatch):
    monkeypatch.setattr(views_module, "RECIPES", {**RECIPES, "mine": chosen})
    images, index = noise(20, (3, 16, 16)), torch.arange(20)
    found = make_views(images, index, index, "mine", 7)
    for place in range(20):
        draws = One(place, place, 7)
        expected = images[place].numpy() / np.float32(255)
        if chosen.resize:
            expected = brute_force(images[place].numpy(), place, place, 7, flip=False)
        if chosen.crop:
            expected = make_views(images, index, index, "crop", 7)[place].numpy()
        expected = jittered(expected, draws) if like[0] else expected.copy()
        if like[1]:
            erased(expected, draws)
        np.testing.assert_array_equal(found[place].numpy(), expected)


@pytest.mark.parametrize("recipe", RECIPES)
def test_views_of_nothing_and_of_other_floats(recipe):
    none = torch.arange(0)
    empty = make_views(noise(0, (3, 8, 8)), none, none, recipe, 0)
    assert (empty.shape, empty.dtype) == ((0, 3, 8, 8), torch.float32)
    images, index = noise(5, (3, 8, 8)).double() / 256, torch.arange(5)
    views = make_views(images, index, index, recipe, 0)
    assert views.dtype == torch.float32
    assert torch.equal(views, make_views(images.float(), index, index, recipe, 0))


@pytest.mark.parametrize("as_float", [False, True])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_images_are_left_as_they_are(recipe, as_float):
    images, index = noise(30, (3, 9, 11)), torch.arange(30)
    images = images / 255 if as_float else images
    before = images.clone()
    make_views(images, index, index, recipe, 0)
    assert torch.equal(images, before)


PINNED = {
    "none": "5966b1666fc46082",
    "crop": "0a3bb987e408f91e",
    "flip": "4b800b16ffe9b4d3",
    "crop-flip": "2ef278effcc05e11",
    "resized-crop": "e5d1ddf94190b490",
    "large": "7f6bc509ae58c5ce",
}


@pytest.mark.parametrize("recipe", PINNED)
def test_the_function_is_the_one_of_its_version(recipe):
    # Stored answers stand for these pixels: another function needs another VIEW_VERSION.
    images = torch.from_numpy((np.arange(6 * 3 * 19 * 23) * 7919 % 251).astype(np.uint8))
    index = torch.arange(6)
    views = make_views(images.view(6, 3, 19, 23), index, index % 3, recipe, 11)
    assert hashlib.sha256(views.numpy().tobytes()).hexdigest()[:16] == PINNED[recipe]
