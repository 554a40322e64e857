"""A watermark in the noise that samples are made of: with a key, the noise of a sample follows from HMAC(key, its seed).

The law of the noise, and so that of the samples, is what it was: keyed numbers take the place of other random numbers, as
in "Gaussian Shading: Provable Performance-Lossless Image Watermarking for Diffusion Models" (2024, arXiv:2404.04956), which
fixes signs, while here all numbers follow from the key. A seed is the nonce, and is to be used once: equal noise in many
samples would show without the key.

Who has the key tests a file: from the file alone an estimate of its noise is made, the evidence e. If the file was not made
with the noise z of a seed, z is independent of e and standard normal, so

    s = <e, z> / |e|  ~  N(0, 1)   exactly, whatever the file,    p = 1 - Phi(s), times the number of seeds that are tried.

For text e is the normal score of each token among the text's tokens, and z that of the uniform number from which the token
of a position was drawn, as its distribution function was inverted ("Robust Distortion-free Watermarks for Language
Models", 2023, arXiv:2307.15593). Words may have been lost or added since, so every alignment of tokens and positions is
weighed: E = sum over alignments of P(alignment) prod P(z | e) / P(z), which is 1 in expectation without the key. By
Markov's inequality p = 1 / E, which is exact as well.
"""

import hashlib
import hmac
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

SHORTEST = 32  # characters of a key
FOUND = -6.0  # log10 of the p-value from which on a watermark is called found
SLIP, OTHER = 0.02, 0.1  # P(a token or a position has no partner), P(a token is not what was drawn)


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What a test found.

    Args:
        seed: the seed whose noise fits best.
        log10_p: log10 of the probability that a file made without the key fits as well to one of the seeds, at most 0.
        tried: number of seeds, and of alignments, that were tried, which p takes into account.
    """

    seed: int
    log10_p: float
    tried: int

    @property
    def p_value(self) -> float:
        return 10.0**self.log10_p


def read_key(path: Path) -> bytes:
    """The key in a file. Raises `ValueError` if there is none, or a short one."""
    try:
        key = path.read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise ValueError(
            f"the key cannot be read: there is no file {path}; `openssl rand -hex 32 > {path}` makes one"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the key {path} cannot be read: {error}") from error
    if len(key) < SHORTEST:
        raise ValueError(f"the key in {path} is shorter than {SHORTEST} characters: `openssl rand -hex 32` makes one")
    return key.encode()


def name_of(key: bytes) -> str:
    """A name for the key, which does not tell it."""
    return hashlib.sha256(b"name of a langevin key" + key).hexdigest()[:12]


def key_of(key: bytes, recipe: bytes) -> bytes:
    """A run's own key, from its recipe, so that the samples of two runs never share their noise."""
    return hmac.digest(key, b"run:" + hashlib.sha256(recipe).digest(), "sha256")


def keyed(seeds: Tensor, key: bytes) -> Tensor:
    """(b,) int64: secret seeds in place of `seeds` (b,) int64, each a function of its own seed and of the key."""
    digests = (hmac.digest(key, str(seed).encode(), "sha256") for seed in seeds.tolist())  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType]
    return torch.tensor([int.from_bytes(digest[:8], "big", signed=True) for digest in digests], device=seeds.device)


def log10_p(evidence: Tensor, noise: Tensor) -> Tensor:
    """(m,) log10 of P[N(0, 1) > <e, z> / |e|] for evidence (n,) and noise (m, n), float64."""
    e = evidence.double()
    score = noise.double() @ e / e.norm().clamp_min(1e-300)
    return torch.special.log_ndtr(-score) / math.log(10)


def normal_scores(values: Tensor) -> Tensor:
    """(n,) float64: the standard normal quantile of each value's rank among `values` (n,); equal values share one."""
    ordered = values.sort().values
    middle = (torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)) / 2
    return torch.special.ndtri((middle.double() / len(values)).clamp(0.5 / len(values), 1 - 0.5 / len(values)))


def log10_evidence(evidence: Tensor, noise: Tensor, correlation: Tensor) -> Tensor:
    """(m,) log10 of E, see above, by the forward algorithm over alignments, in order and each position at most once.

    Args:
        evidence: (n,) normal scores of the tokens.
        noise: (m, positions) of the positions; 0 where nothing was drawn.
        correlation: (m, positions) that tokens and noise are taken to have, in [0, 1)."""
    z, rho = (torch.nn.functional.pad(part.double(), (0, 1)) for part in (noise, correlation))  # one beyond the end
    rest = 1 - rho * rho
    mass = torch.full(z.shape, 0.5 / noise.shape[1], dtype=torch.float64)  # P(position at which the text begins)
    mass[:, -1] = 0
    mass[:, 0] += 0.5
    total = torch.zeros(len(z), dtype=torch.float64)
    for e in evidence.double().tolist():  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        ratio = torch.exp(0.5 * (z * z - (z - rho * e) ** 2 / rest)) / rest.sqrt()
        skipped = (1 - 2 * SLIP) * mass + SLIP * moved(mass, 1) + SLIP * moved(mass, 2)
        mass = SLIP * skipped + (1 - SLIP) * moved(skipped * ((1 - OTHER) * ratio + OTHER), 1)
        scale = mass.sum(1)
        mass, total = mass / scale[:, None], total + scale.log()
    return total / math.log(10)


def moved(mass: Tensor, by: int) -> Tensor:
    """Mass over positions (m, n), moved on by some positions, at most to the last."""
    new = torch.nn.functional.pad(mass[:, :-by], (by, 0))
    new[:, -1] += mass[:, -by:].sum(1)
    return new


__all__ = ["FOUND", "Detection", "key_of", "keyed", "log10_evidence", "log10_p", "name_of", "normal_scores", "read_key"]
