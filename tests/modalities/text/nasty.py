"""Texts that break codecs and readers, and a stream of random ones."""

import random

NASTY = (
    "", " ", "\n", "a", "\0", "a\0b", "\r\n", "line\r\nline\rline\n",
    "\t\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029", "  two  spaces  ",
    "café", "cafe\u0301", "e\u0301\u0327\u0323", "Zürich, Straße, İstanbul, ſ, \u212a", "שלום עולם",
    "مرحبا\u200f بالعالم", "\u202eabc\u202c",
    "日本語。中文，한국어", "😀", "👩‍👩‍👧‍👦🏳️‍🌈🇨🇭", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "\ufeffmark", "\ufffd",
    "\U0010ffff", "\u200b\u180e\xa0\u3000",
    "<|endoftext|>", "[UNK][MASK]", "'s 're 123,456.78 ... --- ___", "a" * 5000, " " * 5000, "x\n\n\n  y", "½²ⅷ",
)  # fmt: skip
LONE = ("\ud800", "abc\udfffdef", "\ude00\ud83d", "😀\ud83d")  # halves of UTF-16 pairs
_PARTS = (
    *"aAzZ09 \n\t.,'!-é\0\r",
    "\r\n",
    "  ",
    "\x1c",
    "\x85",
    "\xa0",
    "\u2028",
    "\u0301",
    "😀",
    "👩‍👧",
    "א",
    "中",
    "the",
    " of",
    "½",
)


def texts(count: int, *, seed: int, longest: int = 40) -> list[str]:
    """`count` random texts of up to `longest` parts."""
    draw = random.Random(seed)
    return ["".join(draw.choices(_PARTS, k=draw.randint(0, longest))) for _ in range(count)]
