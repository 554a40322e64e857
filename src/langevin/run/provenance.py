"""What samples were made from: the facts that their files carry, with the command that makes them again."""

import shlex
from dataclasses import MISSING, fields
from typing import Any

from langevin.diffusion.guidance import weight_of
from langevin.modalities.modality import Samples
from langevin.recipe.sampling import describe
from langevin.run.generate import RunModel
from langevin.safety.watermark import name_of


def facts_of(
    samples: Samples, model: RunModel, *, run: str, step: int, options: Any, seed: int, count: int | None,
    verb: str = "sample", ema: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The facts of samples that a run has drawn.

    Args:
        run: its name or path, as the command needs it.
        step: training step of its weights.
        options: of its modality, as they were given.
        count: as it was given; None left it to the modality."""
    sampling = samples.sampling or model.sampling
    weight = weight_of(sampling.guidance)
    words = ["langevin", verb, run, *(() if count is None else ("--count", str(count))), "--seed", str(seed)]
    words += ["--steps", str(sampling.steps), "--sampler", describe(sampling.sampler)]
    words += [] if weight == 1 else ["--guidance", f"{weight:g}"]
    words += [] if ema is None else ["--ema", f"{ema:g}"]
    words += ["--light", *map(describe, sampling.light)] if sampling.light else []
    words += ["--adapter", *model.adapters] if model.adapters else []
    words += [] if model.built.key is None else ["--watermark", "KEY"]
    return {
        "made_by": "langevin", "command": shlex.join([*words, *words_of(options)]), "model": run, "step": step,
        "data": model.data_fingerprint, "seed": seed, "steps": sampling.steps, "sampler": describe(sampling.sampler),
        "guidance": weight, "function_evaluations": samples.nfe,
        **({"light": [describe(one) for one in sampling.light]} if sampling.light else {}),
        **({"adapters": list(model.adapters)} if model.adapters else {}),
        **({} if model.built.key is None else {"watermark": name_of(model.built.key)}),
    }  # fmt: skip


def words_of(options: Any) -> list[str]:
    """The words of a command line for the options that are not the defaults; names of files as they are.

    Options without a default are positional arguments."""
    words = list[str]()
    for one in fields(options):
        value = getattr(options, one.name)
        if value == one.default or (isinstance(value, tuple) and not value):
            continue
        words += [] if one.default is MISSING else ["--" + one.name.strip("_").replace("_", "-")]
        words += [] if value is True else [str(part) for part in (value if isinstance(value, tuple) else (value,))]
    return words
