"""Drawing tokens from the denoiser's prediction: temperature and nucleus sampling."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.posterior import TokenPosterior


@dataclass(frozen=True, kw_only=True)
class TokenSampling:
    """Temperature and top-p (nucleus) sampling ("The Curious Case of Neural Text Degeneration", 2020, arXiv:1904.09751).

    Args:
        temperature: divides the logits; at least 0, 0 takes the likeliest token.
        top_p: keeps the smallest set of the likeliest tokens whose probabilities sum to top_p or more, in (0, 1].

    Raises:
        ValueError: a temperature or top_p out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.temperature < float("inf") and 0 < self.top_p <= 1):
            raise ValueError(
                f"temperature must be at least 0 and top_p in (0, 1], got {self.temperature} and {self.top_p}"
            )

    @property
    def neutral(self) -> bool:
        """Whether it leaves every distribution unchanged: temperature 1 and top_p 1."""
        return self.temperature == 1 and self.top_p == 1

    def of(self, q: TokenPosterior) -> TokenPosterior:
        """The distribution to draw from, given the denoiser's prediction q."""
        return q if self.neutral else q.map_logits(self)

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits (..., V) after temperature and top-p; excluded tokens have -inf."""
        if self.temperature == 0:
            return torch.full_like(logits, -torch.inf).scatter(-1, logits.argmax(-1, keepdim=True), 0.0)
        logits = (logits - logits.amax(-1, keepdim=True)) / self.temperature  # no overflow at low temperature
        if self.top_p == 1:
            return logits
        mass, order = torch.sort(to_float64(logits).softmax(-1), dim=-1, descending=True, stable=True)
        excluded = torch.zeros_like(mass, dtype=torch.bool).scatter(-1, order, mass.cumsum(-1) - mass >= self.top_p)
        return logits.masked_fill(excluded.to(logits.device), -torch.inf)


PLAIN = TokenSampling()


def ranks(values: Tensor) -> Tensor:
    """The rank of each position within its sample, (b, positions), 0 for the smallest; ties by position."""
    return torch.argsort(torch.argsort(values, dim=1, stable=True), dim=1)
