"""Folders named by WordNet identifiers, beside teachers that know words."""

from pathlib import Path

import pytest

from collegium.errors import RequestError
from collegium.teachers import wordnet
from collegium.teachers.label_map import match

WORDS = {f"n{place:08}": f"thing {place}, object number {place}" for place in range(1000)}
WORDS["n00000134"] = WORDS["n00000517"] = "crane"


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as timm brings them, of made-up words."""
    lemmas = "".join(f"{key}\t{words}\n" for key, words in WORDS.items())
    (tmp_path / "imagenet_synset_to_lemma.txt").write_text(lemmas)
    (tmp_path / "imagenet_synsets.txt").write_text("\n".join(WORDS))
    use(monkeypatch, tmp_path)


def use(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    monkeypatch.setattr(wordnet, "_tables", lambda: folder)
    for table in (wordnet.synsets, wordnet._lemmas):
        table.cache_clear()
        monkeypatch.setattr(wordnet, table.__name__, table.__wrapped__)


def names(change: dict[int, str] | None = None) -> list[str]:
    """ImageNet's words as a library has them: two cranes told apart by their numbers."""
    own = {134: "crane (134)", 517: "crane (517)", **(change or {})}
    return [own.get(place, words) for place, words in enumerate(WORDS.values())]


@pytest.mark.usefixtures("tables")
def test_folders_of_identifiers_are_found_in_imagenets_words() -> None:
    ours = ["n00000517", "n00000003", "n00000999"]
    for theirs in (names(), [name.partition(",")[0] for name in names()], names({3: "odd"})):
        found = match(theirs, ours)
        assert found is not None
        assert found.sources == ((517,), (3,), (999,))
        assert found.theirs[517] == "crane (517)"


@pytest.mark.usefixtures("tables")
def test_some_words_against_identifiers_and_the_other_way_round() -> None:
    found = match(["thing 5", "thing 7", "cow"], ["n00000007", "n00000005"])
    assert found is not None
    assert found.sources == ((1,), (0,))
    back = match(["n00000007", "n00000005"], ["thing 5", "thing 7"])
    assert back is not None
    assert back.sources == ((1,), (0,))
    assert match(list(WORDS)[:5], list(WORDS)[:5]) is None


@pytest.mark.usefixtures("tables")
def test_a_thousand_other_names_are_not_taken_for_imagenets() -> None:
    theirs = [f"product {place}" for place in range(1000)]
    with pytest.raises(RequestError, match="no name in common"):
        match(theirs, ["n00000007", "n00000005"])
    turned = names()[::-1]  # in another order places tell nothing, and words still do
    found = match(turned, ["n00000007", "n00000005"])
    assert found is not None
    assert found.sources == ((992,), (994,))


def test_without_the_table_it_is_said_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, None)
    with pytest.raises(RequestError, match=r"pip install \"collegium\[timm\]\""):
        match(["tench", "goldfish"], ["n01440764", "n01443537"])


def test_timms_own_tables_are_read() -> None:
    pytest.importorskip("timm", reason="needs the extra timm")
    table = wordnet.synsets()
    assert len(table) == 1000
    assert table[0] == ("n01440764", "tench, Tinca tinca")
