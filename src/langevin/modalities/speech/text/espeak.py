"""Phonemes in the International Phonetic Alphabet from espeak-ng, a separate program, which is run for each text."""

import re
import shutil
import subprocess
from functools import lru_cache

from langevin.modalities.speech.text.normalise import PAUSES
from langevin.modalities.speech.text.plain import require_short

TIMEOUT = 60  # seconds
_ENDS = re.compile(r"[.,;:?!]+(?=\s|$)")


def require_language(language: str) -> None:
    """Raise `ValueError` for what cannot be the name of a voice."""
    if not re.fullmatch(r"[A-Za-z][\w+-]{0,39}", language, re.ASCII):
        raise ValueError(
            f"espeak: {language!r} is no language; give one that `espeak-ng --voices` lists, such as en-us"
        )


@lru_cache(65_536)
def transcribe(text: str, language: str) -> str:
    """The letters and marks of a text, a space between words, a pause after each clause but the last, and its own.

    Raises:
        ValueError: nothing to say, the program is not installed, does not know the language, or fails."""
    require_language(language)
    require_short(text)
    if not any(c.isalnum() for c in text):
        raise ValueError(f"there is nothing to say in {text[:40]!r}: give a text with a word or a number")
    output = re.sub(r"\([a-z-]+\)", "", _run(text.replace("\0", " "), language))  # where it changes the language
    clauses = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    pauses = [
        max((c if c in PAUSES else "," for c in end[0]), key=PAUSES.index) for end in _ENDS.finditer(text.strip())
    ]
    last = pauses[-1] if pauses and _ENDS.search(text.strip()[-1]) else ""
    between = pauses[: len(clauses) - 1] if len(pauses) - bool(last) == len(clauses) - 1 else [","] * (len(clauses) - 1)
    return "".join(clause + pause for clause, pause in zip(clauses, [*between, last]))


def _run(text: str, language: str) -> str:
    program = shutil.which("espeak-ng")
    if program is None:
        raise ValueError(
            "units of kind espeak need the program espeak-ng, which is not installed: apt install espeak-ng, brew install "
            "espeak-ng, or use the kind phonemes or characters"
        )
    try:
        done = subprocess.run(
            [program, "-q", "--ipa", "-b", "1", "--stdin", "-v", language],
            input=text.encode("utf-8", "replace"), capture_output=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"espeak-ng did not finish {text[:40]!r} within {TIMEOUT} seconds: split the text") from error
    except OSError as error:
        raise ValueError(f"{program} cannot be run: {error.strerror or error}; install espeak-ng again") from error
    if done.returncode or not done.stdout.strip():
        why = (
            done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
            or f"it ended with status {done.returncode}"
        )
        raise ValueError(f"espeak-ng cannot say {text[:40]!r} in the language {language}: {why}")
    return done.stdout.decode("utf-8", "replace")
