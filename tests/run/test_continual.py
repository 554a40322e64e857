"""Continued runs: nothing kept is fine-tuning, a large anchor stays, resumed runs are exact, files are the run's own."""

import shutil
from dataclasses import replace

import pytest
import torch

from langevin.cli import main
from langevin.cli.adapt import recipe_with
from langevin.cli.verbs import Adapt
from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition, class_port
from langevin.networks.adapters import Adapter
from langevin.run import continual, examples
from langevin.run.adapters import FILE
from langevin.run.directory import load_model, open_run
from langevin.run.replay import divided, quality_of
from langevin.training import checkpoint
from langevin.training.continual import select
from tests import pictures, tiny

QUICK = ("training.steps=4", "training.batch=8")


@pytest.fixture(scope="module")
def rings(tmp_path_factory):
    """Pictures of two classes that the run does not know."""
    folder = pictures.classes(tmp_path_factory.mktemp("rings") / "data", count=24)
    for old, new in (("bar", "ring"), ("disc", "spot")):
        shutil.move(folder / old, folder / new)
    return folder


@pytest.fixture
def lenient(monkeypatch):
    """Samples of a run of four steps pass the test."""
    monkeypatch.setattr(
        continual, "quality_of",
        lambda samples, real, *, seed: replace(
            quality_of(real, real, seed=seed), passed=torch.arange(len(samples.x)) % 5 > 0
        ),
    )  # fmt: skip


def continued(base, data, out, *words):
    assert main(["continue", str(base), str(data), "--out", str(out), *QUICK, *map(str, words)]) == 0
    return out


def groups(path):
    return checkpoint.load_latest(path / "checkpoints")[0].groups


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def weights(path):
    player = load_model(open_run(path), ema=0)[0].parts.method.players["denoiser"]
    return {name: p.detach() for name, p in player.weights.items()}


def kept(path, kind="exemplars"):
    sha256 = getattr(open_run(path).recipe.continual, f"{kind}_sha256")
    return examples.examples_of(examples.unpacked(examples.read(path, kind, sha256)))


NOTHING = ("--replay", 0, "--exemplars", 0)


@pytest.fixture(scope="module")
def naive(trained, rings, tmp_path_factory):
    return continued(trained, rings, tmp_path_factory.mktemp("naive") / "run", *NOTHING, "training.steps=8")


def test_with_nothing_kept_it_is_fine_tuning_to_the_bit(trained, rings, naive, tmp_path):
    full, words = tmp_path / "full", ("--kind", "full", "--count", "0", "training.batch=8", "training.steps=8")
    assert main(["adapt", str(trained), str(rings), "--out", str(full), *words]) == 0
    first, second = groups(naive), groups(full)
    assert all(same(first[group], second[group]) for group in {*first, *second})
    assert not (naive / "continual").exists()


def test_a_large_anchor_stays_at_the_base(trained, rings, naive, tmp_path):
    out = continued(trained, rings, tmp_path / "run", *NOTHING, "--anchor", 1e10, "training.steps=8")
    sha256 = open_run(out).recipe.continual.fisher_sha256
    fisher = examples.unpacked(examples.read(out, "fisher", sha256))
    base = weights(trained)

    def distance(path):
        now = weights(path)
        assert now.keys() == base.keys()
        return sum(float((fisher[n] * (now[n] - p).square()).sum()) for n, p in base.items() if n in fisher) ** 0.5

    assert sum(n in fisher for n in base) > len(base) / 2
    assert distance(out) < 0.1 * distance(naive)


def test_resuming_is_exact(trained, rings, tmp_path, lenient):
    words = ("training.steps=6", "training.keep_checkpoints=6", "--exemplars", "4KB", "--anchor", 10, "--samples", 16)
    whole, part = continued(trained, rings, tmp_path / "whole", *words), tmp_path / "part"
    shutil.copytree(whole, part)
    steps = checkpoint.steps(part / "checkpoints")
    later = [path for path in steps if checkpoint.step_of(path) > 3]
    assert later
    assert len(later) < len(steps)
    for path in later:
        shutil.rmtree(path)
    (part / FILE).unlink()
    assert main(["resume", str(part)]) == 0
    first, second = groups(whole), groups(part)
    assert all(same(first[group], second[group]) for group in first)
    assert {file.name.split("-")[0] for file in (whole / "continual").iterdir()} == {"exemplars", "replay", "fisher"}


def test_a_continued_run_is_continued_and_keeps_examples_of_all_tasks(trained, rings, tmp_path, lenient):
    first = continued(trained, rings, tmp_path / "first", "--samples", 16)
    more = pictures.classes(tmp_path / "more", count=20)
    for old, new in (("bar", "dash"), ("disc", "moon")):
        shutil.move(more / old, more / new)
    second = continued(first, more, tmp_path / "second", "--exemplars", "6KB", "--samples", 40)
    run = open_run(second)
    assert run.recipe.data.classes == ("bar", "disc", "ring", "spot", "dash", "moon")
    for kind in ("exemplars", "replay"):
        counts = torch.bincount(examples.labels_of(kept(second, kind)))
        assert len(counts) == 4  # of the tasks before
        assert int(counts.min()) >= 3
    stored = torch.bincount(examples.labels_of(kept(second)))
    assert int(stored.max() - stored.min()) <= 1
    assert run.recipe.continual.replay + run.recipe.continual.exemplars == pytest.approx(2 / 3)
    assert main(["sample", str(second), "--count", "2", "--condition", "bar", "--out", str(tmp_path / "a.png")]) == 0
    assert main(["merge", str(second), "--out", str(tmp_path / "merged")]) == 0
    assert open_run(tmp_path / "merged").recipe.continual is None
    assert (
        recipe_with(Adapt(run=second, data=rings, same_classes=True), run, Adapter(path=str(second))).continual is None
    )


def test_classes_that_a_merged_run_has_nothing_of_are_said(trained, naive, rings, tmp_path, capfd):
    merged = tmp_path / "merged"
    assert main(["merge", str(naive), "--out", str(merged)]) == 0
    for base, said in ((merged, "bar, disc"), (naive, "bar, disc"), (trained, None)):
        out = tmp_path / f"after-{base.parent.name}"
        capfd.readouterr()
        continued(base, rings, out, "--same-classes", "--replay", 0)
        shown = "".join(capfd.readouterr())
        if said is None:
            assert "attention" not in shown
        else:
            assert f"attention: no example of the classes {said}, which {base} knows, is at hand" in shown


def test_classes_without_a_good_sample_are_said(trained, rings, tmp_path, monkeypatch, capfd):
    def bars(samples, real, *, seed):
        passed = examples.labels_of(samples) == 0
        return replace(quality_of(real, real, seed=seed), passed=passed)

    monkeypatch.setattr(continual, "quality_of", bars)
    continued(trained, rings, tmp_path / "both", "--samples", 16)
    assert "no sample of the classes disc is kept, so stored examples alone" in "".join(capfd.readouterr())
    continued(trained, rings, tmp_path / "replay", "--samples", 16, "--exemplars", 0)
    assert "no sample of the classes disc is kept, so the new run may forget them" in "".join(capfd.readouterr())


def test_data_that_cannot_be_kept_is_not_said_to_be_gone(stored, rings, tmp_path, monkeypatch, capfd):
    def refuse(batches, base):
        raise ValueError("these have several shapes")

    monkeypatch.setattr(continual, "some_of", refuse)
    assert main(["continue", str(stored), str(rings), "--same-classes", "--out", str(tmp_path / "out"), *QUICK]) == 1
    error = capfd.readouterr().err
    assert "these have several shapes" in error
    assert "not at hand" not in error


def test_examples_are_looked_at_within_their_bytes(stored, monkeypatch):
    run = open_run(stored)
    train, _ = run.open_data()
    batches = run.recipe.data.batches(train, device=torch.device("cpu"))
    every = continual.some_of(batches, run)
    assert len(every.x) == len(batches)
    monkeypatch.setattr(continual, "MOST_BYTES", 10 * every.x[0].numel() * 4 + 10 * 8)
    assert torch.equal(continual.some_of(batches, run).x, every.x[:10])
    monkeypatch.setattr(continual, "MOST_BYTES", 1)
    assert len(continual.some_of(batches, run).x) == continual.LEAST


def test_an_adapter_changes_nothing_of_the_run(trained, rings, tmp_path):
    before = groups(trained)
    out = continued(trained, rings, tmp_path / "out", "--adapter", "lora", "adapter.share=0.2")
    assert open_run(out).recipe.continual is None
    assert open_run(out).recipe.adapter.kind == "lora"
    assert all(same(before[group], groups(trained)[group]) for group in before)


def test_a_run_without_classes_replays_its_samples(tmp_path, lenient):
    base = tiny.run_of(pictures.plain(tmp_path / "old"), tmp_path / "base")
    out = continued(base, pictures.plain(tmp_path / "new", count=20), tmp_path / "out", "--samples", 16)
    assert kept(out, "replay").condition is None
    assert open_run(out).recipe.continual.replay == 0.25


# ------------------------------------------------------------------------------------------------------------ the files


def batch(count, classes=3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 1, 4, 4, generator=generator)
    return Batch(x=x, condition=Condition(global_=class_port(torch.arange(count).square() % classes)))


@pytest.mark.parametrize("budget", [400, 777, 2**11, 2**14])
def test_stored_examples_keep_to_their_bytes_and_are_balanced(budget):
    given = batch(90)
    found = examples.within(given, budget, seed=0)
    size = len(examples.packed(found))
    assert size <= budget
    if len(found.x) < len(given.x):
        order = examples.balanced(examples.labels_of(given), len(given.x), seed=0)
        assert len(examples.packed(select(given, order[: len(found.x) + 1]))) > budget
    of_class = torch.bincount(examples.labels_of(found))
    whole = torch.bincount(examples.labels_of(given))
    full = of_class == whole[: len(of_class)]
    assert full.all() or int(of_class[~full].max() - of_class[~full].min()) <= 1


def test_conditions_take_turns_between_classes_and_within_each():
    labels = torch.tensor([0] * 5000 + [1] * 20)
    items = examples.in_turn(labels, 1024, seed=0)
    assert torch.bincount(labels[items]).tolist() == [512, 512]
    assert len(items[labels[items] == 0].unique()) == 512
    again = torch.bincount(items[labels[items] == 1] - 5000)
    assert len(again) == 20
    assert int(again.max() - again.min()) <= 1
    assert len(examples.in_turn(torch.full((30,), -1), 30, seed=0).unique()) == 30
    assert len(examples.in_turn(torch.arange(50), 9, seed=0).unique()) == 9


def test_examples_are_read_as_they_were_written():
    given = replace(batch(5), mask=torch.rand(5, 1, 4, 4) > 0.5)
    found = examples.examples_of(examples.unpacked(examples.packed(given)))
    torch.testing.assert_close(found.x, given.x, atol=2e-3, rtol=1e-3)
    assert torch.equal(found.mask, given.mask)
    assert torch.equal(examples.labels_of(found), examples.labels_of(given))
    tokens = Batch(x=torch.tensor([[0, 255], [256, 70000]]), condition=None)
    assert torch.equal(examples.examples_of(examples.unpacked(examples.packed(tokens))).x, tokens.x)


def test_a_missing_label_stays_missing():
    given = replace(batch(4), condition=Condition(global_=class_port(torch.tensor([2, -1, 0, -1]))))
    assert examples.labels_of(examples.examples_of(examples.unpacked(examples.packed(given)))).tolist() == [
        2,
        -1,
        0,
        -1,
    ]


@pytest.fixture(scope="module")
def stored(trained, rings, tmp_path_factory):
    return continued(trained, rings, tmp_path_factory.mktemp("stored") / "run", "--replay", 0, "--exemplars", "2KB")


@pytest.mark.parametrize("harm", ["damaged", "foreign", "gone"])
def test_a_file_that_is_not_the_runs_own_is_refused(stored, rings, tmp_path, harm, capfd):
    run = tmp_path / "run"
    shutil.copytree(stored, run)
    (file,) = (run / "continual").iterdir()
    content = file.read_bytes()
    match harm:
        case "damaged":
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "foreign":
            file.write_bytes(examples.packed(batch(3)))
        case "gone":
            file.unlink()
    for words in (
        ["resume", str(run)],
        ["continue", str(run), str(rings), "--same-classes", "--out", str(tmp_path / "n")],
    ):
        assert main(words) == 1
        error = capfd.readouterr().err
        assert "put a copy of it back" in error
        assert "not foreseen" not in error
    if harm == "gone":  # sampling needs no memory
        assert main(["sample", str(run), "--count", "1", "--out", str(tmp_path / "a.png")]) == 0


@pytest.mark.parametrize("wrong", [
    {"y": torch.ones(2)}, {"x": torch.ones(2, 1), "mask": torch.ones(3, dtype=torch.bool)}, {"x": torch.ones(0, 1)},
    {"x": torch.tensor([[torch.nan]])}, {"x": torch.ones(2, 1), "global_.colour": torch.ones(2)},
])  # fmt: skip
def test_tensors_that_are_no_examples_are_refused(wrong):
    with pytest.raises(ValueError, match=r"it (does not hold examples|holds)"):
        examples.examples_of(wrong)


# ----------------------------------------------------------------------------------------------------- the samples' test


def clusters(count, *, seed, spread=0.1, classes=3):
    """Points about the corners of a cube, a class a corner."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % classes
    x = torch.eye(classes)[label] + spread * torch.randn(count, classes, generator=generator)
    return Batch(x=x, condition=Condition(global_=class_port(label)))


def test_more_of_the_data_passes_as_often_as_real_data_does():
    found = quality_of(clusters(300, seed=1), clusters(600, seed=2), seed=0)
    assert found.real > 0.95
    assert found.share > 0.95
    assert found.counted
    found.require_good("it")


def test_samples_of_other_classes_or_far_from_the_data_are_refused():
    real = clusters(600, seed=2)
    good = clusters(300, seed=1)
    other = replace(good, condition=Condition(global_=class_port((torch.arange(300) + 1) % 3)))
    far = replace(good, x=good.x + 3)
    for bad in (other, far):
        found = quality_of(bad, real, seed=0)
        assert found.share < 0.05
        with pytest.raises(
            ValueError, match=r"are too bad to remember by: \d+% of 300 samples .* and 9\d% of real data"
        ):
            found.require_good("it")
    half = replace(good, x=torch.where(torch.arange(300)[:, None] % 4 > 0, good.x, good.x + 3))
    found = quality_of(half, real, seed=0)
    assert not found.passed[::4].any()
    found.require_good("it")


def test_samples_of_small_classes_pass_as_those_of_large_ones():
    label = torch.tensor([*[0, 1, 2, 3] * 10, *[4, 5] * 1000])
    generator = torch.Generator().manual_seed(1)
    x = torch.eye(6)[label] + 0.1 * torch.randn(len(label), 6, generator=generator)
    real = Batch(x=x, condition=Condition(global_=class_port(label)))
    given = clusters(240, seed=2, classes=6)
    found = quality_of(given, real, seed=0)
    assert found.counted
    assert found.real > 0.9
    for label in range(6):
        assert float(found.passed[examples.labels_of(given) == label].float().mean()) > 0.9
    compared, held = divided(examples.labels_of(real), seed=0)
    assert torch.bincount(examples.labels_of(real)[compared]).tolist() == [7] * 4 + [20] * 2
    assert torch.bincount(examples.labels_of(real)[held]).tolist() == [3] * 4 + [333] * 2
    assert not {*compared.tolist()} & {*held.tolist()}


def test_classes_of_one_example_each_are_no_test():
    with pytest.raises(ValueError, match="there is one of each: give --replay 0"):
        quality_of(clusters(9, seed=1, classes=9), clusters(9, seed=2, classes=9), seed=0)


def test_classes_that_real_data_does_not_show_do_not_count():
    real, given = clusters(600, seed=2, spread=3.0), clusters(300, seed=1, spread=3.0)
    found = quality_of(given, real, seed=0)
    assert not found.counted
    assert "too little to count" in found.line
    assert found.share > 0.9


def test_tokens_are_compared_by_their_frequencies():
    generator = torch.Generator().manual_seed(0)
    real, same = (Batch(x=torch.randint(0, 4, (n, 50), generator=generator)) for n in (300, 100))
    found = quality_of(same, real, seed=0)
    assert found.classes is None
    assert found.share > 0.9
    assert quality_of(Batch(x=torch.full((100, 50), 2)), real, seed=0).share == 0


def test_a_run_with_bad_samples_is_not_replayed(trained, rings, tmp_path, capfd):
    out = tmp_path / "out"
    assert main(["continue", str(trained), str(rings), "--out", str(out), "--samples", "32", *QUICK]) == 1
    assert "are too bad to remember by" in capfd.readouterr().err
    assert not out.exists()


def test_a_run_whose_data_is_gone_is_continued_by_what_it_has_kept(stored, rings, tmp_path, capfd):
    run, more = tmp_path / "run", tmp_path / "rings"
    shutil.copytree(stored, run)
    shutil.copytree(rings, more)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(rings), str(tmp_path / "nowhere")))
    words = [run, more, "--same-classes", "--replay", "0", *QUICK]
    out = continued(*words[:2], tmp_path / "out", *words[2:])
    assert set(examples.labels_of(kept(out)).tolist()) == {0, 1}
    assert "is not at hand: what it has kept of its earlier data is used" in capfd.readouterr().err
