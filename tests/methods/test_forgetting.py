"""Forgetting: what is predicted under the concept becomes what the anchor had, and the rest stays."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.concept import ClassConcept, WordConcept
from langevin.diffusion.condition import Condition, Port, class_port
from langevin.diffusion.objective import LogNormal, WeightedMSE
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.training_input import NoiseAtTime
from langevin.methods.forgetting import Forgetting, balanced

PROCESS = Gaussian(sigma_data=1.0)
OWN = torch.tensor([[1.0], [2.0], [-3.0], [0.5]])  # what is predicted of three classes, and without one


class Table(nn.Module):
    """A prediction per class; the last one is that without a class."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(OWN.clone())

    def forward(self, x_t, t, condition):
        port = condition.global_
        return Point(self.rows[port.tensor.where(port.kept(), 3)])


def forgotten(*, steps=300, instead=None, **changes):
    """The table after forgetting class 1 of three, and the last terms of the loss."""
    network, reference = Table(), Table().requires_grad_(False)
    method = Forgetting(
        denoiser=network, network=network, reference=reference, objective=WeightedMSE(process=PROCESS, weighting="min_snr"),
        training_input=NoiseAtTime(process=PROCESS, times=LogNormal(), schedule=PROCESS.schedule),
        concept=ClassConcept(label=1, instead=instead), asked=Condition(global_=class_port(torch.tensor([1]))),
        condition_dropout=0.3, **changes,
    )  # fmt: skip
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    labels = torch.arange(6) % 3
    for step in range(steps):
        draw = step_randomness(seed=0, step=step, samples=torch.arange(6), count=6)
        report = method.loss(
            "denoiser", Batch(x=torch.zeros(6, 1), condition=Condition(global_=class_port(labels))), draw
        )
        optimizer.zero_grad()
        report.loss.mean().backward()
        optimizer.step()
    return network.rows.detach(), report


@pytest.mark.parametrize(("instead", "row"), [(None, 3), (2, 2)])
@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_the_prediction_of_the_concept_becomes_the_anchors_and_no_other_changes(instead, row, keep):
    rows, report = forgotten(instead=instead, keep=keep)
    torch.testing.assert_close(rows[1], OWN[row], atol=1e-4, rtol=0)
    assert torch.equal(rows[[0, 2, 3]], OWN[[0, 2, 3]])
    assert report.terms["forgotten"].max() < 1e-6
    assert not report.terms["kept"].any()


def test_without_weight_nothing_changes():
    assert torch.equal(forgotten(weight=0.0)[0], OWN)


def test_everywhere_the_other_takes_its_place_without_a_condition_too():
    """A table cannot see x_t, so that without a class it lies between the anchor's and its own: of 6 examples 2 are of the
    concept, and of the rest's 4 a part is without a condition."""
    rows, _ = forgotten(instead=2, everywhere=True, steps=600)
    assert OWN[2] < rows[3] < OWN[3]
    assert torch.equal(rows[[0, 2]], OWN[[0, 2]])


def test_a_class_is_withheld_or_another_and_only_where_it_is_asked_for():
    condition = Condition(global_=class_port(torch.tensor([1, 0, 1, -1])))
    condition = condition.only(torch.tensor([True, True, False, True]))
    concept = ClassConcept(label=1)
    assert concept.holds(condition).tolist() == [True, False, False, False]
    assert concept.anchored(condition).global_.kept().tolist() == [False, True, False, False]
    other = replace(concept, instead=2).anchored(condition).global_
    assert other.tensor[:2].tolist() == [2, 0]
    assert other.kept().tolist() == [True, True, False, False]


def test_words_leave_a_caption_or_others_take_their_places():
    tokens = torch.tensor([[5, 3, 4, 0], [3, 4, 0, 0], [4, 5, 0, 0], [4, 6, 3, 7]])
    condition = Condition(cross=Port(tensor=tokens, mask=tokens > 0))
    concept = WordConcept(words=(3, 4))
    assert concept.holds(condition).tolist() == [True, True, False, True]
    left = concept.anchored(condition).cross
    assert left.tensor.tolist() == [[5, 0, 0, 0], [0, 0, 0, 0], [4, 5, 0, 0], [6, 7, 0, 0]]
    assert left.kept().tolist() == [True, False, True, True]
    assert torch.equal(left.mask, left.tensor > 0)
    other = replace(concept, instead=(9,)).anchored(condition).cross
    assert other.tensor.tolist() == [[5, 9, 0, 0], [9, 0, 0, 0], [4, 5, 0, 0], [6, 9, 7, 0]]
    assert bool(other.kept().all())


def test_half_of_the_examples_are_of_the_concept_and_all_are_among_them():
    holds = torch.tensor([True, False, False, False, False, True, False])
    chosen = balanced(holds)
    assert int(holds[chosen].sum()) * 2 == len(chosen) == 10
    assert set(chosen.tolist()) == set(range(7))
    with pytest.raises(ValueError, match="some of both"):
        balanced(torch.ones(3, dtype=torch.bool))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="at least 0 and finite"):
        forgotten(weight=-1.0)
    with pytest.raises(ValueError, match="at most as many take their places"):
        WordConcept(words=(3,), instead=(4, 5))
    with pytest.raises(ValueError, match="some of these have not"):
        Forgetting(
            denoiser=Table(), network=Table(), reference=Table(), objective=WeightedMSE(process=PROCESS),
            training_input=NoiseAtTime(process=PROCESS, times=LogNormal(), schedule=PROCESS.schedule),
            concept=ClassConcept(label=1), asked=Condition(global_=class_port(torch.tensor([0, 1]))),
        )  # fmt: skip
