"""The digits are scikit-learn's own, numbers and pixels."""

import numpy as np
import pytest

from langevin.modalities.image.data import Digits, load_parts
from tests.modalities.image.pictures import everything

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_digits():
    from sklearn.datasets import load_digits

    train, held = load_parts(Digits())
    assert train.shape == (1, 8, 8)
    assert train.classes == tuple("0123456789")
    assert len(train) + len(held) == 1797
    assert 120 < len(held) < 240
    own = load_digits()
    for images in (train, held):
        numbers = [int(name.removeprefix("digit-")) for name in images.names]
        assert images.labels.tolist() == own.target[numbers].tolist()
        assert np.array_equal(everything(images)[:, 0].numpy(), np.rint(own.images[numbers] * 255 / 16))
