"""Recipes are runs, and the documented command of each is the same run."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

import collegium.api
from collegium.api import execute
from collegium.cli.main import main
from collegium.config.options import Optimisation
from collegium.config.run import Run
from collegium.data import Splits, load_data
from collegium.methods.avg_mkd import AvgMKD
from collegium.records.run_folder import Record
from recipes import cifar10_amtml as recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["docs/quickstart.md", "recipes/cifar10_amtml.py"]


@pytest.mark.parametrize("page", PAGES)
def test_the_documented_command_is_the_recipe(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = []

    def record_request(run: Run, out: Path, **options: Any) -> Record:
        requested.append(run)
        return Record(out)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(collegium.api, "execute", record_request)
    text = (ROOT / page).read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^ *collegium (distill --data cifar10:.*)$", text, flags=re.MULTILINE)
    assert main(line.split()) == 0
    assert requested == [recipe.cifar10_amtml("DIR", "WEIGHTS")]


def test_a_recipe_takes_another_method_for_a_control() -> None:
    run = recipe.cifar10_amtml("DIR", "WEIGHTS", AvgMKD(alpha=0.5), epochs=2)
    assert run.method == AvgMKD(alpha=0.5)
    assert run.optimisation.epochs == 2
    assert Run.from_json(run.to_json()) == run


def test_a_recipe_prints_its_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe.main(["DIR"]) == 2
    assert "DIR WEIGHTS OUT" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.slow
def test_the_recipe_trains_on_part_of_the_data(
    cifar_data: Path, cifar_weights: Path, tmp_path: Path
) -> None:
    run = recipe.cifar10_amtml(str(cifar_data), str(cifar_weights))
    whole = load_data(str(run.data), validation=0.1)
    assert whole.validation is not None
    assert whole.test is not None
    part = Splits(
        whole.train.subset(range(512)),
        whole.validation.subset(range(256)),
        whole.test.subset(range(512)),
    )
    short = dataclasses.replace(run, data=part, optimisation=Optimisation(epochs=1))
    record: Record = execute(short, tmp_path / "run", quiet=True)
    for name in recipe.TEACHERS:
        assert record.summary[f"accuracy.{name}"] > 0.88
    assert record.summary["parameters"] == 269_722
    assert len(record.weights["index"]) == 512
