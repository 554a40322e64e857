"""Laws of posteriors: the line between two of them, draws that follow the law, forbidden symbols that stay forbidden."""

import math

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Categorical, Joint, Point
from tests.laws.bounds import chi_square, chi_square_bound, normal_bound

ROWS, PLACES = 6, 4
WEIGHTS = torch.tensor([1.0, 0.0, 2.5, 0.4, -1.0, 1.0], dtype=torch.float64)


def noise(rows: int, step: int = 0) -> SampleNoise:
    return SampleNoise(seeds=torch.arange(rows), steps=torch.full((rows,), step))


def point(step: int, dtype) -> Point:
    return Point(noise(ROWS, step).normal(torch.zeros(ROWS, PLACES, 2, dtype=dtype)))


def categorical(step: int, dtype) -> Categorical:
    return Categorical(3 * noise(ROWS, step).normal(torch.zeros(ROWS, PLACES, 5, dtype=dtype)))


def joint(step: int, dtype) -> Joint:
    return Joint(
        {"number": point(step, dtype), "word": categorical(step + 10, dtype), "other": point(step + 20, dtype)}
    )


KINDS = pytest.mark.parametrize("kind", [point, categorical, joint])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def tensors(q) -> list:
    if isinstance(q, Joint):
        return [tensor for part in q.parts.values() for tensor in tensors(part)]
    return [q.mean if isinstance(q, Point) else q.logits]


@KINDS
@DTYPES
def test_weight_one_is_self_and_weight_zero_the_reference_bit_for_bit(kind, dtype):
    own, other = kind(1, dtype), kind(2, dtype)
    both = own.extrapolate_from(other, WEIGHTS)
    for got, a, b in zip(tensors(both), tensors(own), tensors(other), strict=True):
        assert torch.equal(got[[0, 5]], a[[0, 5]])
        assert torch.equal(got[1], b[1])
        assert got.dtype == dtype


@KINDS
def test_the_weight_of_a_row_touches_that_row_only(kind):
    own, other = kind(1, torch.float64), kind(2, torch.float64)
    both = own.extrapolate_from(other, WEIGHTS)
    for i in range(ROWS):
        row = slice(i, i + 1)
        alone = own.select(row).extrapolate_from(other.select(row), WEIGHTS[row])
        assert all(torch.equal(a[row], b) for a, b in zip(tensors(both), tensors(alone), strict=True))


@KINDS
def test_rows_are_the_rows(kind):
    q, index = kind(1, torch.float64), torch.tensor([4, 0, 4])
    assert all(torch.equal(a[index], b) for a, b in zip(tensors(q), tensors(q.select(index)), strict=True))


def test_points_lie_on_the_line_of_means():
    own, other = point(1, torch.float64), point(2, torch.float64)
    w = WEIGHTS[:, None, None]
    assert torch.allclose(
        own.extrapolate_from(other, WEIGHTS).mean, other.mean + w * (own.mean - other.mean), rtol=1e-13
    )


def test_categoricals_lie_on_the_line_of_log_probabilities():
    own, other = categorical(1, torch.float64), categorical(2, torch.float64)
    w = WEIGHTS[:, None, None]
    product = own.logits.softmax(-1) ** w * other.logits.softmax(-1) ** (1 - w)
    got = own.extrapolate_from(other, WEIGHTS).logits.softmax(-1)
    assert torch.allclose(got, product / product.sum(-1, keepdim=True), rtol=1e-12)


def test_a_weight_may_be_one_a_place():
    w = torch.linspace(-1, 3, ROWS * PLACES, dtype=torch.float64).reshape(ROWS, PLACES)
    own, other = categorical(1, torch.float64), categorical(2, torch.float64)
    got = own.extrapolate_from(other, w).logits.softmax(-1)
    for i in range(PLACES):
        assert torch.allclose(got[:, i], own.extrapolate_from(other, w[:, i]).logits.softmax(-1)[:, i], rtol=1e-12)


def test_errors_are_squared_error_and_cross_entropy():
    q, x = categorical(1, torch.float64), torch.arange(ROWS * PLACES).reshape(ROWS, PLACES) % 5
    p = q.logits.softmax(-1)
    assert torch.allclose(q.error(x), -p.gather(-1, x[..., None])[..., 0].log(), rtol=1e-12)
    mean = point(1, torch.float64)
    target = torch.ones(ROWS, PLACES, 2, dtype=torch.float64)
    assert torch.allclose(mean.error(target), (mean.mean - 1) ** 2, rtol=1e-13)
    parts = Joint({"number": mean, "word": q}).error({"number": target, "word": x})
    assert torch.equal(parts["word"], q.error(x))
    assert torch.equal(parts["number"], mean.error(target))


# ---------------------------------------------------------------------------------------------------------- draws


def test_draws_follow_the_law():
    p = torch.tensor([0.5, 0.2, 0.2, 0.0999, 0.0001], dtype=torch.float64)
    q = Categorical((p.log() + 7).float().expand(20_000, 4, 5))  # logits are not normalised
    x = q.draw(noise(20_000))
    assert x.dtype == torch.int64
    for i in range(4):
        assert chi_square(torch.bincount(x[:, i], minlength=5).double(), p) < chi_square_bound(4)
    pairs = torch.bincount(x[:, 0] * 5 + x[:, 1], minlength=25).double()
    both = torch.outer(p, p).flatten()
    common = both > 1e-3  # enough of each for the statistic
    counts = torch.cat([pairs[common], pairs[~common].sum()[None]])
    assert chi_square(counts, torch.cat([both[common], both[~common].sum()[None]])) < chi_square_bound(len(counts) - 1)


def test_a_draw_of_a_point_is_its_mean():
    assert torch.equal(point(1, torch.float32).draw(noise(ROWS)), point(1, torch.float32).mean)


def test_parts_of_a_joint_are_drawn_apart():
    flat = Categorical(torch.zeros(5000, 4, 2))
    parts = Joint(dict.fromkeys(("a", "b", "c", "d", "e"), flat)).draw(noise(5000))
    signs = {name: 2.0 * part - 1 for name, part in parts.items()}
    pairs = [(a, b) for a in signs for b in signs if a < b]
    assert all(abs(float((signs[a] * signs[b]).mean())) < normal_bound(20_000) for a, b in pairs)


def test_a_draw_does_not_depend_on_the_batch():
    q = categorical(1, torch.float32)
    every = q.draw(noise(ROWS))
    for i in range(ROWS):
        one = q.select(slice(i, i + 1)).draw(SampleNoise(seeds=torch.tensor([i]), steps=torch.tensor([0])))
        assert torch.equal(one[0], every[i])


def test_a_forbidden_symbol_is_never_drawn():
    logits = torch.zeros(20_000, 3, 4)
    logits[..., 2] = -torch.inf
    logits[..., 3] = -60.0
    assert bool((Categorical(logits).draw(noise(20_000)) != 2).all())


# ----------------------------------------------------------------------------------------------- forbidden symbols

OPEN, ONLY_OTHER, ONLY_OWN, NEITHER = 0, 1, 2, 3  # which of the two forbids the symbol
GUIDES = [-2.0, 0.25, 0.5, 0.75, 1.5, 7.5]


def forbidding(dtype) -> tuple[Categorical, Categorical]:
    own, other = (
        torch.tensor([[[0.3, -0.4, 1.0, 2.0]]], dtype=dtype),
        torch.tensor([[[0.1, 0.9, -1.0, 0.5]]], dtype=dtype),
    )
    own[..., [ONLY_OWN, NEITHER]] = -torch.inf
    other[..., [ONLY_OTHER, NEITHER]] = -torch.inf
    return Categorical(own), Categorical(other)


@DTYPES
@pytest.mark.parametrize("weight", GUIDES)
def test_guidance_creates_no_forbidden_symbol(weight, dtype):
    own, other = forbidding(dtype)
    p = own.extrapolate_from(other, torch.tensor([weight])).logits.softmax(-1)[0, 0]
    assert bool(p.isfinite().all())
    assert p[ONLY_OWN] == p[NEITHER] == 0
    assert p[OPEN] > 0
    assert (p[ONLY_OTHER] == 0) == (weight < 1)


@DTYPES
def test_neutral_weights_hold_with_forbidden_symbols(dtype):
    own, other = forbidding(dtype)
    assert torch.equal(own.extrapolate_from(other, torch.tensor([1.0])).logits, own.logits)
    assert torch.equal(own.extrapolate_from(other, torch.tensor([0.0])).logits, other.logits)


@pytest.mark.parametrize("weight", [*GUIDES, 0.0, 1.0])
def test_two_certain_answers_that_disagree_leave_one_of_them(weight):
    own = Categorical(torch.tensor([[[0.0, -math.inf]]]))
    other = Categorical(torch.tensor([[[-math.inf, 0.0]]]))
    got = own.extrapolate_from(other, torch.tensor([weight])).logits.softmax(-1)[0, 0].tolist()
    assert got == ([0.0, 1.0] if weight == 0 else [1.0, 0.0])


@pytest.mark.parametrize("weight", [*GUIDES, 0.0, 1.0])
def test_two_certain_answers_that_agree_stay(weight):
    same = Categorical(torch.tensor([[[0.0, -math.inf, -math.inf]]]))
    assert same.extrapolate_from(same, torch.tensor([weight])).logits.softmax(-1)[0, 0].tolist() == [1.0, 0.0, 0.0]
