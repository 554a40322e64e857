"""Classes by any run: a linear probe, clusters, thresholds by enumeration; and the plan on a run that knows its classes."""

import itertools
import math

import pytest
import torch

from langevin.modalities.classification.confidence import Confidence, margins
from langevin.modalities.classification.linear import LinearClassifier, clusters, mutual_information
from langevin.networks.activations import FEATURES, activations
from tests import tiny

GENERATOR = torch.Generator().manual_seed(0)
CENTRES = 4 * torch.eye(3, dtype=torch.float64)
LABELS = torch.arange(60) % 3
BLOBS = CENTRES[LABELS] + torch.randn(60, 3, generator=GENERATOR, dtype=torch.float64)


def test_the_probe_is_the_minimum_of_its_objective():
    """The gradient of the mean cross-entropy with the penalty is 0."""
    found = LinearClassifier.with_penalty(BLOBS, LABELS, 3, 0.01)
    x = torch.cat([(BLOBS - found.mean) / found.scale, torch.ones(60, 1, dtype=torch.float64)], 1)
    weight = found.weight.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(x @ weight, LABELS) + 0.01 * weight[:-1].square().sum()
    assert float(torch.autograd.grad(loss, weight)[0].abs().max()) < 1e-4


def test_cross_validation_never_sees_the_label_it_predicts():
    """With labels that mean nothing, fitted probabilities of the own label are above those of others."""
    random = torch.randint(3, (60,), generator=GENERATOR)
    features = torch.randn(60, 40, generator=GENERATOR, dtype=torch.float64)
    at, fitted = torch.arange(60), LinearClassifier.with_penalty(features, random, 3, 0.0003)
    seen = fitted.log_posterior(features)[at, random].exp().mean()
    unseen = LinearClassifier.cross_validated(features, random, 3, 0.0003)[at, random].exp().mean()
    assert float(seen) > 0.9
    assert float(unseen) < 0.55


def test_a_probe_of_one_class_is_refused():
    with pytest.raises(ValueError, match="two classes, and there are 1"):
        LinearClassifier.fit(BLOBS, torch.zeros(60, dtype=torch.int64), 3)


def test_clusters_of_blobs_are_the_blobs():
    assert mutual_information(clusters(BLOBS, 3), LABELS) > 0.9


def test_information_is_that_of_the_table():
    a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0])
    assert mutual_information(a, b) == pytest.approx(1)
    assert mutual_information(a, torch.tensor([0, 1, 0, 1])) == pytest.approx(0, abs=1e-12)
    assert mutual_information(a, torch.zeros(4, dtype=torch.int64)) == pytest.approx(0)
    some = mutual_information(a, torch.tensor([0, 0, 0, 1]))
    second = math.log(4) - 0.75 * math.log(3)  # the entropy of (3/4, 1/4)
    known = math.log(2) + second - (0.5 * math.log(2) + 0.5 * math.log(4))  # H(a) + H(b) - H(a, b)
    assert some == pytest.approx(2 * known / (math.log(2) + second))


@pytest.mark.parametrize("error", [0.05, 0.2, 0.4])
def test_the_threshold_keeps_the_most_that_the_share_of_errors_allows(error):
    chance = torch.randn(50, 3, generator=GENERATOR, dtype=torch.float64).mul(2).log_softmax(1)
    labels = torch.where(torch.rand(50, generator=GENERATOR) < 0.8, chance.argmax(1), 0)
    found, margin, right = Confidence.fit(chance, labels, error), margins(chance), chance.argmax(1) == labels
    allowed = [
        int((margin >= t).sum()) for t in margin.tolist()
        if (int((~right & (margin >= t)).sum()) + 1) / (int((margin >= t).sum()) + 1) <= error
    ]  # fmt: skip
    assert found.kept == max(allowed, default=0)
    assert found.kept == int((margin >= found.threshold).sum())
    assert found.errors == int((~right & (margin >= found.threshold)).sum())


def test_equal_margins_are_kept_together_or_not_at_all():
    chance = torch.tensor([[0.0, -3.0]] * 4, dtype=torch.float64)
    for labels in itertools.product((0, 1), repeat=4):
        found = Confidence.fit(chance, torch.tensor(labels), 0.5)
        assert found.kept in (0, 4)


def test_no_threshold_says_how_many_labels_it_takes():
    found = Confidence.fit(torch.zeros(3, 2, dtype=torch.float64), torch.tensor([0, 0, 0]), 0.05)
    assert found.threshold == math.inf
    with pytest.raises(ValueError, match=r"estimated on 3 labelled examples .* at least 19 of them"):
        found.require(0.05)


def test_no_threshold_says_that_the_surest_labels_are_wrong():
    found = Confidence.fit(
        torch.tensor([[0.0, -3.0]] * 30, dtype=torch.float64), torch.ones(30, dtype=torch.int64), 0.05
    )
    with pytest.raises(ValueError, match=r"on 30 labelled examples .* and the surest are wrong too often"):
        found.require(0.05)


@pytest.mark.parametrize("network", ["dit", "unet"])
def test_activations_are_of_each_example_alone_and_bounded(network):
    built = tiny.NETWORKS[network].build()
    x, t = torch.randn(3, 1, 8, 8, generator=GENERATOR), torch.zeros(3)
    from langevin.diffusion.condition import Condition, class_port

    condition = Condition(global_=class_port(torch.full((3,), -1)))
    with torch.no_grad(), activations(built) as found:
        built(x, t, condition)
        built(x[1:2], t[1:2], condition.select(slice(1, 2)))
    assert found[0].shape[0] == 3
    assert found[0].shape[1] <= FEATURES
    assert torch.allclose(found[0][1:2], found[1], atol=1e-5)
    assert not built._forward_hooks
    assert not any(module._forward_hooks for module in built.modules())
