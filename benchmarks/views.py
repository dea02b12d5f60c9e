"""What a limited number of views costs in accuracy; one JSON line a run.

CIFAR-10 cut down openly: a student `cifar:resnet8`, the first N training images that are left when
validation is held out, the real ResNet-32/44/56 as teachers, crops and flips, bfloat16. As many
views as epochs means that no view is seen twice. All runs share one store.

    python benchmarks/views.py --data DIR --weights DIR --epochs 30 --views 30 8 4 2 1 --seeds 3
"""

import argparse
import json
import tempfile
from pathlib import Path

import collegium as cg
from collegium.api import execute
from collegium.config.options import Machine, Optimisation, Storage
from collegium.config.run import Run
from collegium.data import Splits, load_data

TEACHERS = ("resnet32", "resnet44", "resnet56")


def cut_down(data: str, images: int) -> Splits:
    """The first training images, 2,000 held-out ones, the whole test set."""
    whole = load_data(f"cifar10:{data}", validation=0.1, seed=0)
    validation = whole.get("validation")
    return Splits(whole.train.subset(range(images)), validation.subset(range(2000)), whole.test)


def main() -> None:
    """Every number of views with every seed, paired."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--student", default="cifar:resnet8")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--views", type=int, nargs="+", default=[30, 8, 4, 2, 1])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    splits = cut_down(options.data, options.images)
    teachers = {name: f"cifar:{name}@{options.weights}/{name}.safetensors" for name in TEACHERS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for views in options.views:
                run = Run(
                    data=splits,
                    student=options.student,
                    teachers=teachers,
                    method=cg.AMTML(hint_weight=0.0),
                    optimisation=Optimisation(epochs=options.epochs),
                    machine=Machine(precision="bf16"),
                    storage=Storage(f"{folder}/store"),
                    views=views,
                    seed=seed,
                )
                record = execute(run, Path(folder) / f"{views}-{seed}", quiet=True)
                row = {"views": views, "seed": seed, "epochs": options.epochs}
                said = {key: record.summary[key] for key in ("accuracy_last", "store_hits")}
                row |= {"validation": record.metrics("validation")[-1]["accuracy"], **said}
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
