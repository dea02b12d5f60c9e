"""Small networks of every kind of hidden layer, each with what a hint should read of it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CLASSES = 5


class Block(nn.Module):
    """A transformer's block without attention: tokens (B, N, D) in, tokens out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        mixed, matrix = self.attention(self.norm(tokens))
        return tokens + self.mlp(tokens + mixed), matrix


class Attention(nn.Module):
    """Gives (B, N, D), and inside it (B, heads, N, N): what has a map's shape and is none."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.0)
        self.values = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        halves = tokens.unflatten(2, (2, -1)).transpose(1, 2)
        matrix = self.dropout((halves @ halves.mT).softmax(dim=3))
        return (matrix @ halves).transpose(1, 2).flatten(2) + self.values(tokens), matrix


class Transformer(nn.Module):
    """Patches of 4x4, extra tokens before them, blocks, a norm."""

    def __init__(self, image: tuple[int, int], extra: int, depth: int, cut: bool = False) -> None:
        super().__init__()
        rows, columns = image[0] // 4, image[1] // 4
        self.grid, self.cut = (rows, columns), cut
        self.patches = nn.Linear(48, 8) if cut else nn.Conv2d(3, 8, 4, stride=4)
        self.first = nn.Parameter(torch.randn(1, extra, 8))
        self.blocks = nn.ModuleList(Block(8) for _ in range(depth))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        if self.cut:  # without a convolution
            tokens = self.patches(nn.functional.unfold(images, 4, stride=4).mT)
        else:
            tokens = self.patches(images).flatten(2).mT
        tokens = torch.cat([self.first.expand(len(images), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens, _ = block(tokens)
        return self.head(self.norm(tokens)[:, 0])


class Merging(nn.Module):
    """Tokens without a class token, merged 2x2 to 1 between stages, as a Swin's."""

    def __init__(self, rows: int = 8, columns: int = 8, patch: int = 4) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.patches = nn.Conv2d(3, 4, patch, stride=patch)
        self.stage1, self.stage2, self.stage3 = Block(4), Block(8), Block(16)
        self.merge1, self.merge2 = nn.Linear(16, 8), nn.Linear(32, 16)
        self.norm = nn.LayerNorm(16)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens, _ = self.stage1(self.patches(images).flatten(2).mT)
        tokens, _ = self.stage2(self.merge1(self.gather(tokens, 1)))
        tokens, _ = self.stage3(self.merge2(self.gather(tokens, 2)))
        return self.head(self.pool(self.norm(tokens).mT).flatten(1))

    def gather(self, tokens: Tensor, factor: int) -> Tensor:
        rows, columns = self.rows // factor, self.columns // factor
        squares = tokens.unflatten(1, (rows // 2, 2, columns // 2, 2)).transpose(2, 3)
        return squares.flatten(3).flatten(1, 2).flatten(2)


class ChannelsLast(nn.Module):
    """Maps (B, H, W, D) from stage to stage; at the first D is H too, so shapes do not tell."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.stages = nn.ModuleList([Stage(8, 8), Stage(8, 12), Stage(12, 20)])
        self.head = nn.Linear(20, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images).permute(0, 2, 3, 1)
        for place, stage in enumerate(self.stages):
            features = stage(features[:, :: 1 + (place > 0), :: 1 + (place > 0)])
        return self.head(features.mean(dim=(1, 2)))


class Stage(nn.Module):
    """A linear layer and a norm over the last axis."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(width, out), nn.LayerNorm(out)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(self.linear(features)) * 2


class Mixer(nn.Module):
    """Tokens turned over inside each block: channels stand where tokens stood."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, channels, 4, stride=4)
        self.blocks = nn.ModuleList(MixerBlock(64, channels) for _ in range(4))
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).mT
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens.mean(dim=1))


class MixerBlock(nn.Module):
    """One linear layer over tokens, one over channels."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.over_tokens, self.over_channels = (
            nn.Linear(tokens, tokens),
            nn.Linear(channels, channels),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.over_tokens(tokens.mT).mT
        return tokens + self.over_channels(tokens)


class Convolutions(nn.Module):
    """Three convolutions, whose stages return a mapping, a tuple and a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two = Wrapped(nn.Conv2d(4, 6, 3, stride=2, padding=1))
        self.three = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.three(self.two(self.one(images))[0])
        return {"logits": self.head(features.mean(dim=(2, 3)))}


class Wrapped(nn.Module):
    """Gives a tuple, changed after its last module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        return self.inner(features).relu(), None


Kind = tuple[Callable[[], nn.Module], tuple[int, int], dict[str, tuple[int, int, int]]]
"""A network, the rows and columns of its images, and the layers hints should find."""

KINDS: dict[str, Kind] = {
    "convolutions": (
        Convolutions,
        (8, 8),
        {"one": (4, 8, 8), "two": (6, 4, 4), "three": (8, 2, 2)},
    ),
    "class token": (
        lambda: Transformer((32, 32), 1, 8),
        (32, 32),
        {
            "blocks.1@8x8": (8, 8, 8),
            "blocks.3@8x8": (8, 8, 8),
            "blocks.5@8x8": (8, 8, 8),
            "norm@8x8": (8, 8, 8),
        },
    ),
    "no extra token": (
        lambda: Transformer((32, 32), 0, 2),
        (32, 32),
        {"blocks.0@8x8": (8, 8, 8), "norm@8x8": (8, 8, 8)},
    ),
    "registers": (
        lambda: Transformer((16, 24), 6, 3),
        (16, 24),
        {"blocks.0@4x6": (8, 4, 6), "blocks.1@4x6": (8, 4, 6), "norm@4x6": (8, 4, 6)},
    ),
    "patches without a convolution": (
        lambda: Transformer((16, 24), 2, 2, cut=True),
        (16, 24),
        {"blocks.0@4x6": (8, 4, 6), "norm@4x6": (8, 4, 6)},
    ),
    "merged tokens": (
        Merging,
        (32, 32),
        {"stage1@8x8": (4, 8, 8), "stage2@4x4": (8, 4, 4), "norm@2x2": (16, 2, 2)},
    ),
    "merged tokens of oblong images": (
        lambda: Merging(8, 12),
        (32, 48),
        {"stage1@8x12": (4, 8, 12), "stage2@4x6": (8, 4, 6), "norm@2x3": (16, 2, 3)},
    ),
    "merged to as few tokens as the last has channels": (
        lambda: Merging(4, 4),
        (16, 16),
        {"stage1@4x4": (4, 4, 4), "stage2@2x2": (8, 2, 2)},
    ),
    "channels last": (
        ChannelsLast,
        (32, 32),
        {
            "stages.0@channels_last": (8, 8, 8),
            "stages.1@channels_last": (12, 4, 4),
            "stages.2@channels_last": (20, 2, 2),
        },
    ),
    "mixer": (
        Mixer,
        (32, 32),
        {f"blocks.{place}@8x8": (16, 8, 8) for place in range(4)},
    ),
}
