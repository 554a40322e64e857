"""Sampling with a denoiser that was trained to step along the probability flow."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from langevin.diffusion.flow_map import straight_time
from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.linear import CallTable, StepGeometry, init_linear, linear_update
from langevin.diffusion.sampler.state import Processes, State


@dataclass(frozen=True, kw_only=True)
class FlowMap:
    """Steps of a flow map ("Mean Flows for One-step Generative Modeling", 2025, arXiv 2505.13447, algorithm 2):

        x_s / alpha_s = x_t / alpha_t + (rho_s - rho_t) (x_t - alpha_t D) / sigma_t,     D = D(x_t, t, s).

    The denoiser is given the length of the step (`Condition.span`). Where D is exact, so are the samples, after any number
    of steps. It is deterministic."""

    kind: Literal["flow_map"] = "flow_map"
    processes: ClassVar[Processes] = (Gaussian,)

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Gaussian) -> State:
        if state.times.ndim > 2:
            raise ValueError(
                "the sampler flow_map steps from one time per sample to another, got a time per position: use "
                "sampling.scheduling=full_sequence"
            )
        steps = StepGeometry.of(process.schedule, state.times)
        state = init_linear(state, CallTable(times=steps.t, weights=steps.ddim_weights()))
        span = -straight_time(process, state.times).diff(dim=1)
        return replace(state, memory={**state.memory, "grid_span": span})

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)
