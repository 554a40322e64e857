"""Rules for texts: over the tokens of every codec they accept what they say, and requests obey or are refused."""

import itertools
import re
from dataclasses import replace

import pytest
import torch

from langevin.cli import main
from langevin.modalities.modality import RequestContext
from langevin.modalities.text.codec import BPE, Bytes, Characters
from langevin.modalities.text.compile_rules import compiled, together
from langevin.modalities.text.expression import Expression
from langevin.modalities.text.options import Edit, Sample
from langevin.modalities.text.rules import obeys, rules_of
from langevin.run.directory import load_model, open_run
from langevin.run.generate import changed
from tests import texts, tiny

TEXTS = [
    "the cat sat",
    "a dog and a cat",
    "cat",
    "",
    "caterpillar dog",
    "no pet",
    "2024-05-01",
    "naïve café",
    "日本 cat",
    "aaa",
    "aaaa",
]
RULES = {
    "contains cat": ({"contain": ("cat",)}, lambda s: "cat" in s),
    "cat and dog": ({"contain": ("cat", "dog")}, lambda s: "cat" in s and "dog" in s),
    "no cat": ({"without": ("cat",)}, lambda s: "cat" not in s),
    "two a": ({"at_least": ("a:2",)}, lambda s: s.count("a") >= 2),
    "at most two a": ({"at_most": ("a:2",)}, lambda s: s.count("a") <= 2),
    "a date": ({"rule": "[0-9]{4}-[0-9]{2}-[0-9]{2}"}, lambda s: s == "2024-05-01"),
    "ends in t": ({"rule": ".*t"}, lambda s: s.endswith("t")),
    "an accent": ({"contain": ("é",)}, lambda s: "é" in s),
    "nothing beyond ASCII": ({"rule": "[ -~]*"}, lambda s: s.isascii()),
    "a range": ({"rule": ".*[à-ÿ].*"}, lambda s: any("à" <= c <= "ÿ" for c in s)),
    "other than k": ({"rule": "[^日]*"}, lambda s: "日" not in s),
    "a full stop is a character": ({"without": (".",)}, lambda s: "." not in s),
}
CODECS = {
    "bytes": Bytes(),
    "characters": Characters.fit(TEXTS),
    "bpe": BPE.fit([*TEXTS * 20, "the cat and the dog sat on a caterpillar " * 40], size=300),
}


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("name", RULES)
def test_a_rule_over_tokens_accepts_the_texts_that_it_says(name, codec):
    options, truth = RULES[name]
    rules = rules_of(**options)
    automaton = compiled(rules, codec, codec.vocab_size + 5)
    for text in TEXTS:
        assert all(obeys(rule, text) for rule in rules) == truth(text), text
        assert bool(automaton.accepts(codec.encode(text)[None])[0]) == truth(text), text
    assert not bool(automaton.accepts(torch.tensor([[codec.vocab_size]]))[0])  # a special token


def test_what_bytes_are_no_characters_is_never_accepted():
    automaton = compiled(rules_of(rule=".*"), Bytes(), 256)
    longer = (b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x80\x80\x80", b"\xc0\x80")
    for content in (b"\xff", b"\xc3", b"a\x80", b"\xe6\x97", b"\xc3a", *longer):
        assert not bool(automaton.accepts(torch.tensor([list(content)]))[0]), content
    assert bool(automaton.accepts(torch.tensor([list("aé日😀".encode())]))[0])


def test_bytes_are_accepted_if_and_only_if_python_reads_them():
    automaton = compiled(rules_of(rule="..?"), Bytes(), 256)
    random = torch.Generator().manual_seed(0)
    first = torch.tensor([0x41, 0xC2, 0xC3, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5])
    later = torch.tensor([0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0])
    valid = 0
    for _ in range(3000):
        size = int(torch.randint(1, 5, (1,), generator=random))
        content = [int(first[int(torch.randint(len(first), (1,), generator=random))])]
        content += later[torch.randint(len(later), (size - 1,), generator=random)].tolist()
        try:
            obeying = len(bytes(content).decode()) in (1, 2)
        except UnicodeDecodeError:
            obeying = False
        assert bool(automaton.accepts(torch.tensor([content]))[0]) == obeying, bytes(content)
        valid += obeying
    assert valid > 100


@pytest.mark.parametrize(
    "word", [chr(c) for c in range(32, 127)] + ["don't", "old-fashioned", "\u2014", "a\tb", "\U0001f600"]
)
def test_any_word_can_be_required_or_forbidden(word):
    for text in (f"x{word}y", "", "x", word * 2):
        for options, obeying in (
            ({"contain": (word,)}, word in text), ({"without": (word,)}, word not in text),
            ({"at_least": (f"{word}:2",)}, text.count(word) >= 2), ({"at_most": (f"{word}:1",)}, text.count(word) <= 1),
        ):  # fmt: skip
            (rule,) = rules_of(**options)
            assert obeys(rule, text) == obeying, (options, text)


EXPRESSIONS = [
    "a*b|(ab)+c?", "[^ab]*a.?", r"(?:a|bb){1,3}c", r"\d+|\w", "a{2}|b{,2}c", "(a(b(c)?)?)*", r"\.|a\-b", "[a-c]?[^\\w]",
    "", "(|a)b",    "a+?b*?", r"[\d\W]a", "[^a]{2,}c",
]  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_is_that_of_python(expression):
    rule = Expression("--rule", expression)
    both = together([rule]) if expression else None
    for size in range(5):
        for letters in itertools.product("abc.1- ", repeat=size) if size < 4 else itertools.product("abc", repeat=size):
            text = "".join(letters)
            truth = re.fullmatch(expression, text, re.DOTALL | re.ASCII) is not None
            assert obeys(rule, text) == truth, text
            if both is not None:
                state = 0
                for c in text:
                    state = both.lines[state][both.kind_of.get(ord(c), both.other)] if state >= 0 else -1
                assert (state >= 0 and both.accepting[state]) == truth, text


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (r"(a)\1", "groupref"), ("a(?=b)", "assert"), ("^a$", "at"), (r"\ba", "at"), ("(?i)a", "has flags"),
        ("(?i:a)b", "subpattern"), ("((a{50}){50}){50}", "it repeats too much"),
        ("(a|b)*a(a|b){20}", "more than 4,000 states"),
        ("a" * 2000, "is longer than 1,000"), ("a**", "multiple repeat"), ("[z-a]", "bad character range"),
    ],
)  # fmt: skip
def test_expressions_that_are_no_rules_are_refused(expression, message):
    with pytest.raises(ValueError, match=message):
        compiled(rules_of(rule=expression), Bytes(), 256)


def test_many_words_and_counts_are_one_automaton():
    words = ("king", "sea", "moon", "dog", "cat", "tree")
    rules = rules_of(contain=words, at_least=("the king:20",))
    text = " ".join(words) + " the king" * 20
    assert all(obeys(rule, text) for rule in rules)
    with pytest.raises(ValueError, match="too much together"):
        compiled(rules, Bytes(), 256)
    automaton = compiled(rules_of(contain=words), Bytes(), 256)
    assert bool(automaton.accepts(Bytes().encode(text)[None])[0])
    assert not bool(automaton.accepts(Bytes().encode(text.replace("tree", "free"))[None])[0])


def test_facts_are_named_where_their_subject_and_relation_are(tmp_path):
    (tmp_path / "facts.tsv").write_text("paris\tcapital\tfrance\n\nrome\tcapital\titaly\n")
    rules = rules_of(facts=str(tmp_path / "facts.tsv"))
    automaton = compiled(rules, Bytes(), 256)
    for text, obeying in (
        ("paris is big", True), ("paris, the capital", False), ("france has a capital, paris", True),
        ("paris and rome, capitals of france", False), ("paris, rome: a capital in france, in italy", True),
    ):  # fmt: skip
        assert all(obeys(rule, text) for rule in rules) == obeying, text
        assert bool(automaton.accepts(Bytes().encode(text)[None])[0]) == obeying, text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "(ab"}, r"the rule '\(ab' is no regular expression"),
        ({"contain": ("",)}, "a rule needs a word"),
        ({"at_least": ("cat",)}, "--at-least takes WORD:COUNT"),
        ({"at_most": ("cat:-1",)}, "--at-most takes WORD:COUNT"),
        ({"at_most": ("cat:1000",)}, "a count up to 100"),
        ({"rule": "[\u4e00-\u9fff]*"}, "names more than 4,000 characters"),
    ],
)
def test_rules_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        compiled(rules_of(**options), Bytes(), 256)


def test_rules_that_contradict_each_other_are_named():
    with pytest.raises(ValueError, match="no text obeys --without cat together with --contain caterpillar"):
        compiled(rules_of(contain=("caterpillar",), without=("cat",)), Bytes(), 256)
    with pytest.raises(ValueError, match="no text obeys --rule"):
        compiled(rules_of(rule=r"[^\s\S]"), Bytes(), 256)


def test_a_line_of_facts_of_another_form_is_named(tmp_path):
    (tmp_path / "facts.tsv").write_text("paris\tcapital\tfrance\nrome capital italy\n")
    with pytest.raises(ValueError, match=r"facts.tsv, line 2: a fact is subject, relation and object between tabs"):
        rules_of(facts=str(tmp_path / "facts.tsv"))


# ---------------------------------------------------------------------------------------------------------- requests


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run of two steps on characters, which writes nothing sensible: only the rules can make it obey."""
    folder = tmp_path_factory.mktemp("rules")
    words = [*tiny.SMALL, "training.steps=2", "data.codec.kind=characters", "data.task.context_length=32"]
    assert main(["train", str(texts.corpus(folder / "corpus")), "--out", str(folder / "run"), *words]) == 0
    return load_model(open_run(folder / "run"))[0]


def written(model, options, *, count=4, said=None, **changes):
    drawing = changed(model, **changes)
    context = RequestContext(
        model=drawing,
        data=lambda: (None, None),
        count=count,
        seed=2,
        say=(lambda line: None) if said is None else said.append,
    )
    return drawing.run(drawing.modality.plan(options, context), batch=3).values


@pytest.mark.parametrize("sampler", ["unmask", "unmask order=random", "confidence", "remdm"])
def test_every_text_of_a_request_obeys(model, sampler):
    said = []
    options = Sample(length=20, contain=("moon",), without=("e",), at_most=(" :3",))
    found = written(model, options, sampler=sampler, steps=6, said=said)
    assert all("moon" in text and "e" not in text and text.count(" ") <= 3 for text in found)
    assert said == ["4 of 4 texts obey (100 %)"]
    assert len(set(found)) > 1


def test_gaps_are_filled_under_rules(model, tmp_path):
    (tmp_path / "text.txt").write_text("the [[6]] and [[4]]")
    for text in written(model, Edit(input=str(tmp_path / "text.txt"), at_least=("o:2",)), steps=5):
        assert text.startswith("the ")
        assert " and " in text
        assert text.count("o") >= 2


def test_a_share_of_a_text_is_drawn_anew(model, tmp_path):
    given = "the old king likes the sea"
    (tmp_path / "text.txt").write_text(given)
    few, all_ = (written(model, Edit(input=str(tmp_path / "text.txt"), strength=s), steps=5) for s in (0.2, 1.0))
    same = [sum(a == b for a, b in zip(text, given, strict=False)) for text in few]
    assert min(same) >= len(given) - 5
    assert len(set(few)) > 1
    assert max(sum(a == b for a, b in zip(text, given, strict=False)) for text in all_) < min(same)


def test_requests_that_no_text_obeys_are_refused_before_any_work(model, tmp_path):
    context = RequestContext(model=model, data=lambda: (None, None), count=1)

    def refused(options, message, model=model):
        with pytest.raises(ValueError, match=message):
            next(model.modality.plan(options, replace(context, model=model)))

    refused(Sample(length=3, contain=("long word",)), "the rule accepts nothing of 3 tokens with what is given")
    refused(Sample(prompt="cat", length=5, without=("cat",)), "the given tokens do not fit the rule")
    refused(Sample(length=5, contain=("a",), block=2), "leave --block out")
    (tmp_path / "text.txt").write_text("no gap")
    refused(Edit(input=str(tmp_path / "text.txt")), "nothing to edit: the text has no gap")
    refused(Edit(input=str(tmp_path / "text.txt"), strength=1.5), "above 0 and at most 1, got 1.5")
    threshold = changed(model, sampler="threshold")
    refused(Sample(length=5, contain=("a",)), "rules are obeyed by the samplers unmask, confidence, remdm", threshold)
