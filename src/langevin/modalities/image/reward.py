"""Images that a function prefers: samples of p(x) exp(reward(x)), by its gradient, or by weighted trajectories."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance import EnergyGuided, weight_of
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler import Ancestral
from langevin.diffusion.sampling import Sampling
from langevin.modalities.image.buckets import Size
from langevin.modalities.image.codec import require_pixels
from langevin.modalities.image.conditions import Conditions
from langevin.modalities.image.options import Sample
from langevin.modalities.modality import Draw, Plan, RequestContext, Samples, seeds_of
from langevin.modalities.posterior import Problem, particles
from langevin.user_function import NAME, CodePermission, load_function

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

Reward = Callable[[Tensor], Tensor]  # x (b, c, h, w) -> (b,)
FEW = 16  # steps
MOST = 10_000  # trajectories for an image


def reward_of(image: "Image", options: Sample) -> Reward:
    """The reward of x, by the user's function of images in [0, 1].

    Raises:
        ValueError: the function cannot be imported, or (when called) returns something else than a number per image."""
    assert options.reward is not None, "a reward is requested"
    if not NAME.fullmatch(options.reward):
        raise ValueError(f"--reward takes MODULE:FUNCTION, such as taste:red for red of taste.py, got {options.reward}")
    pixels = require_pixels(image.codec, "a reward")
    function = load_function(options.reward, CodePermission.of([options.reward], allow=False), takes=("images",))

    def reward(x: Tensor) -> Tensor:
        found: Any = function((x - pixels.offset) / (255 * pixels.scale))
        if not isinstance(found, Tensor) or found.shape != (len(x),):
            shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{options.reward} returns a tensor of one reward an image, ({len(x)},), and this is {shown}"
            )
        forbidden = ~found.isfinite() if options.particles is None else found.isnan() | (found == torch.inf)
        if bool(forbidden.any()):
            raise ValueError(f"{options.reward} returned {found[forbidden][0].item()}, which is no reward")
        if options.particles is None and torch.is_grad_enabled() and not found.requires_grad:
            raise ValueError(f"{options.reward} has no gradient in the images: give --particles 32, which need none")
        return found

    return reward


def rewarded(
    image: "Image", conditions: Conditions, options: Sample, context: RequestContext, count: int, size: Size
) -> Plan:
    """The plan of images of one size, width and height, in proportion to the reward.

    Raises:
        ValueError: a function that cannot be used, or options that do not go together."""
    if options.also or options.avoid or options.rows:
        raise ValueError("--reward does not go with --also, --avoid and --rows: leave them out")
    if options.particles is not None and not 2 <= options.particles <= MOST:
        raise ValueError(
            f"--particles is a number of trajectories for each image, 2 to {MOST:,}, got {options.particles}"
        )
    if options.particles is not None and (context.guided or "sampler" in context.chosen):
        raise ValueError("--particles has a sampler of its own, and no guidance: leave --sampler and --guidance out")
    if options.particles is None and context.model.sampling.steps < FEW:
        context.say(f"with fewer than {FEW} steps the gradient may overshoot and lead away: give more --steps")
    reward, condition = reward_of(image, options), conditions.encoded(image.captions)
    if options.particles is None:
        plan, sampling = by_gradient(image, size, reward, condition, context, count), context.model.sampling
    else:
        sampling = replace(context.model.sampling, guidance=(), sampler=Ancestral())
        plan = by_particles(image, size, reward, condition, context, count, options.particles)
    return shown(image, reward, conditions, plan, sampling)


def process_and_shape(image: "Image", size: Size, context: RequestContext) -> tuple[Gaussian, tuple[int, int, int]]:
    """The process, and the shape of x."""
    process = context.model.parts.process
    assert isinstance(process, Gaussian), "images are continuous"
    assert image.channels, "the modality of a run is fitted"
    return process, (image.channels, size[1], size[0])


def by_gradient(
    image: "Image", size: Size, reward: Reward, condition: Condition | None, context: RequestContext, count: int
) -> Any:
    """Plan of x: the sampling of the run, its denoiser guided by the gradient of the reward of the clean estimate."""
    process, shape = process_and_shape(image, size, context)

    def guided(denoiser: Denoiser[Any]) -> Denoiser[Any]:
        return EnergyGuided(denoiser=denoiser, process=process, log_likelihood=lambda mean, t: reward(mean))

    return (
        yield Draw(
            shape=shape, seeds=seeds_of(context.seed, count), sampling=context.model.sampling, condition=condition,
            wrap=guided,
        )
    )  # fmt: skip


def by_particles(
    image: "Image", size: Size, reward: Reward, condition: Condition | None, context: RequestContext, count: int,
    each: int,
) -> Any:  # fmt: skip
    """Plan of x: of each image, one of `each` weighted trajectories. Says how many of them count, and the log-evidence."""
    model = context.model
    process, shape = process_and_shape(image, size, context)
    if weight_of(model.sampling.guidance) != 1:
        context.say("trajectories are drawn without the run's guidance, so that their weights are exact")
    found, effective, evidence = list[Tensor](), list[float](), list[float]()
    for i in range(count):
        seeds = mix(torch.full((each,), context.seed + i), 0) + torch.arange(each)
        one = None if condition is None else condition.select(torch.full((each,), i))
        problem = Problem(
            process=process, shape=shape, seeds=seeds, condition=one,
            sampling=replace(model.sampling, guidance=()),
        )  # fmt: skip
        steered = yield from particles(problem, lambda mean, r2: reward(mean), count=each)
        noise = SampleNoise(seeds=seeds[:1], steps=torch.tensor([-3]))
        mass = steered.weights.log[0].softmax(0).cumsum(0)
        chosen = int(torch.searchsorted(mass, noise.uniform(torch.empty(1, 1))[0, 0].double() * mass[-1]))
        found.append(steered.x[0, min(chosen, each - 1)])
        effective.append(float(steered.effective.min()))
        evidence.append(float(steered.weights.total[0]))
    context.say(
        f"of {each} trajectories {min(effective):.1f} counted where fewest did; ln of the mean of exp(reward): "
        f"{sum(evidence) / len(evidence):.2f}"
    )
    if min(effective) < 2:
        context.say(
            "hardly more than one counted: the images are near the best that was met, and not samples. Give more"
        )
    return torch.stack(found)


def shown(image: "Image", reward: Reward, conditions: Conditions, plan: Any, sampling: Sampling) -> Plan:
    """The plan's images with their rewards."""
    x = yield from plan
    with torch.no_grad():
        rewards = reward(x).double().cpu()
    names = conditions.names or [""] * len(x)
    named = tuple(f"{name} ({float(value):.3g})".strip() for name, value in zip(names, rewards, strict=True))
    return Samples(modality=image, values=image.decode(x), names=named, arrays={"reward": rewards}, sampling=sampling)
