"""Images to batches: pixels, conditions, and mirrors that belong to the sample."""

import pytest
import torch

from langevin.diffusion.batch import step_randomness
from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.image.batches import ImageBatches
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.conditions import encode
from tests import tiny

CAPTIONS = tuple(f"number {i}" for i in range(23))


def noise(rows, *, step=0):
    return step_randomness(seed=3, step=step, samples=rows, count=1000).noise


def test_items_are_the_images_in_the_codecs_numbers():
    data = tiny.images()
    batch = ImageBatches(dataset=data, codec=Pixels(), labelled=True)(torch.tensor([4, 0, 4]))
    assert torch.equal(Pixels().decode(batch.x), data.read(torch.tensor([4, 0, 4])))
    assert batch.condition.global_.tensor.tolist() == [1, 0, 1]
    assert batch.condition.cross is None
    assert batch.mask is None


def test_half_of_the_rows_are_mirrored_by_their_own_noise():
    data = tiny.images()
    read = ImageBatches(dataset=data, codec=Pixels(), flip=True)
    items, rows = torch.arange(1000) % 23, torch.arange(1000)
    x = read(items, noise(rows)).x
    plain = Pixels().encode(data.read(items))
    mirrored = (x == plain.flip(-1)).flatten(1).all(1)
    assert torch.equal(mirrored, ~(x == plain).flatten(1).all(1))
    assert abs(int(mirrored.sum()) - 500) < 4.5 * 1000**0.5 / 2
    some = torch.tensor([700, 3, 44])
    assert torch.equal(read(items[some], noise(some)).x, x[some])
    assert not torch.equal(read(items, noise(rows, step=1)).x, x)


def test_nothing_is_mirrored_without_noise_or_without_the_wish():
    data = tiny.images()
    items = torch.arange(23)
    plain = Pixels().encode(data.read(items))
    assert torch.equal(ImageBatches(dataset=data, codec=Pixels(), flip=True)(items).x, plain)
    assert torch.equal(ImageBatches(dataset=data, codec=Pixels())(items, noise(items)).x, plain)


def test_captions_are_encoded_as_words_with_their_padding():
    data = tiny.images(captions=CAPTIONS, labelled=False)
    vocabulary = CaptionVocabulary(words=("number", "2", "3"), length=4)
    condition = ImageBatches(dataset=data, codec=Pixels(), captions=vocabulary)(torch.tensor([3, 2])).condition
    assert condition.global_ is None
    assert condition.cross.tensor.tolist() == [[2, 4, 0, 0], [2, 3, 0, 0]]
    assert condition.cross.mask.tolist() == [[True, True, False, False]] * 2


@pytest.mark.parametrize(("labels", "captions"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_condition_holds_labels_and_captions_where_there_are_some(labels, captions):
    vocabulary = CaptionVocabulary.fit(CAPTIONS)
    given = torch.tensor([1, 0]) if labels else None
    condition = encode(given, ["number 1", "number 2"] if captions else None, vocabulary)
    if not labels and not captions:
        assert condition is None
        return
    assert (condition.global_ is not None) == labels
    assert (condition.cross is not None) == captions


def test_labels_that_the_network_does_not_read_are_kept_back():
    assert ImageBatches(dataset=tiny.images(), codec=Pixels())(torch.arange(3)).condition is None
