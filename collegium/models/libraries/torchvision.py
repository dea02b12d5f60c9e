"""`torchvision:NAME`: any classifier of torchvision."""

import contextlib
import io
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from collegium.errors import RequestError, UnknownNameError, WeightsError
from collegium.models.architectures import AbstractModelFamily, Design, Trained
from collegium.models.libraries.common import SMALLEST, built, interpolation
from collegium.models.libraries.config_keys import TORCHVISION_META, refused
from collegium.models.model_string import PRETRAINED, RANDOM, ModelString
from collegium.models.network import Preprocess, requested_size
from collegium.models.reported import reported
from collegium.utils.extras import import_extra, unique_names

TRANSFORM_INPUT = ("googlenet", "inception_v3")
"""Networks with `transform_input`: they convert to the normalisation of their weights."""
TRANSFORMERS = "vit_"
"""How names of networks begin that are built for one size."""
POSITIONS = "encoder.pos_embedding"
LICENCES = {"https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "cc-by-nc-4.0"}
"""Of addresses in place of a name."""


def _sized(member: str, metadata: Mapping[str, str], sees: Preprocess) -> dict[str, int]:
    """Keyword arguments for a vision transformer that is built for one image size."""
    if not member.startswith(TRANSFORMERS):
        return {}
    rows, columns = requested_size(metadata) or sees.size or (0, 0)
    if rows != columns:
        raise RequestError(
            f"torchvision:{member} takes squares only, found size {rows}x{columns}: give ?size="
            f"{min(rows, columns)}"
        )
    return {"image_size": rows}


def _resample(body: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """With position embeddings interpolated as torchvision does it."""
    interpolate = import_extra("torchvision").models.vision_transformer.interpolate_embeddings
    made: Any = body
    with contextlib.suppress(KeyError, ValueError):
        sizes = made.image_size, made.patch_size
        return interpolate(*sizes, OrderedDict(tensors))
    return {}


def _weights(models: Any, member: str, string: ModelString) -> Any:
    known = models.get_model_weights(member)
    if string.weights in known.__members__:
        return known[string.weights]
    if string.file is None and string.weights not in ("", PRETRAINED, RANDOM):
        names = [*known.__members__, PRETRAINED, RANDOM]
        raise UnknownNameError(f"weights of torchvision:{member}", string.weights, names)
    return known.DEFAULT


def _create(models: Any, member: str, **options: Any) -> nn.Module:
    if member in TRANSFORM_INPUT:
        options["init_weights"] = False
    name = f"torchvision:{member}"
    return built(name, lambda: models.get_model(member, weights=None, **options))


def _pretrained(
    models: Any, member: str, weights: Any, classes: int | None, sized: Mapping[str, int]
) -> Trained:
    known = len(weights.meta["categories"])
    options = {**sized, "transform_input": True} if member in TRANSFORM_INPUT else {**sized}
    body = _create(models, member, num_classes=known if classes is None else classes, **options)
    state = {_modern(name): value for name, value in _download(member, weights).items()}
    own = body.state_dict()
    place, note = POSITIONS, ""
    if sized and place in state and state[place].shape != own[place].shape:
        state |= _resample(body, state)
        note = f"; position embeddings interpolated to {sized['image_size']} pixels"
    fresh = {name for name in own if name in state and own[name].shape != state[name].shape}
    if fresh and classes is None:
        raise WeightsError(
            f"{weights} does not fit torchvision:{member} at this size: {', '.join(sorted(fresh))} "
            "would start afresh, and a teacher has no part that was not trained; leave out ?size"
        )
    body.load_state_dict({**own, **{n: v for n, v in state.items() if n not in fresh}})
    note += f"; {', '.join(sorted(fresh))} start afresh for {classes} classes" if fresh else ""
    return Trained(body, (f"weights {weights} of torchvision{note}",))


def _download(member: str, weights: Any) -> dict[str, torch.Tensor]:
    """From torch's cache or the network; never through a pickle, which torchvision would take."""
    failure = f"cannot get {weights} for torchvision:{member}"
    advice = "it is not in torch's cache either. Check the network, or give @FILE"
    # The library prints a line even without progress.
    with reported(failure, advice, WeightsError), contextlib.redirect_stderr(io.StringIO()):
        state: dict[str, torch.Tensor] = torch.hub.load_state_dict_from_url(
            weights.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    return state


def _modern(name: str) -> str:
    """DenseNet's weights were saved when a dot could stand in a module's name."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)


def _preprocess(member: str, weights: Any) -> Preprocess:
    if reason := refused(TORCHVISION_META, weights.meta):
        raise RequestError(f"{weights} of torchvision:{member} cannot be used ({reason})")
    recipe = weights.transforms()
    side = recipe.crop_size[0]
    how = interpolation(recipe.interpolation.value)
    return Preprocess(tuple(recipe.mean), tuple(recipe.std), SMALLEST, (side, side), how)


class TorchvisionFamily(AbstractModelFamily):
    """Networks of torchvision."""

    slug = "torchvision"

    def design(self, member: str, string: ModelString, metadata: Mapping[str, str]) -> Design:
        """A torchvision network and, after @, "pretrained" or the name of one of its weights."""
        models = import_extra("torchvision").models
        names = models.list_models(module=models)
        if member not in names:
            raise UnknownNameError("torchvision model", member, names)
        weights = _weights(models, member, string)
        sees = _preprocess(member, weights)
        sized = _sized(member, metadata, sees)
        return Design(
            lambda classes: _create(models, member, num_classes=classes, **sized),
            smallest=SMALLEST,
            preprocess=sees,
            native=sees.size,
            evaluated=tuple(weights.transforms().resize_size[:1]),
            classes=unique_names(weights.meta["categories"]),
            trained=lambda classes: _pretrained(models, member, weights, classes, sized),
            resample=_resample if sized else None,
            licence=LICENCES.get(found := weights.meta.get("license", ""), found),
        )
