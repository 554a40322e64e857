"""Score matching for a drift: draw a time, follow the equation there, regress on the score of its last step.

loss = scale(t)^2 (|s(x_t, t)|^2 - 2 s target), a mean over a row's numbers: the squared error less |target|^2, which no
answer changes and which would drown it. `scale` is that of `Drift`, so that what the network says has unit weight. A
simulated drift gives two questions with opposite noise, and the loss is their mean.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, Draw
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.noise import RowNoise, mix
from langevin.diffusion.objective import TimeDensity, row_mean
from langevin.diffusion.posterior import Score
from langevin.diffusion.process.drift import Drift
from langevin.diffusion.shape import right_pad
from langevin.methods.diffusion import Report


class ScoreMatching:
    """A network trained to be the score of p_t.

    Args:
        process: the equation.
        denoiser: answers a `Score`; reads the player's network.
        network: the weights.
        times: the density of training times.
    """

    def __init__(self, *, process: Drift, denoiser: Denoiser, network: nn.Module, times: TimeDensity) -> None:
        self.process, self.denoiser, self.times = process, denoiser, times
        self.players: Mapping[str, nn.Module] = {"denoiser": nn.ModuleDict({"network": network})}

    def loss(self, player: str, batch: Batch, draw: Draw) -> Report:
        """The losses of a batch's rows; the randomness is the draw's alone."""
        t = self.times(draw.u, self.process.schedule).to(batch.x.device)
        with torch.no_grad():
            questions = self.process.questions(batch.x, t, draw.noise.fork(2))
        asked = torch.cat([question.x_t for question in questions])
        target = torch.cat([question.target.score for question in questions])
        every = t.repeat(len(questions))
        condition = batch.condition
        if condition is not None and len(questions) > 1:
            condition = condition.rows(torch.arange(len(t), device=t.device).repeat(len(questions)))
        q: Score = self.denoiser(asked, every, condition)  # type: ignore[assignment]
        weight = right_pad(self.process.scale(every).square(), asked).to(asked.dtype)
        rows = row_mean(weight * q.score * (q.score - 2 * target)).view(len(questions), len(t)).mean(0)
        return Report(loss=rows, plain=rows.detach())

    def generator(self) -> Denoiser:
        """What sampling and evaluation use."""
        return self.denoiser


def score_losses(
    denoiser: Denoiser, process: Drift, batch: Batch, *, times: Tensor, seed: int = 0, names: Tensor | None = None
) -> Tensor:
    """How far the score is from that of the last step, less what no answer can know, (times, b).

    scale^2 (|s|^2 - 2 s target) / d: its mean is scale^2 (|s - score|^2 - |score|^2), least at the true score.
    The opposite noise of a row's two questions keeps it from drowning. A function of (seed, row name, time) alone."""
    x: Tensor = batch.x
    rows = torch.arange(len(x), device=x.device) if names is None else names.to(x.device)
    seeds, losses = mix(torch.full_like(rows, seed), rows), list[Tensor]()
    with torch.no_grad():
        for i, time in enumerate(times.to(x.device)):
            t = time.double().expand(len(x))
            questions = process.questions(x, t, RowNoise(seeds=seeds, steps=torch.full_like(rows, i)))
            values: list[Tensor] = []
            for question in questions:
                s = denoiser(question.x_t, t, batch.condition).score  # type: ignore[attr-defined]
                weight = right_pad(process.scale(t).square(), s).to(s.dtype)
                values.append((weight * (s.square() - 2 * s * question.target.score)).flatten(1).mean(1))
            losses.append(torch.stack(values).mean(0))
    return torch.stack(losses)
