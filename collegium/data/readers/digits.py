"""The handwritten digits of scikit-learn: `digits`."""

from dataclasses import replace

import torch

from collegium.data.data_string import DataSpec
from collegium.data.image_data import ImageData
from collegium.data.images.load import ImageOptions
from collegium.data.readers.base import AbstractReader
from collegium.data.rng import Stream
from collegium.data.splits import Splits, hold_out
from collegium.errors import DataError

_TEST_FRACTION = 0.35


class DigitsReader(AbstractReader):
    """The 1,797 handwritten digits, 8x8 and grey, that scikit-learn includes."""

    slug = "digits"
    side = 8

    def read(self, spec: DataSpec, image_options: ImageOptions) -> Splits:
        """Train and test, the same for every seed."""
        if spec.place:
            raise DataError(
                f"digits are embedded and take no folder; say digits, not digits:{spec.place}"
            )
        from sklearn.datasets import load_digits  # takes a second to import

        bunch = load_digits()
        images_NDHW = (torch.from_numpy(bunch.images)[:, None] * (255 / 16)).round()
        labels_N = torch.from_numpy(bunch.target).long()
        classes = tuple(str(name) for name in bunch.target_names)
        pixels_NDHW = images_NDHW.to(torch.uint8)
        data = ImageData.numbered(pixels_NDHW, labels_N, classes, "digits", "none")
        train, test = hold_out(data, _TEST_FRACTION, 0, Stream.DIGITS_TEST)
        assert test is not None
        return Splits(replace(train, origin=None), None, replace(test, origin=None))
