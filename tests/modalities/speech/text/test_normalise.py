"""What is said for English text."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langevin.modalities.speech.text.normalise import LONGEST_WORD, PAUSES, normalise
from langevin.modalities.speech.text.plain import LONGEST_TEXT, left_out
from tests.modalities.speech.text.conftest import or_sentence
from tests.modalities.speech.text.test_numbers import slow


def said(text):
    return " ".join(normalise(text))


SAID = {
    # numbers
    "1,234": "one thousand two hundred thirty four", "3.5": "three point five", "-5": "minus five",
    "007": "zero zero seven",
    "1999": "nineteen ninety nine", "1905": "nineteen oh five", "2005": "two thousand five", "2019": "twenty nineteen",
    "1,999": "one thousand nine hundred ninety nine", "the 1990s": "the nineteen nineties", "the '80s": "the eighties",
    "2nd": "second", "21st": "twenty first", "1,000th": "one thousandth",
    "1914–1918": "nineteen fourteen to nineteen eighteen",
    "5-10": "five to ten", "1/2": "one half", "2 3/4": "two and three quarters", "2½": "two and one half", "٣": "three",
    "555-1234": "five five five , one two three four", "B2B": "b. two b.", "mp3": "mp three", "1, 2": "one , two",
    # money, percent, units, times
    "$5": "five dollars", "$1": "one dollar", "$5.50": "five dollars and fifty cents", "£0.01": "one penny",
    "$1.5 million": "one point five million dollars", "5€": "five euros", "¥100": "one hundred yen", "5%": "five percent",
    "20°C": "twenty degrees celsius", "1 km": "one kilometer", "10km": "ten kilometers", "6 ft.": "six feet .",
    "10:30": "ten thirty", "10:05": "ten oh five", "10:00": "ten o'clock", "10:00 am": "ten am",
    "9:15 p.m.": "nine fifteen p. m. .",
    # abbreviations and letters
    "Mr. Dee": "mister dee", "Dr. No": "doctor no", "Mrs Dee": "missus dee", "in Mulholland Dr.": "in mulholland drive .",
    "St. Paul": "saint paul", "Oak St.": "oak street .", "Oak St. is": "oak street is", "e.g. this": "for example this",
    "i.e. that": "that is that", "etc. And": "et cetera . and", "No. 5": "number five", "No. Why?": "no . why ?",
    "one more rep. then": "one more rep . then", "U.S. Army": "u. s. army", "J. K. Rowling": "j. k. rowling",
    "plan A": "plan a.", "a cat": "a cat", "A cat": "a cat", "I am": "i am", "x and y": "x. and y.",
    "John Dee Jr.": "john dee junior",
    "Dec. 5": "december five", "war. 5 men": "war . five men",
    # Roman numerals
    "Louis XIV": "louis the fourteenth", "Chapter IV": "chapter four", "World War II": "world war two",
    "Henry I of": "henry the first of", "Henry I think": "henry i think", "Rocky III": "rocky three",
    "## IV": "four", "XLIV. One": "forty four . one", "IV drip": "iv drip",
    "mix, DIM": "mix , dim",
    # signs
    "R&D": "r. and d.", "#5": "number five", "and/or": "and or", "a+b": "a plus b.", "50% + 1": "fifty percent plus one",
    "## A ==> b": "a b.", "1 = 1": "one equals one", "'Mr. Dee,'": "mister dee ,", "'em": "'em", "'Then'": "then",
    "a@b.com": "a. at b. dot com", "https://www.a-b.org/x?": "w. w. w. dot a. dash b. dot org slash x. ?",
    "see cnn.com.": "see cnn dot com .", "john.doe@example.co.uk": "john dot doe at example dot co dot uk",
    # quotation marks, dashes, hyphens, apostrophes, accents
    "“Don’t,” he said": "don't , he said", "'hello'": "hello", "dogs' tails": "dogs tails", "rock 'n' roll": "rock 'n roll",
    "'tis": "'tis", "singin' in": "singin' in", "well-known": "well known", "yes - no": "yes , no", "yes—no": "yes , no",
    "naïve façade": "naive facade", "Straße": "strasse", "ﬁne": "fine", "x\u00adray": "xray",
    # pauses
    "Wait... what?!": "wait . what !", "(so) it": "so , it", "a; b: c": "a , b. , c.", "... yes": "yes", "no!?.": "no !",
}  # fmt: skip


@pytest.mark.parametrize("text", SAID)
def test_what_is_said(text):
    assert said(text) == SAID[text]


@given(st.integers(1, 10**12 - 1))
def test_a_number_with_commas_is_a_cardinal(n):
    assert n < 1000 or said(f"{n:,}") == " ".join(slow(n))
    assert said(f"${n:,}") == " ".join([*slow(n), "dollar" if n == 1 else "dollars"])


@pytest.mark.parametrize("text", ["", " \n", "!!!", "...", "😀", "—", "'", "''' \"", "\u0301" * 9, "^*~|\\", "\x00"])
def test_text_with_nothing_to_say_is_refused(text):
    with pytest.raises(ValueError, match=r"nothing to say in .*: give a text with a word"):
        normalise(text)


@pytest.mark.parametrize(("text", "why"), [
    ("Привет", "'П' is no letter of English"), ("中", "is no letter of English"), ("9" * 10**6, "split it into sentences"),
    ("e" + "\u0301" * 10**6, "split it into sentences"), ("x" * 65, "no word has over 64"),
    ("a \ud800", "unpaired surrogate"),
    ("www." + "a" * 999, "no word has over 64"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused_in_a_sentence(text, why):
    with pytest.raises(ValueError, match=why) as refused:
        normalise(text)
    assert len(str(refused.value)) < 300


def test_what_is_left_out_is_reported():
    assert left_out("hi 😀 – £5 “quoted” ★") == ("★", "😀")
    assert said("hi 😀 there") == "hi there"


PIECES = [
    "1", "0", ",", ".", ":", "/", "-", "—", "'", "$", "%", "@", "a", "I", "X", "St.", "Dr.", "e.g.", " ", "th", "s", "www.",
    "http://", ".com", "é", "½", "\u0301", "5:3", "million", "(", "\n",
]  # fmt: skip


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=40).map("".join)))
@example("9" * LONGEST_TEXT)
@example("1," * (LONGEST_TEXT // 2))
@example("a." * (LONGEST_TEXT // 2))
@example("a-" * (LONGEST_TEXT // 2))
@example("I." * (LONGEST_TEXT // 2))
@example("1/" * (LONGEST_TEXT // 2))
@example("a'" * (LONGEST_TEXT // 2))
@example("@." * (LONGEST_TEXT // 2))
@example("\ufdfa" * LONGEST_TEXT)
@example("½" * LONGEST_TEXT)
def test_any_text_is_words_and_pauses_or_a_sentence(text):
    tokens = or_sentence(normalise, text)
    if tokens is None:
        return
    assert tokens[0] not in PAUSES
    for before, token in zip(("", *tokens), tokens):
        assert token in PAUSES or (len(token) <= LONGEST_WORD and token.strip("'") and set(token) <= LETTERS), token
        assert not (before in PAUSES and token in PAUSES)
        assert "." not in token[:-1]


LETTERS = set("abcdefghijklmnopqrstuvwxyz'.")


@given(st.text(st.characters(max_codepoint=0x17F, categories=("Ll", "Lu")), min_size=1, max_size=20))
def test_accents_make_no_difference(text):
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    if bare.isascii():
        assert normalise(text) == normalise(bare)
