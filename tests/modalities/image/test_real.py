"""Real images beside samples: of the same class or caption, held out where there are enough, and of the same size."""

from dataclasses import replace

import pytest
import torch

from langevin.modalities.image.modality import Image
from langevin.modalities.modality import Samples
from tests import tiny


def parts(image, **changes):
    train, val = tiny.images(24), tiny.images(9)
    val = replace(val, store=replace(val.store, pixels=255 - val.store.pixels))  # none is a training image
    return image, (replace(train, **changes), val)


def places(found, part):
    """Which image of a part each one is; -1 for none."""
    every = part.read_shaped(torch.arange(len(part)))
    return [next((i for i, one in enumerate(every) if torch.equal(one, value)), -1) for value in found.values]


@pytest.fixture
def classes():
    return parts(Image(path=".", classes=tiny.CLASSES, size=8, channels=1))


def test_each_is_a_held_out_image_of_the_class_and_a_new_one(classes):
    image, (train, val) = classes
    names = ("ring", "dot", "ring", "cross", "ring")
    samples = Samples(modality=image, values=torch.zeros(5, 1, 8, 8, dtype=torch.uint8), names=names, columns=5)
    real = image.real_like(samples, (train, val))
    at = places(real, val)
    assert tuple(val.classes[val.labels[i]] for i in at) == names == real.names
    assert len(set(at)) == 5
    assert real.columns == 5


def test_after_the_held_out_ones_come_training_images_of_the_class(classes):
    image, (train, val) = classes
    samples = Samples(modality=image, values=torch.zeros(5, 1, 8, 8, dtype=torch.uint8), names=("dot",) * 5)
    real = image.real_like(samples, (train, val))
    assert sorted(places(real, val))[:2] == [-1, -1]
    rest = [i for i in places(real, train) if i >= 0]
    assert [train.classes[train.labels[i]] for i in rest] == ["dot", "dot"]
    assert len(set(rest)) == 2


def test_without_conditions_they_are_any_and_different(classes):
    image, (train, val) = classes
    image = replace(image, classes=())
    real = image.real_like(Samples(modality=image, values=torch.zeros(4, 1, 8, 8)), (train, val))
    assert places(real, val) == [0, 1, 2, 3]
    assert real.names == ()
