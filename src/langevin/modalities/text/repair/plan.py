"""The plan of a repair: edits of a text by a noisy channel, with a threshold that is calibrated on held-out text."""

import hashlib
import json
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.extras import require
from langevin.files import read_regular, write_atomic
from langevin.modalities.modality import Plan, Progress, Request, RequestContext, Samples
from langevin.modalities.text.corruption.confusions import Confusions, read_confusions
from langevin.modalities.text.infill import Writer
from langevin.modalities.text.input import read_text
from langevin.modalities.text.options import Correct
from langevin.modalities.text.repair.candidates import Candidates
from langevin.modalities.text.repair.channel import Channel
from langevin.modalities.text.repair.language import WordModel, sentences
from langevin.modalities.text.repair.network import weighed
from langevin.modalities.text.repair.store import FORMAT, LARGEST, words_of
from langevin.modalities.text.repair.text import Edit, applied, repair
from langevin.modalities.text.words import is_word

if TYPE_CHECKING:
    from langevin.modalities.text.modality import Text

FALSE_ALARMS = 0.005  # of the words of clean text
CALIBRATED_ON = 10_000  # words of held-out text


def repair_plan(text: "Text", options: Correct, context: RequestContext) -> Plan:
    """A text of any length, repaired sentence by sentence.

    Raises:
        ValueError: no text, lists that cannot be read, numbers out of range, or training texts that are gone."""
    require("rapidfuzz", "Correcting texts")
    if options.edit_threshold is not None and options.false_alarms is not None:
        raise ValueError("--false-alarms chooses --edit-threshold: give one of them")
    if options.diff and options.json:
        raise ValueError("--diff and --json are two forms of the same edits: give one of them")
    rate = FALSE_ALARMS if options.false_alarms is None else options.false_alarms
    if not 0 < rate < 1:
        raise ValueError(f"--false-alarms is a share of the words of clean text, between 0 and 1, got {rate:g}")
    given = read_text(options.file)
    if not given.strip():
        raise ValueError(f"{options.file} holds no text")
    confusions = listed(options.misspellings)
    return _repaired(text, options, given, confusions, rate, context)


def _repaired(
    text: "Text", options: Correct, given: str, confusions: Confusions | None, rate: float, context: RequestContext
) -> Plan:
    language = words_of(context.model.data_fingerprint, context.data, context.folder, context.say)
    tools = Tools(candidates=_candidates(language, confusions), writer=_writer(text, context))
    length = text.task.context_length
    threshold = options.edit_threshold
    if threshold is None:
        gains = yield from _calibrated(tools, confusions, length, context)
        threshold = gains.threshold(rate)
        context.say(
            f"edits that gain {threshold:.1f} nats are made: it changes {100 * rate:.2g} % of {gains.words:,} clean words"
        )
    found = yield from tools.edits(given, length, context.progress)
    edits = [edit for edit in found if edit.gain >= threshold]
    lines = list(located(given, edits))
    if options.json:
        values = [json.dumps(line | {"nats": round(edit.gain, 3)}, ensure_ascii=False) + "\n" for line, edit in lines]
    elif options.diff:
        values = list(diff(given, edits))
    else:
        for line, edit in lines:
            context.say(f"line {line['line']}: {edit}")
        values = applied(given, edits).splitlines(keepends=True)
    return Samples(modality=text, values=values, names=(given,), document=True, diff=options.diff)


def _candidates(language: WordModel, confusions: Confusions | None) -> Candidates:
    """The candidates by counts and lists, with what they found for earlier requests to the same."""
    key = language, frozenset(confusions.pairs() if confusions else ())
    if (candidates := _memory.get(key)) is None:
        channel = Channel() if confusions is None else Channel.fit(confusions)
        candidates = Candidates(language=language, channel=channel)
        _memory.clear()  # a server makes several plans at once
        _memory[key] = candidates
    return candidates


_memory: dict[tuple[WordModel, frozenset[tuple[str, str, int]]], Candidates] = {}


def _writer(text: "Text", context: RequestContext) -> Writer | None:
    """The network of the run, if it predicts words from the text on both sides."""
    model = text.tokens_of(context.model)
    if model.process.kind != "masked" or model.autoregressive or model.attention != "full":
        return None
    return Writer(codec=text.codec, model=model, sampling=context.model.sampling)


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Candidates by counts, and the network that weighs them; None where it cannot."""

    candidates: Candidates
    writer: Writer | None

    @property
    def weights(self) -> str:
        """A hash of the network's weights."""
        digest = hashlib.sha256()
        for parameter in self.writer.model.network.parameters() if self.writer else ():
            digest.update(parameter.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def edits(self, text: str, length: int, progress: Progress) -> Generator[Request, Tensor, list[Edit]]:
        """All edits of a text that gain something, by at most `length` tokens around each."""
        found = repair(text, self.candidates, threshold=0.0, progress=progress)
        if self.writer is None or not found:
            return found
        return (yield from weighed(self.writer, text, found, length))


@dataclass(frozen=True, kw_only=True)
class Gains:
    """Nats that edits of clean text gain, the largest first, and its number of words."""

    gains: tuple[float, ...]
    words: int

    def threshold(self, rate: float) -> float:
        """The least threshold at which at most a share `rate` of the words is changed."""
        allowed = math.floor(rate * self.words)
        return math.nextafter(self.gains[allowed], math.inf) if allowed < len(self.gains) else 0.0


def _calibrated(
    tools: Tools, confusions: Confusions | None, length: int, context: RequestContext
) -> Generator[Request, Tensor, Gains]:
    """The gains on held-out text; those without a list of misspellings, and with the last one, are kept."""
    facts = [confusions and sorted(confusions.pairs()), FORMAT, context.model.data_fingerprint, tools.weights]
    measured = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    file = None if context.folder is None else context.folder / f"gains{'' if confusions is None else '-listed'}.json"
    if file is not None and file.is_file():
        try:
            found = json.loads(read_regular(file, most=LARGEST))
            if found["of"] == measured:
                return Gains(gains=tuple(map(float, found["gains"])), words=int(found["words"]))
        except (OSError, ValueError, KeyError, TypeError):
            context.say(f"{file} is damaged: measured again")
    context.say(f"measuring false alarms on up to {CALIBRATED_ON:,} held-out words")
    clean, words = held_out(list(context.data()[1].strings()))
    edits = yield from tools.edits(clean, length, context.progress)
    result = Gains(gains=tuple(sorted((edit.gain for edit in edits), reverse=True)), words=words)
    if file is not None:
        try:
            file.parent.mkdir(exist_ok=True)
            write_atomic(file, json.dumps({"of": measured, "gains": result.gains, "words": words}).encode())
        except OSError as error:
            context.say(f"the threshold could not be kept ({error}): it is measured again next time")
    return result


def held_out(texts: Sequence[str]) -> tuple[str, int]:
    """(sentences from all over the texts, in paragraphs of their own; their number of words)."""
    whole = [(text[line[0].start : line[-1].end], line) for text in texts for line in sentences(text)]
    chosen, words = list[str](), 0
    for i in torch.randperm(len(whole), generator=torch.Generator().manual_seed(0)).tolist():
        chosen.append(whole[i][0])
        words += sum(is_word(token.text) for token in whole[i][1])
        if words >= CALIBRATED_ON:
            break
    return "\n\n".join(chosen), words


def listed(files: Sequence[str]) -> Confusions | None:
    """The misspellings of lists, together; None without any. Raises `ValueError` with the file that cannot be read."""
    found: Confusions | None = None
    for file in files:
        try:
            one = read_confusions(read_text(file).splitlines())
        except (ValueError, OSError) as error:
            raise ValueError(f"{file}: {error}") from error
        found = one if found is None else found.merged(one)
    return found


def located(text: str, edits: Sequence[Edit]) -> Iterator[tuple[dict[str, Any], Edit]]:
    """Each edit with its line and column, from 1."""
    line, begin, at = 1, 0, 0
    for edit in edits:
        line += text.count("\n", at, edit.start)
        begin, at = text.rfind("\n", 0, edit.start) + 1, edit.start
        place = {"line": line, "column": edit.start - begin + 1, "start": edit.start, "end": edit.end}
        yield place | {"old": edit.old, "new": edit.new, "reason": edit.reason}, edit


def diff(text: str, edits: Sequence[Edit]) -> Iterator[str]:
    """The lines of a text that are changed, before (-) and after (+), with the reason of each edit and its nats."""
    i, line, counted = 0, 1, 0
    while i < len(edits):
        begin, here = text.rfind("\n", 0, edits[i].start) + 1, i
        line, counted = line + text.count("\n", counted, begin), begin
        end = edits[i].end
        while i < len(edits) and edits[i].start <= (end := _line_end(text, end)):
            end, i = max(end, edits[i].end), i + 1
        moved = [replace(edit, start=edit.start - begin, end=edit.end - begin) for edit in edits[here:i]]
        yield f"@@ line {line}\n"
        yield "".join(f"-{one}\n" for one in text[begin:end].split("\n"))
        yield "".join(f"+{one}\n" for one in applied(text[begin:end], moved).split("\n"))
        for edit in edits[here:i]:
            yield f"  {edit}: {edit.reason}, {edit.gain:.1f} nats\n"


def _line_end(text: str, at: int) -> int:
    found = text.find("\n", at)
    return len(text) if found < 0 else found
