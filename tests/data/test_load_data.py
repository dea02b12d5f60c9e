import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from collegium.data import load_data
from collegium.errors import DataError, UnknownNameError


def test_digits():
    splits = load_data("digits")
    train, validation, test = splits.train, splits.get("validation"), splits.get("test")
    assert (len(train), len(validation), len(test)) == (1051, 117, 629)
    assert train.classes == tuple("0123456789")
    assert (train.shape, train.name, train.augment) == ((1, 8, 8), "digits", "none")
    indices = torch.cat([part.index_N for part in (train, validation, test)])
    assert torch.equal(indices.sort().values, torch.arange(1797))
    bunch = load_digits()
    for part in (train, validation, test):
        np.testing.assert_array_equal(part.labels_N, bunch.target[part.index_N])
        scaled = np.rint(bunch.images[part.index_N] * 255 / 16)
        np.testing.assert_array_equal(part.images_NDHW[:, 0], scaled)


def test_the_test_split_is_the_same_for_all():
    first = load_data("digits")
    second = load_data("digits", seed=5, validation=0.3)
    assert first.get("test").fingerprint() == second.get("test").fingerprint()
    assert first.get("test").fingerprint().startswith("3a189a8231806a1e")
    assert set(first.train.index_N.tolist()) != set(second.train.index_N.tolist())


def test_the_test_split_is_stratified():
    share = torch.bincount(load_data("digits").get("test").labels_N) / torch.tensor(
        np.bincount(load_digits().target)
    )
    assert (share - 0.35).abs().max() < 0.005


def test_validation_follows_the_seed():
    held = [load_data("digits", seed=seed).get("validation").index_N for seed in (0, 0, 1)]
    assert torch.equal(held[0], held[1])
    assert not torch.equal(held[0], held[2])
    assert load_data("digits", validation=0.0).validation is None


def refusal(spec, **options):
    with pytest.raises(DataError) as caught:
        load_data(spec, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_data():
    with pytest.raises(UnknownNameError, match="unknown data 'digit'; did you mean 'digits'"):
        load_data("digit")
    with pytest.raises(UnknownNameError, match="unknown data 'cifar1O'; did you mean 'cifar10'"):
        load_data("cifar1O:somewhere")


def test_a_bare_folder(tmp_path):
    assert f"say what is in it: folder:{tmp_path} or cifar10:" in refusal(str(tmp_path))


def test_options_that_cannot_be():
    assert "validation is 1.0; give a fraction" in refusal("digits", validation=1.0)
    assert "validation is -0.5" in refusal("folder:nowhere", validation=-0.5)
    assert "image_size is 0" in refusal("digits", image_size=0)
    assert "image_size is 100000; give rows and" in refusal("folder:here", image_size=100_000)
    assert "digits images are 8x8; image_size=32" in refusal("digits", image_size=32)
    assert "cifar10 images are 32x32" in refusal("cifar10:nowhere", image_size=224)
    assert "take no folder" in refusal("digits:here")
    assert load_data("digits", image_size=8).train.shape == (1, 8, 8)


def test_trouble_with_the_disk_is_one_line(monkeypatch, tmp_path):
    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "train").mkdir()
    monkeypatch.setattr(Path, "iterdir", denied)
    assert "cannot be read: [Errno 13] Permission denied" in refusal(f"folder:{tmp_path}")


def test_importing_data_does_not_import_scikit_learn():
    code = "import sys, collegium.data; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
