"""What is told of a faulty text, place by place."""

import pytest

from langevin.modalities.text.layout import Mend
from langevin.modalities.text.slots import Telling
from langevin.modalities.text.tokens import Characters

CODEC = Characters(alphabet=" .abcdehrt")
BLANK, NOTHING = CODEC.symbols, CODEC.symbols + 2
LAYOUT = Mend(lexicon="the there bread", hints=2)


@pytest.mark.parametrize(("faulty", "rows"), [
    ("the thre.", ["-t-h-e- -t-h-r-e-.-",   # gaps "-", as the text "="
                   "=============-=====",   # the: its r is none
                   "============e======"]),  # there: an e before it
    ("thh bred", ["-t-h-h- -b-r-e-d-", *["=====e========a=="] * 2]),  # the one nearest word each, twice
    ("the cat", ["-t-h-e- -c-a-t-", *["==============="] * 2]),  # no word is near to cat
])  # fmt: skip
def test_readings_say_what_the_nearest_words_would_change(faulty, rows):
    told = Telling(layout=LAYOUT, codec=CODEC, nothing=NOTHING)(faulty)
    names = {BLANK: "-", NOTHING: "="}
    assert ["".join(names.get(i, "") or CODEC.decode([i]) for i in row.tolist()) for row in told.unbind(1)] == rows


def test_a_lexicon_is_the_frequent_words_of_the_text():
    fitted = Mend(words=2).fitted(["It is so. It", "is it?"])
    assert fitted.lexicon == "it is"
    assert fitted.fitted(["other words"]) is fitted
    assert not Mend(hints=0).fitted(["It is"]).lexicon
    assert Mend().fitted(["1, 2."]).hints == 0  # there are no words to be near to
