"""Views: augmentation as a pure function of (seed, index, view).

The same triple is the same pixels whatever the batch, the order, the threads or the process. That
is why stored teacher outputs equal live ones, and a run be repeated exactly. On other
devices than the CPU, recipes that resize or change colours agree with it within 1e-6, by the
rounding of their interpolation; the others are the same pixels there too.

Pad-and-crop with flip is the recipe of the CIFAR literature (He et al., "Deep residual learning
for image recognition", CVPR 2016): at 32x32 it has 9 x 9 offsets x 2 = 162 outcomes. Recipes for
larger images are in `augment_large`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from collegium.data.augment_large import Draws, erase, jitter, resized_crop
from collegium.data.rng import Stream, below, fold, fold_in, signed
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
    chosen = find_recipe(recipe)
    if chosen == ViewRecipe():
        return _in_unit_range(images_BDHW)
    draws = Draws(index_B, view_B, seed)
    if chosen.resize:
        pixels_BDHW = _resized(images_BDHW, draws, chosen.flip)
    else:
        pixels_BDHW = _in_unit_range(_shifted(images_BDHW, index_B, view_B, chosen, seed))
    pixels_BDHW = jitter(pixels_BDHW, draws) if chosen.jitter else pixels_BDHW
    return erase(pixels_BDHW, draws) if chosen.erase else pixels_BDHW


def _resized(
    images_BDHW: Shaped[Tensor, "B D H W"], draws: Draws, flip: bool
) -> Float[Tensor, "B D H W"]:
    pixels_BDHW = resized_crop(images_BDHW, draws, flip)
    if not images_BDHW.is_floating_point():
        pixels_BDHW = pixels_BDHW.div_(torch.full((), 255.0, device=pixels_BDHW.device))
    return pixels_BDHW.clamp_(0, 1)  # rounding may leave the range by its last digit


def _shifted(
    images_BDHW: Shaped[Tensor, "B D H W"],
    index_B: Int[Tensor, " B"],
    view_B: Int[Tensor, " B"],
    chosen: ViewRecipe,
    seed: int,
) -> Shaped[Tensor, "B D H W"]:
    height, width = images_BDHW.shape[2:]
    padding = (height // 8, width // 8) if chosen.crop else (0, 0)
    draws_3B = _draw(index_B, view_B, (2 * padding[0] + 1, 2 * padding[1] + 1, 2), seed)
    if height * width >= _LARGE and images_BDHW.device.type == "cpu":
        return _slices(images_BDHW, draws_3B.T.tolist(), chosen.flip, padding)
    rows_BH = draws_3B[0, :, None] + torch.arange(height, device=index_B.device)
    columns_BW = _columns(draws_3B[1], draws_3B[2] * chosen.flip, width)
    return _cut_out(images_BDHW, rows_BH, columns_BW, padding)


def _draw(
    index_B: Int[Tensor, " B"], view_B: Int[Tensor, " B"], counts: tuple[int, int, int], seed: int
) -> Int[Tensor, "3 B"]:
    streams = (Stream.CROP_ROW, Stream.CROP_COLUMN, Stream.FLIP)
    keys = [[signed(fold(seed, stream))] for stream in streams]
    words_3B = fold_in(torch.tensor(keys, device=index_B.device), index_B, view_B)
    return below(torch.tensor(counts, device=index_B.device)[:, None], words_3B)


def _columns(
    left_B: Int[Tensor, " B"], flipped_B: Int[Tensor, " B"], width: int
) -> Int[Tensor, "B W"]:
    across_W = torch.arange(width, device=left_B.device)
    return left_B[:, None] + torch.where(flipped_B[:, None] == 1, across_W.flip(0), across_W)


def _cut_out(
    images_BDHW: Shaped[Tensor, "B D H W"],
    rows_BH: Int[Tensor, "B H"],
    columns_BW: Int[Tensor, "B W"],
    padding: tuple[int, int],
) -> Shaped[Tensor, "B D H W"]:
    down, across = padding
    padded = F.pad(images_BDHW, (across, across, down, down))
    places_BHW = rows_BH[:, :, None] * padded.shape[3] + columns_BW[:, None, :]
    places_BDP = places_BHW.flatten(1)[:, None].expand(-1, images_BDHW.shape[1], -1)
    return padded.flatten(2).gather(2, places_BDP).view(images_BDHW.shape)


def _slices(
    images_BDHW: Shaped[Tensor, "B D H W"],
    draws: Sequence[Sequence[int]],
    flip: bool,
    padding: tuple[int, int],
) -> Shaped[Tensor, "B D H W"]:
    """The same, image by image: eight times as fast for large ones, whose indices are too many."""
    (height, width), (down, across) = images_BDHW.shape[2:], padding
    padded = F.pad(images_BDHW, (across, across, down, down))
    views_BDHW = torch.empty_like(images_BDHW)
    for place, (top, left, mirrored) in enumerate(draws):
        part_DHW = padded[place, :, top : top + height, left : left + width]
        views_BDHW[place] = part_DHW.flip(2) if flip and mirrored else part_DHW
    return views_BDHW


def _in_unit_range(images_BDHW: Shaped[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
    if images_BDHW.is_floating_point():
        return images_BDHW.float()
    # A plain number would be turned into a factor 1/255 on some devices, one rounding apart.
    return images_BDHW.float().div_(torch.full((), 255.0, device=images_BDHW.device))
