"""When each unit of a text sounds: durations in frames, and the sequence that a network is conditioned on.

Frame i of F belongs to the first unit j whose end is beyond it, e_j > i, with the ends e a cumulative sum of durations.
The port `aligned` has a vector per frame: the unit, the one before and the one after (one-hot each), and how far the frame
is in its unit. Units carry their neighbours, as in statistical parametric synthesis, so that no layer is needed to find
them.
"""

from collections.abc import Collection

import torch
from torch import Tensor


def uniform_durations(units: int, frames: int) -> Tensor:
    """Durations of equal length, (units,) int64, whose sum is `frames`: unit j ends at ((j + 1) frames) // units."""
    ends = torch.arange(1, units + 1) * frames // units
    return ends.diff(prepend=torch.zeros(1, dtype=torch.int64))


def rounded_durations(expected: Tensor, frames: int) -> Tensor:
    """Expected durations (units,), scaled so that their sum is `frames`, as whole frames by rounding their ends."""
    ends = (expected.double().cumsum(0) * (frames / expected.double().sum().clamp_min(1e-9))).round().long()
    ends[-1] = frames
    return ends.diff(prepend=torch.zeros(1, dtype=torch.int64))


def word_durations(units: Tensor, expected: Tensor, frames: int, pauses: Collection[int]) -> Tensor:
    """As `rounded_durations`, with units of equal length within each word, which ends at a pause: as words are spliced."""
    groups = list[list[int]]()
    for i, unit in enumerate(units.tolist()):
        inside = i > 0 and unit not in pauses and int(units[i - 1]) not in pauses
        if inside:
            groups[-1].append(i)
        else:
            groups.append([i])
    lengths = rounded_durations(torch.stack([expected[group].sum() for group in groups]), frames)
    return torch.cat([uniform_durations(len(g), int(n)) for g, n in zip(groups, lengths, strict=True)])


def width(inventory: int) -> int:
    """Width of the port `aligned` for an inventory of this size."""
    return 3 * inventory + 1


def aligned_features(units: Tensor, durations: Tensor, inventory: int) -> Tensor:
    """The port `aligned` of one example, (frames, width).

    Args:
        units: (n,) int64 in [0, inventory); 0 stands for nothing.
        durations: (n,) int64 frames of each; their sum is the number of frames.
    """
    frames = int(durations.sum())
    index = torch.repeat_interleave(torch.arange(len(units)), durations)
    padded = torch.nn.functional.pad(units, (1, 1))
    features = torch.zeros(frames, width(inventory))
    at = torch.arange(frames)
    for offset in range(3):  # the unit, the one before, the one after
        features[at, offset * inventory + padded[index + (1, 0, 2)[offset]]] = 1
    start = durations.cumsum(0) - durations
    features[:, -1] = 2 * (at - start[index] + 0.5) / durations[index] - 1
    return features


def left_packed_features(units: Tensor, frames: int, inventory: int) -> Tensor:
    """As `aligned_features`, with one unit per frame from the first frame on and nothing after them ("filler tokens").

    "E2 TTS: Embarrassingly Easy Fully Non-Autoregressive Zero-Shot TTS" (2024, arXiv 2406.18009)."""
    packed = torch.nn.functional.pad(units[:frames], (0, max(0, frames - len(units))))
    return aligned_features(packed, torch.ones(frames, dtype=torch.int64), inventory)
