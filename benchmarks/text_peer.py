"""The peers of text diffusion: MDLM, and an autoregressive network.

`MDLM` is a plain re-statement of its recipe ("Simple and Effective Masked Diffusion Language Models", 2024).
Absorbing diffusion with the log-linear schedule, alpha = 1 - t; t in [0.001, 1], antithetic over the batch of one device;
cross-entropy at masked positions weighted by 1 / t; a transformer conditioned on time by adaptive layer norms; float32;
AdamW at a constant rate after a warm-up, as published; one EMA.

The autoregressive network is ours with causal attention. It writes with its keys and values kept (`write`), and keeps the
weights of its least held-out loss (`EarlyStop`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.networks import Transformer
from langevin.networks.attention import text_rotary
from langevin.networks.fused import rms_norm
from langevin.networks.transformer_block import KeysValues
from langevin.training.loop import TrainingState

EPS = 1e-3
SEARCH = ((0.5, 0.0), (1.0, 0.0), (2.0, 0.0), (1.0, 0.1))  # factors on the learning rates, and dropouts, that are tried


def rotary(x: Tensor) -> Tensor:
    n, d = x.shape[-2:]
    angle = torch.arange(n)[:, None] / 10_000 ** (torch.arange(0, d, 2) / d)
    cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Block(nn.Module):
    """Attention and MLP with shift, scale and gate from the time embedding."""

    def __init__(self, width: int, heads: int, cond_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulate = nn.Linear(cond_width, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        a, b, g, a2, b2, g2 = self.modulate(c)[:, None].chunk(6, -1)
        h = self.norm_1(x) * (1 + b) + a
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(h).chunk(3, -1))
        h = F.scaled_dot_product_attention(rotary(q), rotary(k), v).transpose(1, 2).flatten(2)
        x = x + g * self.out(h)
        return x + g2 * self.mlp(self.norm_2(x) * (1 + b2) + a2)


class MDLM(nn.Module):
    """(b, n) tokens, (b,) times -> (b, n, V) log-probabilities of clean tokens."""

    def __init__(self, vocab_size: int, *, width: int, depth: int, heads: int, cond_width: int = 128) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.tokens = nn.Embedding(vocab_size + 1, width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.time = nn.Sequential(nn.Linear(256, cond_width), nn.SiLU(), nn.Linear(cond_width, cond_width))
        self.blocks = nn.ModuleList(Block(width, heads, cond_width) for _ in range(depth))
        self.norm, self.modulate, self.last = (
            nn.LayerNorm(width, bias=False),
            nn.Linear(cond_width, 2 * width),
            nn.Linear(width, vocab_size),
        )
        for layer in (self.modulate, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        angle = t.float()[:, None] * 1000 * torch.exp(-math.log(10_000) * torch.arange(128) / 128)
        c = F.silu(self.time(torch.cat([angle.cos(), angle.sin()], -1)))
        x = self.tokens(z)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.modulate(c)[:, None].chunk(2, -1)
        return self.last(self.norm(x) * (1 + scale) + shift).log_softmax(-1)


class Trainer:
    """MDLM's training, one step at a time."""

    def __init__(
        self, network: MDLM, *, lr: float = 1e-3, warm_up: int = 50, decay: float = 0.99, seed: int = 0
    ) -> None:
        self.network, self.lr, self.warm_up, self.decay = network, lr, warm_up, decay
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
        self.average = {n: p.detach().clone() for n, p in network.named_parameters()}
        self.generator, self.steps = torch.Generator().manual_seed(seed), 0

    def step(self, x: Tensor) -> float:
        b = len(x)
        u = (torch.rand(b, generator=self.generator) / b + torch.arange(b) / b) % 1
        t = (1 - EPS) * u + EPS
        masked = torch.rand(x.shape, generator=self.generator) < t[:, None]
        log_p = self.network(torch.where(masked, self.network.vocab_size, x), t)
        error = -log_p.gather(-1, x[..., None])[..., 0]
        loss = (error * masked / t[:, None]).mean()
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1.0, (self.steps + 1) / self.warm_up)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                self.average[name].lerp_(parameter, 1 - min(self.decay, (1 + self.steps) / (10 + self.steps)))
        return float(loss.detach())

    @torch.no_grad()
    def averaged(self) -> MDLM:
        for name, parameter in self.network.named_parameters():
            parameter.copy_(self.average[name])
        return self.network.eval()


@dataclass
class EarlyStop:
    """The averaged weights of the least held-out loss of a network that trains.

    Args:
        length: of the average.
        measure: the held-out loss with the network's present weights.
    """

    state: TrainingState
    network: nn.Module
    length: float
    measure: Callable[[], float]
    step: int = 0
    loss: float = math.inf
    weights: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @torch.no_grad()
    def look(self) -> None:
        """Measure the average; the weights that are trained stay as they are."""
        average = self._average()
        trained = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self._take(average)
        self.network.eval()
        loss = self.measure()
        if loss < self.loss:
            self.step, self.loss = self.state.step, loss
            self.weights = {name: value.clone() for name, value in average.items()}
        self._take(trained)
        self.network.train()

    @torch.no_grad()
    def best(self) -> None:
        """Give the network the weights of the least loss."""
        self._take(self.weights)
        self.network.eval()

    def _average(self) -> dict[str, Tensor]:
        (ema,) = self.state.ema.values()
        return {name.removeprefix("network."): value for name, value in ema.tensors(self.length).items()}

    def _take(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.network.named_parameters():
            parameter.copy_(weights[name])


@torch.no_grad()
def write(network: Transformer, count: int, length: int, *, limit: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`count` texts of a causal network, a token at a time with the keys and values of those before kept.

    Args:
        limit: only token ids below it are written.

    Returns:
        the tokens (count, length), and -ln p of each under the network, (count, length) nats."""
    generator = torch.Generator().manual_seed(seed)
    shifted = torch.full((count, 1), network.padding - 1)  # the mask stands for the token before the first
    past: list[KeysValues | None] = [None] * len(network.blocks)
    nats = list[Tensor]()
    for _ in range(length):
        logits = _next(network, shifted, past).log_softmax(-1)
        p = logits[:, :limit].double().exp().cumsum(-1)
        u = torch.rand(count, 1, generator=generator, dtype=torch.float64) * p[:, -1:]
        token = (p <= u).sum(-1, keepdim=True).clamp_max(limit - 1)
        nats.append(-logits.gather(-1, token))
        shifted = torch.cat([shifted, token], 1)
    return shifted[:, 1:], torch.cat(nats, 1)


def _next(network: Transformer, shifted: Tensor, past: list[KeysValues | None]) -> Tensor:
    """Logits (b, V) of the token after `shifted` (b, n), the last of which `past` does not hold; `past` then holds it."""
    config, n = network.config, shifted.shape[1]
    near = shifted[:, -1 - config.ngram_window :]
    h = network.token_embedding(near[:, -1:])
    if network.ngram is not None:
        h = h + network.ngram(near, torch.arange(n - near.shape[1], n))[:, -1:]
    h, rotary = rms_norm(h), text_rotary(torch.tensor([n - 1]), config.head_dim, shifted.device)
    for i, block in enumerate(network.blocks):
        before = past[i]
        h, (k, v) = block(h, None, rotary, None, before, None)
        past[i] = (k, v) if before is None else (torch.cat([before[0], k], 2), torch.cat([before[1], v], 2))
    assert network.output_bias is not None, "a network of one stream"
    weight = network.token_embedding.weight[: len(network.output_bias)]
    logits = F.linear(rms_norm(h)[:, 0], weight, network.output_bias)
    if network.ngram_prior is None:
        return logits
    padded = F.pad(shifted[:, 1:], (0, 1), value=network.padding - 1)[:, -(config.ngram_order or 0) :]
    return logits + network.ngram_prior(padded)[:, -1]
