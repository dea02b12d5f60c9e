"""Every word that can stand beside weights, and what becomes of it.

The tests compare these tables with the libraries' own classes, so a word that a library adds has no
place here until somebody gives it one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

READ, HARMLESS = "read", "harmless"
"""It changes what a network sees, or what is said of it; it changes nothing here."""
Words = Mapping[str, str]
"""Each word with `READ`, `HARMLESS`, or what to say where it is set: such files are refused."""

_PATCHES = "it cuts a picture into patches, which no other network of a run can see"
HF_PROCESSOR: Words = {
    "clusters": "it turns pixels into numbers of colours",
    "crop_pct": READ,
    "crop_size": READ,
    "data_format": HARMLESS,
    "default_to_square": READ,
    "device": HARMLESS,
    "disable_grouping": HARMLESS,
    "do_align_long_axis": READ,
    "do_center_crop": READ,
    "do_color_quantize": "it turns pixels into numbers of colours",
    "do_convert_rgb": HARMLESS,  # pictures are RGB or grey before a network sees them
    "do_flip_channel_order": READ,
    "do_normalize": READ,
    "do_pad": READ,
    "do_pan_and_scan": "it shows several parts of a picture",
    "do_reduce_labels": HARMLESS,  # of segmentation maps
    "do_rescale": READ,
    "do_resize": READ,
    "do_thumbnail": READ,
    "image_mean": READ,
    "image_processor_type": READ,
    "image_seq_length": HARMLESS,
    "image_std": READ,
    "include_top": READ,
    "input_data_format": HARMLESS,
    "max_num_patches": _PATCHES,
    "pad_size": READ,
    "pan_and_scan_max_num_crops": HARMLESS,
    "pan_and_scan_min_crop_size": HARMLESS,
    "pan_and_scan_min_ratio_to_activate": HARMLESS,
    "patch_size": HARMLESS,
    "resample": READ,
    "rescale_factor": READ,
    "rescale_offset": READ,
    "resize_short": READ,
    "return_tensors": HARMLESS,
    "size": READ,
    "size_divisor": READ,
    # Older versions of the library.
    "_processor_class": HARMLESS,
    "_valid_processor_keys": HARMLESS,
    "auto_map": HARMLESS,  # code in a repository is never run
    "backend": HARMLESS,
    "feature_extractor_type": READ,
    "processor_class": HARMLESS,
    "reduce_labels": HARMLESS,
}
"""Of preprocessor_config.json, for every processor of an image classifier of transformers."""

HF_CONFIG: Words = {
    "id2label": READ,
    "image_size": READ,
    "num_channels": READ,
    "num_labels": READ,
    "pretrained_cfg": READ,  # of a timm network inside transformers
    "problem_type": READ,
}
"""Of config.json, those that are not about layers; the library builds the layers from the rest."""

TIMM: Words = {
    "architecture": HARMLESS,
    "classifier": HARMLESS,
    "crop_mode": READ,
    "crop_pct": READ,  # done where a file beside the weights says it, else only told
    "custom_load": HARMLESS,
    "description": HARMLESS,
    "file": HARMLESS,
    "first_conv": HARMLESS,
    "fixed_input_size": READ,
    "hf_hub_filename": READ,
    "hf_hub_id": READ,
    "input_size": READ,
    "interpolation": READ,
    "label_descriptions": READ,
    "label_names": READ,
    "label_offset": HARMLESS,  # the library takes such a class off when it loads
    "license": READ,
    "mean": READ,
    "min_input_size": HARMLESS,  # a network that cannot take a view says so
    "notes": HARMLESS,
    "num_classes": READ,
    "origin_url": HARMLESS,
    "paper_ids": HARMLESS,
    "paper_name": HARMLESS,
    "pool_size": HARMLESS,
    "source": HARMLESS,
    "state_dict": HARMLESS,
    "std": READ,
    "tag": HARMLESS,
    "test_crop_pct": HARMLESS,
    "test_input_size": HARMLESS,
    "test_pool_size": HARMLESS,
    "url": HARMLESS,
}
"""Of timm's `pretrained_cfg`."""

TORCHVISION_TRANSFORMS: Words = {
    "antialias": HARMLESS,  # always done where a view is made smaller, as for pictures of Pillow
    "crop_size": READ,
    "interpolation": READ,
    "mean": READ,
    "resize_size": READ,  # only told
    "std": READ,
}
"""Of what torchvision's weights do to pictures."""

TORCHVISION_META: Words = {
    "_docs": HARMLESS,
    "_file_size": HARMLESS,
    "_metrics": HARMLESS,
    "_ops": HARMLESS,
    "_weight_size": HARMLESS,
    "backend": "its weights are of integers: give the network without quantisation",
    "categories": READ,
    "license": READ,
    "min_size": READ,
    "num_params": HARMLESS,
    "recipe": HARMLESS,
    "unquantized": HARMLESS,
}
"""Of what torchvision says of weights."""

WEIGHTS_FILE: Words = {
    "architecture": READ,
    "channel_order": READ,
    "classes": READ,
    "dataset": HARMLESS,
    "format": HARMLESS,
    "hf_config": READ,
    "interpolation": READ,
    "licence": READ,
    "license": READ,
    "mean": READ,
    "normalise": READ,
    "resize": READ,
    "size": READ,
    "split": HARMLESS,
    "std": READ,
    "top1": HARMLESS,
}
"""Of the metadata of a safetensors or an ONNX file. Others are their authors' own remarks."""


def refused(words: Words, content: Mapping[str, Any]) -> str:
    """The first word that is set and cannot be heeded, and why; empty where there is none.

    >>> refused({"a": READ, "b": "it turns pictures"}, {"a": 1, "b": True})
    'b: it turns pictures'
    """
    for word, fate in words.items():
        if fate not in (READ, HARMLESS) and content.get(word):
            return f"{word}: {fate}"
    return ""


def unknown(words: Words, content: Iterable[str]) -> tuple[str, ...]:
    """The words that have no place in a table, in order.

    >>> unknown({"mean": READ}, ["mean", "warp"])
    ('warp',)
    """
    return tuple(sorted(word for word in content if word not in words))
