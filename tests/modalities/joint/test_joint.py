"""Joint runs: examples are matched, every part is drawn with, after and without the others, and agreement is measured."""

import json

import pytest
import torch
import yaml
from PIL import Image

from langevin.cli import main
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.captions import split_words
from langevin.modalities.joint.data import matched, said
from langevin.modalities.joint.evaluate import agreement, shuffled, word_f1
from langevin.modalities.joint.modality import Joint
from langevin.modalities.joint.options import Sample
from langevin.modalities.modality import RequestContext
from langevin.modalities.speech.modality import Speech
from langevin.modalities.video.modality import Video
from langevin.run.begin import begin
from langevin.run.directory import load_model, open_run
from langevin.run.watermark import numbers_of
from tests import clips, voices

CPU = torch.device("cpu")
TINY = {"kind": "joint_dit", "width": 24, "depth": 1, "head_dim": 12, "patches": {"clip": [1, 8, 8], "sound": 8}}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Clips whose labels are vowels, and recordings of these vowels."""
    folder = tmp_path_factory.mktemp("joint")
    voices.spoken(folder / "voices")
    clips.captioned(folder / "clips", count=48)
    lines = [json.loads(line) for line in (folder / "clips" / "metadata.jsonl").read_text().splitlines()]
    texts = sorted({text for text in Speech(path=str(folder / "voices")).open()[0].texts if len(text.split()) == 1})
    for i, line in enumerate(lines):
        line["vowel"] = texts[i % 2]
        line["text"] = f"{texts[i % 2]} moving {line['direction']}"
    (folder / "clips" / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def parts(work):
    sound = Speech(path=str(work / "voices"), context=0.0, val_fraction=0.3)
    return {"clip": Video(path=str(work / "clips"), val_fraction=0.3), "sound": sound}


@pytest.fixture(scope="module")
def run(work):
    recipe = {
        "name": "joint/test",
        "data": {
            "kind": "joint", "caption": "clip", "match": {"clip": "vowel", "sound": "text"},
            "parts": {
                "clip": {"kind": "video", "path": str(work / "clips"), "val_fraction": 0.3},
                "sound": {"kind": "speech", "path": str(work / "voices"), "context": 0.0, "val_fraction": 0.3},
            },
        },
        "network": TINY, "process": {"kind": "product", "warp": False},
        "method": {"levels": [{"kind": "shared"}, {"kind": "per_stream"}, {"kind": "clean_stream"}]},
        "training": {"steps": 2, "batch": 4, "ema_lengths": [0.1]}, "sampling": {"steps": 3, "ema": 0.1},
    }  # fmt: skip
    (work / "joint.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["train", str(work / "joint.yaml"), "--out", str(work / "run")]) == 0
    return work / "run"


@pytest.fixture(scope="module")
def model(run):
    return load_model(open_run(run))[0]


def drawn(model, options, count=3, seed=0):
    joint = model.modality
    return model.run(joint.plan(options, RequestContext(model=model, data=joint.open, count=count, seed=seed)))


def test_examples_of_all_parts_say_the_same(work):
    joint = Joint(parts=parts(work), match={"clip": "vowel", "sound": "text"}, caption="clip")
    train, val = joint.open()
    assert len(val) > 1
    items = torch.arange(len(train))
    noise = SampleNoise(seeds=items, steps=torch.ones_like(items))
    for own in (None, noise):
        chosen = train.chosen(items, own)
        vowels, texts = said(train.parts["clip"], "vowel"), said(train.parts["sound"], "text")
        for a, b in zip(chosen["clip"].tolist(), chosen["sound"].tolist(), strict=True):
            assert vowels[a] == texts[b]
    again = SampleNoise(seeds=items, steps=2 * torch.ones_like(items))
    assert not torch.equal(train.chosen(items, noise)["sound"], train.chosen(items, again)["sound"])
    assert torch.equal(train.chosen(items)["sound"], train.chosen(items)["sound"])


def test_a_batch_holds_every_part_at_its_full_size_and_the_caption(work):
    joint = Joint(parts=parts(work), match={"clip": "vowel", "sound": "text"}, caption="clip")
    train, _ = joint.open()
    joint = joint.fitted(train)
    x = joint.batches(train, device=CPU)(torch.arange(5)).x
    needs = joint.needs(train).parts
    assert {name: tuple(part.shape[1:]) for name, part in x.items()} == {
        name: part.space if part.tokens is not None else (part.channels, *part.space) for name, part in needs.items()
    }
    for value, caption in zip(joint.decode(x), train.parts["clip"].captions, strict=False):
        assert value["caption"].split()[0] in split_words(caption) or value["caption"]
        assert value["clip"].shape == (4, 3, 16, 16)
        assert float(value["sound"].abs().max()) <= 1
    assert needs["clip"].seconds == pytest.approx(0.4)


def test_what_is_given_stays_and_the_rest_is_drawn_after_it(model, work):
    text = drawn(model, Sample(text=("ah moving left",)))
    assert [value["caption"] for value in text.values] == ["ah moving left"] * 3
    assert not torch.equal(text.values[0]["clip"], text.values[1]["clip"])
    clip = str(clips.write(work / "given.webp", clips.frames("left", "blue")))
    after = drawn(model, Sample(given=clip))
    frames = model.modality.parts["clip"].codec.decode(
        model.modality.parts["clip"].read(work / "given.webp", say=print)
    )[0]
    assert all(torch.equal(value["clip"], frames) for value in after.values)
    assert set(after.values[0]) == {"clip", "sound", "caption"}


def test_a_part_alone_is_drawn_without_looking_at_the_others(model):
    """What is withheld stays noise: its times never fall."""
    alone = drawn(model, Sample(only=("sound",)))
    assert set(alone.values[0]) == {"sound"}
    plan = model.modality.plan(Sample(only=("sound",)), RequestContext(model=model, data=model.modality.open, count=2))
    request = next(plan)
    times = begin(model.built, request, torch.arange(2)).state.times
    assert bool((times["clip"] == times["clip"][:, :1]).all())
    assert bool((times["sound"][:, -1] == 0).all())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Sample(only=("clp",)), "did you mean"), (Sample(part="clip"), "give both"), (Sample(given="nowhere"), "no file"),
        (Sample(text=("ah",), only=("caption",)), "nothing is left"),
    ],
)  # fmt: skip
def test_requests_that_lead_nowhere_are_refused(model, options, words):
    with pytest.raises(ValueError, match=words):
        drawn(model, options)


def test_a_file_that_no_part_reads_is_refused_with_reasons(model, work):
    (work / "a.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"no part reads .*clip: .*sound: "):
        drawn(model, Sample(given=str(work / "a.txt")))


def test_samples_are_written_shown_and_evaluated(run, work):
    assert main(["sample", str(run), "--count", "2", "--out", str(work / "out")]) == 0
    names = {path.name.partition("-")[2] for path in (work / "out").iterdir()}
    assert names == {"clip.webp", "clip.txt", "sound.wav"}
    assert (work / "out" / "00001-clip.txt").read_text().endswith("\n")
    with Image.open(work / "out" / "00001-clip.webp") as clip:
        assert clip.size == (16, 16)  # bare, with nothing painted beside it
    assert main(["sample", str(run), "--count", "2", "--out", str(work / "all.webp")]) == 0
    assert main(["evaluate", str(run), "--count", "8", "--seeds", "1"]) == 0
    figures = json.loads((run / "evaluation.json").read_text())
    assert set(figures["agreement"]) == {
        "agree, drawn together", "agree, drawn from clip", "agree, drawn from sound", "agree, drawn from caption",
    }  # fmt: skip
    assert set(figures["word_f1"]) == {"caption from clip", "caption from sound"}


def test_a_sample_is_made_of_the_numbers_of_all_its_parts(run, model):
    x = model.batches(model.modality.open()[0])(torch.tensor([0])).x
    assert numbers_of(open_run(run)) == sum(part.numel() for part in x.values())


def test_words_are_compared_as_multisets():
    assert word_f1(["a red cat"], ["a red cat"]) == 1
    assert word_f1(["cat red"], ["a red cat"]) == pytest.approx(2 * 2 / 5)  # precision 1, recall 2 / 3
    assert word_f1(["cat cat", "dog"], ["cat", "fish"]) == pytest.approx((2 / 3 + 0) / 2)
    assert word_f1([""], [""]) == 0


def test_agreement_is_counted_over_pairs_of_parts():
    says = {"a": list, "b": list}
    values = [{"a": "three", "b": "three moving left"}, {"a": "two", "b": "three"}]
    assert agreement(values, says) == 0.5
    assert agreement(values[:1], says) == 1
    assert agreement(shuffled([{"a": str(i), "b": str(i)} for i in range(6)]), says) == 0
    four = dict.fromkeys("abcd", list)
    assert agreement(shuffled([dict.fromkeys("abcd", str(i)) for i in range(9)]), four) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parts": {}}, "2 to 8"), ({"match": {"clip": "x"}}, "data.match has for each part"),
        ({"caption": "speech"}, "data.caption is one of the parts"),
        ({"match": {"clip": "colr", "sound": "text"}}, "no column"),
    ],
)  # fmt: skip
def test_configurations_that_do_not_fit_are_refused(work, options, words):
    given = {"parts": parts(work), "match": {"clip": "vowel", "sound": "text"}, **options}
    with pytest.raises(ValueError, match=words):
        Joint(**given).open()


def test_parts_that_never_say_the_same_are_an_error(work):
    opened = {name: part.open()[0] for name, part in parts(work).items()}
    with pytest.raises(ValueError, match="no training example of clip has partners"):
        matched(opened, {"clip": "colour", "sound": "text"})
