"""The samplers of diffusers and k-diffusion, each as y, knots -> (y at the last knot, network calls) in float64.

All are asked in canonical coordinates, y = x / alpha and rho = sigma / alpha, and told the exact answer D(y, rho):

    vp     x = y / sqrt(1 + rho^2), told the noise (y - D) / rho
    ve     x = y, told the noise
    edm    x = y, told what EDM's preconditioning makes D of
    flow   x = y / (1 + rho), t = rho / (1 + rho), told noise - D

A scheduler of diffusers makes its own knots in float32, and repeats the last one or goes to 0. To measure its formula and
not its table, it is given ours: `sigmas` is overwritten after `set_timesteps(n + 1)`, and n of the n + 1 steps are made.
k-diffusion takes knots as they are.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import harness

Clean = Callable[[Tensor, Tensor], Tensor]
Run = Callable[[Tensor, Tensor], tuple[Tensor, int]]
LOOSE = {"num_train_timesteps": 1100}
PLAIN = {**LOOSE, "lower_order_final": False, "final_sigmas_type": "sigma_min"}
SINGLE = {**LOOSE, "final_sigmas_type": "sigma_min"}
FREE = {**LOOSE, "lower_order_final": False}


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """A scheduler of diffusers.

    Args:
        face: its coordinates, see the module.
        questions: a step.
        declared: the order it is called by.
        every: the number of steps must be a multiple of this.
        rounds: the state is cast to float32 at each step.
    """

    name: str
    face: str
    declared: int
    options: Mapping[str, Any] = field(default_factory=dict)
    questions: int = 1
    every: int = 1
    rounds: bool = False

    def make(self) -> Any:
        return getattr(harness.peer(), self.name)(**self.options)


DPM, EDM = "DPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler"
ONE, DEIS, UNIPC = "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler"
SCHEDULERS: dict[str, Scheduler] = {
    "Euler": Scheduler(name="EulerDiscreteScheduler", face="ve", declared=1, options=LOOSE),
    "FlowMatchEuler": Scheduler(name="FlowMatchEulerDiscreteScheduler", face="flow", declared=1),
    "Heun": Scheduler(name="HeunDiscreteScheduler", face="ve", declared=2, options=LOOSE, questions=2),
    "FlowMatchHeun": Scheduler(name="FlowMatchHeunDiscreteScheduler", face="flow", declared=2, questions=2),
    "KDPM2": Scheduler(name="KDPM2DiscreteScheduler", face="ve", declared=2, options=LOOSE, questions=2),
    "LMS 4": Scheduler(name="LMSDiscreteScheduler", face="ve", declared=4, options=LOOSE),
    "DPM++ 2M": Scheduler(name=DPM, face="vp", declared=2, rounds=True, options=PLAIN),
    "DPM++ 2M heun": Scheduler(name=DPM, face="vp", declared=2, rounds=True, options={**PLAIN, "solver_type": "heun"}),
    "DPM++ 3M": Scheduler(name=DPM, face="vp", declared=3, rounds=True, options={**PLAIN, "solver_order": 3}),
    "EDM DPM++ 3M": Scheduler(
        name=EDM, face="edm", declared=3,
        options={"lower_order_final": False, "final_sigmas_type": "sigma_min", "solver_order": 3},
    ),
    "DPM++ 2S": Scheduler(name=ONE, face="vp", declared=2, every=2, options=SINGLE),
    "DPM++ 3S": Scheduler(name=ONE, face="vp", declared=3, every=3, options={**SINGLE, "solver_order": 3}),
    "DEIS 2": Scheduler(name=DEIS, face="vp", declared=2, options=FREE),
    "DEIS 3": Scheduler(name=DEIS, face="vp", declared=3, options={**FREE, "solver_order": 3}),
    "UniPC 2": Scheduler(name=UNIPC, face="vp", declared=2, options=FREE),
    "UniPC 3": Scheduler(name=UNIPC, face="vp", declared=3, options={**FREE, "solver_order": 3}),
}  # fmt: skip


def outward(face: str, y: Tensor, rho: Tensor) -> Tensor:
    """x of y."""
    return {"vp": y / (1 + rho * rho).sqrt(), "flow": y / (1 + rho)}.get(face, y)


def inward(face: str, x: Tensor, rho: Tensor) -> Tensor:
    """y of x."""
    return {"vp": x * (1 + rho * rho).sqrt(), "flow": x * (1 + rho)}.get(face, x)


def told(scheduler: Any, face: str, y: Tensor, rho: Tensor, clean: Clean) -> Tensor:
    """What the network would say."""
    d = clean(y, rho)
    if face == "flow":
        return (y - d) / rho - d
    if face == "edm":
        data = scheduler.config.sigma_data
        total = rho * rho + data * data
        return (d - data * data / total * y) / (rho * data / total.sqrt())
    return (y - d) / rho


def scheduler_run(peer: Scheduler, clean: Clean) -> Run:
    """The formula of a scheduler on given knots."""

    def run(knots: Tensor, y: Tensor) -> tuple[Tensor, int]:
        scheduler, n = peer.make(), len(knots) - 1
        scheduler.set_timesteps(n + 1)
        scheduler.set_begin_index(0)
        levels = knots / (1 + knots) if peer.face == "flow" else knots
        middle = (knots[1:] * knots[:-1]).sqrt()
        asked = knots[:-1]
        if peer.questions == 2:
            second = middle if "2Discrete" in peer.name else knots[1:]
            asked = torch.stack([knots[:-1], second], 1).flatten()
            levels = torch.cat([levels[:1], levels[1:].repeat_interleave(2), levels[-1:]])
            if hasattr(scheduler, "sigmas_interpol"):
                scheduler.sigmas_interpol = torch.cat([knots[:1], middle.repeat_interleave(2), knots[-1:]])
        else:
            levels = torch.cat([levels, levels[-1:]])
        scheduler.sigmas = levels
        x = outward(peer.face, y, knots[0])
        if hasattr(scheduler, "is_scale_input_called"):
            scheduler.is_scale_input_called = True  # ours are scaled already
        for i, rho in enumerate(asked):
            said = told(scheduler, peer.face, inward(peer.face, x, rho), rho, clean)
            x = scheduler.step(said, scheduler.timesteps[i], x, return_dict=False)[0]
        return inward(peer.face, x, knots[-1]), len(asked)

    return run


HEAVY = ("scipy", "torchdiffeq", "torchsde", "torchvision", "tqdm")


class _Missing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules in place of those of `HEAVY` that are not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None):
        if name.partition(".")[0] not in HEAVY:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__getattr__ = self._anything
        return module

    @staticmethod
    def _anything(name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})

    def exec_module(self, module: ModuleType) -> None:
        pass


def k_diffusion(folder: str | None) -> ModuleType | None:
    """k-diffusion's sampling module, with empty modules for what it imports and is not installed; or None."""
    places = [folder] if folder else sys.path
    spec = importlib.machinery.PathFinder.find_spec("k_diffusion", places)
    if spec is None or not spec.submodule_search_locations:
        return None
    package = ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["k_diffusion"] = package  # without its __init__, which imports networks and metrics
    before, stand_in = set(sys.modules), _Missing()
    sys.meta_path.append(stand_in)
    try:
        found = importlib.import_module("k_diffusion.sampling")
    finally:
        sys.meta_path.remove(stand_in)
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__loader__", None) is stand_in:
                del sys.modules[name]
    found.trange = lambda *a, **k: range(*a)
    return found


# name -> (function, options, declared order, questions a step)
SAMPLERS: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "euler": ("sample_euler", {}, 1, 1),
    "heun": ("sample_heun", {}, 2, 2),
    "dpm_2": ("sample_dpm_2", {}, 2, 2),
    "lms (4)": ("sample_lms", {}, 4, 1),
    "dpmpp_2s": ("sample_dpmpp_2s_ancestral", {"eta": 0.0}, 2, 2),
    "dpmpp_2m": ("sample_dpmpp_2m", {}, 2, 1),
    "dpmpp_2m_sde heun": ("sample_dpmpp_2m_sde", {"eta": 0.0, "solver_type": "heun"}, 2, 1),
    "dpmpp_3m_sde": ("sample_dpmpp_3m_sde", {"eta": 0.0}, 3, 1),
}


def still(*levels: Any) -> float:
    """No noise."""
    return 0.0


def k_run(module: ModuleType, name: str, clean: Clean) -> Run:
    """A sampler of k-diffusion on given knots, without noise."""
    function, options, _, questions = SAMPLERS[name]
    if "eta" in options:
        options = {**options, "noise_sampler": still}

    def run(knots: Tensor, y: Tensor) -> tuple[Tensor, int]:
        def model(x: Tensor, sigma: Tensor) -> Tensor:
            return clean(x, sigma.reshape(-1)[0])

        return getattr(module, function)(model, y, knots, disable=True, **options), questions * (len(knots) - 1)

    return run
