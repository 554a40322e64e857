"""A plain re-statement of speech from text with filler tokens and no alignment, after "E2 TTS: Embarrassingly Easy Fully
Non-Autoregressive Zero-Shot TTS" (2024, arXiv 2406.18009) and "F5-TTS: A Fairytaler that Fakes Fluent and Faithful Speech
with Flow Matching" (2024, arXiv 2410.06885).

Units stand in the first frames, one each, and filler follows up to the length of the sound. They are embedded and refined
by four ConvNeXt-V2 layers, concatenated with the noisy and the given log-mel frames, and read by a DiT with a convolutional
position embedding. Flow matching on the straight path, with time tau from noise (0) to sound (1):

    x_tau = (1 - tau) eps + tau x,   loss = mean (v - (x - eps))^2 over the frames that are not given

AdamW at a constant rate after a warm-up, one EMA; the given sound is withheld from 3 rows in 10, all conditions from 2 in
10. Sampling: Euler steps at tau(u) = u + s (cos(pi u / 2) - 1 + u), s = -1, and v + 2 (v - v_unconditional).

It differs from F5-TTS as the comparison needs: an embedding of the speaker beside that of time, as most samples are made
without given sound; logit-normal times; no dropout; padding is masked everywhere. It was not tuned beyond that.
"""

import copy
import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.batch import Batch
from text_peer import rotary

CONTEXT_DROPPED, ALL_DROPPED = 0.3, 0.2
STEPS, STRENGTH, SWAY = 32, 2.0, -1.0


class TextLayer(nn.Module):
    """A ConvNeXt-V2 layer over units (b, n, width), as if nothing stood outside the mask (b, n, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.gamma, self.beta = nn.Parameter(torch.zeros(2 * width)), nn.Parameter(torch.zeros(2 * width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = F.gelu(self.first(self.norm(self.local(x.mT).mT))) * mask
        norm = h.float().square().sum(1, keepdim=True).add(1e-12).sqrt()  # global response normalisation
        h = self.gamma * h * (norm / (norm.mean(-1, keepdim=True) + 1e-6)).to(h) + self.beta + h
        return (x + self.second(h)) * mask


class Block(nn.Module):
    """Attention and MLP with shift, scale and gate from the embedding of time and speaker."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.modulate = heads, nn.Linear(width, 6 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, c: Tensor, mask: Tensor) -> Tensor:
        a, b, g, a2, b2, g2 = self.modulate(c)[:, None].chunk(6, -1)
        h = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + b) + a
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(h).chunk(3, -1))
        h = F.scaled_dot_product_attention(rotary(q).to(v), rotary(k).to(v), v, attn_mask=mask[:, None, None])
        x = x + g * self.out(h.transpose(1, 2).flatten(2))
        return x + g2 * self.mlp(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + b2) + a2)


class FillerDiT(nn.Module):
    """v (b, channels, n) of x_tau (b, channels, n).

    Args:
        units: size of the inventory, in which 0 is the filler.
        speakers: their number; one more embedding is that of no speaker.
        hidden: width of the MLPs in the blocks.
    """

    def __init__(
        self, channels: int, units: int, speakers: int, *, width: int, depth: int, heads: int, hidden: int
    ) -> None:
        super().__init__()
        self.channels, self.nobody = channels, speakers
        self.units, self.speakers = nn.Embedding(units, width), nn.Embedding(speakers + 1, width)
        self.text = nn.ModuleList(TextLayer(width) for _ in range(4))
        self.first = nn.Linear(2 * channels + width, width)
        self.positions = nn.ModuleList(nn.Conv1d(width, width, 31, padding=15, groups=16) for _ in range(2))
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(depth))
        self.modulate, self.last = nn.Linear(width, 2 * width), nn.Linear(width, channels)
        for layer in (self.modulate, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Tensor, tau: Tensor, *, units: Tensor, speakers: Tensor, context: Tensor, mask: Tensor
    ) -> Tensor:
        """tau (b,), units (b, n), speakers (b,), context (b, channels, n) with 0 where it is not given, mask (b, n)."""
        inside = mask[..., None]
        h = self.first(torch.cat([x.mT * inside, context.mT, self.spoken(units)], -1)) * inside
        near = h
        for convolution in self.positions:
            near = F.mish(convolution(near.mT).mT) * inside
        h = h + near
        c = F.silu(self.time(waves(1000 * tau, 256)) + self.speakers(speakers))
        for block in self.blocks:
            h = block(h, c, mask)
        shift, scale = self.modulate(c)[:, None].chunk(2, -1)
        return self.last(F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift).mT.float()

    def spoken(self, units: Tensor) -> Tensor:
        """Units (b, n) as features (b, n, width), 0 at filler."""
        said = (units > 0)[..., None]
        h = (self.units(units) + waves(torch.arange(units.shape[1]), self.units.embedding_dim)) * said
        for layer in self.text:
            h = layer(h, said)
        return h


def waves(at: Tensor, width: int) -> Tensor:
    """Cosines and sines (n, width) of positions or times (n,)."""
    angle = at.float()[:, None] * torch.exp(-math.log(10_000) * torch.arange(width // 2) / (width // 2))
    return torch.cat([angle.cos(), angle.sin()], -1)


def packed(units: Sequence[Tensor], frames: int) -> Tensor:
    """Units (n,) each in the first frames of (b, frames), then filler."""
    return torch.stack([F.pad(row[:frames], (0, max(0, frames - len(row)))) for row in units])


def weights(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def of_weights(
    wanted: int, channels: int, units: int, speakers: int, *, width: int, depth: int, heads: int
) -> FillerDiT:
    """A network whose MLPs are so wide that it has about `wanted` weights."""

    def made(hidden: int) -> FillerDiT:
        return FillerDiT(channels, units, speakers, width=width, depth=depth, heads=heads, hidden=hidden)

    least = made(8)
    return made(max(8, 8 + 8 * round((wanted - weights(least)) / (8 * depth * (2 * width + 1)))))


class Trainer:
    """One step at a time, float32 or bfloat16 in autocast."""

    def __init__(
        self, network: FillerDiT, *, lr: float = 1e-3, warm_up: int, decay: float = 0.998, seed: int, dtype: torch.dtype
    ) -> None:
        self.network, self.lr, self.warm_up, self.decay, self.dtype = network, lr, warm_up, decay, dtype
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=lr, betas=(0.9, 0.999), weight_decay=0.01)
        self.generator, self.steps = torch.Generator().manual_seed(seed), 0

    def step(self, batch: Batch, units: Tensor) -> float:
        """A step on a batch with its packed units (b, n)."""
        loss = self.loss(batch, units)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1.0, (self.steps + 1) / self.warm_up)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.average.parameters()), [p.detach() for p in self.network.parameters()], share)
        return float(loss.detach())

    def loss(self, batch: Batch, units: Tensor) -> Tensor:
        x, condition = batch.x, batch.condition
        mask, context = condition.data_mask, condition.concat.tensor[:, : x.shape[1]]
        speakers = condition.global_.tensor if condition.global_ else torch.zeros(len(x), dtype=torch.int64)
        dropped, unheard = (
            torch.rand(len(x), generator=self.generator) < share for share in (ALL_DROPPED, CONTEXT_DROPPED)
        )
        tau = torch.randn(len(x), generator=self.generator).sigmoid()
        noise = torch.randn(x.shape, generator=self.generator)
        x_tau = torch.lerp(noise, x, tau[:, None, None])
        with autocast(self.dtype):
            v = self.network(
                x_tau, tau, mask=mask, units=units.masked_fill(dropped[:, None], 0),
                speakers=speakers.masked_fill(dropped, self.network.nobody),
                context=context.masked_fill((dropped | unheard)[:, None, None], 0),
            )  # fmt: skip
        wanted = (batch.mask[:, 0] & mask)[:, None].expand_as(x)
        return ((v - (x - noise)).square() * wanted).sum() / wanted.sum()


def autocast(dtype: torch.dtype) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


@torch.no_grad()
def sample(
    network: FillerDiT, units: Sequence[Tensor], speakers: Tensor, lengths: Tensor, *,
    seed: int, dtype: torch.dtype, steps: int = STEPS,
) -> list[Tensor]:  # fmt: skip
    """x (channels, length) for each text, made from text and speaker alone."""
    frames = int(lengths.max())
    mask, text = torch.arange(frames) < lengths[:, None], packed(units, frames)
    text = text * mask
    x = torch.randn(len(units), network.channels, frames, generator=torch.Generator().manual_seed(seed))
    both = {
        "units": torch.cat([text, torch.zeros_like(text)]),
        "speakers": torch.cat([speakers, torch.full_like(speakers, network.nobody)]),
        "context": x.new_zeros(2 * len(x), *x.shape[1:]), "mask": torch.cat([mask, mask]),
    }  # fmt: skip
    u = torch.linspace(0, 1, steps + 1)
    times = u + SWAY * ((math.pi / 2 * u).cos() - 1 + u)
    for tau, later in itertools.pairwise(times):
        with autocast(dtype):
            v, free = network(torch.cat([x, x]), tau.expand(2 * len(x)), **both).chunk(2)
        x = x + (later - tau) * (v + STRENGTH * (v - free))
    return [row[:, :n] for row, n in zip(x, lengths.tolist(), strict=True)]
