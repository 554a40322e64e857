"""English text as words and pauses: what a reader would say for numbers, abbreviations, addresses and signs.

A word is in small letters, perhaps with apostrophes; the name of a letter is written as in the dictionary, "b.". A pause
is one of `PAUSES`; of several in a row the strongest is kept. The text is read once from left to right: at each position
the first rule of `_RULES` that matches says what is read.
"""

import re
from collections.abc import Callable, Iterator

from langevin.modalities.speech.text import numbers
from langevin.modalities.speech.text.abbreviations import (
    ABBREVIATIONS,
    CHAPTERS,
    LEADING,
    NUMBERED,
    REIGNS,
    SIGNS,
    SINGULAR,
    TITLES,
    UNITS,
)
from langevin.modalities.speech.text.plain import plain

BARE = {name: TITLES[name] for name in ("mr", "mrs", "ms", "jr", "sr")} | {"dr": "doctor", "vs": "versus"}
PAUSES = (",", ".", "?", "!")  # rising in strength
LONGEST_WORD = 64  # letters
Read = Callable[[re.Match[str]], list[str]]


def normalise(text: str) -> tuple[str, ...]:
    """The words and pauses of an English text, beginning with a word.

    Raises:
        ValueError: the text has no word, more than 10,000 characters, a word of more than 64 letters, letters of another
            script, or is not Unicode; the message says what to do."""
    found: list[str] = []
    for token in _tokens(plain(text)):
        if token not in PAUSES:
            found.append(token)
        elif found and found[-1] in PAUSES:
            found[-1] = max(found[-1], token, key=PAUSES.index)
        elif found:
            found.append(token)
    if not found:
        raise ValueError(f"there is nothing to say in {_shown(text)}: give a text with a word or a number")
    return tuple(found)


def letter_names(letters: str) -> list[str]:
    """Letters as the words for their names: "b." is bee."""
    return [letter + "." for letter in letters.lower() if letter.isalpha()]


def _shown(text: str) -> str:
    return "an empty text" if not text.strip() else repr(text[:40]) + ("..." if len(text) > 40 else "")


def _tokens(text: str) -> Iterator[str]:
    for match in _TOKEN.finditer(text):
        for token in _RULES[str(match.lastgroup)][1](match):
            if len(token) > LONGEST_WORD:
                raise ValueError(
                    f"{_shown(token)} has {len(token):,} letters, no word has over {LONGEST_WORD}: split it"
                )
            yield token


# ---------------------------------------------------------------------------------------------------------- the rules

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?"
_SCALE = r"hundred|thousand|million|billion|trillion"
_CURRENCY = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent"), "¥": ("yen", "sen")}
_PLURAL = {"penny": "pence", "yen": "yen", "sen": "sen"}
_DOMAINS = "com|org|net|edu|gov|info|io|co|uk|de|fr|eu|us|ca|au|tv|me|dev|ai"


def _rest(match: re.Match[str]) -> str:
    return match.string[match.end() : match.end() + 20]


def _address(match: re.Match[str]) -> list[str]:
    """An e-mail address or a URL: its words, and its signs by name."""
    written = re.sub(r"^[a-z]+://", "", match[0], flags=re.I)
    trimmed = written.rstrip(".,;:!?)'/")
    pause = [c for c in written[len(trimmed) :] if c in PAUSES]
    return [word for part in re.findall(r"[A-Za-z]+|\d+|.", trimmed) for word in _address_part(part)] + pause


def _address_part(part: str) -> list[str]:
    if part.isdigit():
        return numbers.whole(part)
    if part.isalpha():
        return letter_names(part) if part.lower() == "www" or len(part) == 1 else [part.lower()]
    return {".": ["dot"], "-": ["dash"], "_": ["underscore"], "/": ["slash"], "?": ["question", "mark"]}.get(
        part, SIGNS.get(part, "").split()
    )


def _time(match: re.Match[str]) -> list[str]:
    """A time of day: ten thirty, ten oh five, ten o'clock, and seconds after a pause."""
    hour, minute, *second = (int(part) for part in match[0].split(":"))
    words = numbers.cardinal(hour)
    if minute or second:
        words += (["oh"] if minute < 10 else []) + numbers.cardinal(minute)
    elif not re.match(r"\s?[ap]\.?m\b", _rest(match), re.I):
        words += ["o'clock"] if 1 <= hour <= 12 else ["hundred"]
    return words + [word for s in second for word in (",", *numbers.cardinal(s), "second" if s == 1 else "seconds")]


def _money(match: re.Match[str]) -> list[str]:
    """An amount: five dollars and fifty cents; one point five million dollars."""
    sign, amount, scale = re.findall(rf"(\D)\s?([\d.,]+)\s?({_SCALE})?", match[0], re.I)[0]
    unit, part = _CURRENCY[sign]
    if scale:
        return [*numbers.decimal(amount), scale.lower(), _many(unit)]
    head, _, cents = amount.partition(".")
    if len(cents) not in (0, 2):
        return [*numbers.decimal(amount), _many(unit)]
    words = [*numbers.whole(head), unit if head == "1" else _many(unit)]
    if int(cents or 0) == 0:
        return words
    change = [*numbers.cardinal(int(cents)), part if int(cents) == 1 else _many(part)]
    return change if head == "0" else [*words, "and", *change]


def _many(unit: str) -> str:
    return _PLURAL.get(unit, unit + "s")


def _telephone(match: re.Match[str]) -> list[str]:
    """A telephone number: its digits, a pause between the groups."""
    first, *others = re.findall(r"\d+", match[0])
    return numbers.digits(first) + [word for group in others for word in (",", *numbers.digits(group))]


def _fraction(match: re.Match[str]) -> list[str]:
    """A fraction below one in words, after a whole number with "and"; other slashes by name."""
    whole, n, of = re.findall(r"(?:(\d+) )?(\d+)/(\d+)", match[0])[0]
    if not 0 < int(n) < int(of) <= 100:
        return [*(numbers.whole(whole) if whole else []), *numbers.whole(n), "slash", *numbers.whole(of)]
    part = numbers.fraction(int(n), int(of))
    return [*numbers.whole(whole), "and", *part] if whole else part


def _ordinal(match: re.Match[str]) -> list[str]:
    return numbers.ordinal(int(re.sub(r"\D", "", match[0])))


def _decade(match: re.Match[str]) -> list[str]:
    """Nineteen nineties, eighties, two thousands."""
    return numbers.plural(_figure(re.sub(r"\D", "", match[0])))


def _figure(written: str) -> list[str]:
    """A number as it is written; four digits from 1100 to 2099 as a year."""
    if len(written) == 4 and written.isdigit() and 1100 <= int(written) < 2100:
        return numbers.year(int(written))
    return numbers.decimal(written)


def _number(match: re.Match[str]) -> list[str]:
    """A number with its sign, the rest of a range, and the unit."""
    first, last, unit = str(match["first"]), match["last"], match["unit"]
    words = ["minus"] * bool(match["sign"]) + _figure(first) + (["to", *_figure(last)] if last else [])
    if unit is None:
        return words
    name = UNITS[unit]
    return words + (SINGULAR.get(name, name) if (last or first) == "1" else name).split()


def _initials(match: re.Match[str]) -> list[str]:
    """U.S.A.: the names of the letters, with the full stop at the end of the text."""
    return letter_names(match[0]) + ([] if _rest(match).strip() else ["."])


def _abbreviation(match: re.Match[str]) -> list[str]:
    """An abbreviation, whose full stop ends a sentence before a capital and at the end, but after no title."""
    short, rest = match[0][:-1].lower(), _rest(match)
    named = bool(re.match(r"\s+[A-Z]", rest))
    if short in ("st", "dr"):
        before = re.search(r"[A-Z][a-z]+\s+$", match.string[max(match.start() - 30, 0) : match.start()])
        way = before is not None and not (named and short == "dr")
        words = (
            ["street" if short == "st" else "drive"] if way or not named else ["saint" if short == "st" else "doctor"]
        )
        return words + (["."] if not rest.strip() else [])
    if short in NUMBERED:
        return [NUMBERED[short]] if re.match(r"\s*\d", rest) else [short, "."]
    if short in TITLES:
        return TITLES[short].split() if named or short in BARE else [short, "."]
    return ABBREVIATIONS[short].split() + (["."] if not rest.strip() or named else [])


def _word(match: re.Match[str]) -> list[str]:
    """A word, a Roman numeral, or the name of a letter."""
    word, before = match[0], match.string[: match.start()].rstrip()
    if numeral := _numeral(word, before, _rest(match)):
        return numeral
    if (len(word) == 1 and word not in "aAI") or (word == "A" and re.search(r"[a-z]$", before)):
        return letter_names(word)
    return _apostrophes(word.lower())


def _numeral(word: str, before: str, rest: str) -> list[str]:
    """A Roman numeral after a king or a chapter, as a heading, or where it can be no word; else nothing."""
    value = numbers.roman(word) if len(word) < 8 else None
    if value is None or value >= 90:
        return []
    named = re.search(r"[A-Za-z]+$", before[-20:])
    previous = named[0].lower() if named else ""
    if previous in REIGNS and value < 40 and (word != "I" or re.match(r"\s*(?:[.,;!?)]|of\b|$)", rest)):
        return ["the", *numbers.ordinal(value)]
    heading = len(word) > 1 and not re.search(r"\w", before) and re.match(r"\s*(?:[.:]|$)", rest)
    certain = re.fullmatch("I{2,3}|VI{2,3}|XI{1,3}|XI?[VX]|XVI{1,3}", word)
    return numbers.cardinal(value) if heading or certain or previous in CHAPTERS else []


def _apostrophes(word: str) -> list[str]:
    """A word without a last apostrophe, which is a quotation mark or the possessive of a plural, but for singin'."""
    if not (word.endswith("in'") and len(word) > 4):
        word = word.rstrip("'")
    return [word]


def _pause(match: re.Match[str]) -> list[str]:
    return [max((c if c in PAUSES else "," for c in match[0] if not c.isspace()), key=PAUSES.index)]


_RULES: dict[str, tuple[str, Read]] = {
    "address": (
        rf"(?i:https?://[^\s<>\"]+|www\.[^\s<>\"]+|[\w.+-]{{1,64}}@[\w-]{{1,64}}(?:\.[\w-]{{1,64}}){{1,8}}"
        rf"|(?<![\w.])[a-z0-9-]{{2,64}}(?:\.[a-z0-9-]{{2,64}}){{0,4}}\.(?:{_DOMAINS})\b(?![.]\w)(?:/[^\s<>\"]*)?)",
        _address,
    ),
    "time": (r"(?<![\d.,:])(?:[01]?\d|2[0-4]):[0-5]\d(?::[0-5]\d)?(?![\d:])", _time),
    "money": (rf"[$£€¥]\s?{_NUMBER}(?:\s(?i:{_SCALE})\b)?", _money),
    "telephone": (r"\(?\b\d{3}\)?[ .-]\d{3}[.-]\d{4}\b|\b\d{3}-\d{4}\b", _telephone),
    "fraction": (r"(?<![\d/.])(?:\d{1,9} )?\d{1,9}/\d{1,9}(?![\d/])", _fraction),
    "ordinal": (r"\d[\d,]{0,20}(?i:st|nd|rd|th)\b", _ordinal),
    "decade": (r"'?\d{0,3}0'?s\b", _decade),
    "number": (
        rf"(?P<sign>(?<![\w)])-(?=\.?\d))?(?P<first>{_NUMBER}|\.\d+)"
        rf"(?:\s?(?:—|(?<=\d)-(?=\d))\s?(?P<last>{_NUMBER})(?![\d-]))?"
        rf"(?:\s?(?P<unit>{'|'.join(sorted(map(re.escape, UNITS), key=len, reverse=True))})(?![A-Za-z0-9]))?",
        _number,
    ),
    "initials": (r"\b(?!(?i:e\.g\.|i\.e\.))(?:[A-Za-z]\.){2,32}(?!\w)", _initials),
    "initial": (r"\b(?!I\.)[A-Z]\.(?=\s*[A-Z])", lambda match: letter_names(match[0])),
    "abbreviation": (
        rf"\b(?i:{'|'.join(re.escape(k) for k in (*ABBREVIATIONS, *TITLES, *NUMBERED, 'st', 'dr'))})\.",
        _abbreviation,
    ),
    "bare": (r"\b(?:Mr|Mrs|Ms|Dr|Jr|Sr|vs)\b(?=\s)", lambda match: [BARE[match[0].lower()]]),
    "word": (rf"(?:'(?=(?i:{'|'.join(word[1:] for word in sorted(LEADING))})\b))?[A-Za-z]+(?:'[A-Za-z]+)*'?", _word),
    "pause": (r"(?:[.,;:!?()\[\]{}\"—]|--+|(?<=\s)-(?=\s))+", _pause),
    "mark": (r"[&@%°¢§€£$¥]|#(?=\d)|(?<![+=<>])[+=<>](?![+=<>])", lambda match: SIGNS[match[0]].split()),
}  # fmt: skip
_TOKEN = re.compile("|".join(f"(?P<{name}>{pattern})" for name, (pattern, _) in _RULES.items()), re.ASCII)
