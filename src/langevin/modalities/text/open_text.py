"""Plans of open texts: generate, continue and infill one, draw some of its words anew, under rules."""

from codecs import getincrementaldecoder
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.modality import Plan, RequestContext, Samples, seeds_of
from langevin.modalities.text.compile_rules import compiled
from langevin.modalities.text.gaps import Gapped, parse
from langevin.modalities.text.infill import OnBlock, Writer
from langevin.modalities.text.input import read_prompt, read_text
from langevin.modalities.text.options import Edit, Sample
from langevin.modalities.text.rules import Rule, obeys, rules_of
from langevin.modalities.text.task import LanguageModel
from langevin.modalities.text.writer import writer_of

if TYPE_CHECKING:
    from langevin.modalities.text.modality import Text

TRIES = 20  # to choose the tokens that are drawn anew so that rules can be obeyed
MOST_MESSAGES = 2**22  # of an automaton's states along a text
RULED = ("unmask", "confidence", "remdm")  # samplers that reveal parts of a draw of all positions


def edit(text: "Text", options: Edit, context: RequestContext) -> Plan:
    """Fill the gaps of a text, or draw a share of its tokens anew.

    Raises:
        ValueError: a run of another task, nothing to edit, or what `sample` raises."""
    if not isinstance(text.task, LanguageModel):
        raise ValueError("only a run on open texts fills gaps: this one was trained for another task")
    writer = writer_of(text, context, options.best_of, options.temperature, options.top_p)
    given = read_text(options.input)
    gapped = parse(given)
    if unknown := [line for part in gapped.texts for line in text.codec.complaints(part)]:
        raise ValueError(f"the text would not stay as it is: {unknown[0]}")
    if gapped.gaps and options.strength is not None:
        raise ValueError("the text has gaps, and --strength draws words anew all over it: give one of them")
    if options.strength is None:
        if not gapped.gaps:
            raise ValueError("nothing to edit: the text has no gap like [[12]] or [[]]; or give --strength")
        sample = Sample(
            infill=given, rule=options.rule, contain=options.contain, without=options.without, at_least=options.at_least,
            at_most=options.at_most, facts=options.facts,
        )  # fmt: skip
        return open_text(text, text.task, writer, sample, context, read=False)
    if not 0 < options.strength <= 1:
        raise ValueError(f"--strength is a share of the tokens, above 0 and at most 1, got {options.strength:g}")
    return _redrawn(text, text.task, writer, given, options, context)


def _redrawn(
    text: "Text", task: LanguageModel, writer: Writer, given: str, options: Edit, context: RequestContext
) -> Plan:
    """Plan: a text with a share of its tokens masked, others for each answer."""
    tokens = text.codec.encode(given).long()
    if not len(tokens):
        raise ValueError("nothing to edit: the text is empty")
    if len(tokens) > task.context_length:
        raise ValueError(
            f"the text has {len(tokens):,} tokens, more than the run's context of {task.context_length:,}: edit it in parts"
        )
    count = 4 if context.count is None else context.count
    seeds = seeds_of(context.seed, count)
    assert options.strength is not None
    if writer.model.autoregressive or writer.model.attention == "block":
        raise ValueError(
            "--strength draws words between others, which this run does not see: it writes from left to right"
        )
    free, rules = max(1, round(options.strength * len(tokens))), _rules(options)
    empty = torch.full((1, len(tokens)), writer.words.mask)
    writer = _ruled(text, writer, rules, empty, context)
    noise = SampleNoise(seeds=seeds, steps=torch.full_like(seeds, -2))
    x = torch.stack([_masked(writer, tokens, free, noise, i) for i in range(count)])
    return _written(text, writer, x, seeds, rules, context)


def _masked(writer: Writer, tokens: Tensor, free: int, noise: SampleNoise, i: int) -> Tensor:
    """The tokens (n,) of which `free` are masked, so that the rules can be obeyed.

    Raises:
        ValueError: the rules need others, in as many tries as are made."""
    own = SampleNoise(seeds=noise.seeds[i : i + 1], steps=noise.steps[i : i + 1])
    for k in range(TRIES):
        u = (own if k == 0 else own.fork(k)).uniform(torch.empty(1, len(tokens)))[0]
        x = torch.where(u.argsort().argsort() < free, writer.words.mask, tokens)
        try:
            if writer.rule is not None:
                writer.rule.require_possible(x, writer.words.mask)
        except ValueError:
            continue
        return x
    raise ValueError(
        f"{free} of the text's {len(tokens)} tokens, drawn {TRIES} times, leave no text that obeys the rules: give a "
        "larger --strength, or gaps where it has to change"
    )


def _rules(options: Sample | Edit) -> tuple[Rule, ...]:
    return rules_of(
        rule=options.rule, contain=options.contain, without=options.without, at_least=options.at_least,
        at_most=options.at_most, facts=options.facts,
    )  # fmt: skip


def _ruled(text: "Text", writer: Writer, rules: tuple[Rule, ...], x: Tensor, context: RequestContext) -> Writer:
    """The writer with the rules, checked against each text of x (b, n).

    Raises:
        ValueError: a run or a sampler that rules are not for, or that no text obeys."""
    if not rules:
        return writer
    model, sampler = writer.model, writer.sampling.sampler
    if model.process.kind != "masked" or model.autoregressive or model.attention != "full":
        raise ValueError("rules need a run with process.kind masked and network.attention full")
    if writer.block is not None:
        raise ValueError("rules are for whole texts: leave --block out")
    if sampler.kind not in RULED:
        raise ValueError(f"rules are obeyed by the samplers {', '.join(RULED)}, and this is {sampler.kind}")
    automaton = compiled(rules, text.codec, writer.words.tokens)
    if (size := x.shape[1] * len(automaton.accepting)) > MOST_MESSAGES:
        raise ValueError(
            f"the rules have {len(automaton.accepting):,} states for each of {x.shape[1]:,} tokens, {size:,} in all, and "
            f"{MOST_MESSAGES:,} are allowed: shorten the text or the rules"
        )
    for one in x:
        try:
            automaton.require_possible(one, writer.words.mask)
        except ValueError as error:
            raise ValueError(f"{error}{why_impossible(text, writer, rules, one)}") from error
    return replace(writer, rule=automaton)


def why_impossible(text: "Text", writer: Writer, rules: tuple[Rule, ...], given: Tensor) -> str:
    """Which rule by itself no text obeys with the tokens (n,) that are given, and what may be overlooked."""
    mask, hint = writer.words.mask, ""
    for rule in rules:
        try:
            compiled((rule,), text.codec, writer.words.tokens).require_possible(given, mask)
        except ValueError:
            hint = f" ({rule.name} by itself)"
            break
    if int(given[-1]) != mask and text.codec.written(given[-1:]).endswith(b"\n"):
        hint += "; the text ends with a line break, which belongs to it"
    return hint


def open_text(
    text: "Text", task: LanguageModel, writer: Writer, options: Sample, context: RequestContext, *, read: bool = True
) -> Plan:
    """Plan: texts of a language model, unconditional, after a prompt, before a suffix, or in gaps.

    Args:
        read: whether texts that are - are read from standard input."""
    codec, model = text.codec, writer.model
    count = 4 if context.count is None else context.count
    gapped = _gapped(options) if read else parse(options.infill or "")
    for part in gapped.texts:
        for complaint in codec.complaints(part):
            context.say(f"prompt: {complaint}")
    given = sum(map(len, gapped.coded(codec)))
    if context.guided and not given:
        raise ValueError(
            "--guidance compares with the prompt masked, and there is none: give --prompt, or leave it out"
        )
    if options.infill is None:
        gapped = replace(gapped, gaps=(options.length or max(task.context_length - given, 1),))
    fixed = sum(n or 1 for n in gapped.gaps)
    if given + fixed > task.context_length:
        raise ValueError(
            f"the text has {given} tokens and {fixed} are to be generated, more than the run's context of "
            f"{task.context_length}: shorten one"
        )
    if None in gapped.gaps and model.attention == "block":
        raise ValueError(
            "a run with network.attention=block does not see what follows a gap: give its length, as [[12]]"
        )
    if model.autoregressive and (len(gapped.gaps) > 1 or gapped.texts[-1]):
        raise ValueError("an autoregressive run continues a --prompt only: it does not see what follows a gap")
    rules = _rules(options)
    if rules and None not in gapped.gaps:  # before any work
        x = gapped.tokens(codec, writer.words.mask, tuple(n or 1 for n in gapped.gaps))[None]
        _ruled(text, writer, rules, x, context)
    return _filled(text, writer, gapped, task.context_length - given, count, context, rules)


def _gapped(options: Sample) -> Gapped:
    if options.infill is None:
        prompt, suffix = (read_prompt(part) if part is not None else "" for part in (options.prompt, options.suffix))
        return Gapped(texts=(prompt, suffix), gaps=(options.length,))
    if options.prompt is not None or options.suffix is not None:
        raise ValueError("--infill holds the whole text with its gaps: leave --prompt and --suffix out")
    if options.length is not None:
        raise ValueError("--infill holds the lengths of its gaps, as [[12]]: leave --length out")
    gapped = parse(read_prompt(options.infill))
    if not gapped.gaps:
        raise ValueError("--infill needs a gap in its text, as 'To be, [[12]] the question' or [[]] for any length")
    return gapped


def _filled(
    text: "Text",
    writer: Writer,
    gapped: Gapped,
    room: int,
    count: int,
    context: RequestContext,
    rules: tuple[Rule, ...],
) -> Plan:
    lengths = yield from writer.lengths(gapped, room)
    if rules and len(lengths) == 1 and gapped.gaps == (None,):
        lengths = (possible_length(text, writer, gapped, lengths[0], room, rules),)
    x = gapped.tokens(text.codec, writer.words.mask, lengths)[None]
    writer = _ruled(text, writer, rules, x, context)
    return (yield from _written(text, writer, x.expand(count, -1), seeds_of(context.seed, count), rules, context))


def possible_length(
    text: "Text", writer: Writer, gapped: Gapped, wanted: int, room: int, rules: tuple[Rule, ...]
) -> int:
    """The length of the only gap that is nearest to the wanted one, with which the rules can be obeyed; else that."""
    automaton = compiled(rules, text.codec, writer.words.tokens)
    for n in sorted(range(1, room + 1), key=lambda n: abs(n - wanted)):
        try:
            automaton.require_possible(gapped.tokens(text.codec, writer.words.mask, (n,)), writer.words.mask)
        except ValueError:
            continue
        return n
    return wanted


def _written(
    text: "Text", writer: Writer, x: Tensor, seeds: Tensor, rules: tuple[Rule, ...], context: RequestContext
) -> Plan:
    words, count, texts = writer.words, len(x), list[str]()
    streams = context.stream is not None and count == 1 and writer.model.attention == "block"
    on_block, close = (
        _streaming(text, words.codec, context.stream) if streams and context.stream else (None, lambda: None)
    )
    for indices in torch.arange(count).split(context.batch):
        part = yield from writer.write(x[indices], seeds[indices], on_block=on_block)
        texts += text.decode(part)
    close()
    if rules:
        obeying = sum(all(obeys(rule, one) for rule in rules) for one in texts)
        context.say(f"{obeying} of {count} texts obey ({100 * obeying / count:.0f} %)")
    return Samples(modality=text, values=texts, arrays={"seed": seeds})


def _streaming(text: "Text", first: int, stream: Callable[[str], None]) -> tuple[OnBlock, Callable[[], None]]:
    """(a callback that prints the characters of finished blocks, a function that ends the line)."""
    shown, characters = 0, getincrementaldecoder("utf-8")("replace")

    def on_block(x: Tensor, positions: int) -> None:
        nonlocal shown
        tokens = x[0, shown:positions]
        stream(characters.decode(text.codec.written(tokens[tokens < first])))
        shown = positions

    return on_block, lambda: stream(characters.decode(b"", final=True) + "\n")


def free_texts(text: "Text", task: LanguageModel, context: RequestContext, count: int) -> Plan:
    """Unconditional texts of a whole context."""
    writer = writer_of(text, context, None, None, None)
    x = torch.full((count, task.context_length), writer.words.mask)
    seeds, texts, progress = seeds_of(context.seed, count), list[str](), context.progress
    for indices in torch.arange(count).split(context.batch):
        part = yield from writer.write(x[indices], seeds[indices])
        texts += text.decode(part)
        progress(len(texts), count)
    return Samples(modality=text, values=texts, arrays={"seed": seeds})
