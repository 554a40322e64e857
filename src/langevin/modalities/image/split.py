"""Split into a training and a held-out part: the source's own test part if there is one, else by a hash of the pixels.

An image is held out if `sha256(seed, pixels) / 2^256 < held_out`. So equal images are always in the same part, and
adding files does not move others between the parts.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

from langevin.modalities.image.table import Table
from langevin.modalities.paths import did_you_mean, some


def divide(
    table: Table, kept: list[int], identities: Sequence[str], *, held_out: float, seed: int
) -> tuple[list[int], list[int], list[str]]:
    """The rows of the training part, the rows of the held-out part, and remarks."""
    own_test = [row for row in kept if row not in table.train_rows]
    candidates = [row for row in kept if row in table.train_rows]
    forced = _forced(table, candidates, identities)
    free = [row for row in candidates if identities[row] not in forced]
    if not free:
        raise ValueError(
            f"{table.where}: nothing is left to train on; every image is broken or held out by its caption"
        )
    if table.test_from is not None and not own_test:
        raise ValueError(f"{table.where}: the test part has no readable image; repair it, or remove it")
    remarks = []
    side = set() if own_test else _held_out_identities([identities[row] for row in free], share=held_out, seed=seed)
    train = [row for row in free if identities[row] not in side]
    away = side | forced
    test = [row for row in candidates if identities[row] in away] + own_test
    if not test:
        test = train[:1]
        remarks.append("There is only one image, so it is also the held-out part: scores will be too good.")
    elif shared := {identities[row] for row in test} & {identities[row] for row in train}:
        count = sum(identities[row] in shared for row in test)
        remarks.append(f"Images of the test part that are also in the training part: {count:,}.")
    if table.labels is not None:
        known = {table.labels[row] for row in test} - {table.labels[row] for row in train}
        missing = sorted(name for name in known if name is not None)
        if missing:
            remarks.append(f"Classes without training images: {len(missing):,} ({some(missing)}).")
    return train, test, remarks


def _held_out_identities(identities: Sequence[str], *, share: float, seed: int) -> set[str]:
    """The identities that are held out: none if all images are equal, else at least one and never all."""
    counts = Counter(identities)

    def position(identity: str) -> float:  # uniform on [0, 1), a function of the image and the seed alone
        return int(hashlib.sha256(f"{seed}:{identity}".encode()).hexdigest()[:13], 16) / 16**13

    chosen = {identity for identity in counts if position(identity) < share}
    if not chosen:
        chosen = {min(counts, key=lambda identity: (counts[identity], position(identity)))}
    if len(chosen) == len(counts):
        chosen.remove(max(counts, key=position))
    return chosen


def _forced(table: Table, candidates: list[int], identities: Sequence[str]) -> set[str]:
    """Identities of images with a held-out caption, so that copies of them are not trained on either."""
    captions = table.captions or [""] * len(table)
    for caption in table.forced:
        if caption not in captions:
            raise ValueError(
                f"{table.where}: no image has the caption {caption!r} of hold_out_captions{did_you_mean(caption, captions)}"
            )
    return {identities[row] for row in candidates if table.forced and captions[row] in table.forced}
