"""The two parts, to train on and held out: the source's own test part where it has one, else by the pixels.

An image is held out where `sha256(seed, pixels) / 2^256 < held_out`: equal images always fall on the same side, and an
image's side does not depend on which others are there, so adding files moves none of the old ones across.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

from langevin.modalities.image.table import Table
from langevin.modalities.paths import did_you_mean, some


def divide(
    table: Table, kept: list[int], identities: Sequence[str], *, held_out: float, seed: int
) -> tuple[list[int], list[int], list[str]]:
    """Rows to train on, rows held out, and remarks."""
    own_test = [row for row in kept if row not in table.train_rows]
    candidates = [row for row in kept if row in table.train_rows]
    forced = _forced(table, candidates, identities)
    free = [row for row in candidates if identities[row] not in forced]
    if not free:
        raise ValueError(
            f"{table.where}: nothing is left to train on; every image is broken or held out by its caption"
        )
    if table.test_from is not None and not own_test:
        raise ValueError(f"{table.where}: the test part holds no image that can be read; repair it, or remove it")
    remarks = []
    side = set() if own_test else _held_out_identities([identities[row] for row in free], share=held_out, seed=seed)
    train = [row for row in free if identities[row] not in side]
    away = side | forced
    test = [row for row in candidates if identities[row] in away] + own_test
    if not test:
        test = train[:1]
        remarks.append("There is only one image, so the held-out part is that same image: scores will be too good.")
    elif shared := {identities[row] for row in test} & {identities[row] for row in train}:
        count = sum(identities[row] in shared for row in test)
        remarks.append(f"Images of the test part that are in the training part too: {count:,}.")
    if table.labels is not None:
        missing = sorted({table.labels[row] for row in test} - {table.labels[row] for row in train})
        if missing:
            remarks.append(f"Classes without an image to train on: {len(missing):,} ({some(missing)}).")
    return train, test, remarks


def _held_out_identities(identities: Sequence[str], *, share: float, seed: int) -> set[str]:
    """Which different images are held out: none where all are one and the same, else at least one and never all."""
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
    """Identities of the images with a caption to hold out, so that no copy of them under another name is trained on."""
    captions = table.captions or [""] * len(table)
    for caption in table.forced:
        if caption not in captions:
            raise ValueError(
                f"{table.where}: no image has the caption {caption!r} of hold_out_captions{did_you_mean(caption, captions)}"
            )
    return {identities[row] for row in candidates if table.forced and captions[row] in table.forced}
