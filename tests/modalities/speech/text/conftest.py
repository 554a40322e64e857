"""A letter-to-sound model of a part of the dictionary, which is learned in a moment."""

from zlib import crc32

import pytest

from langevin.modalities.speech.text import pronounce
from langevin.modalities.speech.text.dictionary import dictionary
from langevin.modalities.speech.text.letters import LetterToSound


def part(remainder: int, of: int) -> list[tuple[str, tuple[str, ...]]]:
    """The words of the dictionary whose CRC-32 leaves a remainder, with their usual pronunciations."""
    return [(w, v[0]) for w, v in dictionary().items() if w.isalpha() and crc32(w.encode()) % of == remainder]


def or_sentence(use, *arguments):
    """The result, or None where it is refused with a short sentence."""
    try:
        return use(*arguments)
    except ValueError as refused:
        message = str(refused)
    assert message.isprintable()
    assert len(message) < 400
    return None


@pytest.fixture(scope="session")
def model():
    return LetterToSound.fit(part(1, 12))


@pytest.fixture
def quick(model, monkeypatch):
    """Unknown words are pronounced by that model."""
    monkeypatch.setattr(pronounce, "letter_to_sound", lambda: model)
    pronounce.pronounce.cache_clear()
    yield
    pronounce.pronounce.cache_clear()
