"""The separate program espeak-ng, played by a script that answers as it does; and the program itself where it is."""

import os
import shutil

import pytest

from langevin.modalities.speech.text import espeak
from langevin.modalities.speech.text.units import Espeak

REAL = shutil.which("espeak-ng")
SCRIPT = """#!/bin/sh
echo "$@" >> {log}
for last; do :; done
case "$last" in
  en-us) cat > {log}.text; printf 'həlˈoʊ\\nwˈɜːld\\n' ;;
  ru) cat > {log}.text; printf ' prʲivʲˈet (en)həlˈəʊ(ru)\\n' ;;
  hangs) exec sleep 30 ;;
  mute) cat > /dev/null ;;
  *) echo 'Error: The specified espeak-ng voice does not exist.' >&2; exit 1 ;;
esac
"""


@pytest.fixture(autouse=True)
def fresh():
    espeak.transcribe.cache_clear()
    yield
    espeak.transcribe.cache_clear()


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The folder of the script, first on the path, and the log of its calls."""
    script = tmp_path / "espeak-ng"
    script.write_text(SCRIPT.format(log=tmp_path / "log"))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "log"


def test_the_text_goes_in_and_the_letters_come_out(program):
    units = Espeak().fitted(["Hello, wörld."])
    assert units.alphabet == "".join(sorted(set("həlˈoʊwˈɜːld")))
    assert units.spell(units.units("Hello, wörld.")) == "həlˈoʊ,wˈɜːld."
    assert program.read_text().split() == [
        "-q",
        "--ipa",
        "-b",
        "1",
        "--stdin",
        "-v",
        "en-us",
    ]  # once: the answer is kept
    assert (program.parent / "log.text").read_text() == "Hello, wörld."


@pytest.mark.parametrize(("text", "between", "last"), [
    ("Hello? World!", "?", "!"), ("Hello; world", ",", ""), ("Hello world, 3.5", ",", ""), ("a, b, c, d.", ",", "."),
])  # fmt: skip
def test_pauses_are_those_of_the_text_where_clauses_agree(program, text, between, last):
    assert espeak.transcribe(text, "en-us") == f"həlˈoʊ{between}wˈɜːld{last}"


def test_marks_of_another_language_are_dropped_and_spaces_are_boundaries(program):
    units = Espeak(language="ru").fitted(["привет hello"])
    found = units.units("привет hello")
    assert units.spell(found) == "prʲivʲˈet həlˈəʊ"
    assert all(0 < index < len(units.inventory) for index in found)
    bare = Espeak(language="ru", boundaries=False).fitted(["привет hello"])
    assert bare.spell(bare.units("привет hello")) == "prʲivʲˈethəlˈəʊ"


def test_letters_that_were_not_in_training_are_left_out_with_a_remark(program):
    units = Espeak(alphabet="həlo")
    assert units.spell(units.units("hello world")) == "həlo,l"
    assert "the phoneme 'ʊ' was not in the training texts: left out" in units.remarks("hello world")
    with pytest.raises(ValueError, match="nothing to say in 'hello world'"):
        Espeak(alphabet="x").units("hello world")


def test_the_language_that_it_does_not_know_is_named(program):
    with pytest.raises(ValueError, match="in the language xx: Error: The specified espeak-ng voice does not exist"):
        Espeak(language="xx").fitted(["hello"])


def test_a_program_that_says_nothing_hangs_or_cannot_run(program, monkeypatch):
    with pytest.raises(ValueError, match="cannot say 'hello' in the language mute: it ended with status 0"):
        espeak.transcribe("hello", "mute")
    monkeypatch.setattr(espeak, "TIMEOUT", 0.2)
    with pytest.raises(ValueError, match=r"did not finish 'hello' within 0\.2 seconds"):
        espeak.transcribe("hello", "hangs")
    (program.parent / "espeak-ng").write_text("#!/no/such/interpreter\n")
    with pytest.raises(ValueError, match="cannot be run"):
        espeak.transcribe("again", "en-us")


def test_without_the_program_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="espeak-ng, which is not installed: apt install espeak-ng"):
        Espeak().fitted(["hello"])


@pytest.mark.parametrize("text", ["", "?!", "😀"])
def test_nothing_to_say_is_refused_before_the_program_runs(text, program):
    with pytest.raises(ValueError, match="nothing to say"):
        Espeak(alphabet="a").units(text)
    assert not program.exists()


@pytest.mark.skipif(REAL is None, reason="espeak-ng is not installed")
def test_the_program_itself():
    units = Espeak(language="de").fitted(["Schöne Grüße, Welt."])
    assert units.spell(units.units("Schöne Grüße, Welt.")) == "ʃˈøːnə ɡɾˈyːsə,vˈɛlt."
    with pytest.raises(ValueError, match=r"in the language xx: .*voice does not exist"):
        Espeak(language="xx").fitted(["hello"])
