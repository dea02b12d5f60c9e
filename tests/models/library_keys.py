"""Keys of the libraries' own configuration that somebody has looked at; a new one fails a test."""

from collegium.models.libraries import config_keys

TIMM = config_keys.table(
    used="crop_mode crop_pct fixed_input_size hf_hub_filename hf_hub_id input_size interpolation "
    "label_descriptions label_names license mean num_classes std",
    # Weights lose the class of `label_offset` when timm loads them; a network that cannot take a
    # view (`min_input_size`) raises its own error.
    ignored="architecture classifier custom_load description file first_conv label_offset "
    "min_input_size notes origin_url paper_ids paper_name pool_size source state_dict tag "
    "test_crop_pct test_input_size test_pool_size url",
    refused={},
)
"""Of timm's `pretrained_cfg`."""

TORCHVISION_TRANSFORMS = config_keys.table(
    used="crop_size interpolation mean resize_size std",
    ignored="antialias",  # always done where a view becomes smaller, as Pillow does it
    refused={},
)
"""Of the preprocessing that torchvision's weights bring."""

TORCHVISION_META = config_keys.table(
    used="categories license min_size",
    ignored="_docs _file_size _metrics _ops _weight_size num_params recipe unquantized",
    refused=config_keys.TORCHVISION_META,
)
"""Of torchvision's remarks on weights."""

WEIGHTS_FILE = config_keys.table(
    used="architecture channel_order classes hf_config interpolation licence license mean "
    "normalise resize size std",
    ignored="dataset format split top1",
    refused={},
)
"""Of the metadata of a safetensors or an ONNX file. Others are their authors' own remarks."""
