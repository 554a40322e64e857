"""Pronunciations are the dictionary's, and those of inflected words follow the rules of their allomorphs."""

import subprocess
import sys
from zlib import crc32

import pytest

from langevin.modalities.speech.text import pronounce as module
from langevin.modalities.speech.text.dictionary import CONSONANTS, VOWELS, dictionary, without_stress
from langevin.modalities.speech.text.pronounce import phonemes, pronounce, with_ed, with_ing, with_s

pytestmark = pytest.mark.usefixtures("quick")


def test_every_word_of_the_dictionary_is_pronounced_as_it_says():
    assert len(dictionary()) == 126_052
    assert sum(map(len, dictionary().values())) == 135_166
    for word, variants in dictionary().items():
        assert phonemes(word, keep_stress=True) == variants[0]


def test_known_entries():
    assert [" ".join(spoken) for spoken in dictionary()["tomato"]] == ["T AH0 M EY1 T OW2", "T AH0 M AA1 T OW2"]
    assert " ".join(dictionary()["aalborg"][0]) == "AO1 L B AO0 R G"  # with a comment in the file
    assert phonemes("hello") == ("HH", "AH", "L", "OW")
    assert {p for v in dictionary().values() for spoken in v for p in without_stress(spoken)} == {*VOWELS, *CONSONANTS}


@pytest.mark.parametrize(("word", "said"), [
    # stems and endings that the dictionary has apart, and truth by ear
    ("blog's", "B L AO1 G Z"), ("quark's", "K W AA1 R K S"), ("fax's", "F AE1 K S IH0 Z"), ("moth's", "M AO1 TH S"),
    ("judge'd", "JH AH1 JH D"), ("cat'd", "K AE1 T IH0 D"), ("nobody'll", "N OW1 B AA2 D IY2 AH0 L"),
    ("cats've", "K AE1 T S AH0 V"), ("mayn't", "M EY1 AH0 N T"),
])  # fmt: skip
def test_endings_after_an_apostrophe(word, said):
    assert word not in dictionary()
    assert pronounce(word).source == "inflection"
    assert without_stress(pronounce(word).phonemes) == without_stress(tuple(said.split()))


@pytest.mark.parametrize(("s", "ed", "stems"), [
    ("S", "IH0 D", "cat beat"), ("S", "T", "stop kick laugh bath"), ("IH0 Z", "T", "kiss wash watch box"),
    ("IH0 Z", "D", "judge buzz garage"), ("Z", "IH0 D", "need"),
    ("Z", "D", "rob beg love bathe ham pin sing call bar play fur go idea"),
])  # fmt: skip
def test_allomorphs(s, ed, stems):
    for spoken in (phonemes(stem, keep_stress=True) for stem in stems.split()):
        assert with_s(spoken) == (*spoken, *s.split())
        assert with_ed(spoken) == (*spoken, *ed.split())
        assert with_ing(spoken) == (*spoken, "IH0", "NG")


def test_a_syllabic_l_loses_its_vowel_before_ing():
    for stem, participle in (
        ("fiddle", "fiddling"),
        ("buckle", "buckling"),
        ("tell", "telling"),
        ("travel", "traveling"),
    ):
        assert with_ing(phonemes(stem, keep_stress=True)) in dictionary()[participle]


@pytest.mark.parametrize(("word", "stem"), [
    ("cats", "cat"), ("boxes", "box"), ("churches", "church"), ("houses", "house"), ("carries", "carry"), ("ties", "tie"),
    ("buzzes", "buzz"), ("stopped", "stop"), ("hoped", "hope"),
    ("wanted", "want"), ("carried", "carry"), ("played", "play"),
    ("visited", "visit"), ("changed", "change"), ("running", "run"), ("making", "make"), ("singing", "sing"),
    ("seeing", "see"), ("telling", "tell"), ("carrying", "carry"), ("moving", "move"),
])  # fmt: skip
def test_the_stem_is_found_through_the_spelling(word, stem, monkeypatch):
    """The word is taken out of the dictionary, and derived."""
    rest = {w: v for w, v in dictionary().items() if w != word}
    monkeypatch.setattr(module, "dictionary", lambda: rest)
    derived = pronounce(word)
    assert derived.source == "inflection"
    assert derived.phonemes[: len(rest[stem][0])] == rest[stem][0]


def test_inflected_words_of_the_dictionary_are_derived_right(monkeypatch):
    """Each twentieth word that ends in s, ed or ing, taken out of the dictionary."""
    full = dict(dictionary())
    monkeypatch.setattr(module, "dictionary", lambda: full)
    right = derived = 0
    for word in [w for w in full if w.endswith(("s", "ed", "ing")) and crc32(w.encode()) % 20 == 0]:
        variants = full.pop(word)
        found = module._inflected(word)
        full[word] = variants
        if found:
            derived += 1
            right += without_stress(found.phonemes) in [without_stress(v) for v in variants]
    assert derived > 800
    assert right / derived > 0.88


def test_unknown_words_are_read_by_their_letters_or_spelled(model):
    assert pronounce("blorptag").source == "letters"
    assert pronounce("blorptag").phonemes == model.pronounce(["blorptag"])[0]
    assert pronounce("blorptag's").phonemes == (*model.pronounce(["blorptag"])[0], "Z")
    assert pronounce("blorptag's").source == "letters"
    assert pronounce("xkcd").source == "spelled"
    assert pronounce("xkcd").phonemes == tuple(p for c in "xkcd" for p in pronounce(c + ".").phonemes)
    assert pronounce("a.").phonemes == ("EY1",)


@pytest.mark.parametrize("word", ["", "'", "''''", "a b", "x" * 65, "é", "a" * 65])
def test_what_is_no_word_is_refused(word):
    with pytest.raises(ValueError, match="no word of 1 to 64"):
        pronounce(word)


def test_nothing_is_read_or_learned_before_it_is_used_and_torch_never():
    code = (
        "import sys\n"
        "from langevin.modalities.speech.text import dictionary, letters, units\n"
        "assert 'torch' not in sys.modules and dictionary.dictionary.cache_info().currsize == 0\n"
        "units.Phonemes().units('Hello, 2 worlds.')\n"
        "assert dictionary.dictionary.cache_info().currsize == 1 and letters.letter_to_sound.cache_info().currsize == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
