"""The writer of a request: a run's model and sampling with the request's options."""

from dataclasses import replace
from typing import TYPE_CHECKING

from langevin.diffusion.guidance import weight_of
from langevin.diffusion.sampler.choice import with_tokens
from langevin.diffusion.sampling import Sampling
from langevin.modalities.modality import RequestContext
from langevin.modalities.text.infill import Writer
from langevin.modalities.text.target import reverse_weight_of
from langevin.modalities.text.task import Seq2Seq

if TYPE_CHECKING:
    from langevin.modalities.text.modality import Text


def writer_of(
    text: "Text", context: RequestContext, best_of: int | None, temperature: float | None, top_p: float | None,
    block: int | None = None, reverse_weight: float | None = None,
) -> Writer:  # fmt: skip
    """The run's `Writer`, with the request's options.

    Raises:
        ValueError: numbers out of range, or guidance that the run was not trained for."""
    model, sampling = text.tokens_of(context.model), context.model.sampling
    sampling = replace(sampling, sampler=with_tokens(sampling.sampler, temperature=temperature, top_p=top_p))
    usual = text.task.best_of if isinstance(text.task, Seq2Seq) else 1
    best = usual if best_of is None else best_of
    if not 1 <= best <= 1000:
        raise ValueError(f"--best-of is the number of samples drawn for each text, 1 to 1000, got {best}")
    require_guidable(text, context, sampling)
    if block is not None and model.attention == "block":
        raise ValueError(
            f"the run generates blocks of {model.network.config.block_size} (network.block_size), so --block has no "
            "effect: leave it out"
        )
    weight = reverse_weight_of(text.task, model, reverse_weight, best)
    return Writer(codec=text.codec, model=model, sampling=sampling, best_of=best, reverse_weight=weight, block=block)


def require_guidable(text: "Text", context: RequestContext, sampling: Sampling) -> None:
    """Check that the run was trained on inputs with the prompt masked. Raises `ValueError` if it was not."""
    if other := [method.kind for method in sampling.guidance if method.kind != "prompt"]:
        raise ValueError(f"text is guided by its prompt: name kind prompt in sampling.guidance, not {other[0]}")
    model, weight = text.tokens_of(context.model), weight_of(sampling.guidance)
    if weight == 1:
        return
    if model.attention != "full" or model.autoregressive or model.process.kind not in ("masked", "hybrid"):
        kind = "autoregressive" if model.autoregressive else model.process.kind
        raise ValueError(
            f"guidance {weight:g} compares with the prompt masked: it needs network.attention=full and "
            f"process.kind masked or hybrid; this run has {model.attention} and {kind}"
        )
    if isinstance(text.task, Seq2Seq) and not text.task.joint_fraction:
        raise ValueError(
            f"guidance {weight:g} compares with the source masked, which this run never saw: train it with "
            "data.task.joint_fraction above 0, or leave guidance at 1"
        )
