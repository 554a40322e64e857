"""The Python interface: train, load, sample, evaluate. Samples, runs and reports display themselves in notebooks."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.process import Process
from langevin.diffusion.sampling import Sampling
from langevin.modalities.modality import Draw, Evaluation, File, Plan, RequestContext, Samples
from langevin.modalities.options import options_of
from langevin.recipe.tree import Recipe
from langevin.run.directory import Run, load_model, open_run
from langevin.run.display import QUIET, Display
from langevin.run.evaluate import evaluate_run
from langevin.run.generate import RunModel, changed, with_others
from langevin.run.hub import at_hand
from langevin.run.light import light_of, lightened
from langevin.run.plan import Wanted
from langevin.run.train import train_run
from langevin.training import machine
from langevin.user_function import CodePermission

PRINTING = Display(say=print)


def train(
    target: str | Path, *overrides: str, minutes: float | None = None, out: str | Path | None = None,
    data: str | Path | None = None, seed: int | None = None, allow_code: bool = False, quiet: bool = False,
) -> "LoadedRun":  # fmt: skip
    """Train a generative model on a folder or file of data, or by a recipe; returns the finished run.

    Args:
        target: the path of the data, the name of a shipped recipe, or the path of a recipe.
        overrides: changes of the recipe, "network.width=128".
        minutes: time budget of the whole run; default 10 for data, else the recipe's.
        out: directory of the run; default runs/NAME.
        data: path to the data of a recipe, in place of the recipe's data.path.
        seed: default the recipe's.
        allow_code: allow functions (module:function) that the recipe names to be imported.
        quiet: print nothing.

    Raises:
        ValueError: the target is neither data nor a recipe, or options do not fit it."""
    wanted = Wanted(
        target=str(target), overrides=overrides, minutes=minutes, out=None if out is None else Path(out), seed=seed,
        data=None if data is None else Path(data), allow_code=allow_code,
    )  # fmt: skip
    return load(train_run(wanted, QUIET if quiet else PRINTING).path, allow_code=allow_code)


def load(path: str | Path, *, ema: float | None = None, allow_code: bool = False) -> "LoadedRun":
    """Load a trained run.

    Args:
        path: directory of the run, or hub:OWNER/NAME, which is pulled to runs/NAME if it is not there.
        ema: length of the EMA of the weights, as a fraction of the run; 0 is the last weights; default the recipe's.
        allow_code: allow functions (module:function) that the run's recipe names to be imported.

    Raises:
        ValueError: there is no run, or it is damaged."""
    code = CodePermission.of((), allow=allow_code)
    run = open_run(at_hand(str(path), code=code, say=print))
    model, step = load_model(run, ema=ema, device=machine.device(), code=code, say=print)
    return LoadedRun(run=run, model=model, step=step, allow_code=allow_code)


@dataclass(frozen=True, kw_only=True, repr=False)
class LoadedRun:
    """A trained run: samples, evaluation, and its network, process and denoiser.

    Args:
        step: training step of the weights.
        allow_code: functions (module:function) that the run's recipe names may be imported.
    """

    run: Run
    model: RunModel
    step: int
    allow_code: bool = False

    @property
    def path(self) -> Path:
        return self.run.path

    @property
    def recipe(self) -> Recipe:
        return self.run.recipe

    @property
    def network(self) -> nn.Module:
        return self.model.parts.network

    @property
    def process(self) -> Process:
        """The forward process."""
        return self.model.parts.process

    @property
    def denoiser(self) -> Denoiser[Any]:
        """(x_t, t, condition) -> the posterior over clean data, or a score."""
        return self.model.parts.denoiser

    @property
    def sampling(self) -> Sampling:
        """Sampler, grid, guidance and EMA that `sample` uses by default."""
        return self.model.sampling

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one encoded sample."""
        return tuple(self.run.facts["shape"])

    def sample(
        self, count: int | None = None, *, seed: int = 0, steps: int | None = None, sampler: str | None = None,
        guidance: float | None = None, light: Sequence[str] | None = None, batch: int = 256, frames: bool = False,
        **options: Any,
    ) -> Samples:  # fmt: skip
        """Draw decoded samples.

        Args:
            count: number of samples; default what the modality shows.
            seed: sample i has the seed `seed + i`, and is the same in any batch.
            steps, guidance: default the recipe's.
            sampler: as on the command line: "heun", "exponential max_order=3"; default the recipe's.
            light: what makes it cheaper, as on the command line: ["int8", "cache interval=3"]; ["none"] is nothing, and the
                default the recipe's.
            batch: samples per batch.
            frames: keep the state after every step, for an animation.
            options: options of the run's modality, such as condition="cat" or prompt="To be".

        Raises:
            ValueError: an option that the modality does not have, or a condition that the run does not know."""
        model = changed(self.model, steps=steps, sampler=sampler, guidance=guidance)
        if light is not None or model.sampling.light:
            model = lightened(model, light_of(light, model.sampling), self.run, say=print)
        model, plan = self._planned(model, count, seed, batch, options)
        return model.run(plan, batch=batch, frames=frames)

    def edit(
        self, input: str | Path, count: int | None = None, *, seed: int = 0, steps: int | None = None,
        sampler: str | None = None, guidance: float | None = None, batch: int = 256, **options: Any,
    ) -> Samples:  # fmt: skip
        """Repair or change a file: several answers, the input, their mean and their spread.

        Args:
            input: path of the file.
            options: options of `langevin edit` for the run's modality, such as mask="0,0,8,8" or denoise=25.0.
            count, seed, steps, sampler, guidance, batch: as in `sample`.

        Raises:
            ValueError: an option that the modality does not have, or an input that cannot be edited."""
        model = changed(self.model, steps=steps, sampler=sampler, guidance=guidance)
        chosen = frozenset(
            name
            for name, value in (("steps", steps), ("sampler", sampler), ("guidance", guidance))
            if value is not None
        )
        options = {"input": str(input), **options}
        model, plan = self._planned(model, count, seed, batch, options, verb="Edit", chosen=chosen)
        return model.run(plan, batch=batch)

    def explain(self, *, seed: int = 0, **options: Any) -> Samples:
        """Explain a sample: pictures or text of it, with findings as `explanation`.

        Args:
            options: options of `langevin explain` for the run's modality, such as condition="cat" or prompt="To be".

        Raises:
            ValueError: an option that the modality does not have, or a condition that the run does not know."""
        model, plan = self._planned(self.model, 1, seed, 256, options, verb="Explain")
        return model.run(plan)

    def request(self, count: int | None = None, *, seed: int = 0, **options: Any) -> Draw:
        """The shape, seeds and condition of the first draw of `sample`, for a sampling loop of your own.

        Raises:
            ValueError: as `sample`; or the samples do not begin with a draw."""
        first = next(self._planned(self.model, count, seed, 256, options)[1])
        if not isinstance(first, Draw):
            raise ValueError("sampling with these options begins with a prediction of the model, not with a draw")
        return first

    def _planned(
        self, model: RunModel, count: int | None, seed: int, batch: int, options: dict[str, Any], *,
        verb: str = "Sample", chosen: frozenset[str] = frozenset(),
    ) -> tuple[RunModel, Plan]:  # fmt: skip
        """The plan of a request, and the model with those of the other runs that its options name."""
        kind = self.recipe.data.kind
        known = getattr(options_of(kind), verb, None)
        if known is None:
            raise ValueError(f"runs of {kind} have no `{verb.lower()}`")
        wanted = options_from(known, options, kind)
        code = CodePermission.of((), allow=self.allow_code)
        model = with_others(
            model,
            wanted,
            lambda name: load_model(open_run(Path(name)), device=machine.device(), code=code, say=print)[0],
        )
        context = RequestContext(
            model=model, data=self.run.open_data, count=count, seed=seed, say=print, batch=batch, chosen=chosen
        )
        return model, self.recipe.data.plan(wanted, context)

    def evaluate(
        self, *, count: int | None = None, seeds: int = 3, batch: int = 256, curve: bool = False,
        light: Sequence[str] | None = None, **options: Any,
    ) -> "Report":  # fmt: skip
        """Measure the run next to real data, and write report.html into it.

        Args:
            count: samples per seed; default the modality's.
            seeds: independent sets of samples, for error bars.
            batch: samples per batch.
            curve: also measure the run's EMA snapshots.
            light: also measure what makes drawing cheaper; [] is all that fits the run.
            options: options of the run's modality, as of `langevin evaluate RUN`.

        Raises:
            ValueError: too little data, or an option that the modality does not have."""
        kind = self.recipe.data.kind
        given, model = options_from(options_of(kind).Evaluate, options, kind), self.model
        if light is None and model.sampling.light:  # what is measured is drawn as `sample` draws
            model = lightened(model, model.sampling.light, self.run, say=print)
        evaluation, path = evaluate_run(
            self.run,
            model,
            given,
            step=self.step,
            count=count,
            seeds=seeds,
            batch=batch,
            curve=curve,
            light=light,
        )
        return Report(evaluation=evaluation, path=path)

    def resume(self) -> "LoadedRun":
        """Train a stopped run to its end."""
        from langevin.run.train import resume_run

        run = resume_run(self.path, allow_code=self.allow_code, display=PRINTING)
        return load(run.path, allow_code=self.allow_code)

    def __repr__(self) -> str:
        return f"LoadedRun({self.path}, {self.recipe.name}, {self.step} steps)"

    def _repr_html_(self) -> str:
        """Name, description, size and the newest preview."""
        previews = sorted(self.run.samples.glob("step-*"))
        preview = File(suffix=previews[-1].suffix, content=previews[-1].read_bytes()).html() if previews else ""
        about = f"{self.recipe.description}; {self.step} steps, {parameters(self.network) / 1e6:.2f} M parameters"
        return (
            f"<b>{html.escape(str(self.path))}</b> {html.escape(self.recipe.name)}: {html.escape(about)}<br>{preview}"
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """An evaluation, and the path of its report.html."""

    evaluation: Evaluation
    path: Path

    def __getitem__(self, metric: str) -> float:
        """The estimate of a metric, by its name in the table: "GROUP: METRIC", or "METRIC" if one group alone has it.

        Raises:
            KeyError: there is no such metric, or several; the message lists those that there are."""
        named = {f"{row.group}: {row.metric}" if row.group else row.metric: row for row in self.evaluation.rows}
        found = [name for name, row in named.items() if metric in (name, row.metric)]
        if len(found) != 1:
            what = f"several metrics '{metric}': " if found else f"no metric '{metric}'; there are "
            raise KeyError(what + ", ".join(found or named))
        return named[found[0]].generated.estimate

    def _repr_html_(self) -> str:
        return "".join(section.html() for section in self.evaluation.sections)


def options_from(options: type[Any], given: dict[str, Any], kind: str) -> Any:
    """A modality's options from keyword arguments. A single string is a tuple of one, or a path, as the option's type is.

    Raises:
        ValueError: an option that the modality does not have."""
    known = options.__dataclass_fields__
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"runs of {kind} have no option {unknown[0]}; they have {', '.join(known) or 'none'}")

    def converted(name: str, value: Any) -> Any:
        annotation = str(known[name].type)
        if "tuple" in annotation and value is not None:
            return (value,) if isinstance(value, str | Path) else tuple(value)
        return Path(value) if "Path" in annotation and isinstance(value, str) else value

    return options(**{name: converted(name, value) for name, value in given.items()})


def parameters(network: nn.Module) -> int:
    """The number of trained parameters."""
    return sum(p.numel() for p in network.parameters())


__all__ = ["LoadedRun", "Report", "load", "train"]
