"""Text on the command line: train, sample, continue, fill in, answer, label, measure; and what cannot be done."""

import io
import json
import shutil
from collections import Counter
from dataclasses import replace

import pytest
import torch
import yaml

from langevin.diffusion.batch import Batch
from langevin.diffusion.likelihood.tokens import in_order, whole
from langevin.diffusion.process import Masked
from langevin.diffusion.sampler import kinds_for
from langevin.modalities.text.batches import counts
from langevin.modalities.text.codec import Bytes
from langevin.modalities.text.infill import padded
from langevin.modalities.text.input import as_dialogue
from langevin.modalities.text.measure import references
from langevin.modalities.text.nats import cost
from langevin.modalities.text.repair.network import WEIGHT, weighed
from langevin.modalities.text.repair.text import Edit, applied
from langevin.modalities.text.target import generate_targets
from langevin.run.directory import open_run
from langevin.run.generate import changed
from langevin.training import checkpoint
from tests import texts
from tests.cli.tables import shown_metrics
from tests.texts import driven, loaded, writer_of

SMALL = ("network.width=32", "network.depth=1", "network.head_dim=16", "training.batch=8", "training.ema_lengths=[0.1]",
         "sampling.ema=0.1", "training.precision=float32")  # fmt: skip


def written(model, x, *, seeds, **options):
    """Masked positions of x (b, n) as a run's model writes them."""
    return driven(model, writer_of(model, **options).write(x, seeds))[0]


def answered(model, sources, *, seeds):
    """(answers, function evaluations) to sources of token ids."""
    return driven(model, generate_targets(writer_of(model), model.modality.task, sources, seeds=seeds, batch=256))


def validation_rows(model):
    return model.batches(model.modality.open()[1]).examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


def trained(told, folder, name, *changes):
    run = folder / f"run-{name}"
    kind = name.split("-")[0]
    if kind == "corpus":  # so that tokens can be counted in the text
        changes = ("data.codec.kind=characters", *changes)
    data = getattr(texts, kind)(folder / kind)
    status, _, err = told("train", data, *SMALL, *changes, "--out", run, "--minutes", "1")
    assert status == 0, err
    return run


@pytest.fixture(scope="module")
def told_once(request):
    """`told` for fixtures of the module."""
    import contextlib

    from langevin.cli import main

    def tell(*words):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([str(word) for word in words])
        return status, out.getvalue(), err.getvalue()

    return tell


@pytest.fixture(scope="module")
def run(told_once, folder):
    return trained(told_once, folder, "corpus", "data.task.context_length=32", "training.steps=30")


@pytest.fixture(scope="module")
def beside(told_once, folder, run):
    """An autoregressive run, where `evaluate` looks for one."""
    return trained(told_once, folder, "corpus-causal", "data.task.context_length=32", "process.kind=autoregressive",
                   "network.attention=causal", "training.steps=30")  # fmt: skip


@pytest.fixture(scope="module")
def blocks(told_once, folder):
    return trained(told_once, folder, "corpus-blocks", "data.task.context_length=32", "network.attention=block",
                   "network.block_size=8", "training.steps=4")  # fmt: skip


@pytest.fixture(scope="module")
def pairs(told_once, folder):
    return trained(told_once, folder, "summaries", "data.task.context_length=160", "data.task.max_target_length=30",
                   "data.codec.size=300", "training.steps=4")  # fmt: skip


@pytest.fixture(scope="module")
def joint(told_once, folder):
    return trained(told_once, folder, "summaries-joint", "data.task.context_length=160", "data.task.max_target_length=30",
                   "data.codec.size=300", "data.task.joint_fraction=0.3", "training.steps=1")  # fmt: skip


@pytest.fixture(scope="module")
def labels(told_once, folder):
    return trained(told_once, folder, "inferences", "data.codec.size=300", "training.steps=4")


def test_training_on_text_makes_a_run_that_knows_its_symbols(run):
    recipe = open_run(run).recipe
    assert recipe.data.codec.kind == "characters"
    assert set(recipe.data.codec.alphabet) == set("\n".join(texts.sentences(300)))
    assert recipe.process.vocab_size == recipe.network.vocab_size == recipe.data.codec.vocab_size
    assert sorted(p.suffix for p in (run / "samples").iterdir()) == [".txt"] * 11
    assert (run / "samples" / "step-00000000.txt").is_file()  # before the first step
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    held = [line for line in lines if "val_loss" in line]
    assert held[-1]["masked"] == [0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0]
    assert sum(held[-1]["val_loss"]) < sum(held[0]["val_loss"])


def test_a_run_that_is_stopped_ends_in_the_same_bits(run, tmp_path, told):
    whole = checkpoint.load(checkpoint.steps(run / "checkpoints")[0]).groups
    other = shutil.copytree(run, tmp_path / "run")
    for path in checkpoint.steps(other / "checkpoints"):
        if checkpoint.step_of(path) > 27:
            shutil.rmtree(path)
    status, _, err = told("resume", other)
    assert status == 0
    assert "resuming from step 27" in err
    again = checkpoint.load(checkpoint.steps(other / "checkpoints")[0]).groups
    assert all(torch.equal(t, again[g][n]) for g, tensors in whole.items() for n, t in tensors.items())


def test_a_prompt_and_a_suffix_stand_where_they_were_put(run, told):
    status, out, _ = told("sample", run, "--count", 3, "--steps", 4, "--prompt", "the cat", "--suffix", "moon.",
                          "--length", 9)  # fmt: skip
    assert status == 0
    found = out.split("--- ")[1:]
    assert len(found) == 3
    for text in found:
        written = text.split("\n", 1)[1].removesuffix("\n")
        assert written.startswith("the cat")
        assert written.endswith("moon.")
        assert len(written) == len("the cat") + 9 + len("moon.")


def test_gaps_are_filled_and_the_rest_stays(run, told):
    status, out, _ = told("sample", run, "--count", 1, "--steps", 3, "--infill", "the [[3]] sees [[]] moon")
    assert status == 0
    assert out.startswith("the ")
    assert out[7:13] == " sees "
    assert out.endswith(" moon\n")


@pytest.mark.parametrize(("fill", "said"), [
    ("to [[x]] be", "is no number from 1 to 4096"), ("to [[5 be", "is not closed"), ("to [[0]] be", "is no number"),
    ("to be", "needs a gap"),
])  # fmt: skip
def test_gap_marks_that_do_not_parse_are_refused(run, told, fill, said):
    status, _, err = told("sample", run, "--infill", fill)
    assert status == 1
    assert said in err


def test_brackets_can_be_written(run, told):
    status, out, _ = told("sample", run, "--count", 1, "--steps", 2, "--infill", r"a\[[b [[2]]")
    assert status == 0
    assert len(out.rstrip("\n")) == len("a[[b ") + 2  # characters never seen are coded as unknown, a symbol each


def test_a_prompt_longer_than_a_row_is_refused_with_both_numbers(run, told):
    status, _, err = told("sample", run, "--prompt", "the cat " * 10)
    assert status == 1
    assert "the text has 80 tokens and 1 are to be generated, more than the run's context of 32" in err


def test_what_was_never_seen_is_told(run, told):
    _, _, err = told("sample", run, "--count", 1, "--steps", 1, "--prompt", "QX")
    assert "never seen in training" in err


def test_the_same_seed_writes_the_same_text_in_any_batch(run):
    model = loaded(run)
    x = torch.full((5, 32), writer_of(model).words.mask)
    many = written(model, x, seeds=torch.arange(5))
    for i in range(5):
        alone = written(model, x[:1], seeds=torch.tensor([i]))
        assert torch.equal(alone[0], many[i])


def test_the_best_of_several_texts_is_the_likeliest_of_them(run):
    """The first is the plain one of the same seed; one row is chosen as in a batch."""
    model = loaded(run)
    denoiser, process = model.parts.denoiser, model.parts.process
    x = torch.full((3, 12), writer_of(model).words.mask)
    free = x == x
    plain = written(model, x, seeds=torch.arange(3))
    nats = {0: in_order(denoiser, process, Batch(x=plain, mask=free))}
    for count in (2, 4, 16):  # each holds the texts of the fewer
        best = written(model, x, seeds=torch.arange(3), best_of=count)
        nats[count] = in_order(denoiser, process, Batch(x=best, mask=free))
    found = torch.stack(list(nats.values()))
    assert bool((found.diff(dim=0) <= 1e-6).all())
    assert float(found[-1].mean()) < float(found[0].mean()) - 1  # a text alone may be among the likeliest already
    alone = written(model, x[:1], seeds=torch.tensor([2]), best_of=16)
    assert torch.equal(alone[0], best[2])


def test_what_a_text_costs_its_writer_is_what_evaluation_says(run, beside):
    """Nats of some free positions behind given ones, which `best_of` goes by, against the estimators of evaluation."""
    for path in (run, beside):
        model = loaded(path)
        x = model.batches(model.modality.open()[1])(torch.arange(4)).x
        free = torch.arange(x.shape[1]).expand_as(x) >= torch.tensor([[0], [9], [20], [31]])
        found, nfe = driven(model, writer_of(model).nats(x, free))
        batch = Batch(x=x, mask=free, known=~free)
        if model.parts.autoregressive:
            assert nfe == 1
            exact = whole(model.parts.denoiser, batch)
        else:
            assert nfe == x.shape[1]
            exact = in_order(model.parts.denoiser, model.parts.process, batch)
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-6)


def test_what_a_source_costs_after_its_target_is_what_evaluation_says(joint):
    """By the chain rule, on masks of training examples in which all is predicted; padding changes nothing."""
    model = loaded(joint)
    writer, part = writer_of(model, reverse_weight=2.0), validation_rows(model)
    examples = [part.example(i, 0.0) for i in range(3)]
    assert [int((~free).sum()) for _, free in examples] == [1, 1, 1]  # the separator alone is given
    x = padded([x for x, _ in examples], writer.words.padding)
    source = torch.stack([torch.arange(x.shape[1]) < len(part.sources[i]) for i in range(3)])
    target = (x < writer.words.codec) & ~source
    given = torch.where(target, writer.words.mask, x)
    found, nfe = driven(model, writer.costs(x, given))
    forward, reverse = (
        in_order(model.parts.denoiser, model.parts.process, Batch(x=x, mask=free, known=~free))
        for free in (target, source)
    )
    torch.testing.assert_close(found, forward + 2 * reverse, rtol=1e-5, atol=1e-5)
    assert nfe == int(target.sum(1).max() + source.sum(1).max())
    length = len(examples[0][0])
    alone, _ = driven(model, writer.costs(x[:1, :length], given[:1, :length]))
    torch.testing.assert_close(alone, found[:1], rtol=1e-5, atol=1e-5)


def test_the_best_by_blocks_is_refused(blocks, told):
    status, _, err = told("sample", blocks, "--best-of", 2)
    assert status == 1
    assert "no network.attention=block" in err


@pytest.mark.parametrize("sampler", [
    *kinds_for(Masked(vocab_size=2)), "unmask order=random", "unmask order=left_to_right", "confidence score=margin",
    "{kind: confidence, score: entropy}", "threshold rule=factor threshold=1.5", "threshold rule=entropy_bound",
])  # fmt: skip
def test_every_sampler_writes_whole_texts(run, told, sampler):
    status, out, err = told("sample", run, "--count", 2, "--steps", 6, "--sampler", sampler, "--prompt", "a dog ")
    assert status == 0, err
    rows = [part.split("\n", 1)[1].removesuffix("\n") for part in out.split("--- ")[1:]]
    assert [len(row) for row in rows] == [32, 32]
    assert all(row.startswith("a dog ") for row in rows)


def test_blocks_write_as_they_settle_and_as_a_whole(blocks, told):
    status, out, _ = told("sample", blocks, "--count", 1, "--steps", 4, "--prompt", "the cat se")
    assert status == 0
    _, many, _ = told("sample", blocks, "--count", 2, "--steps", 4, "--prompt", "the cat se")
    assert out.removesuffix("\n") == many.split("--- 1")[0].split("\n", 1)[1].removesuffix("\n")
    assert len(out.removesuffix("\n")) == 32


def test_what_is_left_out_of_a_source_is_told(pairs, told, tmp_path):
    file = tmp_path / "long.txt"
    file.write_text(" ".join(texts.sentences(60)) + "\n" + texts.sentences(1)[0] + "\n")
    status, out, err = told("summarise", pairs, file, "--steps", 3)
    assert status == 0, err
    assert len(out.splitlines()) == 2
    assert "are left out" in err


def test_the_length_of_an_answer_is_the_models(pairs):
    """Rows that ask for the length alone hold nothing that gives it away, and answers have that length."""
    model = loaded(pairs)
    words, part = writer_of(model).words, validation_rows(model)
    x, free = part.example(0, part.joint_fraction)
    assert int(free.sum()) == 1
    assert int(x[-1]) == words.number(len(part.targets[0]))
    x, free = part.example(0, 1.0)
    assert int(free.sum()) == len(part.targets[0])
    made, nfe = answered(model, [part.sources[0], part.sources[1][:5]], seeds=torch.arange(2))
    alone, _ = answered(model, [part.sources[1][:5]], seeds=torch.tensor([1]))
    assert made[1] == alone[0]  # whatever the padding
    assert nfe > 1


@pytest.mark.parametrize(("given", "asked"), [
    ("user: hello", "user: hello\nsystem:"), ("user: a\nsystem: b", "user: a\nsystem: b\nuser:"),
    ("user: hello\nsystem:", "user: hello\nsystem:"), ("two lines\nof text", "two lines\nof text"),
])  # fmt: skip
def test_the_speaker_who_answers_is_named(given, asked):
    assert as_dialogue(given) == asked


@pytest.mark.parametrize("option", ["--length", "--block"])
def test_counts_of_symbols_are_positive(run, told, option):
    status, _, err = told("sample", run, option, 0)
    assert status == 1
    assert "at least 1" in err


def test_labels_come_with_their_probability(labels, told, tmp_path):
    file = tmp_path / "pairs.tsv"
    file.write_text("the cat sees the moon.\tthe cat sees the moon.\na dog\ta bird\n")
    status, out, _ = told("classify", labels, file)
    assert status == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert all(row[0] in ("ENTAILMENT", "CONTRADICTION", "NEUTRAL") and 1 / 3 <= float(row[1]) <= 1 for row in rows)
    file.write_text("only one column\n")
    status, _, err = told("classify", labels, file)
    assert status == 1
    assert "line 1: expected 2 columns" in err


@pytest.mark.parametrize("which", ["run", "blocks", "pairs", "labels"])
def test_evaluate_measures_each_task(which, request, told, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    path = request.getfixturevalue(which)
    status, out, err = told("evaluate", path, "--count", 8, "--steps", 2)
    assert status == 0, err
    assert shown_metrics(path, out)
    found = json.loads((path / "evaluation.json").read_text())
    bits = found["costs"]["own"]["bits_per_character"]
    assert bits is None if which == "labels" else 0 < bits < 20  # a label has no characters
    assert "NaN" not in (path / "evaluation.json").read_text()
    assert "Infinity" not in (path / "evaluation.json").read_text()
    assert ("accuracy" in found["task"]) == (which == "labels")
    assert ("ROUGE-L" in found["task"]) == (which == "pairs")
    assert (path / "report.html").read_text().count("<blockquote>") > 0


def test_an_autoregressive_run_is_measured_beside(run, beside, told, folder):
    status, out, _ = told("evaluate", run, "--count", 8, "--steps", 4)
    assert status == 0
    found = json.loads((run / "evaluation.json").read_text())
    assert found["costs"]["autoregressive"]["examples"] == found["costs"]["own"]["examples"]
    assert found["generated"]["judge"] > 0
    model = loaded(beside)
    read = model.batches(model.modality.open()[1])
    items = torch.arange(3)
    exact = cost(model.parts, model.modality.codec, read, items).nats
    stepped = 0.0
    for item in items:  # the chain rule, one place at a time, every later place hidden
        batch = read(item[None])
        x, mask = batch.x, writer_of(model).words.mask
        for i in range(x.shape[1]):
            hidden = torch.where(torch.arange(x.shape[1]) >= i, mask, x)
            with torch.no_grad():
                stepped += float(model.parts.denoiser(hidden, torch.ones(1), None).error(x)[0, i])
    assert exact == pytest.approx(stepped, rel=1e-5)
    lines = [json.loads(line) for line in (beside / "metrics.jsonl").read_text().splitlines()]
    held = [line["val_loss"] for line in lines if "val_loss" in line]
    assert held[-1][0] < held[0][0]  # nats a place of the whole
    status, out, _ = told("sample", beside, "--count", 1, "--prompt", "the ")
    assert status == 0
    assert out.startswith("the ")
    assert told("sample", beside, "--count", 1, "--prompt", "the ", "--out", "-")[1] == out
    for words, said in ((("--sampler", "ancestral"), "'unmask order=left_to_right' only, got ancestral"),
                        (("--infill", "a [[2]] b"), "does not see"),
                        (("--suffix", "end"), "does not see")):  # fmt: skip
        status, _, err = told("sample", beside, "--count", 1, *words)
        assert status == 1
        assert said in err
    other = open_run(beside)
    (folder / "short").mkdir()
    shutil.copytree(beside, folder / "short" / "run")
    recipe = folder / "short" / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(f"length: {other.recipe.data.task.context_length}", "length: 16"))
    status, _, err = told("evaluate", run, "--count", 8, "--baseline", folder / "short" / "run")
    assert status == 1
    assert "they cannot be compared" in err


def test_a_run_starts_from_the_weights_of_another(run, told, folder, tmp_path):
    status, _, err = told("train", folder / "corpus", *SMALL, "data.task.context_length=16", "training.steps=1",
                          f"init_from={run}", "--minutes", 1, "--out", tmp_path / "next")  # fmt: skip
    assert status == 0, err
    assert "after 30 steps" in err
    first = checkpoint.load(checkpoint.steps(tmp_path / "next" / "checkpoints")[-1])
    assert checkpoint.step_of(checkpoint.steps(tmp_path / "next" / "checkpoints")[-1]) == 0
    built, _, _ = open_run(run).load()
    mine = dict(built.model.method.players["denoiser"].module.named_parameters())
    assert all(torch.equal(first.groups["model"][f"denoiser.{n}"], p) for n, p in mine.items())
    status, _, err = told("train", folder / "corpus", *SMALL, "network.depth=2", "training.steps=1", f"init_from={run}",
                          "--minutes", 1, "--out", tmp_path / "other")  # fmt: skip
    assert status == 1
    assert "has other sizes" in err


def test_a_run_learns_to_tell_wrong_tokens_and_masks_them_again(run, told, folder, tmp_path):
    judging = tmp_path / "judging"
    status, _, err = told("train", folder / "corpus", *SMALL, "data.task.context_length=16", "training.steps=2",
                          "process.quality=1", f"init_from={run}", "--out", judging)  # fmt: skip
    assert status == 0, err
    lines = [json.loads(line) for line in (judging / "metrics.jsonl").read_text().splitlines()]
    assert any("denoiser.quality" in line.get("terms", {}) for line in lines)
    drawing = ("--count", 2, "--steps", 6, "--sampler", "remdm eta=0.5 remask=quality")
    status, out, err = told("sample", judging, *drawing)
    assert status == 0, err
    assert out.strip()
    status, _, err = told("sample", run, *drawing)
    assert status == 1
    assert "train with process.quality=1" in err
    status, _, err = told("train", folder / "corpus", *SMALL, "process.quality=1", "training.compile=true")
    assert status == 1
    assert "process.quality and training.compile do not fit" in err


@pytest.mark.parametrize(("changes", "said"), [
    (("process.kind=autoregressive",), "belong together"),
    (("process.kind=hybrid",), "network.time_conditioning=true"),
    (("network.attention=block", "network.block_size=7"), "must divide"),
    (("data.task.kind=seq2seq",), "needs dialogues, or texts with summaries"),
    (("data.codec.kind=pixels",), "data.codec.kind: there is no 'pixels'"),
    (("data.task.context_length=2",), "4 to 65536"),
    (("data.task.kind=clasification",), "data.task.kind: there is no 'clasification'; did you mean 'classification'?"),
    (("network.kind=dit",), "text data is read by network.kind transformer, and this is dit"),
    (("process.kind=gaussian",), "text data needs process.kind masked or hybrid or uniform or autoregressive"),
    (("process.schedule=cosine",), "process.training_input=time"),
    (("network.attention=block", "network.block_size=8", "network.time_conditioning=true"),
     "network.time_conditioning=false"),
])  # fmt: skip
def test_recipes_that_do_not_fit_text_are_refused_before_training(told, folder, run, tmp_path, changes, said):
    status, _, err = told("train", folder / "corpus", *SMALL, *changes, "--minutes", 1, "--out", tmp_path / "none")
    assert status == 1
    assert said in err
    assert not (tmp_path / "none").exists() or not (tmp_path / "none" / "recipe.yaml").exists()


def test_a_hybrid_run_trains_and_writes(told, folder, run, tmp_path):
    status, _, err = told("train", folder / "corpus", *SMALL, "data.task.context_length=32", "process.kind=hybrid",
                          "data.codec.kind=characters", "network.time_conditioning=true", "training.steps=3", "--minutes",
                          1, "--out", tmp_path / "run")  # fmt: skip
    assert status == 0, err
    for sampler in ("ancestral", "psi"):
        status, out, err = told("sample", tmp_path / "run", "--count", 1, "--steps", 5, "--sampler", sampler,
                                "--prompt", "the cat ")  # fmt: skip
        assert status == 0, err
        assert out.startswith("the cat ")
        assert len(out.removesuffix("\n")) == 32
    status, _, err = told("evaluate", tmp_path / "run", "--count", 8, "--steps", 2)
    assert status == 0, err
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["costs"]["own"]["estimator"] == "time"


def test_rows_of_different_lengths_are_padded_on_the_right():
    assert padded([torch.tensor([1, 2, 3]), torch.tensor([4])], 9).tolist() == [[1, 2, 3], [4, 9, 9]]


def test_the_recipe_of_a_run_holds_its_whole_codec(pairs):
    tree = yaml.safe_load((pairs / "recipe.yaml").read_text())
    assert json.loads(tree["data"]["codec"]["model"])["model"]["type"] == "BPE"


def test_guidance_needs_a_question_without_the_prompt_that_was_trained(pairs, blocks, told):
    status, _, err = told("sample", pairs, "--prompt", "the cat sees the sea.", "--guidance", 2, "--steps", 2)
    assert status == 1
    assert "data.task.joint_fraction" in err
    status, _, err = told("sample", blocks, "--prompt", "the cat", "--guidance", 2, "--steps", 2)
    assert status == 1
    assert "network.attention=full" in err


def test_guidance_hides_the_source_and_not_the_length(joint, monkeypatch):
    """As in training rows that ask for all: the number that is the length stays."""
    model = changed(loaded(joint), guidance=2.0, steps=2)
    words, part, seen = writer_of(model).words, validation_rows(model), []
    network = type(model.parts.network)
    forward = network.forward
    monkeypatch.setattr(
        network, "forward", lambda *given, **options: (seen.append(given[1].clone()), forward(*given, **options))[1]
    )
    answered(model, [part.sources[0]], seeds=torch.arange(1))
    _, free = part.example(0, 0.0)
    source = len(part.sources[0]) + 1  # and the separator
    assert not free[source]
    assert bool(free[:source].all())
    blind = [x for both in seen for x in both if bool((x[:source] == words.mask).all())]
    assert blind
    assert all(words.number(0) <= int(x[source]) < words.tokens for x in blind)


def test_what_training_rows_leave_out_is_said(told, folder):
    data = texts.summaries(folder / "summaries")
    status, _, err = told("train", data, *SMALL, "data.task.context_length=64", "data.task.max_target_length=12",
                          "data.codec.size=300", "training.steps=1", "--minutes", 1,
                          "--out", folder / "run-cut")  # fmt: skip
    assert status == 0
    assert "sources are longer than the 50 tokens that data.task.context_length leaves them" in err
    assert "targets are longer than the 12 tokens" in err


def test_all_references_of_a_source_are_asked_whole(pairs):
    part = validation_rows(loaded(pairs))
    two = replace(part, texts=[("a source", "first"), ("another", "x"), ("a source", "second")])
    assert references(two, together=True) == {0: ["first", "second"], 1: ["x"]}
    assert references(two, together=False) == {0: ["first"], 1: ["x"], 2: ["second"]}


def test_text_that_ends_inside_a_character_is_counted_in_its_own_bytes(told, folder, monkeypatch):
    """Rows of bytes cut characters; a block that does is shown when the rest of its character is."""
    word = "привет, мир! "
    codec = Bytes()
    rows = codec.encode(word * 40).split(7)
    characters, size = counts(codec, rows)
    assert (int(characters.sum()), int(size.sum())) == (len(word) * 40, len((word * 40).encode()))
    (folder / "cyrillic").mkdir()
    (folder / "cyrillic" / "text.txt").write_text(word * 200)
    status, _, err = told("train", folder / "cyrillic", *SMALL, "data.codec.kind=bytes", "data.task.context_length=21",
                          "network.attention=block", "network.block_size=7", "training.steps=1", "--minutes", 1,
                          "--out", folder / "run-cyrillic")  # fmt: skip
    assert status == 0, err
    status, out, _ = told("sample", folder / "run-cyrillic", "--count", 1, "--prompt", "привет, ми")  # 18 bytes
    assert status == 0
    assert out.startswith("привет, ми")


def test_a_gap_of_any_length_needs_a_network_that_sees_behind_it(blocks, told):
    status, _, err = told("sample", blocks, "--infill", "the cat [[]] moon")
    assert status == 1
    assert "give its length" in err


def test_nothing_on_standard_input_is_said(run, told, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    status, _, err = told("sample", run, "--prompt", "-")
    assert status == 1
    assert "standard input is empty" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n"))
    status, out, _ = told("sample", run, "--prompt", "-", "--steps", 2, "--count", 1)
    assert status == 0
    _, same, _ = told("sample", run, "--prompt", "the cat", "--steps", 2, "--count", 1)
    assert out == same


def test_a_blank_line_stays_a_blank_line(pairs, labels, told, tmp_path):
    file = tmp_path / "some.txt"
    file.write_text("the cat sees the sea.\n\na dog\u2028hears the moon.\n")  # a separator of lines that ends none here
    status, out, _ = told("summarise", pairs, file, "--steps", 2)
    assert status == 0
    assert [bool(line) for line in out.split("\n")[:-1]] == [True, False, True]
    file.write_text("a dog\ta bird\n\na dog\ta dog\n")
    status, out, _ = told("classify", labels, file)
    assert [bool(line) for line in out.split("\n")[:-1]] == [True, False, True]


def test_a_repaired_file_keeps_its_ends_of_lines_and_its_kind(run, told, tmp_path):
    file = tmp_path / "draft.md"
    file.write_bytes(b"the cat sees the sea.\r\n\r\na dog.\r\n")
    status, _, err = told("correct", run, file, "--edit-threshold", 1000, "--out", tmp_path / "new" / "clean.md")
    assert status == 0, err
    assert (tmp_path / "new" / "clean.md").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(("verb", "said"), [
    ("summarise", "needs data.task.kind seq2seq"), ("classify", "needs data.task.kind classification"),
])  # fmt: skip
def test_a_verb_of_another_task_is_refused(run, told, tmp_path, verb, said):
    (tmp_path / "a.txt").write_text("the cat sees the sea.\n")
    status, out, err = told(verb, run, tmp_path / "a.txt")
    assert (status, out) == (1, "")
    assert said in err


def test_a_sentence_is_chosen_unless_the_network_is_to_write(pairs, told, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("the cat sees the sea. the dog hears a king. an apple is there.\n\nthe queen.\n")
    status, out, err = told("summarise", pairs, file)
    assert status == 0, err
    first, blank, last, end = out.split("\n")
    assert first in {"the cat sees the sea.", "the dog hears a king.", "an apple is there."}
    assert (blank, last, end) == ("", "the queen.", "")
    assert "--by writing" in err
    status, written, err = told("summarise", pairs, file, "--by", "writing", "--steps", 3)
    assert (status, written == out) == (0, False)
    assert told("summarise", pairs, file, "--steps", 3)[1] == written
    for option in (("--best-of", 2), ("--copying",)):
        status, out, err = told("summarise", pairs, file, "--by", "choosing", *option)
        assert (status, out) == (1, "")
        assert "samples nothing" in err


def test_a_summary_of_copied_tokens_holds_those_of_its_text_and_the_commonest_alone(pairs, told, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("the cat sees the sea.\n\na dog.\n")
    status, out, err = told("summarise", pairs, file, "--copying", "--steps", 3, "--temperature", 3)
    assert status == 0, err
    text, train = loaded(pairs).modality, open_run(pairs).open_data()[0]
    codec = text.codec
    targets = [token for target in text.examples(train).targets for token in target.tolist()]
    common = [token for token, _ in Counter(targets).most_common()]
    first = next(n for n in range(len(common)) if sum(map(targets.count, common[:n])) >= len(targets) / 2)
    for source, summary in zip(file.read_text().split("\n"), out.split("\n"), strict=True):
        # a token that is as common as the last one of the list may stand for it
        rarest = targets.count(common[first - 1])
        allowed = {*codec.encode(source).tolist(), *(token for token in common if targets.count(token) >= rarest)}
        assert set(codec.encode(summary).tolist()) <= allowed


def test_the_likeliest_of_sentences_and_written_summaries_is_that_of_the_chain_rule(pairs, told, tmp_path):
    """Two routes: the command, and the cost of each sentence as an example of the data, its length predicted first."""
    source, file = "the cat sees the sea. the dog hears a king. an apple is there.", tmp_path / "texts.txt"
    file.write_text(source + "\n")
    status, out, err = told("summarise", pairs, file, "--by", "likelihood", "--steps", 3)
    assert status == 0, err
    model = loaded(pairs)
    codec, task = model.modality.codec, model.modality.task
    writer = writer_of(model)
    candidates = [*(s.strip() + "." for s in source.rstrip(".").split(".")), out.strip()]
    nats = []
    for one in candidates:
        head = torch.cat([codec.encode(source).long(), torch.tensor([writer.words.separator])])
        ids = codec.encode(one).long()
        (lengths,), _ = driven(model, writer.number([head], task.max_target_length + 1))
        x = torch.cat([head, torch.tensor([writer.words.number(len(ids))]), ids])[None]
        free = torch.arange(x.shape[1])[None] > len(head)
        (cost,), _ = driven(model, writer.nats(x, free))
        nats.append(float(cost - lengths.log_softmax(0)[len(ids)]))
    assert nats[-1] == pytest.approx(min(nats))
    status, _, err = told("summarise", pairs, file, "--by", "likelihood", "--steps", 3, "--best-of", 2)
    assert status == 0, err


def test_a_run_on_open_texts_repairs(run, pairs, told, tmp_path):
    file = tmp_path / "draft.txt"
    file.write_text("teh cat sees the moon.\n\nA dog hears the the king.\n")
    status, out, err = told("correct", run, file, "--false-alarms", 0.2)
    assert status == 0, err
    assert out == "The cat sees the moon.\n\nA dog hears the king.\n"
    assert "line 1: teh -> The" in err
    assert "of 3" not in err
    status, out, err = told("correct", run, file, "--edit-threshold", 0.5, "--json")
    assert status == 0, err
    assert "counting" not in err  # the words are kept in the run
    edits = [json.loads(line) for line in out.splitlines()]
    assert [(edit["line"], edit["old"], edit["new"].strip()) for edit in edits] == [(1, "teh", "The"), (3, " the", "")]
    status, out, _ = told("correct", run, file, "--edit-threshold", 0.5, "--diff")
    assert "-teh cat sees the moon.\n+The cat sees the moon.\n" in out
    for which, options, said in (
        (run, ("--edit-threshold", 1, "--false-alarms", 0.1), "give one of them"),
        (run, ("--false-alarms", 2), "between 0 and 1"),
        (run, ("--misspellings", file), "has no colon"),
        (run, ("--edit-threshold", -1), "at least 0"),
        (pairs, (), "does not correct texts"),
    ):
        status, out, err = told("correct", which, file, *options)
        assert (status, out) == (1, "")
        assert said in err


def test_the_network_adds_the_nats_of_the_words_to_the_gain(run):
    model = loaded(run)
    writer, text = writer_of(model), "the cat sees teh moon. A dgo hears the king."
    edits = [
        Edit(start=0, end=3, old="the", new="The", reason="capital", gain=3.0),
        Edit(start=13, end=16, old="teh", new="the", reason="spelling", gain=1.0),
        Edit(start=25, end=28, old="dgo", new="dog", reason="spelling", gain=2.0),
    ]
    found, _ = driven(model, weighed(writer, text, edits, 1000))
    for edit in edits[1:]:
        old, new = applied(text, [other for other in edits if other is not edit]), applied(text, edits)
        x = torch.stack([model.modality.codec.encode(one).long() for one in (old, new)])
        free = (x[0] != x[1]).expand_as(x)  # two letters are swapped
        nats, _ = driven(model, writer.nats(x, free))
        gained = next(e for e in found if e.start == edit.start).gain - edit.gain
        assert gained == pytest.approx(WEIGHT * float(nats[0] - nats[1]), abs=1e-5)
    assert found[0] == edits[0]
    assert driven(model, weighed(writer, text, [], 1000))[0] == []


def test_where_texts_go_is_checked_before_any_is_written(run, told, tmp_path):
    status, _, err = told("sample", run, "--out", tmp_path / "a.png")
    assert status == 1
    assert "written as standard output, .txt, " in err
    assert "function evaluations" not in err


def test_pairs_without_a_label_are_left_out_and_counted(told, folder):
    data = texts.inferences(folder / "partly")
    lines = (data / "pairs.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    records[3]["label"] = ""
    (data / "pairs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    status, _, err = told("train", data, *SMALL, "data.codec.size=300", "training.steps=1", "--minutes", 1,
                          "--out", folder / "run-partly")  # fmt: skip
    assert status == 0, err
    assert "left out: 1 of" in err
    assert open_run(folder / "run-partly").recipe.data.classes == ("CONTRADICTION", "ENTAILMENT", "NEUTRAL")
