"""A graph of a network that writes over its images leaves those of its user alone."""

import torch
from torch import Tensor, nn

from collegium.export.tracing import trace


class InPlace(nn.Module):
    """Normalises in place."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        images.sub_(0.5).div_(0.25)
        return self.convolution(images).mean(dim=(2, 3))


class Plain(InPlace):
    """The same with a copy."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.clone())


def test_a_graph_leaves_its_images_as_they_are() -> None:
    torch.manual_seed(0)
    network, plain = InPlace().eval(), Plain().eval()
    plain.load_state_dict(network.state_dict())
    example = torch.rand(2, 1, 8, 8)
    before = example.clone()
    program = trace(network, example)
    assert torch.equal(example, before)
    graph = program.module()
    images = torch.rand(5, 1, 8, 8)
    kept = images.clone()
    with torch.no_grad():
        answers = [graph(images) for _ in range(2)]
        expected = plain(kept)
    assert torch.equal(images, kept)
    for logits in answers:
        torch.testing.assert_close(logits, expected)
