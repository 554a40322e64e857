"""How likely a denoiser finds data beside a reference, by the variational bounds of both, an integral over all noise levels
of squared errors on the same noise:

    ln p_theta(x) / p_ref(x) = 1/2 int E|x - D_ref|^2 - E|x - D_theta|^2 dSNR

It holds for each x where both denoisers are exact, but for what is beyond the ends of the levels. The estimate has several
levels of each example, evenly apart from a random one, and at each the noise with both of its signs: what is linear in it
cancels, and its squares average out over the numbers of an example.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.noise import Noise
from langevin.diffusion.process import Gaussian
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True, eq=False)
class LogRatio:
    """Estimates of ln p_theta(x) / p_ref(x).

    Args:
        process: of both denoisers.
        denoiser: that of p_theta; it holds `network`.
        network: which is evaluated without dropout, as the reference.
        reference: that of p_ref, without gradient.
        log_snr: the lowest and the highest level of the integral.
        levels: of each example; each takes two evaluations of both denoisers.
    """

    process: Gaussian
    denoiser: GaussianDenoiser
    network: nn.Module
    reference: GaussianDenoiser
    log_snr: tuple[float, float]
    levels: int

    def __call__(self, batch: Batch, condition: Condition | None, u: Tensor, noise: Noise) -> Tensor:
        """The estimates for the batch's x, (b,) in nats, 0 where both have the same weights.

        Args:
            u: (b,) uniforms in (0, 1), of the first level of each example."""
        (low, high), count = self.log_snr, len(u)
        apart = torch.arange(self.levels, device=u.device)[:, None] / self.levels
        level = low + (high - low) * ((u + apart) % 1).repeat(2, 1).flatten()
        level = level.to(float64_device(batch.x.device))
        noises = [noise.fork(i).normal(batch.x) for i in range(self.levels)]
        noises = torch.cat([*noises, *(-one for one in noises)])
        samples = torch.arange(count, device=batch.x.device).repeat(2 * self.levels)
        x, t, counted = batch.x[samples], self.process.schedule.time(level), batch.counted()
        alpha, sigma = self.process.scales(t, x)
        x_t = alpha * x + sigma * noises
        if batch.known is not None:
            x_t = torch.where(batch.known[samples], x, x_t)
        counted = None if counted is None else counted.to(x.device)[samples]
        condition = None if condition is None else condition.select(samples)
        with torch.no_grad():
            before = _squared_error(self.reference, x, x_t, t, condition, counted)
        training = self.network.training
        self.network.eval()
        gain = before - _squared_error(self.denoiser, x, x_t, t, condition, counted)
        self.network.train(training)
        weight = 0.5 * (high - low) * level.exp()  # dSNR = SNR dlog_snr
        return (weight.to(gain) * gain).view(-1, count).mean(0)


def _squared_error(
    denoiser: GaussianDenoiser, x: Tensor, x_t: Tensor, t: Tensor, condition: Condition | None, counted: Tensor | None
) -> Tensor:
    """|x - D|^2 over the elements that the loss covers, (b,)."""
    error = denoiser(x_t, t, condition).error(x)
    if counted is not None:
        error = torch.where(append_dims(counted, error), error, 0.0)
    return error.flatten(1).sum(1)
