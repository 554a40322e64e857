"""Codecs of text against what they promise: the same text back, or the loss that is said."""

import json
import os
import re

import pytest
import torch
from pydantic import TypeAdapter

from langevin.modalities.text import bpe
from langevin.modalities.text.codec import BPE, AnyTokens, Bytes, Characters, Letters
from tests.modalities.text.nasty import LONE, NASTY, texts

CORPUS = ["The cat sat on the mat; the café's 42 cats sat.\n\n", *NASTY, *texts(200, seed=1)]


@pytest.fixture(scope="module")
def pairs():
    return BPE.fit(CORPUS * 3, size=400)


@pytest.fixture(scope="module")
def every(pairs):
    return (Bytes(), Letters(), Characters.fit(CORPUS), pairs)


# ------------------------------------------------------------------------------------------------------------ all kinds


def test_every_kind_obeys_the_same_contract(every):
    for codec in every:
        some = [*NASTY, *texts(50, seed=2)]
        together = codec.encode_all(iter(some))
        for text, ids in zip(some, together, strict=True):
            alone = codec.encode(text)
            assert alone.dtype == torch.int64
            assert alone.ndim == 1
            assert torch.equal(alone, ids)
            assert not len(alone) or 0 <= int(alone.min()) <= int(alone.max()) < codec.vocab_size
            assert codec.decode(alone) == codec.decode(alone.tolist())
            assert torch.equal(codec.encode(codec.decode(alone)), alone) or isinstance(codec, BPE)
        assert codec.fitted(["other"]) is codec
        assert codec.encode_all([]) == []


def test_what_is_lossless_brings_every_text_back(every):
    assert [codec.lossless for codec in every] == [True, False, False, True]
    for codec in (codec for codec in every if codec.lossless):
        for text in [*NASTY, *texts(2000, seed=3)]:
            assert codec.decode(codec.encode(text)) == text
            assert codec.complaints(text) == []


def test_half_a_surrogate_pair_is_refused_by_position_and_complained_of(every):
    for codec in every:
        for text in LONE:
            with pytest.raises(ValueError, match=r"character \d+ is U\+D[89A-F]"):
                codec.encode(text)
            with pytest.raises(ValueError, match="unpaired UTF-16 surrogate"):
                codec.encode_all(["fine", text])
            assert "unpaired UTF-16 surrogate" in codec.complaints(text)[0]
    with pytest.raises(ValueError, match="character 3 is U\\+DFFF"):
        Bytes().encode(LONE[1])


def test_ids_that_are_no_symbols_are_refused_by_position(every):
    for codec in every:
        with pytest.raises(
            ValueError, match=rf"id {codec.vocab_size} at position 1 is outside 0..{codec.vocab_size - 1}"
        ):
            codec.decode([0, codec.vocab_size])
        with pytest.raises(ValueError, match="id -1 at position 0"):
            codec.decode(torch.tensor([-1]))
        with pytest.raises(ValueError, match="must be integers"):
            codec.decode(torch.zeros(3))
        with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
            codec.decode(torch.zeros(1, 2, dtype=torch.int64))
        assert codec.decode([]) == codec.decode(torch.zeros(0, dtype=torch.int64)) == ""


def test_any_ids_decode_to_some_text(every):
    noise = torch.Generator().manual_seed(0)
    for codec in every:
        for _ in range(100):
            ids = torch.randint(codec.vocab_size, (20,), generator=noise)
            text = codec.decode(ids)
            assert text.encode().decode() == text  # Unicode, without half of a pair
            assert codec.written(ids).decode(errors="replace") == text


def test_recipes_read_and_write_every_kind(every):
    adapter = TypeAdapter(AnyTokens)
    for codec in every:
        assert adapter.validate_json(adapter.dump_json(codec)) == codec
    assert adapter.validate_python({"kind": "bpe", "size": 300}) == BPE(size=300)
    assert adapter.validate_python({"kind": "characters"}).vocab_size == 1025


# ------------------------------------------------------------------------------------------------------------ each kind


def test_bytes_are_utf8():
    assert Bytes().encode("aé€😀\0").tolist() == list("aé€😀\0".encode())
    assert Bytes().decode([0xE2, 0x82, 65]) == "\ufffdA"


def test_letters_are_what_the_definition_says():
    for text in [*NASTY, *texts(500, seed=4)]:
        plain = re.sub("[^a-z]+", " ", text.lower())
        assert Letters().decode(Letters().encode(text)) == plain
    assert Letters().encode("Az, b!").tolist() == [1, 26, 0, 2, 0]
    assert Letters().complaints("Hello, WORLD é\n") == ["read as spaces, only a to z are known: ',', 'é'"]
    assert Letters().complaints("Hello world\n") == []


def test_characters_take_the_most_frequent_and_name_the_others():
    codec = Characters.fit(["bbbaac", "da"], most=2)
    assert codec.alphabet == "ab"
    assert codec.vocab_size == 3
    assert codec.encode("abcd").tolist() == [1, 2, 0, 0]
    assert codec.decode([1, 2, 0]) == "ab\ufffd"
    assert codec.complaints("abc\0😀") == ["never seen in training, read as unknown: U+0000, 'c', '😀'"]
    assert Characters.fit(["cba"], most=2).alphabet == "ab"  # ties by code point
    assert Characters.fit(iter(["ba", "cb"])) == Characters.fit(["cb", "ba"])
    assert codec.complaints("\ufffd") == []
    assert codec.decode(codec.encode("\ufffd")) == "\ufffd"


def test_characters_bring_back_what_they_have_seen():
    codec = Characters(most=100_000).fitted(CORPUS)
    for text in CORPUS:
        assert codec.decode(codec.encode(text)) == text
        assert codec.complaints(text) == []


@pytest.mark.parametrize(("wrong", "said"), [
    ({"alphabet": "aba"}, "each character once"), ({"alphabet": "a\ufffd"}, "no U\\+FFFD"),
    ({"most": 0}, "1 to 100,000"),
    ({"alphabet": "a\ud800"}, "not Unicode"),
])  # fmt: skip
def test_wrong_alphabets_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Characters(**wrong)


def test_what_is_not_fitted_says_so():
    for codec, asked in ((Characters(), 1025), (BPE(size=300), 300)):
        assert codec.vocab_size == asked
        for use in (lambda c=codec: c.encode("a"), lambda c=codec: c.decode([1])):
            with pytest.raises(ValueError, match="fitted"):
                use()
        with pytest.raises(ValueError, match="no text"):
            codec.fitted(["", ""])
        assert codec.fitted(["some text"]).encode("some").tolist()


# ----------------------------------------------------------------------------------------------------------- byte pairs


def test_byte_pairs_are_shorter_than_bytes_and_the_same_whenever_they_are_trained(pairs):
    text = "the cat sat on the mat"
    assert 256 < pairs.vocab_size <= 400
    assert len(pairs.encode(text)) < len(text)
    assert BPE.fit(iter(CORPUS * 3), size=400) == pairs
    assert BPE(size=400, model=pairs.model) == pairs
    assert len(repr(pairs)) < 100


def test_a_text_in_pieces_has_the_symbols_of_the_whole(pairs, monkeypatch):
    """Against the library, which is given the text whole; pieces and what is remembered are made small."""
    monkeypatch.setattr(bpe, "_TOGETHER", 13_000)
    monkeypatch.setattr(bpe, "_REMEMBERED", 50)
    for text in [*NASTY, *texts(500, seed=5), "".join(texts(2000, seed=6)), " ".join(texts(3000, seed=7))]:
        if max(map(len, re.findall(r"\s+|\S+", text)), default=0) < 4096:
            whole = pairs._tokenizer.encode(text, add_special_tokens=False).ids
            assert pairs.encode(text).tolist() == whole
            assert pairs.decode(whole) == pairs._tokenizer.decode(whole, skip_special_tokens=False)


def test_one_endless_word_and_endless_space_come_back(pairs):
    for text in ("ab" * 100_000, " " * 200_000, "\u3000" * 50_000, "x" * 4095 + " " + "y" * 4097 + "\n" * 4097 + "z"):
        ids = pairs.encode(text)
        assert pairs.decode(ids) == text
        assert len(ids) <= len(text.encode())


def test_long_texts_are_trained_on_in_evenly_spaced_parts(monkeypatch):
    monkeypatch.setattr(bpe, "_ENOUGH", 1000)
    monkeypatch.setattr(bpe, "_PART", 10)
    kept = list(bpe._spread(["a" * 2000, "b" * 2000]))
    assert sum(map(len, kept)) == 1000
    assert "".join(kept).count("b") == 500


def test_ready_tokenizers_are_read_and_two_sample_accuracy(tmp_path, pairs):
    import tokenizers

    (tmp_path / "tokenizer.json").write_text(pairs.model)
    assert BPE.from_file(tmp_path).model == BPE.from_file(str(tmp_path / "tokenizer.json")).model == pairs.model
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "hello": 1, "world": 2}, unk_token="[UNK]"))
    words.normalizer = tokenizers.normalizers.Lowercase()
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.add_special_tokens(["[CLS]"])
    words.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 3)])
    words.enable_padding(length=8)
    words.save(str(tmp_path / "words.json"))
    ready = BPE.from_file(tmp_path / "words.json")
    assert ready.vocab_size == 4
    assert not ready.lossless
    assert ready.encode("Hello there world").tolist() == [1, 0, 2]  # no start, no padding
    assert ready.complaints("hello world") == []
    assert ready.complaints("Hello") == ["it comes back changed from character 0 on: 'Hello' as 'hello'"]


@pytest.mark.parametrize(("content", "said"), [
    (b"", "empty"), (b"{", "not JSON"), (b"[]", "no tokenizer"), (b'{"a": 1}', "vocab.json alone"),
    (b"\xff\xfe", "not UTF-8"),
    (b'{"model": {"vocab": {}}}', "empty or malformed"),
    (b'{"model": {"vocab": {"a": "b"}}}', "empty or malformed"),
    (b'{"model": {"type": "None", "vocab": {"a": 0}}}', "known are BPE"),
])  # fmt: skip
def test_files_that_are_no_tokenizers_are_named(tmp_path, content, said):
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"t.json.*{said}"):
        BPE.from_file(tmp_path / "t.json")
    with pytest.raises(ValueError, match=r"other.json cannot be read: No such file"):
        BPE.from_file(tmp_path / "other.json")


# ----------------------------------------------------------------------------------------------- tokenizers from elsewhere


def changed_model(pairs, **changes) -> str:
    tree = json.loads(pairs.model)
    for name, value in changes.items():
        *path, last = name.split("__")
        part = tree
        for key in path:
            part = part[key]
        part[last] = value
    return json.dumps(tree)


FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
LONGER = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": "////////AAAA"}


@pytest.mark.parametrize(("changes", "said"), [
    ({"model__vocab": {"a": 0, "b": 10**9}}, r"0\.\.999,999, got 0 to 1000000000"),
    ({"added_tokens": [{"id": 10**9, "content": "x", **FLAGS}]}, r"0\.\.999,999"),
    ({"model__vocab": {"a": -1}}, r"0\.\.999,999"), ({"model__vocab": {"a": True}}, "malformed"),
    ({"model__vocab": {"a": 0.5}}, "malformed"), ({"model__vocab": 5}, "malformed"), ({"model__vocab": "abc"}, "malformed"),
    ({"model__vocab": [1, 2]}, "malformed"), ({"added_tokens": [1]}, "malformed"),
    ({"added_tokens": {"a": 1}}, "malformed"),
    ({"pre_tokenizer": []}, "pre_tokenizer is or holds"), ({"pre_tokenizer": "x"}, "pre_tokenizer is or holds"),
    ({"pre_tokenizer": {"type": ["ByteLevel"]}}, "pre_tokenizer is or holds"),
    ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "known are Sequence, BertPreTokenizer"),
    ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Sequence"}]}}, "pre_tokenizer is or holds"),
    ({"normalizer": {"type": "Sequence", "normalizers": [LONGER] * 5}}, "more than 1,000 times as long"),
    ({"decoder": {"type": "Sequence", "decoders": [LONGER] * 2}}, "decoder makes a text more than"),
    ({"normalizer": {**LONGER, "pattern": {"Regex": "x*"}, "content": "a" * 5000}}, "more than 1,000 times"),
    ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 99}}, "has 99 parts"),
    ({"normalizer": CHARSMAP}, "precompiled_charsmap is damaged"),
    ({"normalizer": {**CHARSMAP, "precompiled_charsmap": "!"}}, "is not base64"),
    ({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}}, "no token for unknown words"),
    ({"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": ["a"]}}, "no token for unknown words"),
    ({"model": {"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": None}}, "no token for unknown characters"),
    ({"model": {"type": "Neural", "vocab": {"a": 0}}}, "'Neural'; known are BPE"),
])  # fmt: skip
def test_a_tokenizer_with_parts_that_are_not_known_or_not_bounded_is_refused(pairs, changes, said):
    with pytest.raises(ValueError, match=rf"bpe: .*{said}"):
        BPE(model=changed_model(pairs, **changes))


def split_by(regex: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(("changes", "said"), [
    ({"pre_tokenizer": split_by("(a+)+[bc]Y")}, "retry-limit"), ({"pre_tokenizer": split_by("[")}, "refuses the model"),
    ({"model__continuing_subword_prefix": "x" * 99}, "refuses the model"), ({"model__merges": 5}, "refuses the model"),
    ({"added_tokens": [{"id": 5, "content": "hello", **FLAGS}]}, "names ids up to"),
    ({"normalizer": {**LONGER, "pattern": {"String": ""}, "content": "aa"}}, "cannot encode"),
])  # fmt: skip
def test_what_the_library_raises_is_an_error_in_words_even_if_it_panics(pairs, changes, said):
    codec = BPE(model=changed_model(pairs, **changes))
    with pytest.raises(ValueError, match=rf"bpe: .*{said}"):
        codec.encode("a" * 3000 + "bX")


@pytest.mark.parametrize("model", ['{"model": {"vocab": ' + "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_a_tokenizer_that_json_cannot_hold_is_refused(model):
    with pytest.raises(ValueError, match="beyond what is read"):
        BPE(model=model)


@pytest.mark.parametrize("normalizer", [
    {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {**LONGER, "content": "▁"}]},
    {"type": "NFKC"}, None,
])  # fmt: skip
@pytest.mark.parametrize("regex", [r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", "(?:a|b)+"])
def test_usual_parts_are_taken(pairs, normalizer, regex):
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    both = {"type": "Sequence", "pretokenizers": [split_by(regex), level]}
    codec = BPE(model=changed_model(pairs, normalizer=normalizer, pre_tokenizer=both))
    assert codec.decode(codec.encode("hello  world 1234")).endswith("hello  world 1234")


def test_a_fifo_is_no_tokenizer(tmp_path):
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(ValueError, match=r"tokenizer\.json: it is no regular file"):
        BPE.from_file(tmp_path)


def test_an_alphabet_of_a_million_equal_characters_is_refused_soon():
    with pytest.raises(ValueError, match="each character once"):
        Characters(alphabet="".join(map(chr, range(32, 50_000))) + "a" * 1_000_000)


# ------------------------------------------------------------------------------------------------------------ real data


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["shakespeare", "spelling", "nli", "summaries", "dialogues", "books"])
def test_every_text_of_the_real_folders_comes_back(name):
    from langevin.modalities.text.data import load_parts
    from langevin.modalities.text.sources import guess
    from tests.modalities.text.test_data import real

    train, held = load_parts(guess(real(name)))
    some, new = [*train.strings()], [*held.strings()]
    pairs = BPE().fitted(text[:1_000_000] for text in some[:1000])
    for codec in (Bytes(), Characters().fitted(some), pairs):
        for text, ids in zip(some, codec.encode_all(some), strict=True):
            assert codec.decode(ids) == text
        for text, ids in zip(new, codec.encode_all(new), strict=True):
            assert codec.decode(ids) == text or (not codec.lossless and codec.complaints(text))
    if name == "books":
        assert sum(map(len, Letters().encode_all(new))) // 256 == 9764
        assert sum(map(len, Letters().encode_all(some))) == pytest.approx(34.5e6, rel=0.002)
