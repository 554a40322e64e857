"""An autoencoder's loss is the exact bound of a linear Gaussian model, and a causal one never looks ahead."""

import math

import pytest
import torch

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.likelihood import Levels, gaussian_mass
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DDIM, KarrasGrid, sample, start
from langevin.methods import AdamW, Autoencoding
from langevin.networks import Autoencoder
from langevin.networks.quantizer import normal_latent
from langevin.recipe.read import check

STD = 0.3


class Linear(torch.nn.Module):
    """x = w z + s n of one number, with its exact posterior as the encoder."""

    w, config = 0.8, Autoencoder.Config()

    def latent(self, x, noise):
        return normal_latent(*self.encode(x), noise)

    def encode(self, x):
        variance = STD**2 / (self.w**2 + STD**2)
        return self.w / (self.w**2 + STD**2) * x, torch.full_like(x, math.log(variance))

    def decode(self, z):
        return self.w * z


def method(network, **options):
    denoiser = GaussianDenoiser(network=network, process=Gaussian(sigma_data=0.5), prediction="clean")
    return Autoencoding(network=network, denoiser=denoiser, std=STD, **options)


def test_the_bound_is_the_likelihood_where_the_encoder_is_the_posterior():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    many = x.repeat_interleave(4000)[:, None, None]
    draw = step_randomness(seed=0, step=0, samples=torch.arange(len(many)), count=len(many))
    bound = -method(Linear()).loss("autoencoder", Batch(x=many), draw).plain.view(9, -1)
    exact = torch.distributions.Normal(0.0, math.sqrt(Linear.w**2 + STD**2)).log_prob(x)
    error = bound.std(1) / math.sqrt(bound.shape[1])
    assert bool(((bound.mean(1) - exact).abs() < 5 * error + 1e-6).all())


def test_the_divergence_is_that_of_two_normals_and_is_weighted():
    x = torch.randn(5, 1, 4, dtype=torch.float64)
    mean, log_variance = Linear().encode(x)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    exact = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).mean((1, 2))
    draw = step_randomness(seed=0, step=0, samples=torch.arange(5), count=5)
    reports = [method(Linear(), kl_weight=b).loss("autoencoder", Batch(x=x), draw) for b in (0.0, 2.5)]
    torch.testing.assert_close(reports[1].loss - reports[0].loss, 2.5 * exact)
    torch.testing.assert_close(reports[0].plain, reports[1].plain)  # what is shown does not depend on the weight
    torch.testing.assert_close(reports[0].terms["kl"], exact)


def shaken(**sizes):
    network = Autoencoder.Config(width=8, channel_mult=(1, 2), latent_channels=3, channels=2, **sizes).build()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.double()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_latent_has_the_strides_that_are_stated(dimensions):
    network = shaken(dimensions=dimensions)
    x = torch.randn(2, 2, *(8,) * dimensions, dtype=torch.float64)
    z = network.encode(x)[0]
    assert z.shape == (2, 3, *(8 // s for s in network.config.strides)) == network.latent_of(x).shape
    assert network.decode(z).shape == x.shape
    assert network(x, torch.zeros(2)).shape == x.shape


def test_a_causal_autoencoder_never_looks_ahead():
    """Nothing before a frame changes with it, coded and decoded, and a clip's beginning is coded alone as with the rest."""
    network, x = (
        shaken(dimensions=3, causal=True).requires_grad_(False),
        torch.randn(1, 2, 6, 8, 8, dtype=torch.float64),
    )
    z, _ = network.encode(x)
    assert z.shape[2] == 6
    for at in range(6):
        other = x.clone()
        other[:, :, at] += 1
        changed = (network.encode(other)[0] - z).abs().amax((0, 1, 3, 4))
        assert bool((changed[:at] == 0).all())
        assert float(changed[at]) > 0
        latent = z.clone()
        latent[:, :, at] += 1
        changed = (network.decode(latent) - network.decode(z)).abs().amax((0, 1, 3, 4))
        assert bool((changed[:at] == 0).all())
        assert float(changed[at]) > 0
    torch.testing.assert_close(network.encode(x[:, :, :2])[0], z[:, :, :2])


def test_the_generator_decodes_a_standard_normal_latent():
    network = shaken(dimensions=2)
    noise = SampleNoise(seeds=torch.arange(400), steps=torch.zeros(400, dtype=torch.int64)).normal(
        torch.empty(400, 2, 8, 8)
    )
    z = network.latent_of(noise)
    assert abs(float(z.mean())) < 0.05
    assert float(z.std()) == pytest.approx(1, abs=0.03)
    process = Gaussian(sigma_data=0.5)
    denoiser = GaussianDenoiser(network=network.float(), process=process, prediction="clean")
    times = KarrasGrid()(torch.tensor([1]), process.schedule)
    *_, last = sample(
        DDIM(), process, denoiser, start(DDIM(), process, torch.zeros(1, 2, 8, 8), times, torch.arange(1))
    )
    x_t = start(DDIM(), process, torch.zeros(1, 2, 8, 8), times, torch.arange(1)).x
    scaled = x_t / float(process.schedule.sigma(times[0, :1]))
    torch.testing.assert_close(last.x, network.decode(network.latent_of(scaled)), rtol=0.05, atol=0.05)


def test_it_learns_to_copy():
    data = torch.randn(64, 1, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(1, 1, 8) * 0.5
    network = Autoencoder.Config(dimensions=1, width=16, latent_channels=2, channels=1).build()
    trained = method(network)
    batches = [Batch(x=data) for _ in range(2)]
    first = last = 0.0
    optimizer = torch.optim.Adam(network.parameters(), lr=AdamW().lr)
    for step in range(60):
        draw = step_randomness(seed=0, step=step, samples=torch.arange(64), count=64)
        report = trained.loss("autoencoder", batches[0], draw)
        optimizer.zero_grad()
        report.loss.mean().backward()
        optimizer.step()
        last = float(report.terms["squared_error"].mean())
        first = first or last
    assert last < 0.3 * first


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"latent_channels": 0}, "positive"), ({"dimensions": 4}, "1 to 3"), ({"channel_mult": ()}, "positive"),
        ({"channel_mult": (1,) * 9}, "1 to 8 levels"),
    ],
)  # fmt: skip
def test_absurd_sizes_are_refused(sizes, words):
    with pytest.raises(ValueError, match=words):
        Autoencoder.Config(**sizes)


@pytest.mark.parametrize("options", [{"std": 0.0}, {"std": float("nan")}, {"kl_weight": -1.0}])
def test_absurd_options_are_refused(options):
    with pytest.raises(ValueError, match=r"method\.std is positive"):
        Autoencoding.Config(**options)


def test_network_and_method_belong_together():
    data = {"kind": "image", "path": "nowhere"}
    for part in ({"network": {"kind": "autoencoder"}}, {"method": {"kind": "autoencoder"}}):
        with pytest.raises(ValueError, match="belong together"):
            check({"data": data, **part})


LEVELS = Levels(scale=0.2, offset=-1.0, count=11)


def test_the_bound_of_levels_is_that_of_the_enumerated_latent():
    x = LEVELS.values(torch.zeros(1))
    many = x.repeat_interleave(4000)[:, None, None]
    noise = SampleNoise(seeds=torch.arange(len(many)), steps=torch.zeros(len(many), dtype=torch.int64))
    bound = method(Linear()).bound(many, noise, LEVELS).view(len(x), -1)
    z = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    prior = torch.distributions.Normal(0.0, 1.0)
    given = gaussian_mass(x[:, None].expand(-1, len(z)), LEVELS, Linear.w * z.expand(len(x), -1), STD)  # ln P(k | z)
    truth = -(given + prior.log_prob(z)).exp().mul(z[1] - z[0]).sum(1).log()
    assert float((-truth).exp().sum()) == pytest.approx(1, abs=1e-9)  # a distribution of levels
    mean, log_variance = Linear().encode(x)
    q = torch.distributions.Normal(mean[:, None], (0.5 * log_variance).exp()[:, None])
    expected = (q.log_prob(z).exp() * (q.log_prob(z) - prior.log_prob(z) - given)).mul(z[1] - z[0]).sum(1)
    error = bound.std(1) / math.sqrt(bound.shape[1])
    assert bool(((bound.mean(1) - expected).abs() < 5 * error + 1e-9).all())
    assert bool((expected >= truth - 1e-9).all())
    assert float((expected - truth)[1:-1].max()) < 0.02  # nearly the posterior of what lies between the outer levels


def test_the_mass_of_a_bin_is_that_of_the_normal_and_does_not_vanish_far_from_it():
    x, mean = LEVELS.values(torch.zeros(1)), torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)[:, None].expand(7, 11)
    found = gaussian_mass(x.expand(7, 11), LEVELS, mean, 0.4)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(7, dtype=torch.float64))
    normal = torch.distributions.Normal(mean, 0.4)
    inner = normal.cdf(x + 0.1) - normal.cdf(x - 0.1)
    torch.testing.assert_close(found.exp()[:, 1:-1], inner[:, 1:-1])
    far = gaussian_mass(x, LEVELS, torch.full_like(x, 0.0), 0.01)  # up to 90 standard deviations away
    density = torch.distributions.Normal(0.0, 0.01).log_prob(x.abs() - 0.1)
    ratio = torch.log(0.01 / ((x.abs() - 0.1) / 0.01))  # Phi(-u) is nearly phi(u) / u
    torch.testing.assert_close(far[1:4], (density + ratio)[1:4], rtol=1e-3, atol=0)
    assert bool(torch.isfinite(far).all())
