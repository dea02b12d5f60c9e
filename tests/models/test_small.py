"""The tiny networks: shapes, sizes, hidden layers, and that the wide ones learn more."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from collegium.models.zoo.small import SMALL_MODELS

PARAMETERS = {
    "mlp": 2_410,
    "mlp-wide": 38_410,
    "cnn": 1_702,
    "cnn-wide": 24_058,
    "cnn-gn": 1_702,
    "resnet": 77_754,
    "dense": 43_978,
}
GROUPED = ["cnn", "cnn-wide", "cnn-gn", "resnet", "dense"]


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_parameter_counts(name):
    assert sum(p.numel() for p in SMALL_MODELS[name](10).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", SMALL_MODELS)
@pytest.mark.parametrize("size", [(8, 8), (13, 9), (28, 28)])
def test_any_size_from_8_gives_logits(name, size):
    assert SMALL_MODELS[name](7)(torch.rand(2, 1, *size)).shape == (2, 7)


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_modules_keep_their_outputs(name):
    net, outputs = SMALL_MODELS[name](10), []
    for module in net.modules():
        module.register_forward_hook(lambda m, a, out: outputs.append((out, out.clone())))
    net(torch.rand(4, 1, 8, 8))
    assert len(outputs) > 3
    assert all(torch.equal(output, copy) for output, copy in outputs)


@pytest.mark.parametrize("name", GROUPED)
def test_three_groups_end_with_an_activated_map(name):
    net, maps = SMALL_MODELS[name](10), {}
    for path, child in net.named_children():
        child.register_forward_hook(lambda m, a, out, path=path: maps.update({path: out}))
    net(torch.rand(4, 1, 8, 8))
    last = {out.shape[-1]: path for path, out in maps.items() if out.ndim == 4}
    group = "dense" if name == "dense" else "layer"
    assert last == {8: f"{group}1", 4: f"{group}2", 2: f"{group}3"}
    assert all(maps[path].min() == 0 < maps[path].max() for path in last.values())


def test_group_norm_leaves_examples_alone():
    net, images = SMALL_MODELS["cnn-gn"](10).train(), torch.rand(6, 1, 8, 8)
    torch.testing.assert_close(net(images)[:2], net(images[:2]))
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())


def accuracy_after_training(name, images, labels, epochs=12):
    torch.manual_seed(0)
    net = SMALL_MODELS[name](10)
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(898).split(64):
            loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        answers = net.eval()(images[898:]).argmax(1)
    return (answers == labels[898:]).float().mean().item()


def test_wide_networks_learn_more_than_narrow_ones():
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    found = {n: accuracy_after_training(n, images, labels) for n in ("cnn", "cnn-wide")}
    assert found["cnn"] > 0.5
    assert found["cnn-wide"] > found["cnn"] + 0.05
