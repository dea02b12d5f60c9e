"""Licences: each known name, in the spellings people use, and what it forbids."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from collegium.build import make_teacher
from collegium.export.card import licence_lines
from collegium.models.input_spec import InputSpec
from collegium.models.licences import LICENCES, UNKNOWN, read_licence
from collegium.models.zoo.small import SMALL_MODELS

GREY = InputSpec(("a", "b", "c"), (1, 8, 8), (0.3,), (0.4,))


def test_every_name_is_found_in_any_spelling() -> None:
    for name, licence in LICENCES.items():
        for spelling in (name, name.upper(), f" {name} ", f"license:{name}"):
            assert read_licence(spelling) == licence, spelling


@pytest.mark.parametrize(
    ("said", "forbids"),
    [
        ("apache-2.0", ""),
        ("Apache 2.0", ""),
        ("GPL-3.0-only", ""),
        ("MIT License", ""),
        ("cc-by-nc-4.0", "commercial use"),
        ("CC BY-NC-SA 4.0", "commercial use"),
        ("cc-by-nc-nd-4.0", "commercial use and passing on what was made from it"),
        ("cc-by-nd-4.0", "passing on what was made from it"),
        ("cc-by-nc-9.9", "commercial use"),
        ("fair-noncommercial-research-license", "commercial use and use beyond research"),
        ("apple-amlr", "commercial use and use beyond research"),
        ("acme-research-only", "use beyond research"),
    ],
)
def test_what_a_licence_forbids(said: str, forbids: str) -> None:
    licence = read_licence(said)
    assert " and ".join(licence.forbids) == forbids
    assert bool(licence.warning) == bool(forbids)


def test_nobody_says_is_unknown_and_a_strange_name_is_told() -> None:
    for said in ("", "unknown", "other", "NOASSERTION"):
        assert read_licence(said).name == UNKNOWN
        assert read_licence(said).warning == ""
    assert "none of those known here" in read_licence("acme").warning


@pytest.mark.parametrize("key", ["license", "licence"])
def test_weights_and_strings_say_it_and_the_string_has_the_last_word(
    tmp_path: Path, key: str
) -> None:
    file = tmp_path / "n.safetensors"
    state = SMALL_MODELS["cnn"](3).state_dict()
    save_file(state, file, {key: "cc-by-nc-4.0", "classes": json.dumps(GREY.classes)})
    assert make_teacher("t", f"small:cnn@{file}", GREY).origin.licence == "cc-by-nc-4.0"
    assert make_teacher("t", f"small:cnn@{file}?{key}=mit", GREY).origin.licence == "mit"
    torch.save(state, tmp_path / "n.pt")
    assert make_teacher("t", f"small:cnn@{tmp_path / 'n.pt'}", GREY).origin.licence == ""


def test_a_card_says_what_is_forbidden_and_what_nobody_knows() -> None:
    rows = [("a", "cc-by-nc-4.0"), ("b", "mit"), ("c", "unknown"), ("d", "gpl-3.0")]
    (text,) = licence_lines([{"name": name, "licence": said} for name, said in rows])
    assert "forbids commercial use" in text
    assert "weights of c is unknown" in text
    assert "same terms, by d (gpl-3.0)" in text
    assert licence_lines([{"name": "b", "licence": "mit"}]) == []
    (text,) = licence_lines([{"name": "old"}])
    assert "licence of the weights of old is unknown" in text
