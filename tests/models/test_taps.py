"""Hidden layers are read as maps, without editing a network and without keeping more."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from collegium.errors import RequestError, UnknownNameError
from collegium.losses import attention, flow
from collegium.models.features.discover import survey
from collegium.models.features.hooks import FeatureHooks
from collegium.models.zoo.small import SMALL_MODELS
from tests.models.shapes import KINDS, ChannelsLast, Convolutions, Transformer


def outputs(network: nn.Module, images: Tensor) -> dict[str, object]:
    """What every module gave, by its path."""
    found: dict[str, object] = {}
    for path, module in network.named_modules():
        module.register_forward_hook(lambda m, i, o, path=path: found.__setitem__(path, o))
    network(images)
    return found


def test_taps_give_what_the_modules_returned_and_forget_it() -> None:
    network = SMALL_MODELS["cnn"](10)
    hooks = FeatureHooks(network, ["layer3", "layer1"])
    images = torch.randn(2, 1, 8, 8)
    network(images)
    maps = hooks.take()
    assert list(maps) == ["layer3", "layer1"]
    assert torch.equal(maps["layer1"], network.layer1(images))
    with pytest.raises(RequestError, match=r"layer 'layer3' of the network .* not in this forward"):
        hooks.take()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_found_can_be_read_in_batches(kind: str) -> None:
    make, image, expected = KINDS[kind]
    network = make().eval()
    hooks = FeatureHooks(network, list(expected))
    network(torch.randn(3, 3, *image))
    assert {name: m.shape for name, m in hooks.take().items()} == {
        name: (3, *shape) for name, shape in expected.items()
    }


@pytest.mark.parametrize("extra", [0, 1, 6])
def test_a_token_stands_where_its_patch_was_and_extra_tokens_nowhere(extra: int) -> None:
    network = Transformer((16, 24), extra, 2)
    images = torch.randn(2, 3, 16, 24)
    tokens_BND = outputs(network, images)["norm"]
    hooks = FeatureHooks(network, ["norm@4x6"])
    network(images)
    map_BDHW = hooks.take()["norm@4x6"]
    for row in range(4):
        for column in range(6):
            token_BD = tokens_BND[:, extra + 6 * row + column]  # type: ignore[index]
            assert torch.equal(map_BDHW[:, :, row, column], token_BD)


def test_channels_are_brought_to_the_front() -> None:
    network, images = ChannelsLast(), torch.randn(2, 3, 32, 32)
    given_BHWD = outputs(network, images)["stages.1"]
    hooks = FeatureHooks(network, ["stages.1@channels_last"])
    network(images)
    assert torch.equal(hooks.take()["stages.1@channels_last"].permute(0, 2, 3, 1), given_BHWD)


@pytest.mark.parametrize("layer", ["norm@4x6", "stages.0@channels_last", "two"])
def test_means_over_positions_are_those_of_the_map(layer: str) -> None:
    make = {"norm@4x6": lambda: Transformer((16, 24), 1, 2), "two": Convolutions}
    network = make.get(layer, ChannelsLast)()
    hooks = FeatureHooks(network, [layer, f"{layer}@mean"])
    network(torch.randn(2, 3, 16, 24) if layer == "norm@4x6" else torch.randn(2, 3, 32, 32))
    whole, mean = hooks.take().values()
    torch.testing.assert_close(whole.mean(dim=(2, 3), keepdim=True), mean)


def test_a_strength_is_a_map_with_the_attention_of_the_whole() -> None:
    network = Convolutions()
    hooks = FeatureHooks(network, ["two", "two@strength"])
    network(torch.randn(2, 3, 32, 32))
    whole, strength = hooks.take().values()
    torch.testing.assert_close(strength[:, 0], whole.square().mean(dim=1).sqrt())
    other = torch.randn(2, 5, *whole.shape[2:])
    torch.testing.assert_close(attention(other, strength), attention(other, whole))


@pytest.mark.parametrize("sizes", [((6, 6), (3, 3)), ((5, 7), (2, 3)), ((2, 3), (4, 9))])
def test_a_flow_is_that_of_the_two_maps(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    network = nn.ModuleDict({"one": nn.Identity(), "two": nn.Identity()})
    hooks = FeatureHooks(network, ["one", "one+two@flow", "two"])
    maps = [torch.randn(2, width, *size) for width, size in zip((4, 5), sizes, strict=True)]
    for module, given in zip(network.values(), maps, strict=True):
        module(given)
    first, between, second = hooks.take().values()
    torch.testing.assert_close(between[..., 0], flow(first, second))
    small = [F.adaptive_avg_pool2d(m, tuple(map(min, *sizes))).flatten(2) for m in maps]
    product = torch.einsum("bdp,bep->bde", *small) / small[0].shape[2]
    torch.testing.assert_close(between[..., 0], product)


def test_a_flow_may_go_upwards_and_a_layer_be_called_twice() -> None:
    network = nn.ModuleDict({"one": nn.Identity(), "two": nn.Identity()})
    hooks = FeatureHooks(network, ["one+two@flow"])
    early, first, second = torch.randn(3, 2, 4, 3, 3)
    network["two"](second)
    network["one"](early)
    network["one"](first)
    torch.testing.assert_close(hooks.take()["one+two@flow"][..., 0], flow(first, second))


@pytest.mark.parametrize("summary", ["one@mean", "one@strength", "one+two@flow"])
def test_summaries_of_low_precision_are_made_in_float32(summary: str) -> None:
    network = nn.ModuleDict({"one": nn.Identity(), "two": nn.Identity()})
    hooks = FeatureHooks(network, [summary])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for module in network.values():
            module(torch.full((2, 4, 3, 3), 300.0, dtype=torch.half))
        found = hooks.take()[summary]
    assert found.dtype == torch.float32
    assert found.unique().tolist() == pytest.approx([9e4 if "flow" in summary else 300.0])


def test_the_tensor_in_a_tuple_is_read() -> None:
    network, images = Convolutions(), torch.randn(2, 3, 8, 8)
    hooks = FeatureHooks(network, ["two", "two.inner"])
    network(images)
    whole, inner = hooks.take().values()
    assert torch.equal(whole, inner.relu())
    assert not torch.equal(whole, inner)


def test_only_what_is_asked_for_is_kept() -> None:
    network = SMALL_MODELS["cnn"](10).eval()
    alive: list[weakref.ref[Tensor]] = []
    network.layer1.register_forward_hook(lambda m, i, o: alive.append(weakref.ref(o)))
    network.layer3.register_forward_hook(lambda m, i, o: alive.append(weakref.ref(o)))
    hooks = FeatureHooks(network, ["layer3", "layer1@mean", "layer1@strength"])
    with torch.no_grad():
        network(torch.randn(2, 1, 8, 8))
    gc.collect()
    assert [reference() is not None for reference in alive] == [False, True]
    hooks.take()
    gc.collect()
    assert alive[1]() is None


def test_closed_taps_leave_nothing_behind() -> None:
    network = Transformer((16, 16), 1, 2)
    hooks = FeatureHooks(network, list(survey(network, (3, 16, 16))))
    hooks.close()
    assert not any(module._forward_hooks for module in network.modules())


def test_a_tap_on_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'layer1'"):
        FeatureHooks(SMALL_MODELS["cnn"](10), ["layr1"])
