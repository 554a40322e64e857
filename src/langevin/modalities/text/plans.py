"""Plans of text requests that the task of a run decides."""

from typing import TYPE_CHECKING, assert_never

from langevin.modalities.modality import Plan, RequestContext
from langevin.modalities.text.open_text import open_text
from langevin.modalities.text.options import Correct, Sample
from langevin.modalities.text.repair.plan import repair_plan
from langevin.modalities.text.seq2seq import reply
from langevin.modalities.text.task import Classification, LanguageModel, Seq2Seq
from langevin.modalities.text.writer import writer_of

if TYPE_CHECKING:
    from langevin.modalities.text.modality import Text


def sample(text: "Text", options: Sample, context: RequestContext) -> Plan:
    """Generate, continue or infill a text; of a seq2seq run, reply to the prompt.

    Raises:
        ValueError: options that do not fit the run's task, or a prompt that cannot be encoded."""
    if (options.length is not None and options.length < 1) or (options.block is not None and options.block < 1):
        raise ValueError(f"--length and --block count tokens, at least 1, got {options.length} and {options.block}")
    match text.task:
        case Classification():
            raise ValueError("this run labels pairs of texts: langevin classify RUN FILE")
        case _:
            writer = writer_of(
                text, context, options.best_of, options.temperature, options.top_p, block=options.block,
                reverse_weight=options.reverse_weight,
            )  # fmt: skip
    match text.task:
        case Seq2Seq():
            if options.suffix is not None or options.infill is not None or options.prompt is None:
                raise ValueError("this run replies to a text: give it as --prompt (- reads standard input)")
            if options.length is not None:
                raise ValueError("the run predicts the length of its reply, so --length has no effect: leave it out")
            return reply(text, text.task, writer, options.prompt, context)
        case LanguageModel():
            return open_text(text, text.task, writer, options, context)
        case _:
            assert_never(text.task)


def correct(text: "Text", options: Correct, context: RequestContext) -> Plan:
    """A text repaired sentence by sentence, by a run on open texts."""
    if options.edit_threshold is not None and not options.edit_threshold >= 0:
        raise ValueError(f"--edit-threshold is at least 0 (nats), got {options.edit_threshold}")
    if not isinstance(text.task, LanguageModel):
        raise ValueError("this run does not correct texts: that needs one on open texts")
    return repair_plan(text, options, context)
