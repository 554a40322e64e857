"""diffusers' scheduler configurations as schedules, predictions and grids, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from langevin.diffusion.betas import Betas
from langevin.diffusion.denoiser import PredictionType
from langevin.diffusion.guidance import AnyGuidance, Box, active
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DDIM
from langevin.diffusion.sampler.grid import AnyGrid, FixedGrid, KarrasGrid, UniformTimeGrid
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.schedule import VarianceExploding, rho
from langevin.recipe.read import check_part

PREDICTIONS: dict[str, PredictionType] = {"epsilon": "noise", "v_prediction": "velocity", "sample": "clean"}
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
STEPS = 50
_LATENT = {"beta_start": 0.00085, "beta_end": 0.012}
_CLIPPED = {"clip_sample": True}
_LINSPACE = {"timestep_spacing": "linspace"}
_KDPM = {**_LATENT, **_LINSPACE}
DEFAULTS: dict[str, dict[str, Any]] = {  # of diffusers' classes, where they are not those of `Betas` and of leading steps
    **dict.fromkeys(("DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler"), _CLIPPED),
    **dict.fromkeys(("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"), _KDPM),
    **dict.fromkeys(("LCMScheduler", "TCDScheduler"), _LATENT),
    **dict.fromkeys(
        ("DEISMultistepScheduler", "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler",
         "EulerDiscreteScheduler", "LMSDiscreteScheduler", "SASolverScheduler", "UniPCMultistepScheduler"), _LINSPACE,
    ),
    "PNDMScheduler": {"set_alpha_to_one": False},
}  # fmt: skip
OTHER_SIGMAS = (
    "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas", "use_lu_lambdas"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """A scheduler as parts of a recipe.

    Args:
        betas: that the network's timesteps index; None where it reads c_noise.
        remarks: what is otherwise than in diffusers.
    """

    betas: Betas | None
    process: Gaussian
    prediction: PredictionType
    sampling: Sampling
    remarks: tuple[str, ...] = ()


def scheduled(tree: Mapping[str, Any], *, where: str) -> Scheduled:
    """The parts of a recipe from scheduler_config.json.

    Raises:
        ValueError: a scheduler, or an option of it, that has no counterpart."""
    name = tree.get("_class_name")
    tree = {**DEFAULTS.get(str(name), {}), **tree}
    kind = tree.get("prediction_type", "epsilon")
    if name in EDM:
        return _edm(tree, kind, where)
    if "beta_schedule" not in tree or "num_train_timesteps" not in tree:
        raise ValueError(
            f"{where}: {str(name)[:60]} has no betas of integer timesteps, and no other scheduler is read but EDM's"
        )
    for option in ("thresholding", "rescale_betas_zero_snr", *OTHER_SIGMAS):
        if tree.get(option):
            raise ValueError(f"{where}: {option} has no counterpart here")
    if kind not in PREDICTIONS:
        raise ValueError(f"{where}: prediction_type {str(kind)[:40]} is none of {', '.join(PREDICTIONS)}")
    names = {"beta_schedule", "beta_start", "beta_end", "num_train_timesteps"}
    given = {key: value for key, value in tree.items() if key in names}
    trained = tree.get("trained_betas")
    betas = check_part(given | ({"trained": trained} if trained is not None else {}), Betas, where=where)
    sampling, remarks = _sampling(tree, betas)
    process = Gaussian(schedule=betas.schedule(), sigma_data=1.0)
    return Scheduled(betas=betas, process=process, prediction=PREDICTIONS[kind], sampling=sampling, remarks=remarks)


def _edm(tree: Mapping[str, Any], kind: Any, where: str) -> Scheduled:
    numbers = {
        key: tree.get(key, value) for key, value in (("sigma_min", 0.002), ("sigma_max", 80.0), ("sigma_data", 0.5))
    }
    if kind != "epsilon" or not all(isinstance(v, int | float) and 0 < v < 1e6 for v in numbers.values()):
        raise ValueError(
            f"{where}: EDM's scheduler has prediction_type epsilon and positive sigmas, got {kind}, {numbers}"
        )
    power, shape = tree.get("rho", 7.0), tree.get("sigma_schedule", "karras")
    if not isinstance(power, int | float) or not 0 < power < 1e3 or shape != "karras":
        raise ValueError(
            f"{where}: EDM's scheduler has sigma_schedule karras and a positive rho, got {str(shape)[:40]} and "
            f"{str(power)[:40]}"
        )
    if tree.get("final_sigmas_type", "zero") != "zero":
        raise ValueError(f"{where}: final_sigmas_type is zero here, got {str(tree['final_sigmas_type'])[:40]}")
    low, high, sigma_data = (float(v) for v in numbers.values())
    process = Gaussian(schedule=VarianceExploding(sigma_max=high), sigma_data=sigma_data)
    sampling = Sampling(sampler=DDIM(), steps=STEPS, grid=KarrasGrid(low=low, high=high, power=float(power)), ema=0.0)
    remarks = another_sampler(tree.get("_class_name"), (EDM[0],))
    return Scheduled(betas=None, process=process, prediction="edm", sampling=sampling, remarks=remarks)


def _sampling(tree: Mapping[str, Any], betas: Betas) -> tuple[Sampling, tuple[str, ...]]:
    """DDIM on the scheduler's own timesteps, and what is otherwise than there."""
    known = ("DDIMScheduler", "DDIMParallelScheduler")
    n, remarks = min(STEPS, betas.num_train_timesteps), [*another_sampler(tree.get("_class_name"), known)]
    spacing, offset = str(tree.get("timestep_spacing", "leading")), tree.get("steps_offset", 0) or 0
    if type(offset) is not int:
        raise ValueError(f"steps_offset is a whole number, got {str(offset)[:40]}")
    grid = grid_of(betas, n, spacing, offset)
    if spacing == "linspace" or (spacing == "trailing" and betas.num_train_timesteps % n):
        remarks.append(
            f"with timestep_spacing={spacing} diffusers' DDIM ends a step T // steps timesteps before its start, and here "
            "it ends where the next one begins"
        )
    guidance: tuple[AnyGuidance, ...] = ()
    if tree.get("clip_sample"):
        limit = tree.get("clip_sample_range", 1.0)
        if not isinstance(limit, int | float):
            raise ValueError(f"clip_sample_range is a number, got {str(limit)[:40]}")
        guidance = (Box(low=-float(limit), high=float(limit)),)
        remarks.append(
            "the clean prediction is clipped, and the noise follows from it, as with use_clipped_model_output=True"
        )
    if tree.get("set_alpha_to_one") is False:
        remarks.append(
            "the last step ends in clean data, and in diffusers at the first timestep (set_alpha_to_one=false)"
        )
    sampling = Sampling(sampler=DDIM(), steps=n, grid=grid, guidance=guidance, ema=0.0)
    return sampling, tuple(remarks)


def another_sampler(name: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    """A remark for a scheduler that is another sampler than DDIM."""
    return (
        () if name in known else (f"{str(name)[:60]} is another sampler: the run draws by DDIM unless --sampler says",)
    )


def timesteps_of(betas: Betas, steps: int, spacing: str, offset: int) -> list[int]:
    """The timesteps that diffusers visits, falling. Raises `ValueError` for another spacing."""
    n = betas.num_train_timesteps
    match spacing:
        case "leading":
            found = [i * (n // steps) + offset for i in range(steps)]
        case "trailing":
            found = [round(n - i * n / steps) - 1 for i in range(steps)]
        case "linspace":
            found = [round(i * (n - 1) / max(1, steps - 1)) for i in range(steps)]
        case _:
            raise ValueError(f"timestep_spacing {spacing[:40]} is none of leading, trailing and linspace")
    found = sorted(min(max(k, 0), n - 1) for k in found)
    if len(set(found)) < len(found):
        raise ValueError(f"{steps} steps visit a timestep of {n} twice: take fewer")
    return found[::-1]


def grid_of(betas: Betas, steps: int, spacing: str, offset: int) -> AnyGrid:
    """The grid that visits diffusers' timesteps: equal steps for trailing ones, else a profile."""
    visited = timesteps_of(betas, steps, spacing, offset)
    if spacing == "trailing" and betas.num_train_timesteps % steps == 0:
        return UniformTimeGrid()
    if len(visited) < 2:
        return UniformTimeGrid()
    return FixedGrid(log_snr=tuple(betas.log_snr()[torch.tensor(visited)].tolist()))


def scheduler_of(
    betas: Betas | None, process: Gaussian, prediction: PredictionType, sampling: Sampling
) -> dict[str, Any]:
    """The scheduler_config.json of a run.

    Raises:
        ValueError: a prediction or preconditioning that no scheduler has."""
    if betas is None:
        if prediction != "edm":
            raise ValueError(
                f"a network without betas reads EDM's c_noise, and diffusers' EDM schedulers expect method.prediction=edm, "
                f"not {prediction}: set network.betas, or the prediction"
            )
        grid = sampling.grid if isinstance(sampling.grid, KarrasGrid) else KarrasGrid()
        high = min(grid.high, float(rho(process.schedule, torch.ones((), dtype=torch.float64))))
        return {
            "_class_name": EDM[0], "_diffusers_version": "0.36.0", "sigma_min": grid.low, "sigma_max": high,
            "sigma_data": process.sigma_data, "sigma_schedule": "karras", "rho": grid.power,
            "num_train_timesteps": 1000, "prediction_type": "epsilon", "final_sigmas_type": "zero",
        }  # fmt: skip
    kinds = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    if prediction not in kinds:
        raise ValueError(
            "a network with betas reads integer timesteps, and diffusers' schedulers of these know method.prediction="
            f"noise, velocity and clean, not {prediction}: leave network.betas out"
        )
    if process.sigma_data != 1 or process.schedule != betas.schedule():
        raise ValueError(
            f"the input of this run's network is scaled by process.sigma_data={process.sigma_data:g}, or noised by another "
            "schedule than network.betas, and diffusers' schedulers of betas scale nothing: leave network.betas out, and "
            "set method.prediction=edm"
        )
    values: dict[str, Any] = {
        "beta_schedule": betas.beta_schedule, "beta_start": betas.beta_start, "beta_end": betas.beta_end,
        "num_train_timesteps": betas.num_train_timesteps,
        "trained_betas": list(betas.trained) if betas.trained else None,
    }  # fmt: skip
    clip = next((one for one in active(sampling.guidance) if isinstance(one, Box)), None)
    if clip is not None and (clip.low != -clip.high or clip.weight != 1 or clip.interval is not None):
        raise ValueError("diffusers clips to a range about 0 at every step, and guidance by box of this run does not")
    spacing, offset = spacing_of(betas, sampling.grid)
    return {
        "_class_name": "DDIMScheduler", "_diffusers_version": "0.36.0", **values, "prediction_type": kinds[prediction],
        "clip_sample": clip is not None, "clip_sample_range": 1.0 if clip is None else clip.high,
        "set_alpha_to_one": True, "steps_offset": offset, "rescale_betas_zero_snr": False, "thresholding": False,
        "timestep_spacing": spacing,
    }  # fmt: skip


def spacing_of(betas: Betas, grid: AnyGrid) -> tuple[str, int]:
    """The timestep_spacing and the steps_offset of a grid; leading and 0 for one that is of no number of timesteps.

    Raises:
        ValueError: a fixed grid of other timesteps than diffusers visits."""
    if isinstance(grid, UniformTimeGrid):
        return "trailing", 0
    if not isinstance(grid, FixedGrid):
        return "leading", 0
    steps = len(grid.log_snr)
    offsets = range(max(1, betas.num_train_timesteps // steps)) if steps <= betas.num_train_timesteps else ()
    for spacing, offset in [*(("leading", i) for i in offsets), ("linspace", 0), ("trailing", 0)]:
        try:
            if grid_of(betas, steps, spacing, offset) == grid:
                return spacing, offset
        except ValueError:
            continue
    raise ValueError(
        "sampling.grid visits other timesteps than any timestep_spacing of diffusers: set sampling.grid.kind=uniform, "
        "which is trailing"
    )
