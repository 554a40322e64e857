"""Adapted runs: runs like any other, exact when resumed, stacked and merged; what is damaged or of another base is
refused."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from langevin.cli import main
from langevin.run.adapters import FILE, combined, load_with, read_adapter
from langevin.run.directory import load_model, open_run
from langevin.training import checkpoint
from tests import pictures, texts, tiny

QUICK = ("training.steps=4", "training.batch=8", "--count", "0")


@pytest.fixture(scope="module")
def rings(tmp_path_factory):
    """Pictures of two classes: one that the base knows, told nothing of its name, and one that it does not."""
    folder = tmp_path_factory.mktemp("rings")
    pictures.classes(folder / "data", count=24)
    shutil.move(folder / "data" / "bar", folder / "data" / "ring")
    shutil.move(folder / "data" / "disc", folder / "data" / "spot")
    return folder / "data"


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Pictures of the base's own classes."""
    return pictures.classes(tmp_path_factory.mktemp("other") / "data", count=20)


def adapted(base, data, out, *words):
    assert main(["adapt", str(base), str(data), "--out", str(out), *QUICK, *map(str, words)]) == 0
    return out


@pytest.fixture(scope="module")
def lora(trained, other, tmp_path_factory):
    return adapted(trained, other, tmp_path_factory.mktemp("lora") / "run", "--rank", 2)


@pytest.fixture(scope="module")
def wider(trained, rings, tmp_path_factory):
    return adapted(trained, rings, tmp_path_factory.mktemp("wider") / "run", "--rank", 2, "--kind", "dora")


def weights(model):
    return {name: p.detach().clone() for name, p in model.parts.network.named_parameters()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_an_adapted_run_is_a_run_and_its_checkpoint_has_what_it_trained(trained, rings, tmp_path, kind):
    share = ("--share", 0.1) if kind in ("lora", "dora") else ()
    out = adapted(trained, rings, tmp_path / "run", "--kind", kind, *share)
    run = open_run(out)
    saved, _ = checkpoint.load_latest(run.checkpoints)
    base = dict(load_model(open_run(trained))[0].parts.network.named_parameters())
    model = load_model(run)[0]
    assert run.recipe.data.classes == ("bar", "disc", "ring", "spot")
    assert run.recipe.adapter.sha256 == checkpoint.identity(open_run(trained).checkpoints)
    stored, all_of = (sum(t.numel() for t in group.values()) for group in (saved.groups["model"], base))
    assert any(name.endswith("rows") for name in saved.groups["model"])
    if kind == "full":
        assert stored == sum(p.numel() for p in model.parts.network.parameters())
    else:
        assert stored < 0.3 * all_of
        assert (out / FILE).stat().st_size < 0.5 * 4 * all_of
    assert not any("parametrizations" in name for name, _ in model.parts.network.named_parameters())
    assert main(["sample", str(out), "--count", "3", "--condition", "ring", "--out", str(tmp_path / "a.png")]) == 0


def test_resuming_is_exact(trained, rings, tmp_path):
    words = [str(trained), str(rings), "--rank", "2", "--count", "0", "training.steps=6", "training.keep_checkpoints=6"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert main(["adapt", *words, "--out", str(whole)]) == 0
    shutil.copytree(whole, part)
    later = [path for path in checkpoint.steps(part / "checkpoints") if checkpoint.step_of(path) > 3]
    earlier = [path for path in checkpoint.steps(part / "checkpoints") if path not in later]
    assert later
    assert earlier
    for path in later:
        shutil.rmtree(path)
    (part / FILE).unlink()
    assert main(["resume", str(part)]) == 0
    first, second = (checkpoint.load_latest(path / "checkpoints")[0].groups for path in (whole, part))
    assert all(same(first[group], second[group]) for group in first)
    assert (whole / FILE).read_bytes() == (part / FILE).read_bytes()


def test_weight_0_is_the_base_and_weight_1_the_adapted_run_to_the_bit(trained, lora):
    run, file = open_run(trained), read_adapter(lora)
    base, alone = load_model(run)[0], load_model(open_run(lora))[0]
    assert same(weights(load_with(run, [(file, 0.0)])[0]), weights(base))
    assert same(weights(load_with(run, [(file, 1.0)])[0]), weights(alone))
    assert not same(weights(alone), weights(base))
    drawn = [tiny.drawn(model, [3, 4], steps=2).values for model in (base, load_with(run, [(file, 0.0)])[0])]
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(*drawn, strict=True))


def test_weights_of_adapters_add_up(trained, lora, wider):
    run, one, two = open_run(trained), read_adapter(lora), read_adapter(wider)
    base = weights(load_model(run)[0])
    w, first, second = (weights(load_with(run, given)[0]) for given in (
        [(one, 0.5), (two, -0.25)], [(one, 1.0)], [(two, 1.0)]))  # fmt: skip
    for name, value in base.items():
        if value.shape == second[name].shape:
            expected = value.double() + 0.5 * (first[name].double() - value) - 0.25 * (second[name].double() - value)
            torch.testing.assert_close(w[name], expected.float())
    name = "encoder.class_embedding.weight"
    assert len(w[name]) == len(base[name]) + 2
    none = base[name][-1].double()
    new = none + 0.5 * (first[name][-1].double() - none) - 0.25 * (second[name][2:4].double() - none)
    torch.testing.assert_close(w[name][2:4], new.float())


def test_merging_equals_stacking_and_what_it_writes_needs_no_base(trained, lora, wider, tmp_path):
    base, out = tmp_path / "base", tmp_path / "merged"
    shutil.copytree(trained, base)
    assert main(["merge", str(base), "--adapter", f"{lora}:0.5", str(wider), "--out", str(out)]) == 0
    stacked = load_with(open_run(base), [(read_adapter(lora), 0.5), (read_adapter(wider), 1.0)])[0]
    shutil.rmtree(base)
    merged = load_model(open_run(out))[0]
    assert same(weights(merged), weights(stacked))
    assert open_run(out).recipe.adapter is None
    assert merged.modality.classes == ("bar", "disc", "ring", "spot")
    open_run(out).open_data()
    assert main(["sample", str(out), "--count", "2", "--condition", "spot", "--out", str(tmp_path / "a.png")]) == 0
    alone = tmp_path / "alone"
    assert main(["merge", str(wider), "--out", str(alone)]) == 0
    assert same(weights(load_model(open_run(alone))[0]), weights(load_model(open_run(wider))[0]))


def test_sampling_with_an_adapter_is_sampling_the_adapted_run(trained, lora, wider, tmp_path):
    files = [tmp_path / f"{name}.npz" for name in "ab"]
    words = ["--count", "3", "--seed", "5"]
    assert main(["sample", str(trained), "--adapter", str(lora / FILE), *words, "--out", str(files[0])]) == 0
    assert main(["sample", str(lora), *words, "--out", str(files[1])]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    new = ["--condition", "ring", "--out", str(tmp_path / "c.png")]
    assert main(["sample", str(trained), "--adapter", f"{wider}:0.7", f"{lora}:1.5", *words, *new]) == 0


def test_an_adapted_run_can_be_adapted_and_moved_with_its_base(trained, lora, rings, tmp_path):
    together = tmp_path / "together"
    shutil.copytree(trained, together / trained.name)
    first = adapted(together / trained.name, rings, together / "first", "--rank", 1)
    second = adapted(first, rings, together / "second", "--rank", 1, "--same-classes")
    before = weights(load_model(open_run(second))[0])
    shutil.move(together, tmp_path / "elsewhere")
    assert same(weights(load_model(open_run(tmp_path / "elsewhere" / "second"))[0]), before)


def test_figures_stand_beside_those_of_full_fine_tuning(trained, rings, tmp_path, capsys):
    words = [
        "--kind",
        "lora",
        "--compare-full",
        "--count",
        "12",
        "training.steps=3",
        "training.batch=8",
        "data.val_fraction=0.4",
    ]
    assert main(["adapt", str(trained), str(rings), "--out", str(tmp_path / "run"), *words]) == 0
    found = json.loads((tmp_path / "run" / "adapted.json").read_text())
    one, full = found["adapted"], found["full"]
    assert one["share"] <= 0.06 < 1 <= full["share"]  # with the rows of new classes
    assert one["state_bytes"] < full["state_bytes"]
    assert one["weights"] < full["weights"]
    assert all(key in one for key in ("seconds", "step_seconds", "score", "held_out_loss", "rank", "file_bytes"))
    assert "full" in capsys.readouterr().out
    assert open_run(tmp_path / "run-full").recipe.adapter.kind == "full"


def test_combining_leaves_the_base_alone_and_refuses_nothing_of_it():
    base = {"p": {"w": torch.randn(3, 2), "t": torch.randn(3, 2), "s": torch.tensor(0.3)}}
    more = {"p": {"w": base["p"]["w"] + 1, "t": torch.cat([base["p"]["t"], torch.ones(1, 2)]), "s": torch.tensor(1.3)}}
    assert all(torch.equal(value, base["p"][name[2:]]) for name, value in combined(base, []).items())
    found = combined(base, [(more, 2.0)])
    torch.testing.assert_close(found["p.w"], base["p"]["w"] + 2)
    torch.testing.assert_close(found["p.s"], torch.tensor(2.3))
    assert found["p.t"].shape == (4, 2)


# ------------------------------------------------------------------------------------------------------------ refusals


def message(capfd, *words):
    capfd.readouterr()
    assert main([str(word) for word in words]) == 1
    err = capfd.readouterr().err
    assert "Traceback" not in err
    assert "not foreseen" not in err
    return err[err.rindex("langevin: ") :]


def test_an_adapter_of_another_base_is_refused(captioned, lora, tmp_path, capfd):
    assert "changes the weights" in message(capfd, "sample", captioned, "--adapter", lora, "--out", tmp_path / "a.png")
    assert "and those of" in message(capfd, "merge", captioned, "--adapter", lora / FILE, "--out", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_base_that_was_trained_on_or_is_gone_is_noticed(trained, other, tmp_path, capfd):
    base = tmp_path / "base"
    shutil.copytree(trained, base)
    out = adapted(base, other, tmp_path / "out" / "run", "--rank", 1)
    shutil.rmtree(base / "checkpoints")
    assert "the base that this run was trained with is neither at" in message(
        capfd, "sample", out, "--out", tmp_path / "a.png"
    )


def damaged(lora, tmp_path, change):
    content = (lora / FILE).read_bytes()
    size = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + size])["__metadata__"]
    path = tmp_path / FILE
    path.write_bytes(change(content, about))
    return path


def not_finite(content, about):
    tensors = {name: tensor * torch.inf for name, tensor in load(content).items()}
    data = save(tensors)
    data = data[8 + int.from_bytes(data[:8], "little") :]
    return save(tensors, about | {"sha256": hashlib.sha256(data).hexdigest()})


CHANGES = {
    "not finite": (not_finite, "numbers that are not finite"),
    "cut": (lambda content, about: content[:-9], "is damaged"),
    "cut in its header": (lambda content, about: content[:40], "its header is cut off"),
    "empty": (lambda content, about: b"", "is damaged"),
    "a bit": (lambda content, about: content[:-1] + bytes([content[-1] ^ 1]), "not those that its header names"),
    "no recipe": (lambda content, about: save(load(content), {**about, "recipe": "3"}), "is damaged"),
    "a list": (lambda content, about: save(load(content), {**about, "recipe": "- 1"}), "its recipe is no mapping"),
    "no adapter": (lambda content, about: save(load(content)), "is not an adapter of this version"),
    "another base": (lambda content, about: save(load(content), {**about, "base": "0"}), "does not describe an adapter"),
    "another rank": (
        lambda content, about: save(load(content), {**about, "recipe": about["recipe"].replace("rank: 2", "rank: 1")}),
        "is not the adapter that its recipe describes",
    ),
    "another kind": (
        lambda content, about: save(load(content), about | {"recipe": about["recipe"].replace(": lora", ": dora")}),
        "is not the adapter that its recipe describes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_damaged_adapters_are_refused(trained, lora, tmp_path, capfd, name):
    change, says = CHANGES[name]
    path = damaged(lora, tmp_path, change)
    assert says in message(capfd, "sample", trained, "--adapter", path, "--out", tmp_path / "a.png")


def test_a_run_whose_rank_was_changed_is_refused(trained, lora, tmp_path, capfd):
    run = tmp_path / "run"
    shutil.copytree(lora, run)
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("rank: 2", "rank: 3"))
    assert "of another network" in message(capfd, "sample", run, "--out", tmp_path / "a.png")
    assert "of another network" in message(capfd, "resume", run)


def test_adapters_that_bring_different_classes_are_refused(trained, wider, rings, tmp_path, capfd):
    renamed = tmp_path / "data"
    shutil.copytree(rings, renamed)
    (renamed / "ring").rename(renamed / "hoop")
    hoops = adapted(trained, renamed, tmp_path / "hoops", "--rank", 1)
    assert "bring different classes" in message(
        capfd, "merge", trained, "--adapter", wider, hoops, "--out", tmp_path / "m"
    )


def test_data_that_does_not_fit_the_base_is_refused(trained, rings, tmp_path, capfd):
    out = ("--out", tmp_path / "out")
    mixed = tmp_path / "mixed"
    shutil.copytree(rings, mixed)
    (mixed / "spot").rename(mixed / "disc")
    said = message(capfd, "adapt", trained, mixed, *out)
    assert "has the new classes ring, and also disc, which the run knows: give --same-classes" in said
    assert "the run has classes, and" in message(capfd, "adapt", trained, pictures.plain(tmp_path / "plain"), *out)
    (tmp_path / "book.txt").write_text("Once upon a time there was a cat. " * 400)
    assert "is a run of image, and" in message(capfd, "adapt", trained, tmp_path / "book.txt", *out)
    assert "there is nothing at" in message(capfd, "adapt", trained, tmp_path / "nowhere", *out)
    (tmp_path / "points.csv").write_text("x,y\n" + "".join(f"{i},{i * i % 7}\n" for i in range(40)))
    assert not (tmp_path / "out").exists()


def test_a_file_of_labels_is_of_the_data_of_the_base_alone(trained, other):
    data = replace(open_run(trained).recipe.data, labels="labels.csv")
    assert data.joined(other, same_classes=False).labels is None


def test_examples_of_another_shape_are_refused(tmp_path, capfd):
    for name, columns in (("flat", 2), ("deep", 3)):
        lines = [",".join(f"{(i * (k + 3)) % 11 / 10}" for k in range(columns)) for i in range(60)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    words = ["data.kind=points", "training.steps=2", "training.batch=8", "network.width=16", "network.depth=1"]
    assert main(["train", str(tmp_path / "flat.csv"), "--out", str(tmp_path / "run"), *words]) == 0
    said = message(capfd, "adapt", tmp_path / "run", tmp_path / "deep.csv", "--out", tmp_path / "out")
    assert "have the shape [3], and those of" in said


def test_options_out_of_range_are_refused(trained, lora, other, tmp_path, capfd):
    def refusal(*words):
        return message(capfd, "adapt", trained, other, "--out", tmp_path / "out", *words)

    assert "--minutes is positive" in refusal("--minutes", 0)
    assert "rank 1 takes" in refusal("--share", 0.0001)
    assert "adapter.rank is of kind lora and dora" in refusal("--kind", "head", "--rank", 2)
    assert "adapter.rank=0 leaves nothing" in refusal("--rank", 0, *QUICK)
    assert "already holds a run" in message(capfd, "adapt", trained, other, "--out", lora)
    assert "is no adapted run" in message(capfd, "merge", trained)
    assert "there is no adapter at" in message(capfd, "sample", trained, "--adapter", tmp_path / "none")
    assert "is a number from -100 to 100" in message(capfd, "sample", trained, "--adapter", f"{lora}:1e9")
    assert "is an adapted run: `langevin merge" in message(capfd, "refine", lora)
    assert "has no adapter.safetensors" in message(capfd, "sample", trained, "--adapter", trained)


# ---------------------------------------------------------------------------------------------------- other modalities


def test_a_run_of_text_keeps_vocabulary_and_counts_of_its_base(tmp_path):
    base = tiny.run_of(texts.corpus(tmp_path / "base-data"), tmp_path / "base", "data.task.context_length=32", steps=2)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.txt").write_text("Seven grey owls flew over the quiet hill, and nobody heard them. " * 80)
    out = adapted(base, tmp_path / "new", tmp_path / "out", "--rank", 1)
    first, second = load_model(open_run(base))[0], load_model(open_run(out))[0]
    assert second.modality.codec == first.modality.codec
    tokens, t = torch.randint(0, 20, (2, 32)), torch.full((2,), 0.5)
    none = load_with(open_run(base), [(read_adapter(out), 0.0)])[0]
    full = load_with(open_run(base), [(read_adapter(out), 1.0)])[0]
    with torch.no_grad():
        a, b, c, d = (model.parts.network(tokens, t) for model in (first, none, second, full))
    assert torch.equal(a, b)
    assert torch.equal(c, d)
    assert not torch.equal(a, c)


def test_a_table_of_other_columns_is_refused(tmp_path, capfd):
    rows = [f"{i % 7},{'ab'[i % 2]}" for i in range(80)]
    (tmp_path / "one.csv").write_text("size,kind\n" + "\n".join(rows))
    (tmp_path / "two.csv").write_text("size,sort\n" + "\n".join(rows))
    words = ["training.steps=2", "training.batch=8", "network.width=16", "network.depth=1"]
    assert main(["train", str(tmp_path / "one.csv"), "--out", str(tmp_path / "run"), *words]) == 0
    said = message(capfd, "adapt", tmp_path / "run", tmp_path / "two.csv", "--out", tmp_path / "out")
    assert "columns" in said
    adapted(tmp_path / "run", tmp_path / "one.csv", tmp_path / "out", "--rank", 1)
