"""Numbers in English words, American: one hundred five, nineteen oh five, twenty-first as two words."""

ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SCALES = ("", "thousand", "million", "billion")
IRREGULAR = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
LIMIT = 10**12
ROMAN = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"),
    (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip


def cardinal(n: int) -> list[str]:
    """The words of 0 <= n < 10^12; of larger numbers the digits, one by one."""
    if n >= LIMIT:
        return digits(str(n))
    if n < 20:
        return [ONES[n]]
    if n < 100:
        return [TENS[n // 10]] + ([ONES[n % 10]] if n % 10 else [])
    if n < 1000:
        return [ONES[n // 100], "hundred"] + (cardinal(n % 100) if n % 100 else [])
    thousands = next(i for i in (3, 2, 1) if n >= 1000**i)
    head, rest = divmod(n, 1000**thousands)
    return [*cardinal(head), SCALES[thousands]] + (cardinal(rest) if rest else [])


def digits(written: str) -> list[str]:
    """Each digit of a string."""
    return [ONES[int(c)] for c in written if c.isdigit()]


def whole(written: str) -> list[str]:
    """A number as it is written: in words, or digit by digit with a leading zero or 13 digits and more."""
    plain = written.replace(",", "")
    return digits(plain) if len(plain) > 12 or (len(plain) > 1 and plain[0] == "0") else cardinal(int(plain))


def decimal(written: str) -> list[str]:
    """A number with an optional fraction: three point one four."""
    head, point, tail = written.partition(".")
    return (whole(head) if head else []) + (["point", *digits(tail)] if point else [])


def ordinal(n: int) -> list[str]:
    """Ordinal words of n >= 0: the cardinal with its last word changed."""
    *head, last = cardinal(n)
    if last not in IRREGULAR:
        last = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return [*head, IRREGULAR.get(last, last)]


def year(n: int) -> list[str]:
    """Words of a year in 1100..2099: nineteen ninety nine, two thousand five, twenty ten."""
    century, rest = divmod(n, 100)
    if n // 10 == 200:
        return cardinal(n)
    if rest == 0:
        return [*cardinal(century), "hundred"]
    return cardinal(century) + (["oh", ONES[rest]] if rest < 10 else cardinal(rest))


def plural(words: list[str]) -> list[str]:
    """The words with the last in the plural: nineties, hundreds, sixes."""
    *head, last = words
    ending = "ies" if last.endswith("y") else "es" if last.endswith("x") else "s"
    return [*head, (last[:-1] if last.endswith("y") else last) + ending]


def fraction(n: int, of: int) -> list[str]:
    """Words of n / of, `of` >= 2: one half, three quarters, two thirds."""
    part = {2: ["half"], 4: ["quarter"]}.get(of) or ordinal(of)
    return cardinal(n) + (part if n == 1 else ["halves"] if of == 2 else plural(part))


def roman(written: str) -> int | None:
    """The value of a Roman numeral in capitals, None if it is none or not in its usual form."""
    value, at = 0, 0
    for number, letters in ROMAN:
        while written.startswith(letters, at):
            value, at = value + number, at + len(letters)
    spelled, rest = "", value
    for number, letters in ROMAN:
        spelled += letters * (rest // number)
        rest %= number
    return value if written and spelled == written else None
