"""PairExamples made of records: who says what after what, and where sentences end."""

import pytest

from langevin.modalities.text.pairs import Inference, inferences, paragraphs, replies, sentences, summaries

TALK = {
    "id": 1,
    "turns": [["user", "Hi  there\nyou"], ["system", "Hello."], ["user", " "], ["user", "Bye"], ["system", "So long"]],
}


def test_a_reply_follows_the_turns_before_it():
    assert [tuple(reply) for reply in replies([TALK], last=2)] == [
        ("user: Hi there you", "system", "Hello."),
        ("user: Hi there you\nsystem: Hello.", "user", "Bye"),
        ("system: Hello.\nuser: Bye", "system", "So long"),
    ]
    assert [reply.reply for reply in replies([TALK], speaker="system")] == ["Hello.", "So long"]
    assert next(reply for reply in replies([TALK]) if reply.reply == "So long").context.count("\n") == 2
    assert list(replies([{"turns": [["user", "alone"]]}])) == []
    several = {"a": [["x", "1"], ["y", "2"]], "b": [["x", "3"], ["y", "4"]]}
    assert [reply.reply for reply in replies([several], field="b")] == ["4"]


def test_records_without_the_fields_are_named():
    with pytest.raises(ValueError, match=r"record 1 has no turns.*its fields are text"):
        list(replies([TALK, {"text": "a"}]))
    with pytest.raises(ValueError, match="1 or more, got 0"):
        list(replies([TALK], last=0))
    with pytest.raises(ValueError, match="record 0 has no summary"):
        list(summaries([{"text": "a", "summaries": [" "]}]))
    with pytest.raises(ValueError, match="record 0 has no hypothesis"):
        list(inferences([{"premise": "a"}]))


def test_each_different_summary_makes_a_pair():
    record = {"text": " t ", "summary": "a", "summaries": ["a", "b ", ""]}
    assert [tuple(pair) for pair in summaries([record])] == [("t", "a"), ("t", "b")]
    assert [pair.summary for pair in summaries([record, {"article": "u", "highlights": "c"}], every=False)] == [
        "a",
        "c",
    ]


def test_inferences():
    records = [{"premise": "p", "hypothesis": "h ", "label": 1}, {"sentence1": "a", "sentence2": "b"}]
    assert list(inferences(records)) == [Inference("p", "h", "1"), Inference("a", "b", "")]


def test_paragraphs_are_parted_by_blank_lines_and_headings():
    text = "# Title\r\n\r\nOne line\r\nand another.\r\n \t\r\n\r\nTwo.\n-----\nThree # not one.\n## Four\nFive\n\n* * *\n\n"
    assert paragraphs(text) == ["One line and another.", "Two.", "Three # not one.", "Five"]
    assert paragraphs("") == paragraphs("\n\n \n") == []


@pytest.mark.parametrize("text", [
    "One. Two! Three? Four… Five", "Mr. Smith met Mrs. J. R. Jones at St. Ives. | He left.",
    '"What?" he said. | "Go!" | She went.',
    "It cost 3.50 dollars. | No. 5 was worse, i.e. dear.",
    "“Is it you?” | “Yes.” | He (Tom) laughed. | (He left.) | She stayed.",
    "Wait... what? | No ... never. | He paused... | Then he spoke.", "He came, etc. | Then he went.",
    "It was I. | You knew.",
    "日本語です。 | 中文！ | “好。” | 終わり", "The U.S. Army left. | A. B. Clark, Esq., stayed.",
    "no capitals. none here. at all",
    "Élan vital! | Über alles? | ¿Qué? | ¡No!", "See fig. 3 and pp. 4-5. | 12 men came.",
    "_Why?_ | *So.* | He said: 'Yes.' | 'No,' said I.",
    "What?! | Really?! he cried.", "trailing space.  ", "x",
])  # fmt: skip
def test_sentences_end_where_they_should(text):
    if text.startswith("One."):
        assert sentences(text) == ["One.", "Two!", "Three?", "Four…", "Five"]
        return
    parts = [part.strip() for part in text.split("|")]
    assert sentences(" ".join(parts)) == parts


def test_no_word_is_lost_between_sentences():
    from tests.modalities.text.nasty import texts

    for text in texts(500, seed=9):
        assert "".join("".join(sentences(text)).split()) == "".join(text.split())
    assert sentences("") == sentences("  \n") == []
