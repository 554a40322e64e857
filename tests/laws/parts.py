"""All parts of every kind: what the laws run over. A new part is tested by being listed here (`test_parts` sees to it)."""

import math
from typing import get_args

from langevin.diffusion.importance import Importance
from langevin.diffusion.objective import LogitNormal, LogNormal, ShiftedTimes, TimeDensity, UniformTime, WeightedMSE
from langevin.diffusion.process import SDE, Gaussian, Masked, Product
from langevin.diffusion.sampler import (
    DDIM,
    DDPM,
    DEIS,
    DPM2M,
    IPNDM,
    Adams,
    AncestralUnmask,
    AnySampler,
    ConfidenceUnmask,
    EDMStochastic,
    Exponential,
    GibbsSampler,
    JointDPM2M,
    Langevin,
    PsiSampler,
    ReMDM,
    RePaint,
    Restart,
    ReverseSDE,
    ThresholdUnmask,
    TokenSampling,
    UniPC,
)
from langevin.diffusion.sampler.grid import AnyGrid, FixedGrid, KarrasGrid, LogSNR, ShiftedGrid, UniformTimeGrid
from langevin.diffusion.schedule import (
    AnySchedule,
    Beta,
    Brownian,
    Cosine,
    Rectified,
    VarianceExploding,
    VariancePreserving,
)

SCHEDULES: dict[str, AnySchedule] = {
    "rectified": Rectified(),
    "cosine": Cosine(),
    "variance_preserving": VariancePreserving(),
    "variance_preserving_sin2": VariancePreserving(
        beta=Beta.tabulate(lambda t: 20 * math.sin(math.pi * t / 2) ** 2, knots=65)
    ),
    "variance_exploding": VarianceExploding(),
    "brownian": Brownian(beta=Beta.tabulate(lambda t: 15_000 * t**5, knots=257)),  # sigma about 50 t^3
    "variance_exploding_cubic": VarianceExploding(sigma_max=30.0, power=3.0),
}

# three that differ most: what is proven slowly is proven on these, as all give the same numbers at the same noise levels
FEW_SCHEDULES = {name: SCHEDULES[name] for name in ("rectified", "variance_preserving", "variance_exploding_cubic")}

PREDICTIONS = ("clean", "noise", "velocity", "edm")

WEIGHTINGS = ("edm", "velocity", "noise", "min_snr")

DENSITIES: dict[str, TimeDensity] = {
    "uniform": UniformTime(low=0.1, high=0.9),
    "log_normal": LogNormal(),
    "logit_normal": LogitNormal(mean=-0.4, std=1.1),
    "importance": Importance(log_snr=(-12.0, -4.0, 0.5, 6.0, 13.0), weight=(0.2, 1.0, 3.0, 0.7)),
    "shifted": ShiftedTimes(times=LogNormal(mean=-1.5), factor=2.0),
}

GRIDS: dict[str, AnyGrid] = {
    "karras": KarrasGrid(),
    "log_snr": LogSNR(),
    "uniform": UniformTimeGrid(),
    "uniform_from_80": UniformTimeGrid(high=80.0),
    "fixed": FixedGrid(),
    "fixed_beyond_reach": FixedGrid(log_snr=(-12.0, -9.0, -3.0, 0.0, 4.0, 11.0)),
    "shifted": ShiftedGrid(grid=LogSNR(), factor=0.5),
}


def with_defaults(process: type, listed: dict[str, AnySampler]) -> dict[str, AnySampler]:
    """What is listed, and every other member of the union that is for a process, as it is made without parameters."""
    others = [member for member in get_args(AnySampler) if process in member.processes]
    known = {type(sampler) for sampler in listed.values()}
    return {member.kind: member() for member in others if member not in known} | listed


# of no fixed number of calls, of one only, or for another denoiser: they have laws of their own, in test_sampler_ways,
# test_sampler_fitted and methods/test_consistency
OWN_LAWS = ("bogacki_shampine", "learned", "consistency")

GAUSSIAN = {
    "ddim": DDIM(),
    "ddim_half": DDIM(eta=0.5),
    "ddim_ancestral": DDIM(eta=1.0),
    "ddpm": DDPM(),
    "ddpm_posterior": DDPM(variance="posterior"),
    "langevin": Langevin(ratio=0.3),
    "edm_stochastic": EDMStochastic(s_churn=10.0, s_min=0.05, s_max=5.0),
    "restart": Restart(low=0.3, high=1.0, num_restarts=2),
    "repaint": RePaint(jump=2, repeats=3),
    "dpm2m": DPM2M(),
    "dpm2m_lower_order_final": DPM2M(lower_order_final=True),
    "sde_dpm2m": DPM2M(eta=1.0),
    "exponential_1_half": Exponential(max_order=1, eta=0.5),
    "exponential_2": Exponential(max_order=2),
    "exponential_2_half": Exponential(max_order=2, eta=0.5),
    "exponential_3": Exponential(max_order=3),
    "exponential_3_rising": Exponential(max_order=3, full_start=False),
    "exponential_3_noise": Exponential(max_order=3, eta=1.0),
    "exponential_4": Exponential(max_order=4),
    "adams_2": Adams(max_order=2),
    "adams_3": Adams(max_order=3),
    "adams_4": Adams(max_order=4),
    "deis_2": DEIS(max_order=2),
    "deis_3": DEIS(max_order=3),
    "ipndm": IPNDM(),
    "unipc_1": UniPC(p=1),
    "unipc_2": UniPC(p=2),
    "unipc_3": UniPC(p=3),
    "unipc_3_lower_order_final": UniPC(p=3, lower_order_final=True),
}
SAMPLERS = {name: sampler for name, sampler in with_defaults(Gaussian, GAUSSIAN).items() if name not in OWN_LAWS}

# the order of the first two moments on Gaussian data, of those that add noise
WEAK_ORDERS = {
    "ancestral": 1, "ddim_half": 1, "ddim_ancestral": 1, "ddpm": 1, "ddpm_posterior": 1, "euler_maruyama": 1, "langevin": 1,
    "exponential_1_half": 1, "edm_stochastic": 2, "restart": 2, "repaint": 1, "sde_dpm2m": 2, "exponential_2_half": 2,
    "exponential_3_noise": 2,
}  # fmt: skip

FLOWS = [name for name, sampler in SAMPLERS.items() if sampler.convergence_order is not None]

MASKED_SAMPLERS = with_defaults(
    Masked,
    {
        "unmask_step": AncestralUnmask(),
        "unmask_random": AncestralUnmask(order="random", tokens=TokenSampling(temperature=0.7)),
        "unmask_left": AncestralUnmask(order="left_to_right", tokens=TokenSampling(top_p=0.8)),
        "confidence": ConfidenceUnmask(),
        "confidence_margin": ConfidenceUnmask(score="margin", schedule="linear"),
        "confidence_entropy": ConfidenceUnmask(
            score="entropy", jitter=1.0, tokens=TokenSampling(temperature=0.5, top_p=0.9)
        ),
        "confidence_greedy": ConfidenceUnmask(schedule="linear", tokens=TokenSampling(temperature=0.0)),
        "threshold": ThresholdUnmask(threshold=0.4),
        "threshold_never": ThresholdUnmask(threshold=1.0),
        "threshold_factor": ThresholdUnmask(rule="factor", threshold=1.5, tokens=TokenSampling(top_p=0.5)),
        "threshold_entropy": ThresholdUnmask(rule="entropy_bound", threshold=2.0),
        "threshold_all": ThresholdUnmask(rule="entropy_bound", threshold=math.inf),
        "psi": PsiSampler(kappa=0.6),
        "psi_anew": PsiSampler(kappa=0.0, tokens=TokenSampling(temperature=0.5)),
        "remdm": ReMDM(eta=0.3),
        "remdm_cap": ReMDM(eta=1.0, rule="cap", tokens=TokenSampling(top_p=0.7)),
        "gibbs": GibbsSampler(block_fraction=0.3),
    },
)
PRODUCT_SAMPLERS = with_defaults(Product, {"joint_sde": JointDPM2M(eta=1.0)})
SDE_SAMPLERS = with_defaults(
    SDE,
    {"reverse": ReverseSDE(), "reverse_quiet": ReverseSDE(eta=0.3), "reverse_corrected": ReverseSDE(corrections=1)},
)


def order_of(name: str) -> int:
    """The order of the named sampler: of its convergence to the flow, or else of its moments."""
    order = SAMPLERS[name].convergence_order or WEAK_ORDERS.get(name)
    assert order is not None, f"the sampler {name} adds noise: say the order of its moments in parts.WEAK_ORDERS"
    return order


def weighted(name: str, schedule: AnySchedule) -> WeightedMSE:
    """The named weighting on a schedule."""
    return WeightedMSE(process=Gaussian(schedule=schedule), weighting=name)
