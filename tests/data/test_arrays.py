import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from collegium.build import splits_from
from collegium.data import as_image_data
from collegium.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 6, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1])


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY, GREY[:, None]),
        (GREY[..., None], GREY[:, None]),
        (GREY[:, None], GREY[:, None]),
        (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR[:, ::-1], COLOUR[:, ::-1].transpose(0, 3, 1, 2)),
    ],
)
@pytest.mark.parametrize("make", [np.asarray, lambda array: torch.tensor(array.copy())])
def test_pairs_of_every_layout(images, expected, make):
    data = as_image_data((make(images), make(LABELS)))
    np.testing.assert_array_equal(data.images_NDHW.numpy(), expected)
    assert data.labels_N.tolist() == LABELS.tolist()
    assert data.index_N.tolist() == [0, 1, 2, 3, 4]
    assert (data.classes, data.name, data.augment) == (("0", "1", "2"), "arrays", "none")


def test_channels_are_first_where_both_readings_fit():
    images = torch.arange(2 * 3 * 5 * 3, dtype=torch.uint8).view(2, 3, 5, 3)
    with pytest.warns(UserWarning, match="2x3x5x3 are read with channels first"):
        assert torch.equal(as_image_data((images, [0, 1])).images_NDHW, images)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_floating_pixels_become_float32(kind):
    images = (GREY / 255).astype(kind)
    data = as_image_data((images, LABELS))
    assert data.images_NDHW.dtype == torch.float32
    np.testing.assert_array_equal(data.images_NDHW[:, 0].numpy(), images.astype(np.float32))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, ">i4", np.uint64])
def test_labels_of_every_integer_type(kind):
    assert as_image_data((GREY, LABELS.astype(kind))).labels_N.tolist() == LABELS.tolist()


def test_the_source_stays_its_own():
    images, tensor = GREY.copy(), torch.tensor(GREY)
    images.flags.writeable = False
    first, second = as_image_data((images, LABELS)), as_image_data((tensor, LABELS))
    tensor.zero_()
    assert torch.equal(first.images_NDHW, second.images_NDHW)


def test_image_data_is_passed_through(noise_data):
    data = noise_data(4)
    assert as_image_data(data) is data


@pytest.mark.parametrize(
    "convert",
    [
        Image.fromarray,
        np.asarray,
        torch.tensor,
        lambda array: torch.tensor(array).permute(2, 0, 1),
    ],
)
@pytest.mark.parametrize("number", [int, np.int64, torch.tensor, lambda n: np.array([n])])
def test_datasets_of_pictures_arrays_and_tensors(convert, number):
    source = [(convert(image), number(int(n))) for image, n in zip(COLOUR, LABELS, strict=True)]
    data = as_image_data(source)
    np.testing.assert_array_equal(data.images_NDHW.numpy(), COLOUR.transpose(0, 3, 1, 2))
    assert data.labels_N.tolist() == LABELS.tolist()


def test_torch_datasets():
    whole = TensorDataset(torch.tensor(GREY), torch.tensor(LABELS))
    assert len(as_image_data(whole)) == 5
    assert as_image_data(Subset(whole, [4, 2])).labels_N.tolist() == [1, 2]


def test_two_items_are_not_taken_for_a_pair():
    data = as_image_data([(GREY[0], 0), (GREY[1], 1)])
    assert data.images_NDHW.shape == (2, 1, 6, 7)


def test_grey_and_colour_mixed_become_colour():
    data = as_image_data([(Image.fromarray(GREY[0]), 0), (Image.fromarray(COLOUR[0]), 1)])
    np.testing.assert_array_equal(data.images_NDHW[0].numpy(), np.stack([GREY[0]] * 3))


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3)])
def test_other_picture_modes(mode, channels):
    picture = Image.fromarray(COLOUR[0]).convert(mode)
    assert as_image_data([(picture, 0)]).shape == (channels, 6, 7)


def test_class_names():
    class Named(list):
        classes = ("cat", "dog", "emu")

    source = Named((image, int(n)) for image, n in zip(GREY, LABELS, strict=True))
    assert as_image_data(source).classes == ("cat", "dog", "emu")
    assert as_image_data(source, classes=list("abcd")).classes == ("a", "b", "c", "d")


MIXED = [(GREY[0], 0), (GREY[1][:, :5], 1)]
TYPES = [(GREY[0], 0), (GREY[1] / 255, 1)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((GREY, LABELS[:3]), r"5 images, but labels of the shape \(3,\)"),
        ((GREY, LABELS - 1), "label -1, expected integers from 0"),
        ((GREY, LABELS / 2), "labels are float64, expected integers"),
        ((GREY, LABELS + 10**12), "give the class names"),
        (((GREY / 255 - 0.5) / 0.2, LABELS), "normalisation belongs to the model"),
        ((GREY[0], LABELS), r"images have the shape \(6, 7\)"),
        ((GREY.astype(object), LABELS), "cannot use an array of object"),
        (MIXED, "item 0 is 6x7 uint8, item 1 is 6x5 uint8; bring all images"),
        (TYPES, "item 0 is 6x7 uint8, item 1 is 6x7 float64"),
        ([], "no items"),
        ([GREY[0]], r"item 0 is ndarray, expected \(image, label\)"),
        ([(GREY[0], 0), (GREY[1], "cat")], "example 1 has the label 'cat'"),
        ([(GREY[0], 0), (GREY[1], 1.0)], "example 1 has the label 1.0"),
        (iter([(GREY[0], 0)]), "cannot read list_iterator"),
        (None, "cannot read NoneType"),
    ],
)
def test_what_cannot_be_used_is_refused(source, message):
    with pytest.raises(DataError, match=message) as caught:
        as_image_data(source, name="mine")
    assert str(caught.value).startswith("mine")
    assert "\n" not in str(caught.value)


def test_labels_beyond_the_class_names_are_refused():
    with pytest.raises(DataError, match="example 2 has label 2, expected 0 to 1"):
        as_image_data((GREY, LABELS), classes=["a", "b"])
    with pytest.raises(DataError, match="classes is 'abc', expected a list"):
        as_image_data((GREY, LABELS), classes="abc")


def test_pictures_of_mixed_sizes_are_brought_to_one():
    sizes = [(40, 50), (60, 48), (44, 44)]
    source = [(Image.new("RGB", size, (90 * n, 0, 0)), n) for n, size in enumerate(sizes)]
    with pytest.warns(UserWarning, match="3 of 3 images have one colour only"):
        data = as_image_data(source)
    assert data.shape == (3, 44, 44)
    assert data.images_NDHW[:, 0].flatten(1).unique(dim=1).flatten().tolist() == [0, 90, 180]
    noise = [(Image.fromarray(COLOUR[0]), 0), (Image.fromarray(COLOUR[1]), 1)]
    assert as_image_data(noise, image_size=16).shape == (3, 16, 16)
    assert as_image_data(noise[:1], image_size=(8, 16)).shape == (3, 8, 16)


def test_other_splits_take_the_size_of_train():
    train = [(Image.new("L", (40 + n, 50), 40 * n), n % 2) for n in range(6)]
    splits = splits_from(train, [(Image.new("L", (90, 80)), 1)], None, 0.0, 0)
    assert splits.train.shape == splits.get("validation").shape == (1, 42, 42)
    wide = [(Image.new("L", (40, 20), 40 * n), n % 2) for n in range(4)]
    assert splits_from(wide, wide, None, 0.0, 0).get("validation").shape == (1, 20, 40)


def test_more_than_memory_holds_is_refused_before_it_is_read(monkeypatch):
    class Endless:
        def __len__(self):
            return 10**9

        def __getitem__(self, place):
            assert place == 0
            return GREY[0], 0

    monkeypatch.setattr("collegium.data.readers.arrays.free_memory", lambda: 2**30)
    with pytest.raises(DataError, match=r"1,000,000,000 items like the first take 42 GB, 1 GB are"):
        as_image_data(Endless())


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "I", "YCbCr", "LA"])
def test_rare_picture_modes(mode):
    picture = Image.fromarray(GREY[0])
    if mode.startswith("I"):
        picture = Image.fromarray(GREY[0].astype(np.uint16) * 257)
        picture = picture.convert("I") if mode == "I" else picture
    else:
        picture = picture.convert(mode)
    data = as_image_data([(picture, 0)])
    assert (data.images_NDHW[0, 0].int() - torch.tensor(GREY[0]).int()).abs().max() <= 2


SMALL = torch.tensor(GREY[:3] / 256).float()
MASKED = np.ma.masked_array(GREY, GREY > 200)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((SMALL.to_sparse(), LABELS[:3]), "cannot use a sparse tensor"),
        ((SMALL.to("meta"), LABELS[:3]), "cannot use a meta tensor"),
        ((SMALL, torch.tensor(LABELS[:3], device="meta")), "cannot use a meta tensor"),
        ((MASKED, LABELS), r"some pixels are masked: fill them"),
        ({"train": (SMALL, LABELS[:3])}, "a mapping of train: give one split"),
    ],
    ids=["sparse", "meta", "meta labels", "masked", "mapping"],
)
def test_what_numpy_cannot_read_is_refused_in_a_line(source, message):
    with pytest.raises(DataError, match=message):
        as_image_data(source)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.bfloat16, torch.float16])
def test_short_floats_are_read(kind):
    read = as_image_data((SMALL.to(kind).requires_grad_(), LABELS[:3])).images_NDHW
    assert torch.equal(read[:, 0], SMALL.to(kind).float())


@pytest.mark.parametrize("colour", ["train", "test"])
@pytest.mark.parametrize("pictures", [False, True])
def test_grey_splits_among_colour_become_colour(colour, pictures):
    def source(images):
        if not pictures:
            return images, LABELS
        return [(Image.fromarray(a), int(b)) for a, b in zip(images, LABELS, strict=True)]

    parts = {"train": GREY, "test": GREY, colour: COLOUR}
    splits = splits_from(source(parts["train"]), None, source(parts["test"]), 0.0, 0)
    assert splits.train.shape == splits.get("test").shape
    grey = splits.get("test" if colour == "train" else "train").images_NDHW
    assert len(grey[0]) == 3
    assert (grey == grey[:, :1]).all()


def test_no_training_data_is_a_line():
    with pytest.raises(DataError, match="train is None"):
        splits_from(None, (GREY, LABELS), None, 0.1, 0)


def test_another_split_that_is_nearly_black_is_told():
    dark = (GREY / 255 * 0.001).astype(np.float32)
    splits = splits_from((GREY / 255, LABELS), None, (dark, LABELS), 0.0, 0)
    assert any(note.startswith("arrays, test: the brightest pixel") for note in splits.notes)
