"""Views: augmentation as a pure function of (seed, index, view).

The same triple is the same pixels whatever the batch, the order, the threads or the process. That
is why stored teacher outputs equal live ones, and a run be repeated exactly. On other
devices than the CPU, recipes that resize or change colours agree with it within 1e-6, by the
rounding of their interpolation; the others are the same pixels there too.

Pad-and-crop with flip is the recipe of the CIFAR literature (He et al., "Deep residual learning
for image recognition", CVPR 2016): at 32x32 it has 9 x 9 offsets x 2 = 162 outcomes. Recipes for
larger images are in `augment_large`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from collegium.data.augment_large import Draws, divide_, erase, jitter, resized_crop
from collegium.data.rng import Stream
from collegium.errors import UnknownNameError

_LARGE = 96 * 96
VIEW_VERSION = 1
"""Which function (seed, index, view) -> pixels this is; stored outputs are keyed by it."""


@dataclass(frozen=True)
class ViewRecipe:
    """What may happen to an image.

    Attributes:
        crop: pad by an eighth of the side with black, then cut the old size out anywhere.
        flip: mirror left and right, one time in two.
        resize: cut out a part of 8 to 100 % of the area, 3/4 to 4/3 as wide as high, and enlarge
            it to the whole; takes the place of `crop`.
        jitter: change brightness, contrast and saturation by factors of 0.6 to 1.4.
        erase: one time in four, a black rectangle of 2 to 33 % of the area.
    """

    crop: bool = False
    flip: bool = False
    resize: bool = False
    jitter: bool = False
    erase: bool = False


RECIPES: Mapping[str, ViewRecipe] = MappingProxyType(
    {
        "none": ViewRecipe(),
        "crop": ViewRecipe(crop=True),
        "flip": ViewRecipe(flip=True),
        "crop-flip": ViewRecipe(crop=True, flip=True),
        "resized-crop": ViewRecipe(resize=True, flip=True),
        "large": ViewRecipe(resize=True, flip=True, jitter=True, erase=True),
    }
)
"""The recipes by name: "crop" alone is for what must not be mirrored, like digits, "crop-flip" for
small images, "resized-crop" and "large" for photographs."""


def find_recipe(name: str) -> ViewRecipe:
    """The recipe of that name.

    Raises:
        UnknownNameError: no recipe is called that.
    """
    if name not in RECIPES:
        raise UnknownNameError("view recipe", name, RECIPES)
    return RECIPES[name]


def make_views(
    images_BDHW: Shaped[Tensor, "B D H W"],
    index_B: Int[Tensor, " B"],
    view_B: Int[Tensor, " B"],
    recipe: str,
    seed: int,
) -> Float[Tensor, "B D H W"]:
    """The view of each image that (seed, index, view) names, on the device of the images.

    Args:
        images_BDHW: uint8 pixels 0..255, or float pixels in 0..1.
        index_B: int64, which example of the data set each image is.
        view_B: int64, which view of it is wanted.
        recipe: a key of `RECIPES`.
        seed: any integer; other seeds give other views.

    Returns:
        float32 pixels in 0..1.

    Raises:
        UnknownNameError: no recipe is called that.
    """
    chosen, draws = find_recipe(recipe), Draws(index_B, view_B, seed)
    if chosen == ViewRecipe():
        views = images_BDHW
    elif chosen.resize:
        views = resized_crop(images_BDHW, draws, chosen.flip)
    else:
        views = _shifted(images_BDHW, draws, chosen)
    pixels_BDHW = views.float()
    if not images_BDHW.is_floating_point():
        pixels_BDHW = divide_(pixels_BDHW, 255)
    if chosen.resize:
        pixels_BDHW.clamp_(0, 1)  # rounding may leave the range by its last digit
    pixels_BDHW = jitter(pixels_BDHW, draws) if chosen.jitter else pixels_BDHW
    return erase(pixels_BDHW, draws) if chosen.erase else pixels_BDHW


def _shifted(
    images_BDHW: Shaped[Tensor, "B D H W"], draws: Draws, chosen: ViewRecipe
) -> Shaped[Tensor, "B D H W"]:
    (height, width), device = images_BDHW.shape[2:], images_BDHW.device
    down, across = (height // 8, width // 8) if chosen.crop else (0, 0)
    padded = F.pad(images_BDHW, (across, across, down, down))
    top_B = draws.below(Stream.CROP_ROW, 2 * down + 1)
    left_B = draws.below(Stream.CROP_COLUMN, 2 * across + 1)
    mirrored_B = draws.below(Stream.FLIP, 1 + chosen.flip) == 1
    if height * width >= _LARGE and device.type == "cpu":
        return _slices(padded, (height, width), top_B, left_B, mirrored_B)
    across_W = torch.arange(width, device=device)
    columns_BW = left_B[:, None] + torch.where(mirrored_B[:, None], across_W.flip(0), across_W)
    rows_BH = top_B[:, None] + torch.arange(height, device=device)
    places_BHW = rows_BH[:, :, None] * padded.shape[3] + columns_BW[:, None, :]
    places_BDP = places_BHW.flatten(1)[:, None].expand(-1, images_BDHW.shape[1], -1)
    return padded.flatten(2).gather(2, places_BDP).view(images_BDHW.shape)


def _slices(
    padded: Shaped[Tensor, "B D _ _"], size: tuple[int, int], *draws: Shaped[Tensor, " B"]
) -> Shaped[Tensor, "B D H W"]:
    """The same, image by image: eight times as fast for large ones, whose indices are too many."""
    height, width = size
    views_BDHW = padded.new_empty(*padded.shape[:2], height, width)
    drawn = zip(*(draw_B.tolist() for draw_B in draws), strict=True)
    for place, (top, left, mirrored) in enumerate(drawn):
        part_DHW = padded[place, :, top : top + height, left : left + width]
        views_BDHW[place] = part_DHW.flip(2) if mirrored else part_DHW
    return views_BDHW
