"""The same work as one step of the AMTML-KD notebooks, for comparison with our `live` row.

Y. Liu, W. Zhang, J. Wang, Adaptive multi-teacher multi-level knowledge distillation, Neurocomputing
415 (2020). Written afresh from the formulas and the settings of the authors' public notebooks; what
is the same is the work, not the code. Eager float32 on the CPU, channels first, networks drawn at
random (their weights do not change the time), nothing chunked, folded, compiled or stored.

One step, stage one of the two (adapter and student learn together):

* batch: every image on its own from an array through PIL, padded by 4, cropped to 32x32, flipped,
  turned into a tensor, normalised by the ImageNet statistics, then stacked;
* teachers: ResNet-32, 56 and 110 in evaluation mode on the whole batch. Whether the notebooks
  record their graph is not known to us; here they run under `no_grad`, which is faster;
* adapter: one latent vector a teacher and one shared, compared with the student's averaged last map
  (the notebooks' maximum over 1x1 changes nothing); a softmax gives each example its weights, and
  the student gets gradient through them;
* integrated soft target: the weighted mean of the softened teachers, KL at temperature 5 averaged
  over examples and classes, times 2 alpha temperature^2, plus (1 - alpha) cross entropy, alpha 0.7;
* angles: the cosine at every vertex of all B^3 triples, student logits against integrated targets,
  smooth L1 (Park et al., Relational knowledge distillation, CVPR 2019), whole tensors; and, as in
  every notebook with angles, the distances of all pairs;
* hints: teacher 1, 2, 3 to the student's second stage, third stage and pooled vector. Both maps
  have unit norm over channels, the student's goes through a 1x1 convolution without bias drawn from
  U(-0.005, 0.005), squared error averaged over all values, the three summed. No optimiser holds
  these convolutions, as in the notebooks; they are given their gradient all the same;
* optimisers: three SGDs of momentum 0.9 and rate 0.1: student (weight decay 5e-4), shared vector,
  latent vectors.

Left out, cheap and in the rival's favour: the penalty that some of the notebooks put on the
adapter, and whatever they log.

    python benchmarks/rival.py --threads 2
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from collegium.models.features.hooks import FeatureHooks
from collegium.models.zoo.cifar import CIFAR_MODELS

TEACHERS = ("resnet32", "resnet56", "resnet110")
STUDENT = "resnet20"
WIDTH = 64
"""Channels of the student's last map, and so the length of a latent vector."""
HINTS = {"layer2": 32, "layer3": 64, "pool": 64}
"""The hinted groups and their channels, the same in student and teachers."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TEMPERATURE, ALPHA = 5.0, 0.7
SIDE, PADDING = 32, 4

Views = DataLoader[tuple[Tensor, int]]


class Pictures(Dataset[tuple[Tensor, int]]):
    """One augmented picture at a time.

    Args:
        images_NHWD: uint8 pixels, 32x32 in three channels.
        labels_N: classes.
    """

    def __init__(self, images_NHWD: np.ndarray, labels_N: np.ndarray) -> None:
        self.images_NHWD, self.labels_N = images_NHWD, labels_N
        self.mean_D11 = torch.tensor(MEAN)[:, None, None]
        self.std_D11 = torch.tensor(STD)[:, None, None]

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.labels_N)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """A fresh view, normalised, and its label."""
        image = ImageOps.expand(Image.fromarray(self.images_NHWD[index]), border=PADDING, fill=0)
        left, top = torch.randint(2 * PADDING + 1, (2,)).tolist()
        image = image.crop((left, top, left + SIDE, top + SIDE))
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels_DHW = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255
        return (pixels_DHW - self.mean_D11) / self.std_D11, int(self.labels_N[index])


class Adapter(nn.Module):
    """Weights per example from latent vectors, one of each teacher and one shared."""

    def __init__(self, teachers: int, width: int) -> None:
        super().__init__()
        self.latent_TD = nn.Parameter(torch.randn(teachers, width))
        self.shared_D = nn.Parameter(torch.randn(width))

    def forward(self, feature_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B T"]:
        """Softmax over teachers of the bilinear scores."""
        score_BT = (feature_BD[:, None] * self.latent_TD) @ self.shared_D
        return score_BT.softmax(dim=1)


def make_body(name: str, classes: int, *, training: bool) -> tuple[nn.Module, FeatureHooks]:
    """A network with random weights, and what reads its hinted maps."""
    body = CIFAR_MODELS[name](classes).train(training)
    return body, FeatureHooks(body, list(HINTS))


def make_regressor(channels: int) -> nn.Conv2d:
    """The untrained 1x1 convolution between a student's group and its hint."""
    convolution = nn.Conv2d(channels, channels, 1, bias=False)
    nn.init.uniform_(convolution.weight, -0.005, 0.005)
    return convolution


def response_loss(
    logits_BC: Float[Tensor, "B C"],
    target_BC: Float[Tensor, "B C"],
    labels_B: Int[Tensor, " B"],
) -> Float[Tensor, ""]:
    """Integrated soft target and label, in the notebooks' scaling."""
    soft_BC = F.log_softmax(logits_BC / TEMPERATURE, dim=1)
    # Averaged over classes too, spelt out: torch warns when asked for reduction="mean".
    divergence = F.kl_div(soft_BC, target_BC, reduction="sum") / target_BC.numel()
    label = F.cross_entropy(logits_BC, labels_B)
    return 2 * ALPHA * TEMPERATURE**2 * divergence + (1 - ALPHA) * label


def cosines(points_BP: Float[Tensor, "B P"]) -> Float[Tensor, "B B B"]:
    """The cosine at vertex b between the directions to i and to k, for every (b, i, k)."""
    steps_BBP = points_BP[None] - points_BP[:, None]
    unit_BBP = F.normalize(steps_BBP, p=2.0, dim=2)
    return torch.bmm(unit_BBP, unit_BBP.transpose(1, 2))


def angle_loss(
    logits_BC: Float[Tensor, "B C"], target_BC: Float[Tensor, "B C"]
) -> Float[Tensor, ""]:
    """Smooth L1 between all angles, the target's without gradient."""
    with torch.no_grad():
        target_BBB = cosines(target_BC)
    return F.smooth_l1_loss(cosines(logits_BC), target_BBB)


def relative_distances(points_BP: Float[Tensor, "B P"]) -> Float[Tensor, "B B"]:
    """Distances of all pairs by the Gram matrix, divided by the mean of those that are not 0."""
    gram_BB = points_BP @ points_BP.mT
    square_B = gram_BB.diagonal()
    squared_BB = (square_B[:, None] + square_B - 2 * gram_BB).clamp(min=1e-12)
    keep_BB = 1 - torch.eye(len(points_BP))
    distance_BB = squared_BB.sqrt() * keep_BB
    return distance_BB / distance_BB[distance_BB > 0].mean()


def distance_loss(
    logits_BC: Float[Tensor, "B C"], target_BC: Float[Tensor, "B C"]
) -> Float[Tensor, ""]:
    """Smooth L1 between all relative distances, the target's without gradient."""
    with torch.no_grad():
        target_BB = relative_distances(target_BC)
    return F.smooth_l1_loss(relative_distances(logits_BC), target_BB)


def hint_loss(
    student: dict[str, Tensor], teachers: Sequence[dict[str, Tensor]], regressors: nn.ModuleDict
) -> Tensor:
    """One teacher to each group, the groups summed."""
    losses = [
        F.mse_loss(regressors[group](F.normalize(student[group])), F.normalize(maps[group]))
        for group, maps in zip(HINTS, teachers, strict=True)
    ]
    return torch.stack(losses).sum()


class Rival(nn.Module):
    """Student, teachers, adapter and regressors: everything a step computes with."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.teachers = [make_body(name, classes, training=False) for name in TEACHERS]
        self.student, self.hooks = make_body(STUDENT, classes, training=True)
        self.adapter = Adapter(len(TEACHERS), WIDTH)
        self.regressors = nn.ModuleDict({name: make_regressor(n) for name, n in HINTS.items()})

    def ask(self, images_BDHW: Tensor) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """What the teachers answer, (B, T, C), and the maps they hint with."""
        with torch.no_grad():
            logits_BTC = torch.stack([body(images_BDHW) for body, _ in self.teachers], dim=1)
        return logits_BTC, [hooks.take() for _, hooks in self.teachers]

    def forward(self, images_BDHW: Tensor, labels_B: Tensor) -> Tensor:
        """The loss of one batch."""
        teacher_BTC, teacher_maps = self.ask(images_BDHW)
        logits_BC = self.student(images_BDHW)
        maps = self.hooks.take()
        weights_BT = self.adapter(maps["pool"].flatten(1))
        soft_BTC = F.softmax(teacher_BTC / TEMPERATURE, dim=2)
        target_BC = (weights_BT[..., None] * soft_BTC).sum(dim=1)
        response = response_loss(logits_BC, target_BC, labels_B)
        hint = hint_loss(maps, teacher_maps, self.regressors)
        relation = angle_loss(logits_BC, target_BC) + distance_loss(logits_BC, target_BC)
        return response + relation + hint

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Of the student, of the shared vector, of the latent vectors."""
        adapter = self.adapter
        return [
            torch.optim.SGD(self.student.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4),
            torch.optim.SGD([adapter.shared_D], lr=0.1, momentum=0.9),
            torch.optim.SGD([adapter.latent_TD], lr=0.1, momentum=0.9),
        ]


def endless(loader: Views) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches, epoch after epoch."""
    while True:
        yield from loader


def make_rival_step(
    images_uint8_NHWC: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    *,
    loader_workers: int = 0,
) -> Callable[[], None]:
    """One whole training step, the next batch fetched and augmented within it.

    Args:
        images_uint8_NHWC: (N, 32, 32, 3), uint8.
        labels: (N,), whole numbers from 0; the networks get as many classes as the largest needs.
        batch_size: examples of a step; an incomplete last batch is dropped.
        loader_workers: processes that augment ahead; 0 augments inside the step.

    Raises:
        ValueError: fewer images than one batch, or not 32x32 uint8 in colour.
    """
    if images_uint8_NHWC.shape[1:] != (SIDE, SIDE, 3) or images_uint8_NHWC.dtype != np.uint8:
        found = f"{images_uint8_NHWC.dtype} of {images_uint8_NHWC.shape}"
        raise ValueError(f"images must be uint8 of (N, 32, 32, 3), got {found}")
    if not 0 < batch_size <= len(images_uint8_NHWC):
        raise ValueError(f"a batch of {batch_size} from {len(images_uint8_NHWC)} images")
    loader = DataLoader(
        Pictures(images_uint8_NHWC, labels),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=loader_workers,
        persistent_workers=loader_workers > 0,
    )
    rival = Rival(int(labels.max()) + 1)
    optimizers = rival.optimizers()
    batches = endless(loader)

    def step() -> None:
        images_BDHW, labels_B = next(batches)
        loss = rival(images_BDHW, labels_B)
        # The regressors too, which no optimiser holds: their gradient must not pile up.
        rival.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    return step


def median_seconds(step: Callable[[], None], repeats: int) -> float:
    """The median time of a step; one more before them warms up."""
    step()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    """Time steps on noise and print one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--loader-workers", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)

    torch.manual_seed(0)
    count = options.batch_size * (options.repeats + 1)
    images_NHWD = np.random.default_rng(0).integers(256, size=(count, SIDE, SIDE, 3), dtype="uint8")
    workers = options.loader_workers
    step = make_rival_step(
        images_NHWD, np.arange(count) % 10, options.batch_size, loader_workers=workers
    )
    seconds = median_seconds(step, options.repeats)
    row = {
        "row": "rival",
        "images_per_s": options.batch_size / seconds,
        "milliseconds": 1e3 * seconds,
        "precision": "32",
        "batch_size": options.batch_size,
        "loader_workers": workers,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
