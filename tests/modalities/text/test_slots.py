"""What a model is given of a corrupted text, position by position."""

import pytest

from langevin.modalities.text.codec import Characters
from langevin.modalities.text.slots import SideInputs
from langevin.modalities.text.task import Correction

CODEC = Characters(alphabet=" .abcdehrt")
BLANK, SAME = CODEC.vocab_size, CODEC.vocab_size + 2
TASK = Correction(lexicon="the there bread", spellcheck_candidates=2)


@pytest.mark.parametrize(("corrupted", "streams"), [
    ("the thre.", ["-t-h-e- -t-h-r-e-.-",   # gaps "-", as the text "="
                   "=============-=====",   # the: its r is none
                   "============e======"]),  # there: an e before it
    ("thh bred", ["-t-h-h- -b-r-e-d-", *["=====e========a=="] * 2]),  # the one nearest word each, twice
    ("the cat", ["-t-h-e- -c-a-t-", *["==============="] * 2]),  # no word is near to cat
])  # fmt: skip
def test_readings_say_what_the_nearest_words_would_change(corrupted, streams):
    given = SideInputs(task=TASK, codec=CODEC, same=SAME)(corrupted)
    names = {BLANK: "-", SAME: "="}
    assert ["".join(names.get(i, "") or CODEC.decode([i]) for i in row.tolist()) for row in given.unbind(1)] == streams


def test_a_lexicon_is_the_frequent_words_of_the_text():
    fitted = Correction(lexicon_size=2).fitted(["It is so. It", "is it?"])
    assert fitted.lexicon == "it is"
    assert fitted.fitted(["other words"]) is fitted
    assert not Correction(spellcheck_candidates=0).fitted(["It is"]).lexicon
    assert Correction().fitted(["1, 2."]).spellcheck_candidates == 0  # there are no words to be near to
