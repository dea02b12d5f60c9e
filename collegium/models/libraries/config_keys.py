"""Keys of the configuration that stands beside weights: used, ignored, or a reason to refuse it.

A test compares the table with the classes of transformers, so it fails as soon as the library adds
a key.
"""

from collections.abc import Iterable, Mapping
from typing import Any

USED, IGNORED = "used", "ignored"
"""The key changes preprocessing or a message; the key changes nothing here."""
Keys = Mapping[str, str]
"""For each key `USED`, `IGNORED`, or why a file that sets it is refused."""


def table(used: str, ignored: str, refused: Keys) -> Keys:
    """Every known key, from keys separated by spaces and the reasons for those refused."""
    known = dict.fromkeys(used.split(), USED) | dict.fromkeys(ignored.split(), IGNORED)
    return known | dict(refused)


_COLOURS = "it turns pixels into numbers of colours"
HF_PROCESSOR = table(
    used="crop_pct crop_size default_to_square do_align_long_axis do_center_crop "
    "do_flip_channel_order do_normalize do_pad do_rescale do_resize do_thumbnail "
    "feature_extractor_type image_mean image_processor_type image_std include_top pad_size "
    "resample rescale_factor rescale_offset resize_short size size_divisor",
    # Images are RGB or grey before a network gets them; `do_reduce_labels` is for segmentation;
    # `auto_map` names code in a repository, which is never run. The last line is of old versions.
    ignored="data_format device disable_grouping do_convert_rgb do_reduce_labels image_seq_length "
    "input_data_format pan_and_scan_max_num_crops pan_and_scan_min_crop_size "
    "pan_and_scan_min_ratio_to_activate patch_size return_tensors "
    "_processor_class _valid_processor_keys auto_map backend processor_class reduce_labels",
    refused={
        "clusters": _COLOURS,
        "do_color_quantize": _COLOURS,
        "do_pan_and_scan": "it shows several parts of an image",
        "max_num_patches": "it cuts an image into patches, which no other network of a run can use",
    },
)
"""Keys of preprocessor_config.json, for every processor of an image classifier of transformers."""
TORCHVISION_META = {"backend": "its weights are of integers: give the network without quantisation"}
"""Keys of torchvision's weights that cannot be used, with the reason."""


def refused(keys: Keys, content: Mapping[str, Any]) -> str:
    """The first key that is set and must be refused, and why; empty if there is none.

    >>> refused({"a": USED, "b": "it turns images"}, {"a": 1, "b": True})
    'b: it turns images'
    """
    for key, use in keys.items():
        if use not in (USED, IGNORED) and content.get(key):
            return f"{key}: {use}"
    return ""


def unknown(keys: Keys, content: Iterable[str]) -> tuple[str, ...]:
    """The keys that are not in a table, sorted.

    >>> unknown({"mean": USED}, ["mean", "warp"])
    ('warp',)
    """
    return tuple(sorted(key for key in content if key not in keys))
