"""`timm:NAME`: any classifier of timm."""

import contextlib
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from collegium.errors import RequestError, UnknownNameError
from collegium.models.architectures import AbstractModelFamily, Design, Trained
from collegium.models.libraries.common import SMALLEST, built, interpolation
from collegium.models.libraries.timm_config import metadata_beside, preprocess_of
from collegium.models.model_string import PRETRAINED, ModelString
from collegium.models.network import Preprocess, requested_size
from collegium.utils.extras import hub_file, import_extra, unique_names

WEIGHTS = "model.safetensors"


def _beside(
    member: str, string: ModelString, metadata: Mapping[str, str]
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Metadata from timm's config.json beside a weights file, and notes on it."""
    if string.file is None:
        return {}, ()
    options, notes = metadata_beside(string.file, member)
    if {"mean", "std"} <= {*metadata} - {*string.options}:  # the file itself comes first
        options = {key: value for key, value in options.items() if key in ("classes", "license")}
    return options, notes


def _evaluated(config: Any, member: str) -> tuple[int, ...] | None:
    """What timm resizes to before it cuts the centre out; None where it puts a border around."""
    if (config.crop_pct or 1) > 1:
        return None
    return preprocess_of(config.to_dict(), f"timm:{member}").resize


def _unfit(config: Any, string: ModelString) -> str:
    """Why its published weights can be no teacher; empty where they can."""
    if string.weights != PRETRAINED or config.num_classes:
        return ""
    return (
        "has weights without a classifier, which know no classes: give others of its weights, or "
        "your own by @FILE; a student can start from them"
    )


def _resample(body: nn.Module, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    """With position embeddings interpolated as timm does it when it loads weights."""
    change = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    if change is None:
        return {}
    # Where it fails the shapes are refused, as for every other file.
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return change(dict(tensors), body)
    return {}


def takes_size(member: str) -> bool:
    """Whether it is built for one size, as transformers are; others take any."""
    config = _configuration(import_extra("timm"), member)
    return config is not None and bool(config.fixed_input_size)


def _configuration(timm: Any, member: str) -> Any:
    """Timm's configuration of its weights for this name and tag; None if it has none."""
    try:
        return timm.get_pretrained_cfg(member)
    except RuntimeError:
        tags = timm.list_pretrained(f"{member.partition('.')[0]}.*")
        raise UnknownNameError("timm weights", member, tags) from None


def _create(member: str, **options: Any) -> nn.Module:
    return built(f"timm:{member}", lambda: import_extra("timm").create_model(member, **options))


def _pretrained(
    member: str, config: Any, classes: int | None, options: Mapping[str, Any]
) -> Trained:
    repository = config.hf_hub_id
    if not repository:
        raise RequestError(f"timm has no weights for {member} on the hub; give timm:{member}@FILE")
    file = hub_file(repository, config.hf_hub_filename or WEIGHTS)
    own = {} if classes is None else {"num_classes": classes}
    overlay = {"file": str(file)}
    body = _create(member, pretrained=True, pretrained_cfg_overlay=overlay, **own, **options)
    fresh = classes not in (None, config.num_classes)
    note = f"; its last layer starts afresh for {classes} classes" if fresh else ""
    if (size := options.get("img_size")) not in (None, tuple(config.input_size[1:])):
        note += f"; what depends on positions is interpolated to {size[0]}x{size[1]}"
    return Trained(body, (f"weights {repository} of the hub{note}",))


def _preprocess(config: Any) -> Preprocess:
    rows, columns = config.input_size[1:]
    how = interpolation(config.interpolation)
    return Preprocess(tuple(config.mean), tuple(config.std), SMALLEST, (rows, columns), how)


def _classes(member: str, config: Any) -> tuple[str, ...]:
    """The class names of timm, if the weights are for ImageNet."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if config.label_names:
        return tuple(config.label_names)
    subset = infer_imagenet_subset(config.to_dict() | {"architecture": member})
    if not subset:
        return ()
    info = ImageNetInfo(subset)
    return unique_names([info.index_to_description(place) for place in range(config.num_classes)])


class TimmFamily(AbstractModelFamily):
    """Networks of timm."""

    slug = "timm"

    def design(self, member: str, string: ModelString, metadata: Mapping[str, str]) -> Design:
        """A timm network, by its name with or without a tag (`resnet18`, `resnet18.a1_in1k`)."""
        timm = import_extra("timm")
        if not timm.is_model(member):
            raise UnknownNameError("timm model", member.partition(".")[0], timm.list_models())
        config = _configuration(timm, member)
        if config is None and string.weights == PRETRAINED:
            raise RequestError(f"timm has no weights for {member}; give timm:{member}@FILE")
        says, notes = _beside(member, string, metadata)
        metadata = {**says, **metadata}
        size = requested_size(metadata)
        options = {"img_size": size} if size and takes_size(member) else {}
        design = Design(
            lambda classes: _create(member, num_classes=classes, **options),
            smallest=SMALLEST,
            metadata=says,
            notes=notes,
            trained=lambda classes: _pretrained(member, config, classes, options),
            resample=_resample,
        )
        if config is None:
            return design
        return replace(
            design,
            channels=config.input_size[0],
            preprocess=_preprocess(config),
            native=config.input_size[1:],
            evaluated=_evaluated(config, member),
            classes=_classes(member, config),
            licence=config.license or "",
            unfit=_unfit(config, string),
        )
