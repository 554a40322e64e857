"""What images are worth beside the training images."""

from types import SimpleNamespace

import torch

from langevin.modalities.image.modality import Image
from langevin.modalities.image.rating import rule
from tests import tiny


def test_a_copy_is_as_near_as_can_be_and_not_novel():
    train = tiny.images(30)
    image, measuring = Image(path="x", size=8, channels=1), SimpleNamespace(train=train)
    real = train.read(torch.arange(30))
    closeness, novelty = (rule(image, name, measuring) for name in ("closeness", "novelty"))
    assert float(closeness(real).abs().max()) < 1e-3
    assert float(novelty(real).max()) < 1e-3
    mixed = ((real.float() + real.roll(1, 0).float()) / 2).round().to(torch.uint8)
    assert bool((closeness(mixed) < -0.1).all())
    # half way between two images is half of their distance from either, and the nearest image is no farther than the other
    assert 0.2 < float(novelty(mixed).median()) < 0.8
    noise = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(9))
    assert float(closeness(noise).mean()) < float(closeness(mixed).mean())
