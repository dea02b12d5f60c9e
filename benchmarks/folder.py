"""What streaming a folder keeps of its decoder's speed; one JSON line a measurement.

Three ways over the same encoded images, in turns: processes that only decode (`decoder`), batches
that arrive decoded (`stream`), and batches of views as training sees them (`views`). The last line
has the medians and their ratios to the decoder alone; of rates, and of processor time, which other
work on the machine disturbs less.

    python benchmarks/folder.py --make DIR --images 20000 --width 64 --height 64
    python benchmarks/folder.py --folder DIR --workers 2 --rounds 5
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from collegium.data import ImageData, Loader, load_data
from collegium.data.images import load as albums
from collegium.data.images.decode import decode_one
from collegium.data.images.lazy import LazyImages

CLASSES = 10


def make(root: Path, images: int, width: int, height: int) -> None:
    """JPEGs with some structure and some noise, in ten classes."""
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (CLASSES, 8, 8, 3), np.uint8)
    for number in range(images):
        folder = root / "train" / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        smooth = Image.fromarray(coarse[number % CLASSES]).resize((width, height))
        noisy = np.asarray(smooth).astype(int) + draw.integers(-12, 13, (height, width, 1))
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        picture.save(folder / f"{number:06}.jpg", quality=85)


def load(folder: str, image_size: int | None, workers: int) -> ImageData:
    """The images of a folder, left encoded even where they would fit."""
    albums.free_memory = lambda: 0
    return load_data(
        f"folder:{folder}", validation=0.0, image_size=image_size, workers=workers
    ).train


def decode_some(gallery: LazyImages, batches: list[torch.Tensor]) -> None:
    """What one process does that only decodes."""
    for positions_B in batches:
        pictures = gallery.pictures.subset(positions_B.numpy())
        images_BDHW = np.empty((len(pictures), *gallery.size), np.uint8)
        for place in range(len(pictures)):
            images_BDHW[place] = decode_one(pictures[place], gallery.size)


def decoder(data: ImageData, batches: list[torch.Tensor], workers: int) -> None:
    """As many processes, each with its share of the batches, nothing handed over."""
    fork = multiprocessing.get_context("fork")
    shares = [batches[place::workers] for place in range(workers)]
    crew = [fork.Process(target=decode_some, args=(data.images_NDHW, share)) for share in shares]
    for process in crew:
        process.start()
    for process in crew:
        process.join()


def stream(data: ImageData, batches: list[torch.Tensor], workers: int) -> None:
    """Batches of pixels as they arrive."""
    for _ in data.stream(batches, workers):
        pass


def views(data: ImageData, batches: list[torch.Tensor], workers: int) -> None:
    """Batches as training takes them."""
    size = len(batches[0])
    for _ in Loader(data, size, recipe="crop-flip", shuffle=True, workers=workers).epoch(0):
        pass


WAYS: dict[str, Callable[[ImageData, list[torch.Tensor], int], None]] = {
    "decoder": decoder,
    "stream": stream,
    "views": views,
}


def measure(options: argparse.Namespace) -> None:
    """All ways in turns, and what start-up costs."""
    started = time.perf_counter()
    data = load(options.folder, options.image_size, options.workers)
    listed = time.perf_counter()
    data.fingerprint()
    told = {"images": len(data), "shape": data.shape, "listing_s": listed - started}
    print(json.dumps({**told, "fingerprint_s": time.perf_counter() - listed}), flush=True)
    batches = list(torch.randperm(len(data)).split(options.batch_size))
    rounds = []
    for turn in range(options.rounds):
        for way, run in WAYS.items():
            started, busy = time.perf_counter(), processor_seconds()
            run(data, batches, options.workers)
            rate = len(data) / (time.perf_counter() - started)
            cost = 1e6 * (processor_seconds() - busy) / len(data)
            rounds.append({"round": turn, "way": way, "images_per_s": rate, "cpu_us": cost})
            print(json.dumps(rounds[-1]), flush=True)
    print(json.dumps({"workers": options.workers, **summary(rounds)}))


def processor_seconds() -> float:
    """Of this process and of those it has waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(one).ru_utime + resource.getrusage(one).ru_stime for one in who)


def summary(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Medians of each way, and their ratios to the decoder alone."""
    told = {}
    for key in ("images_per_s", "cpu_us"):
        for way in WAYS:
            told[f"{way}_{key}"] = statistics.median(r[key] for r in rounds if r["way"] == way)
            told[f"{way}_{key}_ratio"] = told[f"{way}_{key}"] / told[f"decoder_{key}"]
    return told


def main() -> None:
    """Makes a folder, or measures one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--make", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--folder")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.make:
        make(options.make, options.images, options.width, options.height)
    if options.folder:
        measure(options)


if __name__ == "__main__":
    main()
