"""A classifier that tells generated from real motions: if they are alike, it is right on half of what it has not seen.

"Revisiting Classifier Two-Sample Tests" (2016, arXiv:1610.06545).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEWEST = 8  # motions of each set
STEPS, WIDTH = 100, 64


def two_sample_accuracy(one: Tensor, two: Tensor, *, seed: int = 0) -> float:
    """Accuracy on held-out halves of a small network between features (n, d) and (m, d), of as many each.

    Raises:
        ValueError: fewer than 8 motions in a set."""
    count = min(len(one), len(two))
    if count < FEWEST:
        raise ValueError(f"a two-sample test needs {FEWEST} motions in each set, got {len(one)} and {len(two)}")
    x = torch.cat([one[torch.arange(count) * len(one) // count], two[torch.arange(count) * len(two) // count]]).float()
    y = torch.arange(2).repeat_interleave(count).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        order = torch.cat([torch.randperm(count), count + torch.randperm(count)]).view(2, count)
        halves = [order[:, : count // 2].flatten(), order[:, count // 2 :].flatten()]
        right = [_right(x, y, *pair) for pair in (halves, halves[::-1])]
    return float(torch.cat(right).double().mean())


def _right(x: Tensor, y: Tensor, train: Tensor, test: Tensor) -> Tensor:
    """Which of the test motions are told right, by a network that has seen the others."""
    mean, std = x[train].mean(0), x[train].std(0).clamp_min(1e-3)
    x = (x - mean) / std
    network = nn.Sequential(nn.Linear(x.shape[1], WIDTH), nn.SiLU(), nn.Dropout(0.2), nn.Linear(WIDTH, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.1)
    with torch.enable_grad():
        for _ in range(STEPS):
            loss = F.binary_cross_entropy_with_logits(network(x[train])[:, 0], y[train])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return (network.eval()(x[test])[:, 0] > 0) == (y[test] > 0.5)
