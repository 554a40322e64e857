import json

import pytest
import torch

from langevin.modalities.image.metrics import (
    Classifier,
    ClassifierConfig,
    PixelPrincipal,
    RandomConvolutions,
    class_consistency,
    train_classifier,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors: threads gain nothing and wait for each other on a busy machine
    yield
    torch.set_num_threads(threads)


def noise(n, c=3, h=8, w=8, seed=0):
    return torch.randint(0, 256, (n, c, h, w), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.fixture(scope="module")
def digits():
    data = pytest.importorskip("sklearn.datasets").load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(data.images * 255 / 16).round().to(torch.uint8)[:, None]
    return images[order], torch.from_numpy(data.target)[order]


@pytest.fixture(scope="module")
def classifier(digits):
    images, labels = digits
    return train_classifier(images[:1600], labels[:1600], 10, seed=0, held_out=(images[1600:], labels[1600:]))


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 32, 32), (4, 9, 20), (3, 1, 1)])
def test_random_convolutions_are_a_function_of_their_seed(channels, height, width):
    images = noise(9, channels, height, width)
    space = RandomConvolutions(seed=1, channels=channels)
    features = space.features(images)
    assert features.shape == (9, 128)
    assert features.dtype == torch.float32
    assert features.isfinite().all()
    assert torch.equal(features, RandomConvolutions(seed=1, channels=channels).features(images))
    torch.testing.assert_close(space.features(images, batch=4), features, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(features, RandomConvolutions(seed=2, channels=channels).features(images))


def test_random_convolutions_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    RandomConvolutions(channels=1).features(noise(2, 1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_pixel_principal_equals_an_eigendecomposition(digits):
    images = digits[0]
    space = PixelPrincipal.fit(images[:1600], k=8)
    x = images[:1600].flatten(1).double() / 127.5 - 1
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    exact = (x - x.mean(0)) @ vectors.flip(1)[:, :8] / values.flip(0)[:8].mean().sqrt()
    ours = space.features(images[:1600]).double()
    torch.testing.assert_close(ours.abs(), exact.abs(), rtol=1e-2, atol=2e-3)  # up to the sign of each component
    assert ours.var(0).mean() == pytest.approx(1, rel=1e-3)
    assert PixelPrincipal.fit(images[:5], k=64).features(images[:3]).shape == (3, 4)


def test_classifier_reads_digits(classifier):
    record = classifier.training_record
    assert record.held_out_accuracy >= 0.97
    assert record.steps == 500


def test_classifier_is_deterministic_and_keeps_the_global_generator(digits):
    images, labels = digits
    before = torch.random.get_rng_state()
    first, second = (train_classifier(images[:300], labels[:300], 10, seed=3, epochs=2, flip=True) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.fingerprint == second.fingerprint
    assert train_classifier(images[:300], labels[:300], 10, seed=4, epochs=2).fingerprint != first.fingerprint


def test_classifier_saved_and_loaded_is_the_same(classifier, digits, tmp_path):
    images = digits[0][:50]
    loaded = Classifier.load(classifier.save(tmp_path / "judge"))
    assert torch.equal(loaded.logits(images), classifier.logits(images))
    assert torch.equal(loaded.features(images), classifier.features(images))
    assert loaded.training_record == classifier.training_record
    assert json.loads((tmp_path / "judge/classifier.json").read_text())["sha256"] == classifier.fingerprint
    assert sorted(path.name for path in (tmp_path / "judge").iterdir()) == ["classifier.json", "classifier.safetensors"]
    other = ClassifierConfig(channels=1, height=8, width=8, classes=10).build()
    other.save(tmp_path / "other")
    (tmp_path / "other/classifier.json").write_text((tmp_path / "judge/classifier.json").read_text())
    with pytest.raises(ValueError, match="does not match"):
        Classifier.load(tmp_path / "other")


def test_features_do_not_depend_on_the_batch(classifier, digits):
    images = digits[0][:40]
    features = classifier.features(images)
    assert features.shape == (40, 64)
    assert not features.requires_grad
    torch.testing.assert_close(classifier.features(images, batch=7), features, rtol=1e-4, atol=1e-4)


def test_class_consistency(classifier, digits):
    images, labels = digits[0][1600:], digits[1][1600:].clone()
    right = class_consistency(classifier, images, labels)
    assert right.accuracy == classifier.training_record.held_out_accuracy
    assert sum(right.counts) == len(images)
    assert class_consistency(classifier, images, (labels + 1) % 10).accuracy < 0.05
    only = class_consistency(classifier, images[labels == 3], labels[labels == 3])
    assert only.by_class[3] == pytest.approx(only.accuracy)
    assert only.by_class[0] is None


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 20, 33), (3, 4, 4)])
def test_classifier_takes_pictures_of_any_size(size):
    images = noise(40, *size)
    trained = train_classifier(images, torch.arange(40) % 2, 2, seed=0, epochs=1)
    assert trained.logits(images).shape == (40, 2)
    assert trained.logits(images).isfinite().all()


def test_progress_is_told_every_step():
    seen = []
    train_classifier(noise(64), torch.arange(64) % 3, 3, seed=0, epochs=2, progress=lambda *news: seen.append(news))
    assert seen == [(i, 4) for i in range(1, 5)]


def test_errors():
    with pytest.raises(ValueError, match="uint8 images"):
        RandomConvolutions().features(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="takes 3 channels"):
        RandomConvolutions().features(noise(2, 1))
    with pytest.raises(ValueError, match="fitted to 192 values"):
        PixelPrincipal.fit(noise(5)).features(noise(5, 3, 9, 9))
    with pytest.raises(ValueError, match="labels"):
        train_classifier(noise(4), torch.tensor([0, 1, 2, 3]), 3, seed=0)
    with pytest.raises(ValueError, match="takes images"):
        ClassifierConfig(channels=3, height=8, width=8, classes=2).build().features(noise(2, 3, 9, 9))
    with pytest.raises(ValueError, match="at least 2 classes"):
        ClassifierConfig(channels=3, height=8, width=8, classes=1)
