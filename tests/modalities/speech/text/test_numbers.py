"""Numbers in words are read back by a reader that knows only the values of words."""

from hypothesis import given
from hypothesis import strategies as st

from langevin.modalities.speech.text.numbers import (
    cardinal,
    decimal,
    digits,
    fraction,
    ordinal,
    plural,
    roman,
    whole,
    year,
)

SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
VALUES = {word: n for n, word in enumerate(SMALL)} | {word: 10 * n for n, word in enumerate(TENS, 2)}
ORDINALS = (
    "zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth",
    "nineteenth",
)  # fmt: skip


def value(words):
    """What the words add up to: a hundred multiplies what came since the last thousand, a thousand closes it."""
    total, group = 0, 0
    for word in words:
        if word == "hundred":
            group *= 100
        elif word in ("thousand", "million", "billion"):
            total, group = total + group * {"thousand": 10**3, "million": 10**6, "billion": 10**9}[word], 0
        else:
            group += VALUES[word]
    return total + group


def slow(n):
    """The words by taking away the largest named number again and again."""
    if n == 0:
        return []
    for size, name in ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if n >= size:
            count = 0
            while n >= size:
                n, count = n - size, count + 1
            return [*slow(count), name, *slow(n)]
    word = max((w for w in VALUES if VALUES[w] <= n), key=VALUES.get)
    return [word, *slow(n - VALUES[word])]


def test_small_and_round_numbers_are_those_of_the_slow_construction():
    for n in [*range(1, 12_000), *range(10**6 - 20, 10**6 + 1200), *(10**k for k in range(12)), 10**12 - 1]:
        assert cardinal(n) == slow(n)
    assert cardinal(0) == ["zero"]


@given(st.integers(0, 10**12 - 1))
def test_words_add_up_to_the_number(n):
    assert value(cardinal(n)) == n


@given(st.integers(10**12, 10**30))
def test_larger_numbers_are_read_digit_by_digit(n):
    assert [VALUES[word] for word in cardinal(n)] == [int(c) for c in str(n)]
    assert cardinal(n) == whole(str(n)) == digits(str(n))


def test_an_ordinal_changes_the_last_word_alone():
    assert [ordinal(n) for n in range(20)] == [[word] for word in ORDINALS]
    for n in range(20, 3000):
        *head, last = ordinal(n)
        *expected, word = cardinal(n)
        assert head == expected
        regular = word.removesuffix("y") + ("ieth" if word.endswith("y") else "th")
        assert last == (ORDINALS[VALUES[word]] if VALUES.get(word, 99) < 20 else regular)


def test_a_year_is_a_century_and_a_rest():
    for n in range(1100, 2100):
        words = [word for word in year(n) if word != "oh"]
        centuries = [100 * value(words[:i]) + value(words[i:]) for i in (1, 2)]
        assert n in (value(words), *centuries)
        assert ("oh" in year(n)) == (0 < n % 100 < 10 and n // 10 != 200)


def test_decimals_and_leading_zeros():
    assert decimal("3.14") == ["three", "point", "one", "four"]
    assert decimal(".5") == ["point", "five"]
    assert decimal("1,000.05") == ["one", "thousand", "point", "zero", "five"]
    assert whole("007") == ["zero", "zero", "seven"]
    assert fraction(1, 2) == ["one", "half"]
    assert fraction(3, 4) == ["three", "quarters"]
    assert fraction(2, 3) == ["two", "thirds"]
    assert plural(["sixty"]) == ["sixties"]
    assert plural(["six"]) == ["sixes"]


def test_a_roman_numeral_is_the_one_way_to_write_its_value():
    def written(n):
        table = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
        tens = str.maketrans("IVX", "XLC")
        hundreds = str.maketrans("IVX", "CDM")
        return (
            "M" * (n // 1000)
            + table[n // 100 % 10].translate(hundreds)
            + table[n // 10 % 10].translate(tens)
            + table[n % 10]
        )

    assert all(roman(written(n)) == n for n in range(1, 4000))
    assert not [bad for bad in ("", "IIII", "VX", "IC", "IM", "XIIX", "A", "VIV", "iv") if roman(bad) is not None]
