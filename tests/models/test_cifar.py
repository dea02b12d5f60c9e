"""The CIFAR networks are the field's: sizes, numbers, names, hidden layers, given weights."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from collegium.models.zoo.cifar import CIFAR_MODELS
from collegium.models.zoo.cifar.densenet import DenseLayer, transition
from collegium.models.zoo.cifar.resnet import PaddedSubsampling
from collegium.models.zoo.cifar.shufflenet import shuffle

# Parameters with 10 and 100 classes. Option A: the counts of the ResNet paper's networks; the rest:
# counted in RepDistiller's networks (densenet121: pytorch-cifar's).
PARAMETERS = {
    "resnet8": (75_290, 81_140),
    "resnet14": (172_506, 178_356),
    "resnet20": (269_722, 275_572),
    "resnet32": (464_154, 470_004),
    "resnet44": (658_586, 664_436),
    "resnet56": (853_018, 858_868),
    "resnet110": (1_727_962, 1_733_812),
    "resnet8b": (78_042, 83_892),
    "resnet14b": (175_258, 181_108),
    "resnet20b": (272_474, 278_324),
    "resnet32b": (466_906, 472_756),
    "resnet44b": (661_338, 667_188),
    "resnet56b": (855_770, 861_620),
    "resnet110b": (1_730_714, 1_736_564),
    "resnet8x4": (1_210_410, 1_233_540),
    "resnet32x4": (7_410_730, 7_433_860),
    "wrn-16-1": (175_066, 180_916),
    "wrn-16-2": (691_674, 703_284),
    "wrn-40-1": (563_930, 569_780),
    "wrn-40-2": (2_243_546, 2_255_156),
    "vgg8": (3_918_858, 3_965_028),
    "vgg11": (9_231_114, 9_277_284),
    "vgg13": (9_416_010, 9_462_180),
    "vgg16": (14_728_266, 14_774_436),
    "vgg19": (20_040_522, 20_086_692),
    "densenet121": (6_956_298, 7_048_548),
    "mobilenetv2": (697_546, 812_836),
    "shufflenetv1": (862_768, 949_258),
    "shufflenetv2": (1_263_278, 1_355_528),
}

# The first three logits of RepDistiller's own networks for the second of two images, both the
# images and the state being `fill`ed by a fixed rule that depends on the key names.
REFERENCE_LOGITS = {
    "resnet8b": (4.1384, -1.5717, -4.3912),
    "resnet20b": (34.4742, 10.7009, -52.0840),
    "resnet8x4": (1.7799, 2.2809, -1.7279),
    "wrn-16-1": (1.0005, -3.1907, -22.1096),
    "wrn-16-2": (-4.3302, -1.0064, 9.6523),
    "vgg8": (6.4696, -5.7344, 3.7581),
    "vgg11": (-0.8829, -0.3329, 4.4622),
    "mobilenetv2": (-360.4210, -425.2995, 334.3592),
    "shufflenetv1": (103.9388, 271.7832, -26.1612),
    "shufflenetv2": (-21.4212, -18.9720, 9.9797),
}

# Sides of the map each of these modules leaves for a 32x32 image.
LAST_OF_EACH_RESOLUTION = {
    "resnet20": {"layer1": 32, "layer2": 16, "layer3": 8},
    "resnet20b": {"layer1": 32, "layer2": 16, "layer3": 8},
    "resnet8x4": {"layer1": 32, "layer2": 16, "layer3": 8},
    "wrn-16-1": {"block2.layer.0.relu1": 32, "block3.layer.0.relu1": 16, "relu": 8},
    "vgg8": {"block0": 32, "block1": 16, "block2": 8, "block4": 4},
    "densenet121": {"dense1": 32, "dense2": 16, "dense3": 8, "dense4": 4},
    "mobilenetv2": {"blocks.1": 16, "blocks.2": 8, "blocks.4": 4, "conv2": 2},
    "shufflenetv1": {"relu": 32, "layer1": 16, "layer2": 8, "layer3": 4},
    "shufflenetv2": {"relu1": 32, "layer1": 16, "layer2": 8, "relu2": 4},
}
LINEAR_BY_DESIGN = {"blocks.1", "blocks.2", "blocks.4"}  # MobileNetV2's bottlenecks

# Correct answers for the first 512 CIFAR-10 test images, measured in float32.
CORRECT_OF_512 = {"resnet20": 467, "resnet32": 478, "resnet44": 477, "resnet56": 482}


def on_meta(name, classes=10):
    with torch.device("meta"):
        return CIFAR_MODELS[name](classes).eval()


def noise(seed, shape):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(tuple(shape))).float()


def fill(net):
    for key, value in net.state_dict().items():
        drawn = noise(zlib.crc32(key.encode()), value.shape)
        if value.ndim > 1:
            value.copy_(drawn * (2 / value[0].numel()) ** 0.5)
        elif key.endswith("running_var"):
            value.copy_((0.1 * drawn).exp())
        elif not key.endswith("num_batches_tracked"):
            value.copy_(0.1 * drawn + key.endswith("weight"))
    return net.eval()


def record(net, images):
    """Outputs of all modules by path, in the order they end, each beside a copy made at once."""
    maps = {}

    def keep(path):
        return lambda module, args, output: maps.update({path: (output, output.clone())})

    for path, module in net.named_modules():
        module.register_forward_hook(keep(path))
    net(images)
    return maps


def test_every_network_is_counted_here():
    assert set(PARAMETERS) == set(CIFAR_MODELS)


@pytest.mark.parametrize("name", CIFAR_MODELS)
def test_parameter_counts(name):
    counts = [sum(p.numel() for p in on_meta(name, c).parameters()) for c in (10, 100)]
    assert tuple(counts) == PARAMETERS[name]


@pytest.mark.parametrize("name", REFERENCE_LOGITS)
def test_logits_equal_the_reference(name):
    with torch.no_grad():
        logits_BC = fill(CIFAR_MODELS[name](10))(noise(0, (2, 3, 32, 32)))
    expected = torch.tensor(REFERENCE_LOGITS[name])
    torch.testing.assert_close(logits_BC[1, :3], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", CIFAR_MODELS)
@pytest.mark.parametrize("size", [(32, 32), (47, 64)])
def test_any_size_from_32_gives_logits(name, size):
    images = torch.empty(2, 3, *size, device="meta")
    assert on_meta(name, 7)(images).shape == (2, 7)


@pytest.mark.parametrize("name", LAST_OF_EACH_RESOLUTION)
def test_named_modules_end_each_resolution(name):
    maps = record(on_meta(name), torch.empty(2, 3, 32, 32, device="meta"))
    sides = {path: output.shape[-1] for path, (output, _) in maps.items() if output.ndim == 4}
    expected = LAST_OF_EACH_RESOLUTION[name]
    assert {path: sides[path] for path in expected} == expected
    assert set(sides.values()) == set(expected.values())
    last_child = {side: path for path, side in sides.items() if "." not in path}
    for path, side in expected.items():
        assert "." in path or last_child[side] == path


@pytest.mark.parametrize("name", sorted(set(LAST_OF_EACH_RESOLUTION) - {"densenet121"}))
def test_recorded_maps_are_activated_and_stay_as_they_were(name):
    with torch.no_grad():
        maps = record(CIFAR_MODELS[name](10), noise(1, (2, 3, 32, 32)))
    for path, (output, copy) in maps.items():
        assert torch.equal(output, copy), path
    for path in set(LAST_OF_EACH_RESOLUTION[name]) - LINEAR_BY_DESIGN:
        assert maps[path][0].min() == 0, path


@pytest.mark.parametrize("name", ["resnet8", "resnet8b", "wrn-16-1", "mobilenetv2", "shufflenetv2"])
def test_a_gradient_reaches_every_parameter(name):
    net = CIFAR_MODELS[name](10)
    net(noise(2, (2, 3, 32, 32))).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_initial_values_come_from_the_global_seed():
    def weights(seed):
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(CIFAR_MODELS["resnet8"](10).parameters())

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_initial_values_are_the_fields():
    torch.manual_seed(0)
    convolution, normalisation, _ = CIFAR_MODELS["vgg8"](10).block3
    fan_out = 9 * convolution.out_channels
    assert convolution.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.01)
    assert not convolution.bias.any()
    assert (normalisation.weight == 1).all()
    assert not normalisation.bias.any()


def test_option_a_pads_channels_on_both_sides():
    x_BDHW = torch.arange(1.0, 33.0).reshape(1, 2, 4, 4)
    out_BDHW = PaddedSubsampling(2, 4)(x_BDHW)
    assert out_BDHW.shape == (1, 4, 2, 2)
    assert not out_BDHW[0, [0, 3]].any()
    assert out_BDHW[0, 1].tolist() == [[1, 3], [9, 11]]
    assert out_BDHW[0, 2].tolist() == [[17, 19], [25, 27]]


def test_shuffle_deals_groups_out_in_turn():
    x_BDHW = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert shuffle(x_BDHW, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_dense_layers_put_new_channels_behind_the_old():
    x_BDHW = noise(3, (2, 8, 5, 5))
    out_BDHW = DenseLayer(8, 4)(x_BDHW)
    assert out_BDHW.shape == (2, 12, 5, 5)
    assert torch.equal(out_BDHW[:, :8], x_BDHW)


@pytest.mark.parametrize("side", [6, 7])
def test_transition_equals_the_papers_order(side):
    pool, convolution = halve = transition(8)
    x_BDHW = noise(4, (2, 8, side, side))
    torch.testing.assert_close(halve(x_BDHW), pool(convolution(x_BDHW)))


@pytest.fixture
def weights_folder():
    folder = os.environ.get("COLLEGIUM_WEIGHTS", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("COLLEGIUM_WEIGHTS names no folder with resnet20.safetensors and its kin")
    return Path(folder)


@pytest.fixture
def first_test_images():
    """The first 512 test images, normalised as the given weights want it, and their labels."""
    folder = Path(os.environ.get("COLLEGIUM_DATA", ""))
    file = folder / "cifar-10-batches-bin" / "test_batch.bin"
    if not file.is_file():
        pytest.skip("COLLEGIUM_DATA names no folder that holds cifar-10-batches-bin")
    rows = torch.from_numpy(np.fromfile(file, np.uint8, 512 * 3073)).reshape(512, 3073)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    return (rows[:, 1:].reshape(-1, 3, 32, 32) / 255 - mean) / std, rows[:, 0]


@pytest.mark.data
@pytest.mark.parametrize("name", CORRECT_OF_512)
def test_given_weights_load_and_answer(name, weights_folder, first_test_images):
    net = CIFAR_MODELS[name](10).eval()
    net.load_state_dict(load_file(weights_folder / f"{name}.safetensors"), strict=True)
    images, labels = first_test_images
    with torch.no_grad():
        correct = (net(images).argmax(1) == labels).sum().item()
    # Another device or fused arithmetic may move one image, not two.
    assert abs(correct - CORRECT_OF_512[name]) <= 1
