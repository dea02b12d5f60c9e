"""What a network costs, counted by hand."""

import torch
from torch import nn

from collegium.audit.cost import measure_cost
from collegium.models.network import Network, Preprocess


def test_arithmetic_and_memory_by_hand() -> None:
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1)]
    body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 64, 10))
    network = Network(body, Preprocess((0.5,) * 3, (0.5,) * 3), tuple("0123456789"))
    cost = measure_cost(network, torch.zeros(1, 3, 8, 8))
    assert cost.parameters == 27 * 16 + 16 + 144 * 32 + 32 + 2048 * 10 + 10
    assert cost.bytes == 4 * cost.parameters
    assert cost.flops == 2 * 64 * (27 * 16 + 144 * 32) + 2 * 2048 * 10
    # While the second convolution works: the view, normalised, its input and its output.
    assert cost.view_bytes == 4 * 64 * (3 + 16 + 32)
