import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from collegium.data import load_data
from collegium.data.images import decode as pictures
from collegium.data.images import lazy as gallery
from collegium.data.images import load as albums
from collegium.data.images.lazy import LazyImages
from collegium.errors import DataError, RequestError, UnknownNameError


def pixels_of(path):
    return np.asarray(Image.open(path)).transpose(2, 0, 1)


def test_a_folder_as_it_should_be(picture_folder):
    splits = load_data(f"folder:{picture_folder}")
    train, validation = splits.train, splits.get("validation")
    assert (train.classes, train.name, train.augment) == (("cat", "dog"), "pets", "crop-flip")
    assert train.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.index_N.tolist() == list(range(6))
    assert validation.labels_N.tolist() == [0, 1]
    assert splits.test is None
    np.testing.assert_array_equal(
        train.images_NDHW[4].numpy(), pixels_of(picture_folder / "train" / "dog" / "1.png")
    )


@pytest.mark.parametrize("name", ["val", "validation", "valid"])
def test_its_own_validation_is_kept_whatever_the_fraction(picture_folder, name):
    (picture_folder / "val").rename(picture_folder / name)
    splits = load_data(f"folder:{picture_folder}", validation=0.5)
    assert (len(splits.train), len(splits.get("validation"))) == (6, 2)


def test_without_validation_it_is_held_out_of_train(picture_folder):
    (picture_folder / "val").rename(picture_folder / "test")
    splits = load_data(f"folder:{picture_folder}", validation=0.34)
    assert splits.get("validation").labels_N.tolist() == [0, 1]
    assert (len(splits.train), len(splits.get("test"))) == (4, 2)


def test_all_formats_hidden_files_and_strangers(tmp_path, write_picture):
    for name in ("a.png", "b.JPG", "c.jpeg", "d.webp", "e.bmp"):
        write_picture(tmp_path / "train" / "x" / name)
    write_picture(tmp_path / "train" / "x" / ".hidden.png")
    write_picture(tmp_path / "train" / ".cache" / "a.png")
    (tmp_path / "train" / "x" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "x" / "folder.png").mkdir()
    (tmp_path / "train" / "README.md").write_text("no class")
    train = load_data(f"folder:{tmp_path}", validation=0.0).train
    assert (len(train), train.classes) == (5, ("x",))


def test_other_splits_may_lack_classes(picture_folder):
    for path in (picture_folder / "val" / "cat").iterdir():
        path.unlink()
    (picture_folder / "val" / "cat").rmdir()
    splits = load_data(f"folder:{picture_folder}")
    assert splits.get("validation").labels_N.tolist() == [1]
    assert splits.get("validation").classes == ("cat", "dog")


def test_links_out_of_the_folder_are_followed(picture_folder, tmp_path, write_picture):
    target = write_picture(tmp_path / "elsewhere.png", seed=5)
    link = picture_folder / "train" / "cat" / "z.png"
    link.symlink_to(target)
    train = load_data(f"folder:{picture_folder}").train
    np.testing.assert_array_equal(train.images_NDHW[3].numpy(), pixels_of(target))


def test_grey_only_if_every_picture_is(tmp_path, write_picture):
    path = write_picture(tmp_path / "train" / "x" / "a.png", mode="L")
    write_picture(tmp_path / "val" / "x" / "a.png", mode="L", seed=1)
    assert load_data(f"folder:{tmp_path}").train.shape == (1, 8, 8)
    write_picture(tmp_path / "val" / "x" / "b.png")
    train = load_data(f"folder:{tmp_path}").train
    grey = np.asarray(Image.open(path))
    np.testing.assert_array_equal(train.images_NDHW[0].numpy(), np.stack([grey] * 3))


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    deep = (np.arange(64).reshape(8, 8) * 1000).astype(np.uint16)
    (tmp_path / "train" / "x").mkdir(parents=True)
    Image.fromarray(deep).save(tmp_path / "train" / "x" / "a.png")
    train = load_data(f"folder:{tmp_path}", validation=0.0).train
    np.testing.assert_array_equal(train.images_NDHW[0, 0].numpy(), deep >> 8)


def test_palettes_with_transparency(tmp_path):
    (tmp_path / "train" / "x").mkdir(parents=True)
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.save(tmp_path / "train" / "x" / "a.png", transparency=b"\x00\x80")
    train = load_data(f"folder:{tmp_path}", validation=0.0).train
    assert train.images_NDHW[0, :, 0, 0].tolist() == [10, 20, 30]


def test_pictures_of_one_size_stay_as_they_are(tmp_path, write_picture):
    for seed in range(3):
        write_picture(tmp_path / "train" / "x" / f"{seed}.png", (20, 10), seed=seed)
    assert load_data(f"folder:{tmp_path}", validation=0.0).train.shape == (3, 10, 20)


@pytest.mark.parametrize(
    ("sides", "expected"), [((5, 6, 9), 32), ((40, 50, 70), 50), ((300, 400, 500), 224)]
)
def test_mixed_sizes_take_the_median_shorter_side(tmp_path, write_picture, sides, expected):
    for side in sides:
        write_picture(tmp_path / "train" / "x" / f"{side}.png", (side, side + 3))
    write_picture(tmp_path / "val" / "x" / "a.png", (80, 80))
    splits = load_data(f"folder:{tmp_path}")
    assert splits.train.shape == splits.get("validation").shape == (3, expected, expected)


@pytest.mark.parametrize("size", [(92, 60), (60, 92), (60, 60), (20, 36)])
def test_resizing_equals_resize_and_centre_crop(tmp_path, size):
    (tmp_path / "train" / "x").mkdir(parents=True)
    ramp = np.add.outer(np.arange(size[1]), 2 * np.arange(size[0])).astype(np.uint8)
    wave = (127 + 127 * np.sin(np.add.outer(np.arange(size[1]), np.arange(size[0])) / 9)).astype(
        np.uint8
    )
    picture = Image.fromarray(np.stack([ramp // 2, wave, 255 - wave], 2))
    picture.save(tmp_path / "train" / "x" / "a.png")
    found = load_data(f"folder:{tmp_path}", validation=0.0, image_size=30).train

    scale = 30 / min(size)
    width, height = (round(side * scale) for side in size)
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).astype(int)
    top, left = (height - 30) // 2, (width - 30) // 2
    expected = resized[top : top + 30, left : left + 30].transpose(2, 0, 1)
    assert found.shape == (3, 30, 30)
    assert np.abs(found.images_NDHW[0].numpy() - expected)[:, 1:-1, 1:-1].max() <= 1


def test_resizing_is_antialiased(tmp_path):
    (tmp_path / "train" / "x").mkdir(parents=True)
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    Image.fromarray(stripes).save(tmp_path / "train" / "x" / "a.png")
    found = load_data(f"folder:{tmp_path}", validation=0.0, image_size=8).train.images_NDHW
    assert ((found - 127.5).abs() < 20).all()


def test_a_very_long_picture_is_cropped_before_it_is_scaled(tmp_path, write_picture):
    write_picture(tmp_path / "train" / "x" / "a.png", (20_000, 1))
    assert load_data(f"folder:{tmp_path}", validation=0.0, image_size=224).train.shape == (
        3,
        224,
        224,
    )


def refusal(folder, **options):
    with pytest.raises(DataError) as caught:
        load_data(f"folder:{folder}", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_layouts_that_are_none(tmp_path, write_picture):
    assert "nowhere is not a folder; expected train/CLASS" in refusal(tmp_path / "nowhere")
    assert "has no folder train; expected train/CLASS" in refusal(tmp_path)
    write_picture(tmp_path / "train" / "flat.png")
    assert "train has no class folders; expected train/CLASS" in refusal(tmp_path)
    assert "needs a place: folder:DIR" in refusal("")


def test_an_empty_class_is_named(picture_folder):
    (picture_folder / "train" / "emu").mkdir()
    (picture_folder / "train" / "emu" / "notes.txt").write_text("none yet")
    assert f"{picture_folder / 'train' / 'emu'} holds no images" in refusal(picture_folder)


def test_a_class_that_train_does_not_have(picture_folder, write_picture):
    write_picture(picture_folder / "val" / "catt" / "a.png")
    with pytest.raises(UnknownNameError, match="'catt'; did you mean 'cat'"):
        load_data(f"folder:{picture_folder}")


def test_two_validation_folders(picture_folder, write_picture):
    write_picture(picture_folder / "valid" / "cat" / "a.png")
    assert "has val and valid, which mean the same" in refusal(picture_folder)


def test_a_text_called_an_image(picture_folder):
    path = picture_folder / "train" / "cat" / "liar.png"
    path.write_text("not an image")
    message = refusal(picture_folder)
    assert f"{path} cannot be read as an image: not a PNG, JPEG, WebP, BMP, TIFF, GIF" in message


def test_a_postscript_called_an_image_is_never_run(picture_folder):
    path = picture_folder / "train" / "cat" / "liar.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    assert f"{path} cannot be read" in refusal(picture_folder)


@pytest.mark.parametrize("kind", ["PCX", "TGA", "ICO"])
def test_only_the_named_formats_are_opened(picture_folder, kind):
    path = picture_folder / "train" / "cat" / "liar.png"
    Image.new("RGB", (8, 8)).save(path, kind)
    assert "not a PNG, JPEG, WebP, BMP, TIFF" in refusal(picture_folder)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.webp", "cut.bmp"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_truncated_images(picture_folder, write_picture, name, part):
    path = write_picture(picture_folder / "val" / "dog" / name, (64, 64))
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    assert f"{path} cannot be read as an image" in refusal(picture_folder)


def test_a_dangling_link(picture_folder, tmp_path):
    path = picture_folder / "train" / "cat" / "gone.png"
    path.symlink_to(tmp_path / "never")
    assert f"{path} cannot be read" in refusal(picture_folder)


def png_claiming(width, height):
    """A PNG header that promises that many pixels, and nothing behind it."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 50_000])  # Pillow warns of the first, refuses the second
def test_decompression_bombs(picture_folder, side, monkeypatch):
    monkeypatch.setattr(gallery, "decode", lambda *_: pytest.fail("decoding began"))
    path = picture_folder / "train" / "dog" / "bomb.png"
    path.write_bytes(png_claiming(side, side))
    assert f"{path} is a decompression bomb" in refusal(picture_folder)


def test_what_fits_in_half_the_free_memory_is_decoded_at_once(picture_folder, monkeypatch):
    for missing, kind in ((1, LazyImages), (0, torch.Tensor)):
        monkeypatch.setattr(albums, "free_memory", lambda: 2 * (8 * 3 * 64 * 64 - missing))  # noqa: B023
        train = load_data(f"folder:{picture_folder}", image_size=64).train
        assert isinstance(train.images_NDHW, kind)
        assert train.shape == (3, 64, 64)


def test_free_memory_is_some_of_it():
    free = pictures.free_memory()
    assert free is None or 2**20 < free < 2**50


def test_many_pictures_keep_their_places(tmp_path, write_picture):
    for seed in range(60):
        write_picture(tmp_path / "train" / f"{seed % 3}" / f"{seed:02}.png", seed=seed)
    train = load_data(f"folder:{tmp_path}", validation=0.0).train
    files = sorted(tmp_path.glob("train/*/*.png"))
    expected = np.stack([pixels_of(path) for path in files])
    assert torch.equal(train.images_NDHW, torch.tensor(expected))


def test_a_folder_of_class_folders_is_all_train(tmp_path, write_picture):
    for name in ("cat", "dog"):
        for place in range(5):
            write_picture(tmp_path / name / f"{place}.png", seed=place)
    splits = load_data(f"folder:{tmp_path}", validation=0.2)
    assert (splits.train.classes, len(splits.train)) == (("cat", "dog"), 8)
    assert splits.get("validation").labels_N.tolist() == [0, 1]


def test_val_as_the_test_split(picture_folder, write_picture):
    splits = load_data(f"folder:{picture_folder}?val=test", validation=0.34)
    assert (len(splits.train), len(splits.get("validation")), len(splits.get("test"))) == (4, 2, 2)
    write_picture(picture_folder / "test" / "cat" / "a.png")
    assert "val=test takes the validation split" in refusal(f"{picture_folder}?val=test")


def test_a_folder_with_a_question_mark_in_its_name(picture_folder):
    odd = picture_folder.rename(picture_folder.with_name("pets?a=b"))
    assert len(load_data(f"folder:{odd}").train) == 6


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("corrupt", "options are written [?]key=value&key=value, found 'corrupt'"),
        ("corrupt=skip&corrupt=fatal", "the option corrupt comes twice"),
        ("corupt=skip", "unknown option of folder 'corupt'; did you mean 'corrupt'"),
        ("corrupt=skp", "unknown value of corrupt 'skp'; did you mean 'skip'"),
    ],
)
def test_options_that_are_none(picture_folder, query, message):
    with pytest.raises(RequestError, match=message):
        load_data(f"folder:{picture_folder}?{query}")


def test_one_class_is_noted(tmp_path, write_picture):
    write_picture(tmp_path / "pets" / "train" / "dog" / "0.png")
    assert "no class has two training examples" in refusal(tmp_path / "pets")
    splits = load_data(f"folder:{tmp_path / 'pets'}", validation=0.0)
    assert splits.notes == ("pets has one class, dog: nothing can be learned",)


def test_classes_without_validation_images_are_noted(picture_folder):
    shutil.rmtree(picture_folder / "val" / "cat")
    (note,) = load_data(f"folder:{picture_folder}").notes
    assert note == f"{picture_folder / 'val'} has no images of 1 of the 2 classes: cat"


def test_a_stranger_among_very_many_classes_is_told_in_a_short_line(tmp_path, write_picture):
    for label in range(60):
        write_picture(tmp_path / "train" / f"class{label:02}" / "a.png")
    write_picture(tmp_path / "val" / "klass07" / "a.png")
    write_picture(tmp_path / "val" / "other" / "a.png")
    with pytest.raises(UnknownNameError) as caught:
        load_data(f"folder:{tmp_path}")
    message = str(caught.value)
    assert f"unknown class in {tmp_path / 'val'} (and 1 more unknown) 'klass07'; did you" in message
    assert "'class07'" in message
    assert len(message) < 700


def test_classes_that_differ_in_case_alone_are_noted(tmp_path, write_picture):
    for name in ("Cat", "cat", "dog"):
        for seed in range(2):
            write_picture(tmp_path / "pets" / name / f"{seed}.png", seed=seed)
    splits = load_data(f"folder:{tmp_path / 'pets'}")
    assert splits.notes == ("pets has classes that differ in case alone: Cat, cat",)
