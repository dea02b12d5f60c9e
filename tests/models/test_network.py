"""Every network looks at the one view in its own terms; model strings; weights files."""

from pathlib import Path

import pytest
import torch
from torch import nn

from collegium.errors import RequestError
from collegium.models.input_spec import InputSpec
from collegium.models.network import SEES_GREY, Network, Preprocess, weights_hash
from collegium.models.registry import build_network, seeded, wrap_module
from collegium.models.weights import network_bytes, read_weights

GREY = InputSpec(("a", "b", "c"), (1, 8, 8), (0.3,), (0.4,))
COLOUR = InputSpec(("a", "b", "c"), (3, 16, 16), (0.1, 0.2, 0.3), (0.5, 0.5, 0.5))


def test_normalisation_size_and_channels_are_the_networks_own() -> None:
    network = Network(nn.Identity(), Preprocess((0.5, 0.4, 0.3), (0.1, 0.2, 0.3), 32), "abc")
    prepared = network.prepare(torch.full((2, 1, 8, 16), 0.5))
    assert prepared.shape == (2, 3, 32, 64)
    assert torch.allclose(prepared[0, :, 0, 0], torch.tensor([0.0, 0.5, 2 / 3]))
    grey = Network(nn.Identity(), Preprocess((0.0,), (1.0,)), "abc")
    colours = torch.tensor([0.0, 0.3, 0.6])[None, :, None, None].expand(1, 3, 2, 2)
    assert torch.allclose(grey.prepare(colours), torch.full((1, 1, 2, 2), 0.3))


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5, 0.5), (1.0, 1.0)), ((0.5,), (0.0,)), ((0.1,) * 3, (1.0,))]
)
def test_a_normalisation_that_cannot_be_is_refused(mean: tuple, std: tuple) -> None:
    with pytest.raises(RequestError):
        Preprocess(mean, std)


@pytest.mark.parametrize("input_spec", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("spec", ["cifar:resnet8", "small:cnn", "small:mlp"])
def test_every_family_takes_grey_and_colour(spec: str, input_spec: InputSpec) -> None:
    network = build_network(spec, input_spec).eval()
    assert network(torch.rand(2, *input_spec.image_shape)).shape == (2, 3)


@pytest.mark.parametrize("input_spec", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("spec", ["cifar:resnet8", "small:cnn", "small:mlp", "a module"])
def test_colours_are_lost_with_a_line_alone(spec: str, input_spec: InputSpec) -> None:
    if spec == "a module":
        body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network = wrap_module(body, input_spec)
    else:
        network = build_network(spec, input_spec)
    images = torch.rand(2, *input_spec.image_shape)
    network.eval()
    lost = input_spec is COLOUR and torch.allclose(network(images), network(images.flip(1)))
    assert lost == (SEES_GREY in network.origin.notes)


def test_the_start_belongs_to_the_seed_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    hashes = [weights_hash(build_network("small:cnn", GREY, seed)) for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert torch.equal(torch.rand(1), expected)
    with seeded(5):
        first = torch.rand(1)
    with seeded(5):
        assert torch.equal(first, torch.rand(1))


def test_a_saved_network_is_built_again_from_its_file_alone(tmp_path: Path) -> None:
    network = build_network("small:resnet", GREY, 3)
    file = tmp_path / "student.safetensors"
    file.write_bytes(network_bytes(network, dataset="digits"))
    assert file.read_bytes() == network_bytes(network, dataset="digits")
    read = read_weights(file)
    assert read.metadata["architecture"] == "small:resnet"
    assert set(read.tensors) == set(network.body.state_dict())
    other = InputSpec(GREY.classes, GREY.image_shape, (0.9,), (0.9,))
    again = build_network(str(tmp_path), other)  # its own normalisation, not the data's
    assert weights_hash(again) == weights_hash(network)
    images = torch.rand(2, 1, 8, 8)
    assert torch.allclose(again.eval()(images), network.eval()(images), atol=1e-5)


def test_a_plain_pt_file_is_read_without_running_anything(tmp_path: Path) -> None:
    network = build_network("small:cnn", GREY, 1)
    torch.save(network.body.state_dict(), tmp_path / "net.pt")
    again = build_network(f"small:cnn@{tmp_path / 'net.pt'}", GREY)
    assert weights_hash(again) == weights_hash(network)
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "nested.pt")
    with pytest.raises(RequestError, match="with keys epoch, state_dict"):
        build_network(f"small:cnn@{tmp_path / 'nested.pt'}", GREY)


@pytest.mark.data
def test_the_real_teachers_have_their_own_normalisation(cifar_weights: Path) -> None:
    input_spec = InputSpec(tuple("0123456789"), (3, 32, 32), (0.5,) * 3, (0.2,) * 3)
    network = build_network(f"cifar:resnet20@{cifar_weights / 'resnet20.safetensors'}", input_spec)
    assert network.preprocess.mean == (0.485, 0.456, 0.406)
    assert network.preprocess.std == (0.229, 0.224, 0.225)
