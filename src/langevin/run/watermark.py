"""Detection of the watermark of `safety.watermark` in a sample of a run."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.sampler import DDIM, AncestralUnmask, sample, start
from langevin.diffusion.sampler.grid import KarrasGrid
from langevin.methods.models import GaussianModel, TokenModel
from langevin.recipe.sampling import describe
from langevin.run.begin import unmasking_grid
from langevin.run.directory import Run
from langevin.run.generate import RunModel
from langevin.safety.watermark import Detection, key_of, keyed, log10_evidence, log10_p, normal_scores

MARGINS = (0.05, 0.1)  # of each side of an image, that may have been cut off
STEPS = 40  # of the way from data to noise
LEVELS = (0.02, 0.4)  # noise that data is taken to have, in units of its standard deviation: none, or that of a JPEG
CORRELATION = (0.9, 0.5)  # of tokens with their noise, for the first and the last that are drawn
FEWEST = 38  # numbers of noise: below, p of the very noise, Phi(-sqrt n), is not 1e-6 with 1,000 seeds at two levels
CHUNK, MOST = 1 << 22, 4  # numbers of noise at a time; texts that a file may hold, the rest of it is not looked at


def marked(model: RunModel, run: Run, key: bytes | None) -> RunModel:
    """The model with the run's own key of a watermark; unchanged without a key."""
    if key is None:
        return model
    own = key_of(key, (run.path / "recipe.yaml").read_bytes())
    return replace(model, built=replace(model.built, key=own))


def require_room(run: Run) -> None:
    """Check that the noise of a sample could be told by `detect`, if it were known exactly.

    Raises:
        ValueError: it has too few numbers, as that of a small picture's latents or codes."""
    count = numbers_of(run)
    if count < FEWEST:
        raise ValueError(
            f"a sample of {run.path.absolute().name} is made of {count} random numbers, and no watermark can be told in "
            f"fewer than {FEWEST}: draw or serve it without --watermark"
        )


def numbers_of(run: Run) -> int:
    """How many random numbers a sample of a run starts from, over all of its parts."""
    parts = getattr(run.recipe.network, "parts", None)
    if not parts:
        return math.prod(run.facts["shape"])
    return sum(math.prod(part.space) * (part.channels or 1) for part in parts.values())


def detect(model: RunModel, x: Tensor, seeds: Iterable[int]) -> Detection:
    """Test whether data was sampled from a run with its key, `model.built.key`.

    Args:
        x: (1, ...) the data, encoded as `Draw` returns it.
        seeds: of the samples that it may be.

    Raises:
        ValueError: there is no seed to try or nothing to look at, or process or sampler keep nothing of the noise."""
    assert model.built.key is not None, "the model is marked"
    if not x.numel():
        raise ValueError("there is nothing in it that could be tested")
    size = x.numel()
    match model.parts:
        case GaussianModel():
            parts, seen = map(torch.cat, zip(*views(x), strict=True))
            evidence = torch.cat([inverted(model, parts, low) * seen for low in LEVELS]).flatten(1)
            levels = lambda names: torch.stack([log10_p(e, initial_noise(names, x)) for e in evidence]).amin(0)  # noqa: E731
            ways = len(evidence)
        case TokenModel():
            positions = getattr(model.modality, "positions", None) or x.shape[1]
            scores, ways, size = normal_scores(x[0, : MOST * positions]), 1, max(size, positions)
            levels = lambda names: -log10_evidence(scores, *token_noise(model, names))  # noqa: E731
        case _:
            raise ValueError("a run with a simulated process draws noise at every step, of which nothing can be found")
    found, tried = (0, math.inf), 0
    for chunk in chunks(seeds, max(1, CHUNK // size)):
        best, index = levels(keyed(torch.tensor(chunk), model.built.key)).min(0)
        tried += len(chunk) * ways
        found = min(found, (chunk[int(index)], float(best)), key=lambda one: one[1])
    if not tried:
        raise ValueError("there are no seeds to try")
    return Detection(seed=found[0], log10_p=min(0.0, found[1] + math.log10(tried)), tried=tried)


def initial_noise(seeds: Tensor, like: Tensor) -> Tensor:
    """(m, n) the noise from which samples with the shape of `like` (1, ...) start."""
    return (
        SampleNoise(seeds=seeds, steps=torch.full_like(seeds, -1))
        .normal(like.expand(len(seeds), *like.shape[1:]))
        .flatten(1)
    )


def views(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Data x (1, ...), and images of which a margin may have been cut off as they were, at the old scale: each with what is
    seen of it, 1 inside and 0 in the margin."""
    yield x, torch.ones_like(x)
    if x.ndim != 4:
        return
    for share in MARGINS:
        size, cut = x.shape[-2:], [round(share * side) for side in x.shape[-2:]]
        inner = [side - 2 * margin for side, margin in zip(size, cut, strict=True)]
        if min(cut) < 1 or min(inner) < 8:
            continue
        small = F.interpolate(x, size=inner, mode="bicubic", antialias=True)
        margins = (cut[1], cut[1], cut[0], cut[0])
        yield F.pad(small, margins, mode="replicate"), F.pad(torch.ones_like(small), margins)


def inverted(model: RunModel, x: Tensor, low: float) -> Tensor:
    """An estimate of the noise that data x (b, ...) was made of: the probability flow to noise, without a condition.

    Args:
        low: sigma / alpha that x is taken to have, in units of the standard deviation of data: what was done to it since,
            up to that level, then counts little."""
    parts = model.parts
    assert isinstance(parts, GaussianModel)
    grid = KarrasGrid(low=low * parts.process.sigma_data)
    times = grid(torch.full((len(x),), STEPS), parts.process.schedule)[:, :-1].flip(1)
    x = x.to(model.device)
    alpha, _ = parts.process.scales(times[:, 0], x)
    state = start(DDIM(), parts.process, x, times, torch.zeros(len(x), dtype=torch.int64), x=x * alpha)
    for state in sample(DDIM(), parts.process, parts.denoiser, state, unconditional(model, x)):  # noqa: B007, B020
        pass
    return state.x.cpu()


def unconditional(model: RunModel, x: Tensor) -> Condition | None:
    """The condition of samples x (b, ...) from which every port of the network is withheld; None without ports."""
    sizes = getattr(model.built.recipe.network, "conditioning", None)
    if sizes is None or not sizes.ports:
        return None
    indices, keep = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool)
    forms: dict[str, Tensor] = {
        "global_": indices, "cross": indices[:, None], "global_vector": torch.zeros(1, sizes.vector_width),
        "cross_vectors": torch.zeros(1, 1, sizes.cross_width), "prepend": torch.zeros(1, 1, sizes.prepend_width),
        "concat": torch.zeros(1, sizes.concat_channels, *x.shape[2:]), "aligned": torch.zeros(1, 1, sizes.aligned_width),
    }  # fmt: skip
    ports = {name: Port(tensor=forms[name], keep=keep) for name in sizes.ports}
    return replace(Condition(), **ports).select(torch.zeros(len(x), dtype=torch.int64)).to(model.device)


def token_noise(model: RunModel, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """The normal quantiles (m, positions) of the uniform numbers that draw the tokens of m whole samples, and how strongly
    a token is taken to depend on its own: the first tokens are drawn without others to go by.

    Raises:
        ValueError: the sampler's order of positions depends on more than the seed, or samples have no fixed length."""
    parts, sampler = model.parts, model.sampling.sampler
    assert isinstance(parts, TokenModel)
    positions = getattr(model.modality, "positions", None)
    if not isinstance(sampler, AncestralUnmask) or parts.attention == "block" or positions is None:
        raise ValueError(
            "the numbers that tokens were drawn from are known for the sampler `unmask`, without blocks and for samples of "
            f"one length, and this run has {describe(sampler)} and {parts.attention} attention"
        )
    like = torch.full((len(seeds), positions), parts.process.mask)
    times = unmasking_grid(model.sampling)(torch.full((len(seeds),), model.sampling.steps))
    state = start(sampler, parts.process, like, times, seeds)
    order, calls = state.memory["reveal_at"], int(state.num_calls.max())
    drawn = torch.full(like.shape, 0.5, dtype=torch.float64)
    for call in range(calls):
        u = SampleNoise(seeds=seeds, steps=torch.full_like(seeds, call)).uniform(like)
        drawn = torch.where(order == call, u, drawn)
    first, last = CORRELATION
    return torch.special.ndtri(drawn), first + (last - first) * (order.double() / calls).clamp(0, 1)


def chunks(seeds: Iterable[int], size: int) -> Iterator[list[int]]:
    """The seeds, `size` at a time."""
    left = iter(seeds)
    while part := list(islice(left, size)):
        yield part


__all__ = ["detect", "inverted", "marked", "require_room"]
