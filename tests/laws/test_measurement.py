"""Laws of measurements: operators and their adjoints, what they see, and samples with different ones in a batch."""

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch

from langevin.diffusion.condition import Condition, join
from langevin.diffusion.measurement import (
    AnyNonlinearity,
    AnyOperator,
    BlockCosines,
    Chain,
    Channels,
    Clip,
    Diagonal,
    Frequencies,
    Function,
    Mask,
    Matrix,
    Measurement,
    Round,
    Separable,
    Spectrogram,
    join_measurements,
    mapped,
    require_adjoint,
)
from langevin.diffusion.measurement.operator import cosines, dot, solve_by_cg, solve_white

SHAPE, B = (3, 8, 8), 4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(seen):
    """A mask of frequencies with -k wherever it has k."""
    return seen | seen.flip(-1, -2).roll((1, 1), (-1, -2))


OPERATORS = {
    Diagonal: Diagonal(weight=normal(B, 1, 8, 8).clamp_min(0)),
    Mask: Mask(seen=normal(B, 1, 8, 8) > 0),
    Separable: Separable(down=normal(B, 4, 8), across=normal(B, 5, 8, seed=1)),
    Channels: Channels(weights=normal(B, 1, 3)),
    Frequencies: Frequencies(seen=symmetric(normal(B, 1, 8, 8) > 0.5)),
    BlockCosines: BlockCosines(std=normal(B, 3, 8, 8).abs() + 0.1),
    Matrix: Matrix(matrix=normal(B, 7, 192), shape=SHAPE),
    Chain: Chain(
        first=Channels(weights=normal(B, 1, 3)), second=Separable(down=normal(B, 2, 8), across=normal(B, 2, 8))
    ),
    Function: Function(function=lambda x: x.roll(1, -1) - x, shape=SHAPE),
}
EVERY = pytest.mark.parametrize("operator", OPERATORS.values(), ids=[kind.__name__ for kind in OPERATORS])


def test_every_operator_is_tested():
    assert set(OPERATORS) == set(get_args(AnyOperator))


def measured(operator, seed=0, noise=0.1, **changes):
    x = normal(B, *SHAPE, seed=seed)
    noise = torch.full((B,), noise, dtype=torch.float64)
    return Measurement(operator=operator, y=operator.forward(x), noise=noise, shape=SHAPE, **changes)


@EVERY
def test_the_adjoint_is_that_of_the_map_as_a_matrix(operator):
    eye = torch.eye(192, dtype=torch.float64)
    one = measured(operator).map(lambda tensor: tensor[:1]).operator
    many = measured(operator).map(lambda tensor: tensor[:1].expand(192, *tensor.shape[1:]))
    matrix = many.operator.forward(eye.reshape(192, *SHAPE)).flatten(1).T  # columns are A e_i
    y = normal(1, *measured(operator).y.shape[1:])
    torch.testing.assert_close(one.adjoint(y).flatten(1)[0], matrix.T @ y.flatten(), rtol=1e-10, atol=1e-12)
    require_adjoint(operator, SHAPE, count=B)


@EVERY
def test_samples_of_a_batch_are_independent(operator):
    x = normal(B, *SHAPE)
    whole, back = operator.forward(x), operator.adjoint(operator.forward(x))
    for i in range(B):
        one = measured(operator).map(lambda tensor, i=i: tensor[i : i + 1])
        torch.testing.assert_close(one.operator.forward(x[i : i + 1])[0], whole[i], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(one.operator.adjoint(whole[i : i + 1])[0], back[i], rtol=1e-12, atol=1e-13)


def test_frequencies_are_those_of_the_fourier_transform():
    """Seen at k and -k, the Hartley coefficients are the Fourier coefficient: Re F = (H(k) + H(-k)) / 2."""
    x = normal(1, 1, 8, 8)
    h, f = Frequencies.transform(x), torch.fft.fft2(x, norm="ortho")
    mirrored = h.flip(-1, -2).roll((1, 1), (-1, -2))
    torch.testing.assert_close((h + mirrored) / 2, f.real)
    torch.testing.assert_close((mirrored - h) / 2, f.imag)
    torch.testing.assert_close(Frequencies.transform(h), x)


def test_the_cosine_transform_is_that_of_scipy():
    from scipy.fft import dctn

    x = normal(2, 3, 16, 8)
    ours = BlockCosines(std=torch.ones(2, 3, 8, 8)).forward(x)
    assert ours.shape == (2, 3, 2, 1, 8, 8)
    for row in range(2):
        want = dctn(x[:, :, 8 * row : 8 * row + 8].numpy(), axes=(-2, -1), norm="ortho")
        torch.testing.assert_close(ours[:, :, row, 0], torch.from_numpy(want))
    torch.testing.assert_close(cosines(8) @ cosines(8).T, torch.eye(8, dtype=torch.float64))


# ---------------------------------------------------------------------------------------------------------- refusals


def test_a_wrong_adjoint_is_refused_with_both_products():
    with pytest.raises(ValueError, match=r"not the operator's adjoint: <A x, y> is .* and <x, A' y> is"):
        Function(function=lambda x: x.roll(1, -1), adjoint_function=lambda y: y.roll(1, -1), shape=SHAPE)
    Function(function=lambda x: x.roll(1, -1), adjoint_function=lambda y: y.roll(-1, -1), shape=SHAPE)
    with pytest.raises(ValueError, match=r"the adjoint returns \(3, 8, 4\) per sample, and x is \(3, 8, 8\)"):
        Function(function=lambda x: x, adjoint_function=lambda y: y[..., :4], shape=SHAPE)


@pytest.mark.parametrize("function", [lambda x: x + 1, torch.relu, lambda x: x * x])
def test_a_map_that_is_not_linear_is_no_operator(function):
    with pytest.raises(ValueError, match=r"not linear.*`nonlinearity`"):
        Function(function=function, shape=SHAPE)


@pytest.mark.parametrize("noise", [0.0, -1.0, math.nan, math.inf])
def test_noise_is_positive_and_finite(noise):
    with pytest.raises(ValueError, match="above 0 and finite"):
        measured(OPERATORS[Mask], noise=noise)


def test_a_measurement_of_another_shape_is_refused():
    good = measured(OPERATORS[Separable])
    good.check()
    with pytest.raises(ValueError, match=r"gives \(3, 4, 5\), and y is \(3, 4, 4\)"):
        replace(good, y=good.y[..., :4]).check()


# ----------------------------------------------------------------------------------------------------------- batches


@EVERY
def test_equal_kinds_join_as_they_are_and_others_are_mixed(operator):
    mine, masked = measured(operator), measured(OPERATORS[Mask], seed=3)
    same = join_measurements([mine, mine], [B, B])
    assert type(same.operator) is type(operator)
    x = normal(2 * B, *SHAPE, seed=5)
    torch.testing.assert_close(same.residual(x)[:B], mine.residual(x[:B]))
    torch.testing.assert_close(same.residual(x)[B:], mine.residual(x[B:]))
    several = join_measurements([mine, None, masked, mine], [B, 2, B, B])
    require_adjoint(several.operator, SHAPE, count=3 * B + 2)
    x = normal(3 * B + 2, *SHAPE, seed=6)
    parts = [(slice(0, B), mine), (slice(B + 2, 2 * B + 2), masked), (slice(2 * B + 2, None), mine)]
    for index, part in parts:
        torch.testing.assert_close(several.log_likelihood(x)[index], part.log_likelihood(x[index]), rtol=1e-12, atol=0)
        back = part.operator.adjoint(part.residual(x[index]))
        torch.testing.assert_close(several.operator.adjoint(several.residual(x))[index], back, rtol=1e-12, atol=1e-12)
    assert not bool(several.operator.adjoint(several.residual(x))[B : B + 2].any())


def test_what_is_joined_twice_and_selected_is_what_it_was():
    parts = [measured(operator, seed=i) for i, operator in enumerate(OPERATORS.values())]
    pairs = [Condition(measurement=part) for part in parts]
    whole = join(join(*pairs[:3]), join(*pairs[3:]))
    x = normal(B * len(parts), *SHAPE, seed=9)
    for i, part in enumerate(parts):
        own = whole.select(torch.arange(i * B, (i + 1) * B)).measurement
        torch.testing.assert_close(own.log_likelihood(x[:B]), part.log_likelihood(x[:B]))
    shuffled = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        whole.select(shuffled).measurement.log_likelihood(x[shuffled]), whole.measurement.log_likelihood(x)[shuffled]
    )


def test_measurements_that_cannot_share_a_batch_say_so():
    mine = measured(OPERATORS[Mask])
    with pytest.raises(ValueError, match=r"of \(3, 8, 8\) and of \(3, 4, 4\)"):
        join_measurements([mine, replace(mine, shape=(3, 4, 4))], [B, B])
    bent = replace(mine, nonlinearity=Round(step=torch.ones(B)))
    for other in (mine, None, replace(mine, nonlinearity=Clip(low=-torch.ones(B), high=torch.ones(B)))):
        with pytest.raises(ValueError, match="not linear"):
            join_measurements([bent, other], [B, B])
    both = join_measurements([bent, replace(bent, nonlinearity=Round(step=torch.full((B,), 0.5)))], [B, B])
    assert both.nonlinearity.step.tolist() == [1.0] * B + [0.5] * B


# ------------------------------------------------------------------------------------------------------ nonlinearities


def test_nonlinearities_are_what_they_say_and_can_be_differentiated():
    x = torch.tensor([[-2.0, 0.26, 0.74, 3.0]], dtype=torch.float64, requires_grad=True)
    clipped = Clip(low=torch.tensor([-1.0]), high=torch.tensor([1.0]))(x)
    assert clipped.tolist() == [[-1.0, 0.26, 0.74, 1.0]]
    assert torch.autograd.grad(clipped.sum(), x)[0].tolist() == [[0.0, 1.0, 1.0, 0.0]]
    rounded = Round(step=torch.tensor([0.5]))(x)
    assert rounded.tolist() == [[-2.0, 0.5, 0.5, 3.0]]
    assert torch.autograd.grad(rounded.sum(), x)[0].tolist() == [[1.0] * 4]
    assert set(get_args(AnyNonlinearity)) == {Clip, Round, Spectrogram}


def test_a_spectrogram_shows_a_tone_at_its_frequency_and_silence_is_differentiable():
    wave = torch.sin(2 * torch.pi * 8 / 64 * torch.arange(256, dtype=torch.float64))[None, None]
    heard = Spectrogram(window=64, hop=16)(wave)
    assert heard.shape == (1, 1, 33, 17)
    assert set(heard[0, 0, :, 4:13].argmax(0).tolist()) == {8}
    silence = torch.zeros(1, 1, 256, requires_grad=True)
    assert bool(torch.autograd.grad(Spectrogram(window=64, hop=16)(silence).sum(), silence)[0].isfinite().all())


def test_conjugate_gradients_solve_each_system_by_itself():
    roots = normal(3, 6, 6)
    matrices = roots @ roots.mT + torch.eye(6)
    target = torch.cat([normal(2, 6), torch.zeros(1, 6, dtype=torch.float64)])
    got = solve_by_cg(lambda u: (matrices @ u[..., None])[..., 0], target, iterations=20, tolerance=1e-12)
    torch.testing.assert_close(got, torch.linalg.solve(matrices, target), rtol=1e-8, atol=1e-10)
    alone = solve_by_cg(lambda u: (matrices[:1] @ u[..., None])[..., 0], target[:1], iterations=20, tolerance=1e-12)
    torch.testing.assert_close(got[:1], alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("size", [100, 8192, 40_000, 200_000])
def test_inner_products_do_not_depend_on_the_samples_beside(size):
    """To the bit, with several threads, which share long sums of few samples and not of many."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        a, b = normal(8, size, seed=1).float(), normal(8, size, seed=2).float()
        together = dot(a, b)
        assert torch.equal(together, torch.cat([dot(a[i : i + 1], b[i : i + 1]) for i in range(8)]))
        assert torch.allclose(together, (a.double() * b.double()).sum(1).float(), atol=0.05)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", OPERATORS, ids=lambda kind: kind.__name__)
def test_what_is_measured_of_white_data_is_solved_for(kind):
    """In closed form or by conjugate gradients: R u = y, and each sample by itself."""
    operator = OPERATORS[kind]
    y = operator.forward(normal(B, *SHAPE, seed=4))
    r2, s2 = torch.tensor([1.0, 0.3, 1e-3, 2.0]).double(), torch.tensor([0.1, 1e-2, 0.5, 1.0]).double()

    def matrix(u):
        r, s = r2.view(-1, *[1] * 3), s2.view(-1, *[1] * (u.ndim - 1))
        return operator.forward(r * operator.adjoint(u)) + s * u

    u = solve_white(operator, y, r2, s2)
    assert torch.allclose(matrix(u), y, atol=1e-4)
    own = kind not in (Chain, Function)
    assert hasattr(operator, "solve") == own
    if own:
        assert torch.allclose(matrix(u), y, atol=1e-9)
    alone = mapped(operator, lambda part: part[2:3])
    assert torch.allclose(solve_white(alone, y[2:3], r2[2:3], s2[2:3]), u[2:3], atol=1e-9)


def test_different_measurements_are_solved_for_as_each_alone():
    parts = [measured(OPERATORS[kind], seed=i) for i, kind in enumerate((Mask, Separable, Chain))]
    joined = join_measurements(parts, [B] * 3)
    y = joined.predicted(normal(3 * B, *SHAPE, seed=5))
    r2, s2 = torch.rand(3 * B, dtype=torch.float64) + 0.1, torch.rand(3 * B, dtype=torch.float64) + 0.1
    found = solve_white(joined.operator, y, r2, s2)
    for i, part in enumerate(parts):
        own = slice(i * B, (i + 1) * B)
        size = part.y[0].numel()
        alone = solve_white(part.operator, y[own, :size].reshape(part.y.shape), r2[own], s2[own])
        assert torch.allclose(found[own, :size].reshape(alone.shape), alone, atol=1e-9)
        assert not found[own, size:].any()
