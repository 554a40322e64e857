"""Options of text runs. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from langevin.modalities.inputs import InputFile

Turns = Sequence[tuple[str, str]]  # (user or assistant, text)
SPEAKERS = {"user": "user", "assistant": "system"}  # as a prompt names them, whatever the names in the data
RECOGNISED = "text: a text file, .jsonl records, a .parquet file with columns of text, or a folder of these"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is given, and how tokens are sampled."""

    prompt: str | None = None
    """The beginning of the text, or the message to reply to; - reads standard input."""
    suffix: str | None = None
    """The end of the text."""
    infill: str | None = None
    """A text with gaps: [[12]] is a gap of twelve tokens, [[]] one of any length."""
    length: int | None = None
    """Number of tokens to generate; default: as many as the context has room for."""
    temperature: float | None = None
    """Softmax temperature: below 1 sharpens the predictions, 0 takes the likeliest token."""
    top_p: float | None = None
    """Nucleus sampling: draw from the likeliest tokens that together have this probability."""
    best_of: int | None = None
    """Number of samples drawn for each text, of which the likeliest under the run is kept. For replies: in free text the
    likeliest sample repeats itself."""
    reverse_weight: float | None = None
    """Weight of ln p(source | reply) beside ln p(reply | source) in the choice of the best, for a run with
    data.task.joint_fraction above 0; default the recipe's, where 0 is none."""
    block: int | None = None
    """Number of positions generated at a time, from left to right."""
    rule: str | None = None
    """A regular expression that the whole text matches, what is given included; . is any character."""
    contain: tuple[str, ...] = ()
    """Words, or any other strings, that the text contains, also within longer words."""
    without: tuple[str, ...] = ()
    """Words, or any other strings, that the text does not contain, not within longer words either."""
    at_least: tuple[str, ...] = ()
    """WORD:COUNT, words that the text contains so often or more."""
    at_most: tuple[str, ...] = ()
    """WORD:COUNT, words that the text contains so often or less."""
    facts: InputFile | None = None
    """A file of facts, "subject TAB relation TAB object" a line: a text with subject and relation names the object."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Fill the gaps of a text, or draw some of its words anew, under rules if some are given."""

    input: InputFile
    """A file with a text, whose gaps are [[12]] of twelve tokens, or [[]] of any length; or a folder of texts."""
    strength: float | None = None
    """Draw this share of the tokens anew, in (0, 1], in place of gaps."""
    temperature: float | None = None
    """Softmax temperature: below 1 sharpens the predictions, 0 takes the likeliest token."""
    top_p: float | None = None
    """Nucleus sampling: draw from the likeliest tokens that together have this probability."""
    best_of: int | None = None
    """Number of samples drawn for each answer, of which the likeliest under the run is kept."""
    rule: str | None = None
    """A regular expression that the whole text matches, what is given included; . is any character."""
    contain: tuple[str, ...] = ()
    """Words, or any other strings, that the text contains, also within longer words."""
    without: tuple[str, ...] = ()
    """Words, or any other strings, that the text does not contain, not within longer words either."""
    at_least: tuple[str, ...] = ()
    """WORD:COUNT, words that the text contains so often or more."""
    at_most: tuple[str, ...] = ()
    """WORD:COUNT, words that the text contains so often or less."""
    facts: InputFile | None = None
    """A file of facts, "subject TAB relation TAB object" a line: a text with subject and relation names the object."""


@dataclass(frozen=True, kw_only=True)
class Explain:
    """Write one continuation of a prompt, and tell which given word changed which written one."""

    prompt: str = ""
    """The beginning of the text; - reads standard input."""
    length: int | None = None
    """Number of tokens to write; default: as many as the context has room for."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """What the run is compared with."""

    baseline: Path | None = None
    """An autoregressive run to compare with; default: the run's own directory name followed by -causal."""

    UNUSED: ClassVar[dict[str, str]] = {"seeds": "texts are measured on one set of samples"}


@dataclass(frozen=True, kw_only=True)
class Summarise:
    """Summarise texts with a run that was trained on texts and summaries."""

    file: InputFile
    """A text per line, or JSON lines with a field text; - reads standard input."""
    by: Literal["choosing", "writing", "likelihood"] | None = None
    """Choose a sentence of the text, as the training summaries tell; write with the network; or take the likeliest under
    the run of the text's sentences and --best-of written ones. Default choosing, unless an option of sampling is given."""
    temperature: float | None = None
    """Softmax temperature: below 1 sharpens the predictions."""
    best_of: int | None = None
    """Number of samples drawn for each text, of which the likeliest under the run is kept."""
    reverse_weight: float | None = None
    """Weight of ln p(source | summary) beside ln p(summary | source) in the choice of the best, for a run with
    data.task.joint_fraction above 0; default the recipe's, where 0 is none."""
    copying: bool = False
    """Write with tokens of the text, and the commonest of the training summaries, alone."""


@dataclass(frozen=True, kw_only=True)
class Correct:
    """Correct a text by a run on open texts and a noisy channel."""

    file: InputFile
    """A text; - reads standard input."""
    edit_threshold: float | None = None
    """Nats by which an edit must be likelier than what was typed; default by --false-alarms."""
    false_alarms: float | None = None
    """Share of the words of clean text that may be changed, by which the threshold is chosen on held-out text; default
    0.005."""
    misspellings: tuple[InputFile, ...] = ()
    """Files of known misspellings, "word: error, error*3" or "wrong->right", of which the channel learns."""
    diff: bool = False
    """Show the lines that change, before and after, and the reason and gain of each edit."""
    json: bool = False
    """Show each edit as a line of JSON."""

    UNUSED: ClassVar[dict[str, str]] = {
        "guidance": "a correction is not guided", "seed": "equal texts get equal corrections"
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Classify pairs of texts with a run that was trained on labelled pairs."""

    file: InputFile
    """Premise and hypothesis separated by a tab, one pair per line, or JSON lines with these fields; - reads
    standard input."""

    UNUSED: ClassVar[dict[str, str]] = dict.fromkeys(
        ("steps", "sampler", "guidance", "seed"), "a label is one prediction, and not sampled"
    )


@dataclass(frozen=True, kw_only=True)
class Chat:
    """How replies are drawn."""

    temperature: float | None = None
    """Softmax temperature: below 1 sharpens the predictions, 0 takes the likeliest token."""
    top_p: float | None = None
    """Nucleus sampling: draw from the likeliest tokens that together have this probability."""
    best_of: int | None = None
    """Number of replies drawn to each message, of which the likeliest under the run is kept."""
    reverse_weight: float | None = None
    """Weight of ln p(source | reply) beside ln p(reply | source) in the choice of the best, for a run with
    data.task.joint_fraction above 0; default the recipe's, where 0 is none."""

    def request(self, turns: Turns) -> Sample:
        """The options of a request for the next turn. Raises `ValueError` if nothing was said."""
        return chat(
            turns=turns, max_tokens=None, temperature=self.temperature, top_p=self.top_p, best_of=self.best_of,
            reverse_weight=self.reverse_weight,
        )  # fmt: skip


VERBS = (Correct, Summarise)


def completions(
    *, prompt: str, suffix: str | None, max_tokens: int | None, temperature: float | None, top_p: float | None,
    best_of: int | None,
) -> Sample:  # fmt: skip
    """Options of /v1/completions; with a suffix, the gap before it is filled."""
    return Sample(
        prompt=prompt or None, suffix=suffix or None, length=max_tokens, temperature=temperature, top_p=top_p,
        best_of=best_of,
    )  # fmt: skip


def chat(
    *, turns: Turns, max_tokens: int | None = None, temperature: float | None = None, top_p: float | None = None,
    best_of: int | None = None, reverse_weight: float | None = None,
) -> Sample:  # fmt: skip
    """Options of /v1/chat/completions and of `langevin chat`: the reply to turns.

    Raises:
        ValueError: nobody said anything."""
    said = [f"{SPEAKERS[role]}: {text}" for role, one in turns if (text := " ".join(one.split()))]
    if not said:
        raise ValueError("nothing was said that could be replied to: write a message")
    prompt = "\n".join([*said, f"{SPEAKERS['assistant']}:"])
    return Sample(
        prompt=prompt, length=max_tokens, temperature=temperature, top_p=top_p, best_of=best_of,
        reverse_weight=reverse_weight,
    )  # fmt: skip


ENDPOINTS = {"completions": completions, "chat/completions": chat}
