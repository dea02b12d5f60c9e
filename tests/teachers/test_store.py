"""Stored answers are the teachers' answers, or they are not given out."""

import errno
import functools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from collegium.build import input_spec_of
from collegium.data import Views
from collegium.errors import FolderError, NumericsError, RequestError, ResourceError
from collegium.models.registry import wrap_module
from collegium.store import ProcessShard, Store
from collegium.store.codecs import make_codec
from collegium.store.plan import make_plan
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.types import Batch


def batch_of(data: Any, positions: Any, view: int, recipe: str = "crop", seed: int = 0) -> Batch:
    places = torch.as_tensor(positions)
    view_B = torch.full_like(places, view)
    images = Views(data, recipe, seed).of(data.index_N[places], view_B)
    return Batch(images, data.labels_N[places], data.index_N[places], view_B)


def shards(folder: Path, kind: str = "logits") -> list[Path]:
    return sorted(folder.glob(f"**/{kind}/*.safetensors"))


@pytest.mark.parametrize("size", [1, 7, 32, 90])
@pytest.mark.parametrize("chunk", [16, 128])
def test_stored_answers_are_live_ones_bit_for_bit(stored, live, data, size, chunk) -> None:
    source = stored("fp32", "fp32", chunk=chunk)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(size))
    source.expect(data.index_N, torch.full_like(data.index_N, 2))
    for positions in order.split(size):
        batch = batch_of(data, positions, 2)
        said, kept = live.outputs(batch), source.outputs(batch)
        assert torch.equal(said.logits_BTC, kept.logits_BTC)
        assert torch.equal(said.maps["a"]["layer2"], kept.maps["a"]["layer2"])
        assert set(kept.maps) == {"a"}
    assert source.stats.computed == source.stats.requested == 180


def test_what_nobody_expected_is_asked_once_and_found_again(stored, live, data) -> None:
    source = stored()
    first, second = batch_of(data, range(40), 0), batch_of(data, range(20, 60), 0)
    for batch in (first, second, first):
        assert torch.equal(source.outputs(batch).logits_BTC, live.outputs(batch).logits_BTC)
    assert source.stats.computed == 2 * 60
    again = stored()
    assert torch.equal(again.outputs(second).logits_BTC, live.outputs(second).logits_BTC)
    assert again.stats.computed == 0


def test_a_batch_of_several_views_is_put_together(stored, live, data) -> None:
    places, view_B = torch.arange(30), torch.arange(30) % 3
    images = Views(data, "crop", 0).of(data.index_N[places], view_B)
    batch = Batch(images, data.labels_N[places], data.index_N[places], view_B)
    assert torch.equal(stored().outputs(batch).logits_BTC, live.outputs(batch).logits_BTC)


def test_half_precision_is_off_by_half_a_step(stored, live, data) -> None:
    batch = batch_of(data, range(90), 1)
    said, kept = live.outputs(batch).logits_BTC, stored("fp16").outputs(batch).logits_BTC
    assert torch.equal(kept, said.half().float())
    assert not torch.equal(kept, said)


PLACES = [
    *(
        (kind, at)
        for kind in ("truncated", "flipped", "grown")
        for at in (0.0, 0.02, 0.3, 0.6, 0.99)
    ),
    *((kind, 0.0) for kind in ("empty", "header", "swapped")),
]
"""Damages, and where in the file: the last three are of the whole file."""


@pytest.mark.parametrize(("kind", "at"), PLACES)
def test_a_damaged_shard_is_computed_again_and_never_given_out(
    stored, live, data, tmp_path, kind, at
) -> None:
    batch = batch_of(data, range(90), 0)
    stored().outputs(batch)
    path = shards(tmp_path)[0]
    content = bytearray(path.read_bytes())
    place = int(at * len(content))
    if kind == "flipped":
        content[place] ^= 0x10
    elif kind == "truncated":
        content = content[:place]
    elif kind == "empty":
        content = bytearray()
    elif kind == "grown":
        content[place:place] = b"\0" * 64
    elif kind == "header":
        content[:8] = (2**63 - 1).to_bytes(8, "little")
    else:
        content = bytearray(shards(tmp_path)[-1].read_bytes())
    path.write_bytes(content)
    told: list[str] = []
    source = stored(warn=told.append)
    assert torch.equal(source.outputs(batch).logits_BTC, live.outputs(batch).logits_BTC)
    assert len(told) == 1
    assert str(path) in told[0]
    assert source.stats.computed > 0
    assert torch.equal(stored().outputs(batch).logits_BTC, live.outputs(batch).logits_BTC)


def test_no_flipped_byte_goes_unnoticed(stored, live, data, tmp_path) -> None:
    batch = batch_of(data, range(20), 0)
    stored().outputs(batch)
    path, expected = shards(tmp_path)[0], live.outputs(batch).logits_BTC
    whole = path.read_bytes()
    for byte in range(0, 400, 7):
        content = bytearray(whole)
        content[byte] ^= 1 << (byte % 8)
        path.write_bytes(content)
        source = stored(warn=lambda text: None)
        assert torch.equal(source.outputs(batch).logits_BTC, expected), byte
        path.write_bytes(whole)


def test_another_request_is_refused_with_both_sides(stored, data, noise, make_ensemble) -> None:
    stored("fp16", "int8").outputs(batch_of(data, range(5), 0))
    other = noise(seed=1)
    named = replace(data, classes=(*data.classes[1:], data.classes[0]))
    resized = make_ensemble(data)
    seen = replace(resized.infos["a"], resizing="16x16 bilinear")
    resized.infos["a"] = seen
    refused = {
        r"teacher a .*resizing  \(asked for 16x16 bilinear": {"ensemble": resized},
        r"fingerprint .*asked for": {"data": other},
        r"classes 0, 1.*asked for 1, 2": {"data": named},
        r"recipe crop \(asked for flip": {"recipe": "flip"},
        r"view_seed 0 \(asked for 5": {"seed": 5},
        r"teacher a .*sha256 .*asked for": {"ensemble": make_ensemble(data, seed=1)},
        r"keeps logits of a as fp16.*asked for fp32": {"logits": "fp32"},
        r"keeps layer2 of a as int8.*asked for fp16": {"maps": "fp16"},
    }
    for message, change in refused.items():
        with pytest.raises(FolderError, match=message):
            stored(**{"logits": "fp16", "maps": "int8", **change})
    stored("fp16", "int8")


def test_a_part_of_the_data_shares_the_store_of_the_whole(stored, live, data) -> None:
    from collegium.data import hold_out

    train, held = hold_out(data, 0.2, seed=3)
    stored(data=train).outputs(batch_of(train, range(len(train)), 0))
    again = stored(data=data)
    batch = batch_of(data, range(90), 0)
    assert torch.equal(again.outputs(batch).logits_BTC, live.outputs(batch).logits_BTC)
    assert again.stats.computed == 2 * len(held)


def test_two_processes_fill_one_store(stored, live, data, tmp_path) -> None:
    first, second = stored(), stored()  # both opened when there was nothing
    for half in range(3):
        first.outputs(batch_of(data, range(half * 30, half * 30 + 20), 0))
        second.outputs(batch_of(data, range(half * 30 + 10, half * 30 + 30), 0))
    batch = batch_of(data, range(90), 0)
    for source in (first, second, stored()):
        assert torch.equal(source.outputs(batch).logits_BTC, live.outputs(batch).logits_BTC)
    fresh = stored()
    fresh.outputs(batch)
    assert fresh.stats.computed == 0


def test_each_process_fills_its_shards_and_waits_for_the_others(stored, live, data) -> None:
    met: list[int] = []
    ranks = [stored(share=ProcessShard(r, 2, lambda r=r: met.append(r))) for r in range(2)]
    for source in ranks:
        source.expect(data.index_N, torch.zeros_like(data.index_N))
    assert met == [0, 1]
    batch = batch_of(data, range(90), 0)
    for source in ranks:
        computed = source.stats.computed
        assert torch.equal(source.outputs(batch).logits_BTC, live.outputs(batch).logits_BTC)
        assert source.stats.computed == computed
    asked = [source.stats.seconds > 0 for source in ranks]
    assert asked == [True, True]


class Broken(nn.Module):
    """Gives NaN where a picture's first pixel is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1))
        return torch.where(images[:, 0, 0, 0, None] > 1.0, torch.nan, logits)


def test_a_teacher_with_nan_names_itself_and_is_not_stored(stored, data, tmp_path) -> None:
    broken = functools.partial(wrap_module, Broken(), input_spec_of(data))
    calm = data.images_NDHW[data.images_NDHW[:, 0, 0, 0] < 100][:8]
    ensemble = TeacherEnsemble({"bad": broken}, {"bad": "bad"}, calm.float() / 255)
    bright = (data.images_NDHW[:, 0, 0, 0] > 220).nonzero()[:, 0]
    with pytest.raises(NumericsError, match="teacher bad gave NaN or infinite logits for example"):
        stored(ensemble=ensemble, recipe="none").outputs(batch_of(data, bright, 0, "none"))
    assert not shards(tmp_path)


def test_logits_that_do_not_fit_are_not_stored(stored, data, make_ensemble, tmp_path) -> None:
    ensemble = make_ensemble(data)
    with ensemble.loaded("b") as teacher, torch.no_grad():
        teacher.network.body.linear.bias += 1e5
    with pytest.raises(NumericsError, match="does not fit fp16; store fp32"):
        stored("fp16", ensemble=ensemble).outputs(batch_of(data, range(4), 0))
    assert not [path for path in shards(tmp_path) if path.parts[-3] == "b"]


def test_a_full_disk_leaves_no_half_shard(stored, data, tmp_path, monkeypatch) -> None:
    source = stored()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source.outputs(batch_of(data, range(10), 0))
    before = {path: path.read_bytes() for path in shards(tmp_path)}
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match=r"cannot write answers .*No space left"):
            source.outputs(batch_of(data, range(10, 20), 0))
    assert {path: path.read_bytes() for path in shards(tmp_path)} == before
    assert not list(tmp_path.glob("**/.*.tmp"))


def test_a_disk_that_is_too_small_is_refused_before(
    stored, data, make_ensemble, tmp_path, monkeypatch
) -> None:
    import shutil

    source = stored("fp16")
    place, index = tmp_path / "store", data.index_N.numpy()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 3599))
    plan = make_plan(place, source._volumes, make_ensemble(data), index, [0], 4)
    assert plan.missing_bytes == 90 * 10 * 2 * 2 == 3600
    assert "1 views of 90 examples" in plan.table()
    with pytest.raises(FolderError, match=r"would take 3\.6 kB more and 3\.6 kB are free"):
        plan.check()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 3600))
    make_plan(place, source._volumes, make_ensemble(data), index, [0], 4).check()


def test_bytes_are_those_of_the_numbers_and_hardly_more(stored, noise, tmp_path) -> None:
    many = noise(8192, shape=(1, 4, 4))
    index = torch.arange(8192)
    many = replace(many, index_N=index)
    source = stored("fp16", data=many)
    source.expect(index, torch.zeros_like(index))
    written = sum(path.stat().st_size for path in shards(tmp_path))
    assert written <= 1.02 * 8192 * 2 * 10 * 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', '{"format": 1}', "\0\1"])
def test_a_manifest_that_makes_no_sense_is_refused(stored, data, tmp_path, content) -> None:
    stored().outputs(batch_of(data, range(4), 0))
    for path in tmp_path.glob("**/manifest.json"):
        whole = path.read_text()
        path.write_text(content)
        with pytest.raises(FolderError, match=r"manifest\.json"):
            stored()
        path.write_text(whole)
    stored()


def test_a_folder_with_something_else_is_no_store(stored, tmp_path) -> None:
    (tmp_path / "store").mkdir()
    stored()
    (tmp_path / "store" / "thesis.tex").write_text("mine")
    with pytest.raises(FolderError, match="no store of answers"):
        stored()


def test_a_store_whose_making_was_cut_short_is_made(stored, data, tmp_path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".manifest.json.4711.tmp").write_text("{")
    stored().outputs(batch_of(data, range(4), 0))
    assert (tmp_path / "store" / "manifest.json").is_file()


def test_a_shard_that_cannot_be_opened_now_is_not_taken_for_damaged(
    stored, data, monkeypatch
) -> None:
    stored().outputs(batch_of(data, range(4), 0))
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name.startswith("view"):
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        stored().outputs(batch_of(data, range(4), 0))


@pytest.mark.parametrize("name", ["../../x", "..", ".", "a/b", "ü x", "manifest.json"])
def test_no_name_leads_out_of_the_folder(tmp_path, name, stored, data, make_ensemble) -> None:
    source = stored(ensemble=make_ensemble(data, models={name: "small:mlp"}), folder="deep/store")
    source.outputs(batch_of(data, range(4), 0))
    assert len(shards(tmp_path / "deep/store/teachers")) >= 1
    outside = [p for p in tmp_path.glob("**/*.safetensors") if "deep/store/teachers" not in str(p)]
    assert not outside
    store = Store(tmp_path / "deep/store", None)
    assert list(store.teachers()) == [name]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 30), st.integers(1, 8))
def test_codecs_lose_what_they_say(seed, scale, largest) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(12, 9, generator=generator)
    maps = scale * torch.randn(5, 4, 3, 2, generator=generator).relu()
    for name, answers in (("fp32", logits), ("fp16", logits), ("fp32", maps), ("fp16", maps)):
        codec = make_codec(name, tuple(answers.shape[1:]))
        kept = codec.decode(codec.encode(answers))
        bound = 0 if name == "fp32" else 2**-11 * answers.abs() + 2**-24
        assert ((kept - answers).abs() <= bound).all()
        assert kept.shape == answers.shape
    codec = make_codec("int8", (4, 3, 2))
    for size in (1, 1e-3, 1e-6, 1e3):  # scales are halves, which get coarse below 6e-5
        step = size * maps.abs().amax(dim=(2, 3), keepdim=True) / 127
        lost = (codec.decode(codec.encode(size * maps)) - size * maps).abs()
        assert (lost <= 0.501 * step + 2**-24).all()
    _check_top(make_codec(f"top{largest}", (9,)), logits, largest)


def _check_top(codec: Any, logits: Tensor, largest: int) -> None:
    fields = codec.encode(logits)
    kept = codec.decode(fields).double()
    values, classes = logits.topk(largest)
    torch.testing.assert_close(kept.gather(1, classes), values.double(), rtol=1e-3, atol=1e-3)
    rest = kept.scatter(1, classes, -torch.inf).logsumexp(1)
    true = logits.double().scatter(1, classes, -torch.inf).logsumexp(1)
    torch.testing.assert_close(rest, true, rtol=2e-3, atol=2e-3)
    p, q = logits.double().log_softmax(1), kept.log_softmax(1)
    divergence = (p.exp() * (p - q)).sum(1).max()
    assert codec.error(logits, fields) == pytest.approx(divergence.item(), abs=1e-3)


@pytest.mark.parametrize("name", ["fp8", "top", "top0", "top10", "int8", "topx", ""])
def test_unknown_codecs_are_refused(name) -> None:
    with pytest.raises(RequestError):
        make_codec(name, (10,))


def test_uses_are_counted_and_torn_lines_left_out(stored, data, tmp_path) -> None:
    stored().outputs(batch_of(data, range(4), 0))
    store = Store(tmp_path / "store", None)
    store.log_usage(10, 4, 1.0)
    with (tmp_path / "store/uses.jsonl").open("a") as file:
        file.write('{"asked": 3, ')
    store.log_usage(10, 0, 1.0)
    assert [use.get("asked") for use in store.uses()] in ([10], [10, 10])


def test_the_manifests_say_what_is_kept(stored, data, tmp_path) -> None:
    stored("fp16", "int8").outputs(batch_of(data, range(4), 0))
    views = json.loads((tmp_path / "store/manifest.json").read_text())
    assert views["fingerprint"] == data.fingerprint()
    assert views["classes"] == list(data.classes)
    assert (views["recipe"], views["view_seed"], views["view_version"]) == ("crop", 0, 1)
    teacher = json.loads((tmp_path / "store/teachers/a/manifest.json").read_text())
    assert len(teacher["sha256"]) == 64
    assert teacher["answers"]["logits"] == {"codec": "fp16", "shape": [10], "rows": 4096}
    assert teacher["answers"]["layer2"]["codec"] == "int8"


def test_a_changed_teacher_behind_a_true_manifest_is_found(stored, data, make_ensemble) -> None:
    from collegium.store.identity import check_answers

    source = stored("fp16", ensemble=make_ensemble(data))
    source.outputs(batch_of(data, range(90), 0))
    kinds = source._volumes["a"]
    assert check_answers(source._writer, "a", kinds, 16) < 1e-6
    with source._writer.ensemble.loaded("a") as teacher, torch.no_grad():
        teacher.network.body.linear.weight += 0.1
    with pytest.raises(FolderError, match="does not hold what teacher a says now"):
        check_answers(source._writer, "a", kinds, 16)


def test_a_sample_comes_from_all_over(stored, noise) -> None:
    many = noise(9000, shape=(1, 4, 4))
    source = stored(data=many)
    for view in range(2):
        source.expect(many.index_N, torch.full_like(many.index_N, view))
    index, view = source._volumes["a"]["logits"].sample(64, many.index_N.numpy())
    assert 32 <= len(index) <= 64
    assert set(view.tolist()) == {0, 1}
    assert np.ptp(index) > 8000
