"""Which settings of amtml work best on digits: validation and test accuracy, one JSON line a run.

Three regimes, because the value of adaptive weights depends on how the teachers differ: `alike`
(three sound teachers), `permuted` (the third answers with its classes rotated) and `specialists`
(each knows only some classes well). Choose by `validation`; `test` is reported, never chosen by.

    python benchmarks/amtml_defaults.py --seeds 5 --settings rate=1 rate=0.01,alpha=0.9

A setting is comma-separated fields of AMTML (`rate` is short for `adapter_rate`), `uniform`
followed by fields of AvgMKD, or `alone`.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

import collegium as cg
from collegium.assembly import setting_of
from collegium.data import ImageData, Splits, load_data
from collegium.method import AbstractMethod
from collegium.models.network import Network
from collegium.models.specs import build_network
from collegium.run import Run, execute
from collegium.training.options import Machine, Optimisation

REGIMES = ("alike", "permuted", "specialists")
STUDENT = "small:cnn"
TEACHERS = {"wide": "small:cnn-wide", "residual": "small:resnet", "third": "small:cnn-wide"}
KNOWN = ((0, 1, 2, 3, 4), (3, 4, 5, 6, 7), (6, 7, 8, 9, 0))


class Permuted(nn.Module):
    """A network that calls every class by the next one's name."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, one place on."""
        logits: torch.Tensor = self.body(images)
        return logits.roll(1, dims=1)


def train_teacher(spec: str, data: ImageData, validation: ImageData, seed: int) -> Network:
    """One teacher, trained on labels."""
    network = build_network(spec, setting_of(data), seed)
    fit(network, Splits(data, validation, None), cg.Vanilla(), {}, seed, epochs=15)
    return network


def fit(
    student: Network | str,
    splits: Splits,
    method: AbstractMethod,
    teachers: dict[str, nn.Module],
    seed: int,
    epochs: int,
) -> dict[str, float]:
    """One run in a folder that is thrown away; its numbers."""
    run = Run(
        data=splits,
        student=student,
        teachers=teachers,
        method=method,
        optimisation=Optimisation(epochs=epochs, batch_size=64),
        machine=Machine(threads=1),
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        record = execute(run, Path(folder) / "run", quiet=True)
        summary, last = record.summary, record.metrics("train")[-1]
        validation = record.metrics("validation")[-1]["accuracy"]
    kept = {k: v for k, v in last.items() if k.startswith("weights") and not isinstance(v, str)}
    return {"validation": validation, "test": summary["accuracy_last"], **kept}


def make_teachers(regime: str, splits: Splits, seed: int) -> dict[str, nn.Module]:
    """The three teachers of a regime."""
    assert splits.validation is not None
    teachers: dict[str, nn.Module] = {}
    for place, (name, spec) in enumerate(TEACHERS.items()):
        data = splits.train
        if regime == "specialists":
            known = torch.isin(data.labels_N, torch.tensor(KNOWN[place]))
            data = data.subset(known)
        network = train_teacher(spec, data, splits.validation, 100 * seed + place)
        if regime == "permuted" and place == 2:
            network = Network(
                Permuted(network.body), network.preprocess, network.classes, network.spec
            )
        teachers[name] = network
    return teachers


def parse(text: str) -> AbstractMethod:
    """A method from a setting."""
    if text == "alone":
        return cg.Vanilla()
    fields: dict[str, Any] = {}
    parts = [part for part in text.split(",") if part]
    uniform = parts[:1] == ["uniform"]
    for part in parts[1:] if uniform else parts:
        name, _, value = part.partition("=")
        try:
            fields["adapter_rate" if name == "rate" else name] = json.loads(value)
        except ValueError:
            fields[name] = value
    if uniform:
        return cg.AvgMKD(**fields)
    preset = fields.pop("preset", "default")
    return cg.AMTML.preset(preset, **fields)


def main() -> None:
    """Every setting in every regime with every seed, paired."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES))
    parser.add_argument("--settings", nargs="+", required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        splits = load_data("digits", validation=0.3, seed=seed)
        for regime in options.regimes:
            teachers = make_teachers(regime, splits, seed)
            for setting in options.settings:
                method = parse(setting)
                heard = teachers if method.hears_teachers else {}
                found = fit(STUDENT, splits, method, heard, seed, options.epochs)
                row = {"regime": regime, "setting": setting, "seed": seed, **found}
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
