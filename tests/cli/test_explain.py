"""`langevin explain`: effects are those of the intervention they name, and are written as picture, report and JSON."""

import json

import pytest
import torch

from langevin.cli import main
from langevin.modalities.image.options import Explain, Sample
from langevin.modalities.modality import RequestContext
from langevin.modalities.text.explain import words_at
from langevin.modalities.text.options import Explain as ExplainText
from langevin.run.directory import load_model, open_run
from langevin.run.generate import changed
from tests import pictures, texts, tiny


def explained(run, options, *, seed=3, **changes):
    opened = open_run(run)
    model = changed(load_model(opened)[0], **changes)
    context = RequestContext(model=model, data=opened.open_data, count=1, seed=seed)
    return model, model.run(model.modality.plan(options, context))


def test_the_image_is_that_of_the_seed_and_each_part_is_left_out_from_the_same_noise(captioned):
    model, found = explained(captioned, Explain(condition=("red disc",)), sampler="ddim", steps=8)
    context = RequestContext(model=model, data=lambda: (None, None), count=1, seed=3)

    def drawn(caption):
        return model.run(model.modality.plan(Sample(condition=(caption,)), context)).values[0]

    assert found.names[:4] == ("the image", "without red", "without disc", "without any condition")
    for value, caption in zip(found.values[:3], ("red disc", "disc", "red"), strict=True):
        assert (value.float() - drawn(caption).float()).abs().max() <= 1  # batches of other sizes
    (effects,) = found.explanation.tables.values()
    off = (found.values[1].float() - found.values[0].float()).square().mean().sqrt()
    assert effects["red"] == pytest.approx(float(off), abs=0.6)


def test_where_an_image_attends_to_each_word_is_shown(tmp_path):
    words = ["network.kind=dit", "network.conditioning.text=cross_attention", "network.patch=2"]
    run = tiny.run_of(pictures.captions(tmp_path / "data"), tmp_path / "run", *words)
    _, found = explained(run, Explain(condition=("red disc",)), steps=6)
    assert {"attention to red", "attention to disc"} <= set(found.names)
    attention = next(table for name, table in found.explanation.tables.items() if name.startswith("Attention"))
    assert set(attention) == {"red", "disc"}
    assert 0 < sum(attention.values()) < 1
    curve = next(one for one in found.explanation.curves if one.heading == "Attention by step")
    assert [len(line.y) for line in curve.lines] == [6, 6]
    assert sum(curve.lines[0].y) / 6 == pytest.approx(attention["red"], abs=1e-3)
    shown = found.values[found.names.index("attention to red")]
    assert int(shown.max()) == 255


def test_a_run_without_conditions_and_one_of_classes_are_explained(trained):
    _, found = explained(trained, Explain(condition=("bar",)), steps=6)
    assert found.names[:2] == ("the image", "without any condition")
    spread = list(found.explanation.figures["open"].values())
    assert len(spread) == 5
    assert spread[-1] < spread[0]
    nearest = found.explanation.figures["nearest_training_images"]
    assert [one["distance"] for one in nearest] == sorted(one["distance"] for one in nearest)
    train = open_run(trained).open_data()[0]
    first = train.read(torch.tensor([nearest[0]["item"]]))[0]
    off = (first.float() - found.values[0].float()).square().mean().sqrt()
    assert nearest[0]["distance"] == pytest.approx(float(off), abs=0.1)
    with pytest.raises(ValueError, match="no class is called 'sun'"):
        explained(trained, Explain(condition=("sun",)))
    with pytest.raises(ValueError, match="one image is explained"):
        explained(trained, Explain(condition=("bar", "disc")))


def test_the_command_writes_picture_report_and_json(trained, tmp_path, capsys):
    out = tmp_path / "why"
    assert main(["explain", str(trained), "--seed", "4", "--condition", "disc", "--steps", "4", "--out", str(out)]) == 0
    assert "change without a part" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        "explanation.json", "explanation.png", "report.html", "report.json",
    ]  # fmt: skip
    figures = json.loads((out / "explanation.json").read_text())
    assert len(figures["influence"]) == 4
    page = (out / "report.html").read_text()
    assert "nearest training image" in page
    assert "langevin explain" in page


@pytest.fixture(scope="module")
def writes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained")
    words = [*tiny.SMALL, "training.steps=60", "data.codec.kind=characters", "data.task.context_length=48"]
    assert main(["train", str(texts.corpus(folder / "corpus")), "--out", str(folder / "run"), *words]) == 0
    return folder / "run"


def test_given_words_are_weighed_by_what_they_give_to_written_ones(writes):
    model, found = explained(writes, ExplainText(prompt="the old king ", length=12), steps=12)
    figures = found.explanation.figures
    assert figures["given"] == ["the", "old", "king"]
    assert found.values[0].startswith("the old king ")
    assert found.values[0][13:].split() == figures["written"]
    assert len(figures["nats"]) == 3
    text = model.modality
    x = text.codec.encode(found.values[0])
    given, written = words_at(text, x[:13], 0), words_at(text, x, 13)
    mask = model.parts.process.mask
    word, target = given[2], written[0]
    total = 0.0
    for position in target.positions:  # one token at a time, by the model itself
        place = torch.arange(len(x))
        half = (place >= 13) & ((place - 13) % 2 == (position - 13) % 2)
        without = half.clone()
        without[list(word.positions)] = True
        logp = []
        for hidden in (half, without):
            x_t = torch.where(hidden, mask, x)[None]
            t = (x_t == mask).double().mean(1)
            where = (place == position)[None]
            logits = model.parts.denoiser(x_t, t, None).logits_at(where)[0].double()
            logp.append(float(logits.detach().log_softmax(-1)[x[position]]))
        total += logp[0] - logp[1]
    assert figures["nats"][2][0] == pytest.approx(total, abs=1e-3)


def test_prompts_that_cannot_be_explained_are_refused(writes):
    for prompt, length in (("", 5), ("word " * 30, None), ("the king", 1000), ("the king", 0)):
        with pytest.raises(ValueError, match="a prompt of 1 to 100 words is explained" if prompt else "give --prompt"):
            explained(writes, ExplainText(prompt=prompt, length=length))
