"""Units of a text: indices within the inventory, or a sentence that says what is wrong."""

import unicodedata
from typing import Annotated

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from langevin.modalities.speech.text.dictionary import dictionary
from langevin.modalities.speech.text.normalise import PAUSES
from langevin.modalities.speech.text.units import BOUNDARY, AnyUnits, Characters, Espeak, Phonemes
from tests.modalities.speech.text.conftest import or_sentence

pytestmark = pytest.mark.usefixtures("quick")
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
PHONEMES = [
    Phonemes(keep_stress=stress, boundaries=boundaries) for stress in (False, True) for boundaries in (False, True)
]
TEXTS = ["Grüße, Welt!", "naïve “it's”", "a – b"]


def test_an_inventory_begins_with_padding_and_has_each_unit_once():
    for units in (*PHONEMES, Characters().fitted(TEXTS), Espeak(alphabet="abc")):
        assert units.inventory[0] == ""
        assert len(set(units.inventory)) == len(units.inventory)
    assert len(Phonemes(boundaries=False).inventory) == 1 + len(PAUSES) + 39
    assert len(Phonemes(boundaries=False, keep_stress=True).inventory) == 1 + len(PAUSES) + 69


@pytest.mark.parametrize("units", PHONEMES)
def test_words_are_spelled_as_the_dictionary_has_them(units):
    words = ["hello", "speech", "about", "thirteen"]
    spoken = [" ".join(p if units.keep_stress else p.rstrip("012") for p in dictionary()[word][0]) for word in words]
    between = f" {BOUNDARY} " if units.boundaries else " "
    assert units.spell(units.units(" ".join(words))) == between.join(spoken)


def test_pauses_stand_for_boundaries():
    units = Phonemes()
    assert units.spell(units.units("Hello, 2! Why me?")) == "HH AH L OW , T UW ! W AY | M IY ?"
    assert units.units("(hello)") == (*units.units("hello"), units.inventory.index(","))


def test_padding_is_not_spelled_and_an_index_outside_is_refused():
    units = Phonemes()
    assert units.spell((0, *units.units("hi"), 0, 0)) == "HH AY"
    for index in (-1, len(units.inventory)):
        with pytest.raises(ValueError, match=r"position 1 is outside 0\.\."):
            units.spell((0, index))


def test_remarks_name_words_that_are_guessed_and_what_is_not_read():
    units = Phonemes()
    said = units.spell(units.units("blorptag"))
    assert units.remarks("Hello blorptag, blorptag ★ xkcd") == (
        "'★' is not read",
        f"'blorptag' is not in the dictionary: pronounced {said}",
        "'xkcd' is not in the dictionary: pronounced EH K S K EY S IY D IY",
    )
    assert units.remarks("Dogs and cats, 1999!") == ()


@SHARED
@given(st.one_of(st.text(), st.text("abc I'.,?1é $@", max_size=60)))
@pytest.mark.parametrize("units", PHONEMES[1:3])
def test_any_text_is_units_or_a_sentence(units, text):
    found = or_sentence(units.units, text)
    if found is None:
        return
    assert found
    assert all(0 < index < len(units.inventory) for index in found)
    assert units.spell(found).split() == [units.inventory[index] for index in found]


# --------------------------------------------------------------------------------------------------------- characters


def test_characters_are_spelled_back():
    units = Characters().fitted(TEXTS)
    assert [units.spell(units.units(text)) for text in TEXTS] == ["grüße, welt!", "naïve “it's”", "a – b"]
    assert units.fitted(["other"]) == units
    without = Characters(boundaries=False).fitted(TEXTS)
    assert without.spell(without.units("a – b")) == "a–b"
    assert units.spell(units.units("  GR\tü\u0000ß\n\ne ")) == "gr üß e"


def test_unknown_characters_are_read_as_the_nearest():
    units = Characters().fitted(TEXTS)
    assert units.spell(units.units("Ábß ’—„ öx")) == "abß '–“ "
    assert units.remarks("Á’ qw") == (
        "'q' was not in the training texts: left out",
        "'á' was not in the training texts: read as 'a'",
        "'’' was not in the training texts: read as '''",
    )
    assert units.remarks(TEXTS[0]) == ()


@pytest.mark.parametrize(("use", "why"), [
    (lambda: Characters().units("a"), "the alphabet is empty; take `fitted"),
    (lambda: Characters().fitted(["", " \n"]), "no text to take an alphabet from"),
    (lambda: Characters(alphabet="aa"), "each character once"), (lambda: Characters(alphabet="A"), "small letters"),
    (lambda: Characters(alphabet="ab").units("xyz"), "nothing to say in 'xyz'"),
    (lambda: Characters(alphabet="ab").units(""), "nothing to say in ''"),
    (lambda: Characters(alphabet="ab").units("a" * 10**6), "split it into sentences"),
    (lambda: Espeak(language="-w"), "is no language"), (lambda: Espeak(alphabet="a,"), "no space, pause or boundary"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused(use, why):
    with pytest.raises(ValueError, match=why):
        use()


@SHARED
@given(st.lists(st.text(), max_size=5), st.text())
def test_characters_of_any_text(texts, text):
    units = or_sentence(Characters().fitted, texts)
    if units is None:
        assert not "".join(texts).strip() or not "".join(texts).isprintable()
        return
    found = or_sentence(units.units, text) or ()
    assert all(0 < index < len(units.inventory) for index in found)
    assert Characters(alphabet=units.alphabet) == units
    for known in texts:
        folded = " ".join(unicodedata.normalize("NFC", known.lower()).split())
        if folded and folded.isprintable():
            assert units.spell(units.units(known)) == folded
            assert units.remarks(known) == ()


# ----------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("units", [*PHONEMES, Characters(alphabet=" ab"), Espeak(language="de", alphabet="aə")])
def test_a_recipe_keeps_them(units):
    adapter = TypeAdapter(Annotated[AnyUnits, Field(discriminator="kind")])
    assert adapter.validate_json(adapter.dump_json(units)) == units


def test_another_kind_is_refused():
    with pytest.raises(ValidationError):
        TypeAdapter(Annotated[AnyUnits, Field(discriminator="kind")]).validate_python({"kind": "letters"})
