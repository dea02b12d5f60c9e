"""What checkpoints cost: their part of the time of training, at the default interval.

Of every run: how many were written, how long one took, and which part of the training all were.
Data are cut down openly (the first N training images).

    python benchmarks/checkpoint.py --data cifar10:DIR --student cifar:resnet20 --epochs 4 --runs 2
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from collegium.api import execute
from collegium.config.options import Machine, Optimisation
from collegium.config.run import Run
from collegium.data import Splits, load_data
from collegium.training.checkpoint_policy import CheckpointScheduler


class Watch:
    """Adds up the time that writing checkpoints takes."""

    def __init__(self) -> None:
        self.seconds, self.count, save = 0.0, 0, CheckpointScheduler.save

        def timed(checkpoint_scheduler: CheckpointScheduler, state: object) -> None:
            started = time.perf_counter()
            save(checkpoint_scheduler, state)  # type: ignore[arg-type]
            self.seconds += time.perf_counter() - started
            self.count += 1

        CheckpointScheduler.save = timed  # type: ignore[method-assign,assignment]

    def take(self) -> tuple[float, int]:
        """Seconds and number since it was last asked."""
        found = self.seconds, self.count
        self.seconds, self.count = 0.0, 0
        return found


def main() -> None:
    """One JSON line a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--student", default="small:cnn")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--every", nargs="+", default=["10min", "50"])
    options = parser.parse_args()
    whole, watch = load_data(options.data, validation=0.1, seed=0), Watch()
    count = min(options.images, len(whole.train))
    splits = Splits(whole.train.subset(range(count)), whole.validation, None)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.runs):
            for every in options.every:
                run = Run(
                    data=splits,
                    student=options.student,
                    optimisation=Optimisation(epochs=options.epochs),
                    machine=Machine(checkpoint_every=every),
                )
                record = execute(run, Path(folder) / f"{every}-{number}", quiet=True)
                seconds, written = watch.take()
                taken = record.summary["seconds"] + seconds
                row = {"every": every, "seconds": round(taken, 2), "checkpoints": written}
                row |= {"ms_each": round(1e3 * seconds / max(written, 1), 2)}
                print(json.dumps(row | {"part": round(seconds / taken, 4)}), flush=True)


if __name__ == "__main__":
    main()
