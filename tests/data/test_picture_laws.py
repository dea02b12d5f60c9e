"""Whatever a picture is like and however it comes, its pixels are those its numbers mean."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from collegium.data import as_image_data, load_data, splits_of
from collegium.data.images.decode import EncodedImage, decode
from collegium.data.images.modes import PixelRule
from collegium.errors import CollegiumError, DataError
from collegium.export import predict as predicting
from tests.data.kinds import KINDS, Kind

READ = [kind for kind in KINDS if kind.read]
REFUSED = [kind for kind in KINDS if not kind.read]
SHAPES = [(16, 16), (8, 24)]
COUNT = 4


def made(kind: Kind, shape=(8, 24), count=COUNT, seed=0):
    rng = np.random.default_rng(seed)
    return [kind.values(rng, *shape) for _ in range(count)]


def expected(kind: Kind, values):
    assert kind.read is not None
    pixels = [np.asarray(kind.read(value)) for value in values]
    return np.stack([p[None] if p.ndim == 2 else p.transpose(2, 0, 1) for p in pixels])


def folder(root: Path, kind: Kind, values, split="train") -> Path:
    for place, value in enumerate(values):
        path = root / split / "ab"[place % 2] / f"{place // 2}.{kind.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kind.store(value))
    return root


def by_class(values):
    """As folders give them: one class after the other."""
    return [*values[::2], *values[1::2]]


def from_folder(tmp_path, kind, values):
    return load_data(f"folder:{folder(tmp_path / 'set', kind, values)}", validation=0.0)


def from_parquet(tmp_path, kind, values):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("datasets").config.HF_DATASETS_CACHE = tmp_path / "cache"
    files = [kind.store(value) for value in by_class(values)]
    labels = [place * 2 // len(files) for place in range(len(files))]
    pq.write_table(pa.table({"image": files, "label": labels}), tmp_path / "set.parquet")
    return load_data(f"hf:{tmp_path / 'set.parquet'}", validation=0.0)


def from_pictures(tmp_path, kind, values):
    opened = [Image.open(io.BytesIO(kind.store(value))) for value in by_class(values)]
    return splits_of({"train": [(image, place % 2) for place, image in enumerate(opened)]})


def from_arrays(tmp_path, kind, values):
    if not kind.as_array:
        return from_pictures(tmp_path, kind, values)
    return splits_of({"train": (np.stack(by_class(values)), [0, 1] * (len(values) // 2))})


CONTAINERS = {
    "folder": from_folder,
    "parquet": from_parquet,
    "pictures": from_pictures,
    "arrays": from_arrays,
}


def in_bytes(images: torch.Tensor) -> np.ndarray:
    return (images * 255).round().numpy() if images.is_floating_point() else images.numpy()


@pytest.mark.parametrize(
    ("kind", "container"),
    [
        (kind, name)
        for kind in READ
        for name in CONTAINERS
        if name != "parquet" or kind in READ[::4]
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_pixels_are_what_the_numbers_mean(kind: Kind, container: str, tmp_path: Path) -> None:
    if container == "pictures" and "of colour" in kind.name:
        pytest.skip("Pillow gives the upper bytes of such pictures and nothing else")
    values = made(kind)
    splits = CONTAINERS[container](tmp_path, kind, values)
    wanted = expected(kind, by_class(values))
    assert splits.train.shape == wanted.shape[1:]
    np.testing.assert_array_equal(in_bytes(splits.train.images_NDHW), wanted)


@pytest.mark.parametrize("container", ["folder", "pictures", "arrays"])
@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.name)
def test_what_means_nothing_is_refused_in_a_line(kind: Kind, container: str, tmp_path) -> None:
    with pytest.raises(DataError, match=kind.refused) as caught:
        CONTAINERS[container](tmp_path, kind, made(kind))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", READ, ids=lambda kind: kind.name)
def test_predict_sees_what_training_saw(kind: Kind, tmp_path: Path) -> None:
    """By the rule as run.json keeps it."""
    values = made(kind)
    splits = from_folder(tmp_path, kind, values)
    kept = PixelRule.from_json(splits.rule.to_json())
    files = sorted((tmp_path / "set" / "train").glob("*/*"))
    pictures = [EncodedImage(str(path), path) for path in files]
    rule = predicting._rule(kept, pictures[:1], pytest.fail)
    assert torch.equal(decode(pictures, splits.train.shape, rule), splits.train.images_NDHW)


@pytest.mark.parametrize("kind", READ, ids=lambda kind: kind.name)
def test_no_picture_decides_how_another_is_read(kind: Kind, tmp_path: Path) -> None:
    """One scale for all splits: the brightest pixel may be in any of them."""
    values = made(kind)
    dim = [np.minimum(value, (value.max() / 2).astype(value.dtype)) for value in made(kind, seed=1)]
    root = folder(folder(tmp_path / "set", kind, dim), kind, values, "test")
    if kind.name in ("masks of 16 bits", "digits of 16", "floats -1..1", "floats 0..255"):
        return  # halved they mean something else
    test = load_data(f"folder:{root}", validation=0.0).get("test")
    wanted = expected(kind, by_class(values))
    np.testing.assert_array_equal(test.images_NDHW.numpy()[:, : len(wanted[0])], wanted)


@pytest.mark.parametrize("kind", READ, ids=lambda kind: kind.name)
def test_guesses_are_told_and_what_is_evident_is_not(kind: Kind, tmp_path: Path) -> None:
    notes = from_folder(tmp_path, kind, made(kind)).notes
    assert [kind.told in note for note in notes] == [True] * bool(kind.told)


def test_a_range_that_is_given_holds(tmp_path: Path) -> None:
    metres = next(kind for kind in KINDS if kind.name == "metres")
    values = made(metres)
    root = folder(tmp_path / "set", metres, values)
    splits = load_data(f"folder:{root}?range=0,8", validation=0.0)
    wanted = np.stack(
        [(v.astype(np.float64) * 255 / 8).round().clip(0, 255) for v in by_class(values)]
    )
    np.testing.assert_array_equal(splits.train.images_NDHW[:, 0].numpy(), wanted)
    assert splits.notes == ()
    assert splits.rule.to_json() == {"range": [0.0, 8.0], "given": True}
    floats = as_image_data((np.stack(values), [0, 1, 0, 1]), pixel_range=(0, 10))
    np.testing.assert_allclose(floats.images_NDHW[:, 0], np.stack(values) / 10, atol=1e-6)
    for text in ("8", "8,0", "a,b", "1,2,3"):
        with pytest.raises(DataError, match=r"range|black is below white"):
            load_data(f"folder:{root}?range={text}")


def test_splits_of_other_ranges_are_refused() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.uniform(0, 1, (4, 8, 8)), rng.uniform(0, 255, (4, 8, 8))
    labels = [0, 1, 0, 1]
    with pytest.raises(DataError, match=r"splits have different ranges \(train from"):
        splits_of({"train": (one, labels), "test": (other, labels)})
    splits = splits_of({"train": ((255 * one).astype(np.uint8), labels), "test": (one, labels)})
    assert splits.get("test").images_NDHW.max() <= 1


def test_transparency_can_be_put_on_white_or_black(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = [rng.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(2)]
    for label, shape in zip("ab", shapes, strict=True):
        (tmp_path / "train" / label).mkdir(parents=True)
        image = Image.merge("RGBA", [Image.new("L", (8, 8))] * 3 + [Image.fromarray(shape)])
        image.save(tmp_path / "train" / label / "0.png")
    with pytest.raises(DataError, match="only its transparency varies"):
        load_data(f"folder:{tmp_path}", validation=0.0)
    found = load_data(f"folder:{tmp_path}?alpha=white", validation=0.0)
    np.testing.assert_array_equal(found.train.images_NDHW[:, 0], 255 - np.stack(shapes))
    assert found.rule.to_json() == {"alpha": "white"}


def test_a_deeper_picture_than_those_looked_at_is_an_error(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("collegium.data.images.load._HEADERS", 2)
    kinds = {kind.name: kind for kind in KINDS}
    grey, deep = kinds["grey"], kinds["60000 in 16 bits of png"]
    root = folder(tmp_path / "set", grey, made(grey, count=6))
    (root / "train" / "a" / "1.png").write_bytes(deep.store(made(deep)[0]))
    with pytest.raises(DataError, match=r"1\.png has more than eight bits a channel"):
        load_data(f"folder:{root}", validation=0.0)


def test_a_few_blank_pictures_are_counted() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8), dtype=np.uint8)
    images[2] = 7
    with pytest.warns(UserWarning, match="1 of 6 images have one colour only"):
        as_image_data((images, [0, 1] * 3))
    with pytest.warns(UserWarning, match="brightest pixel of all is 12 of 255"):
        as_image_data((rng.integers(0, 13, (6, 8, 8), dtype=np.uint8), [0, 1] * 3))


def test_several_frames_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(3)]
    (tmp_path / "train" / "a").mkdir(parents=True)
    for name in ("a.gif", "b.tif", "c.webp"):
        path = tmp_path / "train" / "a" / name
        frames[0].save(path, save_all=True, append_images=frames[1:])
    notes = load_data(f"folder:{tmp_path}", validation=0.0).notes
    assert any("3 images have several frames; the first of each is used" in note for note in notes)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float64, "torch"])
@pytest.mark.parametrize("layout", ["NHW", "NHWD", "NDHW"])
def test_arrays_of_every_type_and_layout_are_one_picture(dtype, layout) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (4, 6, 8) + (() if layout == "NHW" else (3,)))
    images = bits.transpose(0, 3, 1, 2) if layout == "NDHW" else bits
    source = torch.tensor(images * 255) if dtype == "torch" else images.astype(dtype)
    if dtype == np.uint8:
        source = source * 255
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is told is another test's
        found = as_image_data((source, [0, 1, 0, 1])).images_NDHW
    wanted = bits[:, None] if layout == "NHW" else bits.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(in_bytes(found), wanted * 255)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_refusal_is_the_users_error(shape) -> None:
    for kind in REFUSED:
        with pytest.raises(CollegiumError) as caught:
            as_image_data((np.stack(made(kind, shape)), [0, 1] * 2))
        assert caught.value.exit_code == 2


def test_what_does_not_fit_in_memory_is_read_by_the_same_rule(tmp_path: Path, monkeypatch) -> None:
    kind = next(kind for kind in KINDS if kind.name == "4095 in 12 bits of png")
    decoded = from_folder(tmp_path, kind, made(kind)).train
    monkeypatch.setattr("collegium.data.images.load.free_memory", lambda: 0)
    encoded = from_folder(tmp_path, kind, made(kind)).train
    assert not isinstance(encoded.images_NDHW, torch.Tensor)
    assert torch.equal(encoded.pixels(torch.arange(COUNT)), decoded.images_NDHW)
    given = load_data(f"folder:{tmp_path / 'set'}?range=0,8191", validation=0.0).train
    assert given.fingerprint() != encoded.fingerprint()


def test_a_camera_held_anyhow_gives_the_same_pixels_everywhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "train" / "a").mkdir(parents=True)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        image = Image.fromarray(rng.integers(0, 256, (8, 16, 3), dtype=np.uint8))
        image.save(tmp_path / "train" / "a" / f"{turn}.png", exif=exif)
    read = load_data(f"folder:{tmp_path}?size=12,20", validation=0.0).train.images_NDHW
    opened = [(Image.open(path), 0) for path in sorted(tmp_path.glob("train/a/*"))]
    given = splits_of({"train": opened}, image_size=(12, 20)).train.images_NDHW
    assert torch.equal(given, read)


def test_what_was_read_right_has_the_fingerprint_it_had(tmp_path: Path) -> None:
    """Of 54e9dc9: runs and stores of before go on."""
    rng, found = np.random.default_rng(0), [load_data("digits").train.fingerprint()]
    for mode in ("L", "RGB"):
        depth = (3,) * (mode == "RGB")
        for place in range(4):
            path = tmp_path / mode / "train" / "ab"[place % 2] / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (6, 10, *depth), dtype=np.uint8)).save(path)
        found.append(load_data(f"folder:{tmp_path / mode}", validation=0.0).train.fingerprint())
    images = rng.integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
    sources = images, (images / 255).astype(np.float32)
    found += [as_image_data((source, [0, 1] * 3)).fingerprint() for source in sources]
    assert [text[:16] for text in found] == [
        "70345e8cc7f99494",
        "966a5e922495d576",
        "ff3557cd7e752f36",
        "89e1f8e89f34cd31",
        "2b0e9b4fe267d707",
    ]
