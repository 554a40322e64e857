"""Plans of targets and labels: reply to a text, summarise and classify the texts of a file."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from langevin.modalities.modality import Plan, RequestContext, Samples, seeds_of
from langevin.modalities.text.baselines.summary import sentences
from langevin.modalities.text.batches import two_texts
from langevin.modalities.text.infill import Writer
from langevin.modalities.text.input import as_dialogue, read_prompt, read_records
from langevin.modalities.text.options import Classify, Summarise
from langevin.modalities.text.ranking import ranker_of
from langevin.modalities.text.target import common_tokens, costs_of, generate_targets, label_shares
from langevin.modalities.text.task import Classification, Seq2Seq
from langevin.modalities.text.writer import writer_of

if TYPE_CHECKING:
    from langevin.modalities.text.modality import Text


def reply(text: "Text", task: Seq2Seq, writer: Writer, prompt: str, context: RequestContext) -> Plan:
    """Replies to a text; of a run on dialogues, to its last turns."""
    count = 4 if context.count is None else context.count
    prompt = read_prompt(prompt)
    if text.speakers != ():
        prompt = as_dialogue(prompt, text.speakers or (), last=task.turns)
    source = cut_to(text, prompt, task.context_length - task.max_target_length - 2, context, keep_end=True)
    outputs = yield from generate_targets(
        writer,
        task,
        [source] * count,
        seeds=seeds_of(context.seed, count),
        batch=context.batch,
        progress=context.progress,
    )
    return Samples(modality=text, values=outputs, names=(prompt,) * count)


def summarise(text: "Text", options: Summarise, context: RequestContext) -> Plan:
    """A summary of each text of a file, one per line; of JSON lines, of their text field.

    Raises:
        ValueError: a run of another task, options that do not fit, or training texts that are gone."""
    if not isinstance(text.task, Seq2Seq):
        raise ValueError("this run does not summarise: that needs data.task.kind seq2seq")
    given = (options.best_of, options.temperature, options.reverse_weight)
    sampled = bool(context.chosen) or options.copying or any(value is not None for value in given)
    if options.by == "choosing" and sampled:
        raise ValueError("--by choosing samples nothing: leave the options of sampling out, or take --by writing")
    if options.by == "choosing" or (not sampled and options.by is None):
        return _chosen(text, read_records(options.file, ("text",)), context)
    likeliest = options.by == "likelihood"
    best_of = max(2, options.best_of or 0) if likeliest else options.best_of
    writer = writer_of(text, context, best_of, options.temperature, None, reverse_weight=options.reverse_weight)
    if options.copying:
        writer = replace(writer, listed=common_tokens(text.examples(context.data()[0]), writer.words.tokens))
    records = read_records(options.file, ("text",))
    if likeliest:
        return _likeliest(text, text.task, replace(writer, best_of=options.best_of or 1), records, context)
    return _summaries(text, text.task, writer, records, context)


def _chosen(text: "Text", records: Sequence[dict[str, str] | None], context: RequestContext) -> Plan:
    yield from ()  # the network is not asked
    ranker = ranker_of(context.model.data_fingerprint, lambda: context.data()[0])
    context.say("a sentence of each text is chosen; --by writing writes with the network")
    outputs = [ranker.choose(record["text"]) for record in records if record is not None]
    return Samples(modality=text, values=_lines(records, outputs), document=True)


def _summaries(
    text: "Text", task: Seq2Seq, writer: Writer, records: Sequence[dict[str, str] | None], context: RequestContext
) -> Plan:
    texts = [record["text"] for record in records if record is not None]
    room = task.context_length - task.max_target_length - 2
    sources = [cut_to(text, one, room, context, keep_end=False) for one in texts]
    outputs = yield from generate_targets(
        writer, task, sources, seeds=seeds_of(context.seed, len(sources)), batch=min(context.batch, 64),
        progress=context.progress,
    )  # fmt: skip
    return Samples(modality=text, values=_lines(records, outputs), document=True)


def _likeliest(
    text: "Text", task: Seq2Seq, writer: Writer, records: Sequence[dict[str, str] | None], context: RequestContext
) -> Plan:
    """Of each text's own sentences and as many written summaries as `best_of`, the one with the least `costs`."""
    texts = [record["text"] for record in records if record is not None]
    room, outputs = task.context_length - task.max_target_length - 2, list[str]()
    drawing, count = replace(writer, best_of=1), writer.best_of
    for i, one in enumerate(texts):
        source = cut_to(text, one, room, context, keep_end=False)
        seeds = seeds_of(context.seed + i * count, count)
        written = yield from generate_targets(
            drawing, task, [source] * count, seeds=seeds, batch=min(context.batch, 64)
        )
        coded = {c: text.codec.encode(c) for c in dict.fromkeys((*sentences(one), *written))}
        fitting = {c: ids for c, ids in coded.items() if 1 <= len(ids) <= task.max_target_length}
        if fitting:
            nats = yield from costs_of(writer, task, source, list(fitting.values()))
            outputs.append(list(fitting)[int(nats.argmin())])
        else:
            outputs.append(written[0])
        context.progress(i + 1, len(texts))
    return Samples(modality=text, values=_lines(records, outputs), document=True)


def classify(text: "Text", options: Classify, context: RequestContext) -> Plan:
    """The label of each pair of texts, with its probability: tab-separated, label first."""
    if not isinstance(text.task, Classification):
        raise ValueError("this run does not classify: that needs data.task.kind classification")
    writer = Writer(codec=text.codec, model=text.tokens_of(context.model), sampling=context.model.sampling)
    records = read_records(options.file, ("premise", "hypothesis"))
    pairs = [(record["premise"], record["hypothesis"]) for record in records if record is not None]
    sources, remarks = two_texts(pairs, text.task, text.codec)
    for line in remarks:
        context.say(line)
    return _labels(text, writer, records, sources, context)


def _labels(
    text: "Text",
    writer: Writer,
    records: Sequence[dict[str, str] | None],
    sources: Sequence[Tensor],
    context: RequestContext,
) -> Plan:
    probabilities = yield from label_shares(writer, sources, len(text.classes), context.progress)
    best = probabilities.argmax(-1).tolist()
    lines = [f"{text.classes[label]}\t{float(p[label]):.3f}" for label, p in zip(best, probabilities, strict=True)]
    return Samples(modality=text, values=_lines(records, lines), arrays={"shares": probabilities}, document=True)


def cut_to(text: "Text", given: str, room: int, context: RequestContext, *, keep_end: bool) -> Tensor:
    """At most `room` token ids of a text. Reports characters that the codec does not know, and what is cut."""
    for complaint in text.codec.complaints(given):
        context.say(complaint)
    ids = text.codec.encode(given)
    if len(ids) <= room:
        return ids
    context.say(f"cut: the text has {len(ids)} tokens and the run reads {room}, so {len(ids) - room} are left out")
    return ids[-room:] if keep_end else ids[:room]


def _lines(records: Sequence[dict[str, str] | None], outputs: Sequence[str]) -> list[str]:
    """One line for each record, in order; blank for a blank record."""
    remaining = iter(outputs)
    return ["\n" if record is None else " ".join(next(remaining).splitlines()) + "\n" for record in records]
