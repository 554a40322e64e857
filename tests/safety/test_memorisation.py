import math

import pytest
import torch

from langevin.safety.memorisation import loss_gap, mann_whitney, memorisation, nearest


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def images(n, seed):
    return torch.randint(0, 256, (n, 1, 4, 4), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.mark.parametrize("chunk", [1, 13, 2048])
def test_nearest_is_exact(chunk):
    train, queries = images(60, 0), images(30, 1)
    queries[3] = train[17]
    distance, index = nearest(train, queries, k=3, chunk=chunk)
    full = (queries.flatten(1).double()[:, None] - train.flatten(1).double()).square().sum(2).sqrt()
    expected = full.sort(1)
    assert torch.equal(distance, expected.values[:, :3])
    assert torch.equal(index[:, 0], expected.indices[:, 0])
    assert distance[3, 0] == 0
    assert index[3, 0] == 17


def test_nearest_of_copies_far_from_the_origin_is_zero():
    train = 1e4 + normal(500, 8, 0)
    distance, index = nearest(train, train[100:120])
    assert (distance == 0).all()
    assert index[:, 0].tolist() == list(range(100, 120))


def test_fresh_samples_look_like_held_out_ones():
    reports = [memorisation(normal(400, 5, s), normal(200, 5, 50 + s), normal(300, 5, 90 + s)) for s in range(20)]
    scores = torch.tensor([report.c_t for report in reports])
    assert abs(scores.mean()) < 3 / math.sqrt(20)
    assert scores.abs().max() < 4
    assert abs(sum(r.authentic - r.authentic_held_out for r in reports)) / 20 < 0.03
    assert reports[0].median_generated == pytest.approx(reports[0].median_held_out, rel=0.1)


def test_copies_are_told():
    train = normal(400, 5, 0)
    report = memorisation(train, normal(200, 5, 1), train[:300])
    assert report.c_t == pytest.approx(report.c_t_copycat)
    assert report.c_t < -15
    assert (report.authentic, report.close_ratio, report.median_generated) == (0, 1, 0)
    assert report.close_ratio_held_out < 0.1
    near = memorisation(train, normal(200, 5, 1), train[:300] + 0.05 * normal(300, 5, 2))
    assert near.c_t < -10
    assert near.authentic < 0.05
    assert near.close_ratio > 0.9


def test_samples_far_from_everything_score_above_zero():
    report = memorisation(normal(300, 5, 0), normal(200, 5, 1), 3 * normal(200, 5, 2))
    assert report.c_t > 10
    assert report.authentic > 0.9


def test_duplicates_in_the_training_set():
    train = images(5, 0).repeat(4, 1, 1, 1)
    report = memorisation(train, images(10, 1), train[:5])
    assert report.authentic == 0  # a copy is no farther than the duplicates are from each other
    assert report.close_ratio == 0  # and stands beside more than one training row


def test_mann_whitney_counts_pairs_and_half_of_ties():
    a, b = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([2.0, 0.0])
    above = 1 + 1.5 + 1.5
    assert mann_whitney(a, b) == pytest.approx((above - 3) / math.sqrt(3 * 2 * 6 / 12))


def test_loss_gap():
    train, held_out = 1 + normal(200, 3, 0).T, 1 + normal(300, 3, 1).T
    held_out[1] += 1
    gap = loss_gap(train, held_out)
    assert gap.worst == 1
    assert gap.gap[1] == pytest.approx(1, abs=3 * gap.standard_error[1].item())
    assert gap.standard_error[0] == pytest.approx(math.sqrt(1 / 200 + 1 / 300), rel=0.1)
    assert gap.z[1] > 8 > 3.5 > gap.z[0].abs()


def test_errors():
    with pytest.raises(ValueError, match="one shape"):
        nearest(normal(4, 2, 0), normal(4, 3, 0))
    with pytest.raises(ValueError, match="k = 5"):
        nearest(normal(4, 2, 0), normal(4, 2, 0), k=5)
    with pytest.raises(ValueError, match="at least 3 training"):
        memorisation(normal(2, 2, 0), normal(4, 2, 0), normal(4, 2, 0))
    with pytest.raises(ValueError, match="levels"):
        loss_gap(torch.zeros(2, 5), torch.zeros(3, 5))
    with pytest.raises(ValueError, match="not finite"):
        loss_gap(torch.zeros(2, 5), torch.zeros(2, 5) / 0)
