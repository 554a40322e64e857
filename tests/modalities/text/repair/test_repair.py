"""Repair against enumeration, conservation of all that is not edited, and texts that have to stay as they are."""

import itertools
import json
import math

import numpy as np
import pytest

from langevin.modalities.text.corruption.confusions import read_misspellings
from langevin.modalities.text.repair import lexicon, search
from langevin.modalities.text.repair.candidates import DERIVED, Candidates
from langevin.modalities.text.repair.channel import CLASSES, PART, Channel, bounded, edit_nats
from langevin.modalities.text.repair.language import ORDER, WordModel, sentences
from langevin.modalities.text.repair.lexicon import Lexicon
from langevin.modalities.text.repair.plan import Gains, diff, listed, located
from langevin.modalities.text.repair.store import packed, read, words_of
from langevin.modalities.text.repair.text import applied, repair

NOUNS, VERBS = ("cat", "dog", "king", "queen", "moon", "house", "window"), ("sees", "hears", "likes", "finds")


def corpus(count=600):
    generator = np.random.default_rng(0)
    lines = []
    for _ in range(count):
        a, b = generator.choice(NOUNS, 2)
        verb = generator.choice(VERBS)
        tail = ("", ", because it's there", " and the house of Thomas", " in the morning")[generator.integers(4)]
        lines.append(f"The {a} {verb} the {b}{tail}.")
    return "\n".join([*lines, "Psychology and geology, biology with technicians, technique, anthology."])


@pytest.fixture(scope="module")
def words():
    return WordModel.fit([corpus()])


@pytest.fixture(scope="module")
def candidates(words):
    return Candidates(language=words)


def mended(text, candidates, threshold=1.0):
    return applied(text, repair(text, candidates, threshold=threshold))


def test_the_probabilities_of_the_next_word_add_up_to_one(words):
    context = words.ids(["sees", "the", "cat"])
    grams = np.array([[*context, i] for i in range(len(words.words))])
    assert np.exp(words.log_probabilities(grams)).sum() == pytest.approx(1, abs=1e-12)
    assert np.exp(words.log_probabilities(grams)) == pytest.approx(words.model.following(grams[:1, :-1])[0], rel=1e-12)


LIST = read_misspellings([
    "then: tehn*3, than", "them: tem", "physics: fisics, phisics", "phone: fone", "knife: nife", "receive: recieve",
])  # fmt: skip


def test_an_edit_has_the_rate_of_its_class_and_what_a_list_adds():
    for typed, meant, kind in (
        ("teh", "the", "swap"), ("tha", "the", "vowel"), ("te", "the", "deleted"), ("thhe", "the", "doubled"),
        ("thge", "the", "inserted"), ("xthe", "the", "inserted"), ("thex", "the", "inserted"),
        ("its", "it's", "apostrophe"), ("tje", "the", "key"),
    ):  # fmt: skip
        assert Channel().log_probability(typed, meant) == pytest.approx(math.log(CLASSES[kind])), typed
    assert Channel().log_probability("the", "the") == 0
    assert Channel().log_probability("het", "the") < Channel().log_probability("teh", "the")  # two swaps
    channel = Channel.fit(LIST)
    kept = Channel(nats=channel.nats).log_probability("tehn", "then")
    assert channel.log_probability("tehn", "then") == pytest.approx(math.log(0.5 * 3 / 5 + 0.5 * math.exp(kept)))
    assert channel.log_probability("fonetic", "phonetic") > Channel().log_probability("fonetic", "phonetic") + 3
    assert channel.log_probability("fonetic", "phonetic") > channel.log_probability("zonetic", "phonetic") + 3


@pytest.mark.parametrize(("typed", "meant"), [
    ("fone", "phone"), ("nie", "knife"), ("teh", "the"), ("phisic", "fisics"), ("a", "the"), ("qphone", "phone"),
])  # fmt: skip
def test_the_likeliest_of_all_cuts_into_parts_is_taken(typed, meant):
    channel = Channel(nats=Channel.fit(LIST).nats)

    def cheapest(x, z):
        if not x:
            return 0.0 if not z else math.inf
        return min(
            nats + cheapest(x[i:], z[j:])
            for i in range(1, PART + 1) for j in range(len(z) + 1) if i <= len(x)
            for nats in [channel.nats.get(x[:i], {}).get(z[:j], edit_nats(x[:i], z[:j]) if j <= PART else math.inf)]
        )  # fmt: skip

    assert -channel.log_probability(typed, meant) == pytest.approx(cheapest(bounded(meant), bounded(typed)))


@pytest.mark.parametrize("channel", [Channel(), Channel.fit(LIST)])
def test_words_are_found_in_the_order_of_their_probability(channel, words, monkeypatch):
    nats = {word: 3.0 + len(word) / 7 for word in words.words if word.isalpha()}
    monkeypatch.setattr(lexicon, "AHEAD", 0.0)
    channel = Channel(nats=channel.nats)
    for typed in ("kueen", "hoose", "fisicks", "windo", "king", ""):
        truth = sorted((nats[w] - channel.log_probability(typed, w), w) for w in nats if w != typed)
        found = list(Lexicon(nats).meant(typed, channel))
        assert all(p == pytest.approx(channel.log_probability(typed, word)) for word, p in found)
        assert [nats[w] - p for w, p in found] == pytest.approx([t for t, _ in truth if t < math.inf])


def log_probability(path, candidates):
    """ln p(typed, meant) of a whole path."""
    words = [word for candidate in path for word in candidate.words]
    scores, _ = search.extended([search.EMPTY], [(*words, search.START)], candidates.language)
    return search.WEIGHT * float(scores[0, 0]) + sum(candidate.log_probability for candidate in path)


def test_the_path_found_is_the_likeliest_of_all(candidates, monkeypatch):
    monkeypatch.setattr(search, "BEAM", 10_000)
    line = ["The", "cta", "sees", "moon", "."]

    def paths(i):
        if i == len(line):
            yield []
            return
        for option in candidates(line, i):
            for rest in paths(option.end):
                yield [option, *rest]

    every = list(itertools.islice(paths(0), 2_000_000))
    assert 1_000 < len(every) < 2_000_000
    found = search.searched(line, candidates)
    scores = [log_probability(path, candidates) for path in every[:: max(1, len(every) // 20_000)]]
    assert log_probability(found, candidates) >= max(scores) - 1e-9
    assert [word for option in found for word in option.words] == ["The", "cat", "sees", "the", "moon", "."]


def test_each_change_gains_what_undoing_it_costs(candidates):
    line = ["The", "cta", "sees", "teh", "moon", "."]
    changes = search.repaired(line, candidates, threshold=0.0)
    assert [(c.start, c.words) for c in changes] == [(1, ("cat",)), (3, ("the",))]

    def score(words):
        path = [candidates.kept(line, i) for i in range(len(line))]
        for i, word in words.items():
            path[i] = next(o for o in candidates(line, i) if o.words == (word,) and o.reason == "spelling")
        return log_probability(path, candidates)

    both = score({1: "cat", 3: "the"})
    assert changes[0].gain == pytest.approx(both - score({3: "the"}))
    assert changes[1].gain == pytest.approx(both - score({1: "cat"}))
    assert search.repaired(line, candidates, threshold=max(c.gain for c in changes) + 0.1) == []


@pytest.mark.parametrize(("typed", "meant"), [
    ("The cta sees teh moon.", "The cat sees the moon."), ("Teh king likes the queen.", "The king likes the queen."),
    ("The cat sees the the moon.", "The cat sees the moon."), ("The cat seesthe moon.", "The cat sees the moon."),
    ("The cat sees the win dow.", "The cat sees the window."), ("The cat sees moon.", "The cat sees the moon."),
    ("the cat sees the moon.", "The cat sees the moon."), ("THE CTA SEES THE MOON.", "THE CAT SEES THE MOON."),
    ("The cat sees the house of thomas.", "The cat sees the house of Thomas."),
    ("qeen", "queen"), ("moom", "moon"), ("The cat\nsees the the\nmoon.", "The cat\nsees the\nmoon."),
])  # fmt: skip
def test_what_was_meant_is_written_in_the_case_and_spacing_of_the_text(candidates, typed, meant):
    assert mended(typed, candidates) == meant


@pytest.mark.parametrize("text", [
    "The cat sees the moon.", "", " \n\n", "moon", "The cat sees Zyxwvut.", "The cat sees NASA.",
    "https://moom.cta/teh_cta",
    "The `cta` sees the moon.", "cta_dgo.py", "user@hose.moom", "[moon](teh/cta.html)", "B52 3.14159 1,000", "☃ ☃ ☃",
    "Der Hund sieht einen grossen gelben Mond.", "THE CAT SEES THE MOON.",
    "Zyxwvut sees the moon. The cat likes Zyxwvut.", "**The cat** sees *the moon*.",
    "\u4f60\u597d\u4e16\u754c", "# moon\n\n- cat\n- dog\n",
])  # fmt: skip
def test_what_is_right_or_no_word_stays(candidates, text):
    assert mended(text, candidates, threshold=5.5) == text


@pytest.mark.parametrize(("typed", "meant"), [
    ("The cta sees\r\nthe moon.\r\nThe dog sees teh\r\nking.\r\n",
     "The cat sees\r\nthe moon.\r\nThe dog sees the\r\nking.\r\n"),
    ("The  cta\tsees   the the\tmoon.", "The  cat\tsees   the\tmoon."),
    ("The cat sees the win\ndow.", None),
    ("The cat sees the dog\nbecause it's there.", "The cat sees the dog,\nbecause it's there."),
    ("Teh cat sees the dog, because it\u2019s there, because its there.",
     "The cat sees the dog, because it\u2019s there, because it\u2019s there."),
    ("THE CAT SEESTHE MOON.", "THE CAT SEES THE MOON."), ("THE CAT SEES MOON.", "THE CAT SEES THE MOON."),
    ("Cat sees the moon.", "The cat sees the moon."), ("GPU", "GPU"), ("<teh>The cat sees the moon.</teh>", None),
])  # fmt: skip
def test_spaces_lines_and_characters_that_are_not_edited_are_kept(candidates, typed, meant):
    edits = repair(typed, candidates, threshold=1.0)
    assert all(edit.old == typed[edit.start : edit.end] for edit in edits)
    assert all(a.end <= b.start for a, b in itertools.pairwise(edits))
    new = applied(typed, edits)
    assert new.count("\n") == typed.count("\n")
    assert new.count("\r") == typed.count("\r")
    if meant is not None:
        assert new == meant


@pytest.mark.parametrize("text", [
    "the cta sees a dog " * 400, "\u5b57" * 20_000, "\ufb01zzwqk sees the moon.", "\u0149zzwqk sees the moon.",
    "](" * 10_000, "`" * 10_000, "<" * 10_000, "a/b " * 1000, "cat" * 5000, "\x00\x00",
])  # fmt: skip
def test_long_and_hostile_texts_end(candidates, text):
    edits = repair(text, candidates, threshold=1.0)
    assert applied(text, edits).count("cta") == 0
    assert "".join(diff(text, edits)).count("nats\n") == len(edits)


def test_sentences_cover_all_but_white_space():
    text = 'The cat. "The dog?" said he.\n\nAn end; 3.5 % of Mr. King\'s\nwords'
    found = list(sentences(text))
    assert "".join(t.text for line in found for t in line) == "".join(text.split())
    assert all(text[t.start : t.end] == t.text for line in found for t in line)
    assert [line[0].text for line in found] == ["The", '"', "An"] or len(found) >= 3


def test_the_threshold_lets_at_most_the_share_of_false_alarms_through():
    gains = Gains(gains=(9.0, 5.0, 5.0, 2.0, 1.0), words=100)
    for rate in (0.001, 0.01, 0.02, 0.03, 0.05, 0.5):
        threshold = gains.threshold(rate)
        assert sum(gain >= threshold for gain in gains.gains) <= rate * 100
    assert gains.threshold(0.5) == 0
    assert sum(gain >= gains.threshold(0.03) for gain in gains.gains) == 3


def test_a_model_comes_back_from_its_file_and_a_damaged_one_is_counted_again(words, tmp_path):
    file = tmp_path / "words.safetensors"
    file.write_bytes(packed(words))
    back = read(file)
    grams = np.random.default_rng(0).integers(0, len(words.words), (100, ORDER))
    assert (back.log_probabilities(grams) == words.log_probabilities(grams)).all()
    assert (back.words, back.counts, back.cased, back.spelt("zyx")) == (
        words.words, words.counts, words.cased, words.spelt("zyx")
    )  # fmt: skip
    file.write_bytes(packed(words)[:1000])
    with pytest.raises(ValueError, match="damaged"):
        read(file)


class Opened:
    """Training texts that are opened once."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return self, None

    def strings(self):
        return [corpus()]


def test_words_are_counted_once_for_a_run(tmp_path):
    texts, said = Opened(), []
    first = words_of("a" * 64, texts, tmp_path / "cache", said.append)
    assert words_of("a" * 64, texts, tmp_path / "cache", said.append) is first  # in memory
    words_of("b" * 64, texts, None, said.append)
    again = words_of("a" * 64, texts, tmp_path / "cache", said.append)  # from the file
    assert texts.times == 2
    assert again.words == first.words
    [file] = (tmp_path / "cache").iterdir()
    file.write_bytes(b"x")
    words_of("b" * 64, texts, None, said.append)
    words_of("a" * 64, texts, tmp_path / "cache", said.append)
    assert texts.times == 4
    assert any("damaged" in line and "counted again" in line for line in said)


def test_a_diff_and_json_lines_hold_the_repaired_text(candidates):
    text = "The cta sees the moon.\nThe dog hears it.\n\nThe king likes teh queen. Teh dog\nsees the the\ncat.\n"
    edits = repair(text, candidates, threshold=1.0)
    assert len(edits) == 4
    new = applied(text, edits)
    before = [line[1:] for line in diff(text, edits) if line.startswith("-")]
    after = [line[1:] for line in diff(text, edits) if line.startswith("+")]
    assert all(line in text for line in before)
    assert all(line in new for line in after)
    for place, edit in located(text, edits):
        assert text[place["start"] : place["end"]] == place["old"]
        assert text.splitlines()[place["line"] - 1][place["column"] - 1 :].startswith(edit.old.split("\n")[0])
        json.dumps(place)


def test_lists_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "a.txt").write_text("the teh\n")
    with pytest.raises(ValueError, match=r"a\.txt.*colon"):
        listed([str(tmp_path / "a.txt")])
    with pytest.raises(ValueError, match=r"b\.txt"):
        listed([str(tmp_path / "b.txt")])
    (tmp_path / "c.txt").write_text("teh->the\n")
    (tmp_path / "d.txt").write_text("the: hte*2\n")
    both = listed([str(tmp_path / "c.txt"), str(tmp_path / "d.txt")])
    assert set(both.pairs()) == {("the", "teh", 1), ("the", "hte", 2)}


def test_a_listed_word_that_the_lexicon_lacks_is_a_candidate(words):
    channel = Channel.fit(read_misspellings(["technology: tecnology", "a lot: alot", "cat: cta"]))
    own = Candidates(language=words, channel=channel)
    assert mended("The cat likes tecnology.", own) == "The cat likes technology."


@pytest.mark.parametrize(("typed", "meant"), [
    ("Der Hund sieht einen grossen gelben Mond. The cta sees the moon.",
     "Der Hund sieht einen grossen gelben Mond. The cat sees the moon."),
    ("The cat sees the wyndouv.", "The cat sees the window."),  # three edits
    ("The cat sees 3 moom.", "The cat sees 3 moon."),
])  # fmt: skip
def test_what_is_wrong_is_found_beside_what_stays(candidates, typed, meant):
    assert mended(typed, candidates, threshold=3.0) == meant


def test_words_that_are_made_of_known_ones_are_likelier_than_their_letters(words, monkeypatch):
    monkeypatch.setattr("langevin.modalities.text.repair.candidates.FREQUENT", 4)
    own = Candidates(language=words)
    for word in ("windows", "unmoon", "queenly", "windowhouse"):
        assert own.spelt(word) == -DERIVED > words.spelt(word), word
    for word in ("windoww", "themoon", "zyxwvut"):
        assert own.spelt(word) == words.spelt(word), word
    assert own.spelt("window") == 0


def test_texts_without_words_are_refused():
    with pytest.raises(ValueError, match="no words"):
        WordModel.fit(["12 34\n\n!"])
