"""Image processors of transformers: every key of every class is known, and what a network sees
is what the library would have shown it."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from collegium.errors import RequestError
from collegium.models.libraries.config_keys import HF_PROCESSOR, USED, unknown
from collegium.models.network import Network

transformers = pytest.importorskip("transformers", reason="needs the extra hf")
from collegium.models.libraries import processors  # noqa: E402
from collegium.models.libraries.hf import quiet  # noqa: E402
from collegium.models.libraries.processors import (  # noqa: E402
    ProcessorSpec,
    _find,
    processor_names,
    read_processor,
)

SIDE = 40
NEEDS_TORCHVISION = ("PPLCNetImageProcessor", "TimmWrapperImageProcessor")
"""Which transformers brings for torchvision alone."""


def classes() -> list[str]:
    with quiet():
        return sorted({name for name in processor_names().values() if name})


def test_every_key_of_every_class_is_known() -> None:
    """A key that the library adds fails here until somebody says what becomes of it."""
    found: dict[str, list[str]] = {}
    has_torchvision = importlib.util.find_spec("torchvision") is not None
    for name in classes():
        with quiet():
            kind = _find(name)
            known = name not in NEEDS_TORCHVISION or has_torchvision
            # timm's takes timm's configuration, whose words stand in a table of their own.
            own = kind().to_dict() if known and not name.startswith("TimmWrapper") else {}
        words = processors.keys_of(kind) if known else ()
        for word in unknown(HF_PROCESSOR, {*words, *own}):
            found.setdefault(word, []).append(name)
    assert len(classes()) >= 20
    assert not found or set(found) <= {"args", "kwargs", "self"}


SQUARE, EDGE = {"height": 48, "width": 48}, {"shortest_edge": 48}
FOLLOWED: dict[str, dict[str, Any]] = {
    "BeitImageProcessor": {"size": 48},
    "BitImageProcessor": {"size": EDGE, "crop_size": 40},
    "CLIPImageProcessor": {"size": EDGE, "crop_size": SQUARE},
    "ConvNextImageProcessor": {"size": EDGE},
    "DeiTImageProcessor": {"size": 48, "crop_size": 40},
    "EfficientNetImageProcessor": {"size": SQUARE},
    "LevitImageProcessor": {"size": EDGE, "crop_size": 48},
    "MobileNetV1ImageProcessor": {"size": EDGE, "crop_size": 40},
    "MobileNetV2ImageProcessor": {},
    "MobileViTImageProcessor": {"size": {"shortest_edge": 64}, "crop_size": 48},
    "PerceiverImageProcessor": {"size": 48, "crop_size": 56},
    "PoolFormerImageProcessor": {"size": EDGE, "crop_size": 48},
    "PvtImageProcessor": {"size": 48},
    "SegformerImageProcessor": {"size": 48},
    "SiglipImageProcessor": {"size": SQUARE},
    "TextNetImageProcessor": {"size": {"shortest_edge": 50}},
    "ViTImageProcessor": {},
}
REFUSED = {
    "DonutImageProcessor": {},  # it pads to 2560x1920
    "ImageGPTImageProcessor": {},
    "Siglip2ImageProcessor": {},
}
GEMMA = "Gemma3ImageProcessor"


def test_every_class_is_followed_or_refused() -> None:
    assert set(classes()) == {*FOLLOWED, *REFUSED, *NEEDS_TORCHVISION, GEMMA}


CHANGES: list[dict[str, Any]] = [
    {},
    {"do_normalize": False},
    {"do_normalize": None},
    {"do_rescale": False, "do_normalize": True, "image_mean": [50.0] * 3, "image_std": [60.0] * 3},
    {"rescale_factor": 1 / 127.5, "do_normalize": True, "image_mean": [1.0, 0.9, 0.8]},
    {"image_mean": 0.25, "image_std": 0.5, "do_normalize": True},
    {"do_flip_channel_order": True},
    {"do_convert_rgb": True, "do_reduce_labels": True},
    {"rescale_offset": True, "rescale_factor": 1 / 127.5},
    {"include_top": False},
    {"resample": 2},
    {"resample": 3, "do_center_crop": None},
    {"crop_pct": 1.0, "data_format": "channels_first", "return_tensors": None},
]


def shown(
    content: dict[str, Any], name: str, pixels_HWD: Any, sight: ProcessorSpec | None = None
) -> tuple[Any, Any]:
    """One picture as the library shows it, and as we do."""
    with quiet():
        sight = sight or read_processor(content, "", 3, 1)
        processor = _find(name)(**content)
        theirs_DHW = processor(images=Image.fromarray(pixels_HWD), return_tensors="np")
    preprocess = sight.preprocess.for_views(*pixels_HWD.shape[:2])
    network = Network(nn.Identity(), preprocess, "abc")
    ours_BDHW = network.prepare(torch.from_numpy(pixels_HWD).permute(2, 0, 1)[None] / 255)
    return np.asarray(theirs_DHW["pixel_values"][0]), ours_BDHW[0].numpy()


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_network_sees_what_the_library_would_have_shown_it(name: str) -> None:
    """The same size and, in the middle of large plain patches, the same numbers."""
    draw = np.random.default_rng(3)
    for change in CHANGES:
        content = {"image_processor_type": name, **FOLLOWED[name], **change}
        known = set(processors.keys_of(_find(name)))
        if not set(change) <= known:
            continue
        colour = draw.integers(20, 230, 3, np.uint8)
        pixels_HWD = np.broadcast_to(colour, (SIDE, SIDE, 3)).copy()
        theirs_DHW, ours_DHW = shown(content, name, pixels_HWD)
        assert theirs_DHW.shape == ours_DHW.shape, change
        reach = max(float(np.abs(theirs_DHW).max()), 1.0)
        assert np.abs(theirs_DHW - ours_DHW).max() < 0.01 * reach, change


CUT: list[tuple[str, dict[str, Any]]] = [
    *((name, words) for name, words in FOLLOWED.items() if words),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 32 / 48}),
    ("PoolFormerImageProcessor", {"size": EDGE, "crop_size": 41, "crop_pct": 0.7}),
    ("ViTImageProcessor", {"size": 64, "do_center_crop": True, "crop_size": 39}),
    ("ViTImageProcessor", {"size": SQUARE, "do_center_crop": True, "crop_size": SQUARE}),
    ("CLIPImageProcessor", {"size": EDGE, "crop_size": {"height": 32, "width": 24}}),
    ("ViTImageProcessor", {"size": {"height": 40, "width": 60}, "do_center_crop": True,
                           "crop_size": {"height": 30, "width": 50}}),
    ("ViTImageProcessor", {"size": 8, "do_center_crop": True, "crop_size": 6}),
    ("ViTImageProcessor", {"do_resize": False}),
]  # fmt: skip
ROUNDED = ("PerceiverImageProcessor",)
"""Which cut first, and to a whole pixel of the picture."""


@pytest.mark.parametrize(("name", "words"), CUT)
def test_a_network_sees_the_part_the_library_would_have_shown_it(
    name: str, words: dict[str, Any]
) -> None:
    """Whatever is cut off, of squares and of others, pixel by pixel."""
    content = {"image_processor_type": name, **words}
    sight = read_processor(content, "", 3, 1)
    for rows, columns in ((SIDE, SIDE), (64, 64), (SIDE, 60), (60, SIDE)):
        kept = name == "TextNetImageProcessor"  # gives what is no square, which is told
        if name in ROUNDED or (kept and rows != columns):
            continue
        generator = np.random.default_rng(rows)
        pixels_HWD = generator.integers(90, 166, (rows, columns, 3), np.uint8)
        theirs_DHW, ours_DHW = shown(content, name, pixels_HWD, sight)
        assert theirs_DHW.shape == ours_DHW.shape
        assert np.abs(theirs_DHW - ours_DHW).max() < 0.03


def test_a_crop_before_resizing_is_met_within_a_pixel() -> None:
    content = {"image_processor_type": "PerceiverImageProcessor"}
    sight = read_processor(content, "", 3, 1)
    assert (sight.preprocess.size, sight.preprocess.resize) == ((224, 224), (256,))


@pytest.mark.parametrize("how", [0, 2, 3])
def test_pictures_are_resized_alike(how: int) -> None:
    for side in (24, 64, 72):
        pixels_HWD = np.random.default_rng(0).integers(90, 166, (SIDE, SIDE, 3), np.uint8)
        content = {"image_processor_type": "ViTImageProcessor", "size": side, "resample": how}
        theirs_DHW, ours_DHW = shown(content, "ViTImageProcessor", pixels_HWD)
        # Where the middle of a pixel lies between two, nearest may take either.
        assert np.mean(np.abs(theirs_DHW - ours_DHW) > 0.02) < (0 if how else 0.4) + 1e-9


@pytest.mark.parametrize(("how", "filter_"), [(1, "Lanczos"), (4, "box"), (5, "Hamming")])
def test_a_filter_that_we_have_not_is_told(how: int, filter_: str) -> None:
    content = {"image_processor_type": "ViTImageProcessor", "size": 24, "resample": how}
    (note,) = read_processor(content, "", 3, 1).notes
    assert filter_ in note


def test_a_share_that_nobody_asks_to_cut_off_is_left() -> None:
    """The file names no class and no crop; that of the network's class is only its default."""
    words: dict[str, Any] = {"size": 32, "image_mean": 0.5, "image_std": 0.5}
    sight = read_processor(words, "resnet", 3, 1)
    assert sight.preprocess.for_views(32, 32).resize is None
    assert "no crop_pct; the 0.875 of its network's class is not used" in sight.notes[0]
    asked = read_processor(words | {"crop_pct": 32 / 48}, "resnet", 3, 1)
    assert (asked.preprocess.resize, asked.notes) == ((48,), ())
    asked = read_processor(words | {"size": 48, "do_center_crop": True, "crop_size": 32},
                           "resnet", 3, 1)  # fmt: skip
    assert asked.preprocess.resize == (48,)
    assert read_processor(words | {"size": 384}, "resnet", 3, 1).notes == ()


def test_words_that_its_class_heeds_otherwise_are_told_or_refused() -> None:
    flipped = {"do_flip_channel_order": True, "do_rescale": True, "do_normalize": True,
               "image_mean": [0.4] * 3, "image_std": [0.2] * 3, "size": 32}  # fmt: skip
    with pytest.raises(RequestError, match=r"treats do_normalize true .* names no class; give"):
        read_processor(flipped, "resnet", 3, 1)
    named = flipped | {"image_processor_type": "MobileViTImageProcessor"}
    assert "treats do_normalize true differently" in read_processor(named, "", 3, 1).notes[-1]
    offset = {"image_processor_type": "EfficientNetImageProcessor", "do_normalize": False,
              "rescale_factor": 1 / 127.5, "rescale_offset": True, "size": SQUARE}  # fmt: skip
    sight = read_processor(offset, "", 3, 1)
    assert sight.preprocess.std == (0.25,) * 3  # include_top is its default: divided once more
    assert "treats do_normalize false differently" in sight.notes[0]
    without = read_processor(offset | {"include_top": False}, "", 3, 1)
    assert (without.preprocess.std, without.notes) == ((0.5,) * 3, ())
    assert (
        read_processor(offset | {"do_normalize": True, "include_top": False}, "", 3, 1).notes == ()
    )


@pytest.mark.parametrize(
    ("content", "model", "says"),
    [
        *[({"image_processor_type": name}, "vit", "border|no pixels|makes|cannot be used")
          for name in REFUSED],
        ({"image_processor_type": "MineImageProcessor"}, "vit", "'MineImageProcessor' is none of"),
        ({"do_color_quantize": True}, "vit", "do_color_quantize"),
        ({"do_pan_and_scan": True, "image_processor_type": GEMMA}, "x", "do_pan_and_scan"),
        ({"do_pad": True, "pad_size": {"height": 300, "width": 300}}, "vit", "border"),
        ({"do_resize": False, "do_center_crop": True, "crop_size": 224}, "vit", "border"),
        ({"do_resize": False, "do_center_crop": True, "crop_size": 32}, "vit", "to one size"),
        ({"size": 32, "do_center_crop": True, "crop_size": 40}, "vit", "border"),
        ({"do_resize": True, "size": {"longest_edge": 5}}, "vit", "cannot be used"),
        ({"do_resize": True, "size": "large"}, "vit", "cannot be used"),
        ({"do_normalize": True, "image_mean": [0.5] * 5}, "vit", "cannot be used"),
        ({"image_std": [0.0, 1, 1]}, "vit", "cannot be used|channel by channel"),
        ({"image_std": [-1.0, 1, 1]}, "vit", "channel by channel"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused_with_what_would_work(
    content: dict[str, Any], model: str, says: str
) -> None:
    with quiet(), np.errstate(all="ignore"), pytest.raises(RequestError, match=says) as refused:
        read_processor(content, model, 3, 1)
    assert "?mean=" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_without_a_class_has_that_of_its_words_else_of_its_network() -> None:
    words = {
        "do_flip_channel_order": True,
        "do_rescale": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": 32},
    }
    for model in ("mobilevit", "resnet", "vit"):
        sight = read_processor(words, model, 3, 1)
        assert sight.preprocess.channel_order == "bgr"
        assert (sight.preprocess.mean, sight.preprocess.std) == ((0.0,) * 3, (1.0,) * 3)
        assert sight.preprocess.size == (32, 32)
        assert any("no crop" in note for note in sight.notes)
        assert any("names no class" in note for note in sight.notes) == (model != "mobilevit")
    assert read_processor({"size": 40}, "mobilenet_v2", 3, 1).preprocess.mean == (0.5,) * 3
    assert "PLAIN" not in str(read_processor({"size": 40}, "unheard of", 3, 1).notes)
    assert "names no class" in read_processor({"size": 40}, "unheard of", 3, 1).notes[0]


def test_words_nobody_knows_are_told() -> None:
    content = {"image_processor_type": "ViTImageProcessorFast", "size": 8, "warp": 3}
    assert read_processor(content, "", 3, 1).notes == (
        "ViTImageProcessor ignores warp of its processor file",
    )
    content = {"feature_extractor_type": "ViTFeatureExtractor", "do_flip_channel_order": True}
    (note,) = read_processor(content, "", 3, 1).notes
    assert "ignores do_flip_channel_order" in note
    assert HF_PROCESSOR["do_flip_channel_order"] == USED


def test_networks_of_one_channel() -> None:
    content = {"image_processor_type": "ViTImageProcessor", "image_mean": 0.1, "image_std": 0.3}
    sight = read_processor(content, "", 1, 1)
    assert sight.preprocess.mean == (0.1,)
    assert sight.preprocess.channel_order == "rgb"
    with pytest.raises(RequestError, match="expected"):
        read_processor(content | {"do_convert_rgb": True}, "", 1, 1)


def test_ratios_that_are_kept_are_known() -> None:
    kept = {"image_processor_type": "MobileNetV2ImageProcessor", "size": {"shortest_edge": 32}}
    assert not read_processor(kept | {"crop_size": 32}, "", 3, 1).keeps_ratio
    assert read_processor(kept | {"do_center_crop": False}, "", 3, 1).keeps_ratio


def test_both_places_of_a_processor(tmp_path: Path) -> None:
    """transformers 5 keeps all processors of a network in one file."""
    from collegium.models.libraries.hf import _processor

    words = {"image_processor_type": "ViTImageProcessor", "size": 8}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": words}))
    assert _processor(str(tmp_path)) == words
