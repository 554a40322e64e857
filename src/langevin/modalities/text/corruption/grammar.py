"""Grammar errors of language learners: articles, prepositions, verb forms, homophones, missing commas.

All come from a table of substitutions (or deletion) and a few suffixes, without a tagger, so the result is sometimes
another correct sentence. The kinds of error are those that corpora of learners' English report most often
("The CoNLL-2014 Shared Task on Grammatical Error Correction", 2014).
"""

import re

import numpy as np

from langevin.modalities.text.words import is_word, like_case, pieces

# word: its substitutes, "-" for deletion
SWAPS = """
a: - the an, an: - the a, the: - - a, in: on at -, on: in at -, at: in on -, for: to of -, to: for at -,
of: from for -, with: by to -, by: with from, from: of since, about: on of -, into: in to, since: for from,
during: for in, between: among, among: between, is: are was -, are: is was -, am: is, was: were is, were: was are,
has: have, have: has had, had: have, does: do, do: does, did: do, doesn't: don't, don't: doesn't, this: these,
these: this, those: that, many: much, much: many, fewer: less, will: would, would: will, can: could, could: can,
he: him, she: her, me: I, him: he, them: they, people: peoples, children: childs, men: mans, who: which,
which: that who, very: much, well: good, good: well, more: much, another: other, other: others
"""
# words that are substituted for one another: they sound or look alike, or are forms of one verb
SOUND_ALIKE = """
its it's, your you're, their there they're, then than, to too two, whose who's, were where we're, affect effect,
lose loose, accept except, quite quiet, advice advise, weather whether, hear here, know no, knew new, right write,
by buy, of off, passed past, piece peace, principal principle, brake break, breath breathe, choose chose,
cloths clothes, desert dessert, led lead, life live, wear where, through threw, thing think, let's lets, heard herd,
wait weight, week weak, whole hole, see sea, for four
"""
VERBS = """
be am is are was were being been, go goes going went gone, make makes making made, take takes taking took taken,
come comes coming came, see sees seeing saw seen, know knows knowing knew known, get gets getting got,
give gives giving gave given, find finds finding found, think thinks thinking thought, tell tells telling told,
become becomes becoming became, leave leaves leaving left, feel feels feeling felt, bring brings bringing brought,
begin begins beginning began begun, keep keeps keeping kept, hold holds holding held,
write writes writing wrote written, stand stands standing stood, hear hears hearing heard, let lets letting,
mean means meaning meant, set sets setting, meet meets meeting met, run runs running ran, pay pays paying paid,
sit sits sitting sat, speak speaks speaking spoke spoken, lie lies lying lay, lead leads leading led,
read reads reading, grow grows growing grew grown, lose loses losing lost, fall falls falling fell fallen,
send sends sending sent, build builds building built, draw draws drawing drew drawn,
break breaks breaking broke broken, spend spends spending spent, rise rises rising rose risen,
drive drives driving drove driven, buy buys buying bought, wear wears wearing wore worn,
choose chooses choosing chose chosen, eat eats eating ate eaten, use uses using used, live lives living lived,
like likes liking liked, love loves loving loved, move moves moving moved, believe believes believing believed,
try tries trying tried, study studies studying studied, say says saying said, want wants wanting wanted,
need needs needing needed, seem seems seeming seemed, look looks looking looked, provide provides providing provided,
change changes changing changed, require requires requiring required, cause causes causing caused,
increase increases increasing increased, decide decides deciding decided, have has having had
"""
_PLAIN = re.compile(r"(?:(?<!a)st|[bcdfglnprw]t|[lnr]d|[lrsnc]k|[lms]p|[ceghnrst]h|[lr]n|[lr]m|wn|x|aw|ow|ay|oy)$")
_HISS = re.compile(r"(?:x|z|ss|sh|ch)$")  # stems that take es, not s
NEVER_PLURAL = frozenset(
    {"this", "his", "thus", "yes", "was", "has", "does", "always", "perhaps", "less", "us", "as", "is"}
)
RARE = 0.1
ADDED = ("the", "a", "of", "to", "in")  # words that are added anywhere


def _table() -> dict[str, tuple[str, ...]]:
    """The substitutes of each word, from all kinds of error."""
    table: dict[str, list[str]] = {}
    for entry in SWAPS.split(","):
        word, _, others = entry.partition(":")
        table.setdefault(word.strip(), []).extend("" if other == "-" else other for other in others.split())
    for group in f"{SOUND_ALIKE},{VERBS}".split(","):
        forms = group.split()
        for word in forms:
            table.setdefault(word, []).extend(form for form in forms if form != word)
    return {word: tuple(others) for word, others in table.items()}


TABLE = _table()


def grammar_noise(text: str, rate: float, generator: np.random.Generator) -> str:
    """The text with an error at each possible position with probability `rate`, in [0, 1].

    Suffix errors of words outside the table, and insertions, are possible nearly everywhere and have a tenth of the rate.
    If a capitalised word is deleted, the next is capitalised. ValueError for a rate outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"grammar_noise needs a rate in [0, 1], got {rate}")
    parts = pieces(text)
    draws = generator.random((len(parts), 3))
    for i, (piece, (u, v, w)) in enumerate(zip(parts, draws)):
        if piece == ",":
            parts[i] = "" if u < rate else piece
        elif is_word(piece):
            if w < rate * RARE and i and parts[i - 1].isspace():
                parts[i] = f"{ADDED[int(v * len(ADDED))]} {piece}"
                continue
            options, chance = _options(piece)
            if options and u < rate * chance:
                _write(parts, i, options[int(v * len(options))])
    return "".join(parts)


def _options(word: str) -> tuple[tuple[str, ...], float]:
    """(substitutes of a word, factor of the rate)."""
    lower = word.lower().replace("’", "'")
    return (TABLE[lower], 1.0) if lower in TABLE else (endings(lower), RARE)


def endings(word: str) -> tuple[str, ...]:
    """Other forms of a lower-case word by the suffixes s, ed and ing, if their spelling is regular."""
    for ending in ("ing", "ed", "s"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and _PLAIN.search(stem) and word not in NEVER_PLURAL:
            return tuple(
                stem + e for e in ("", "s", "ed", "ing") if e != ending and not (e == "s" and _HISS.search(stem))
            )
    if len(word) < 4 or not word.isalpha() or word in NEVER_PLURAL or word.endswith(("ed", "ing")):
        return ()
    if word.endswith("s"):
        return () if word.endswith(("ss", "us", "is")) or _HISS.search(word[:-2]) else (word[:-1],)
    return (word + "s",) if word[-1] in "bdegklmnprtw" else ()


def _write(parts: list[str], i: int, word: str) -> None:
    if word:
        parts[i] = like_case(word, parts[i])
        return
    capital = parts[i][:1].isupper()
    parts[i] = ""
    if i + 1 < len(parts) and parts[i + 1].isspace():
        parts[i + 1] = ""
        if capital and i + 2 < len(parts):
            parts[i + 2] = _capital(parts[i + 2])
    elif i and parts[i - 1].isspace():
        parts[i - 1] = ""


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]
