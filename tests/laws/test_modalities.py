"""Laws of modalities, over the union: what is promised of data, codec, fitting, requests, files and measurements.

A modality is tested by being listed in the union, with tiny data of its own here.
"""

import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Picture
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence

from langevin.diffusion.batch import Batch
from langevin.diffusion.noise import SampleNoise
from langevin.modalities import union
from langevin.modalities.modality import MEDIA_TYPES, Measuring, Plan, RequestContext, Samples
from langevin.modalities.options import options_of
from langevin.modalities.text.options import Classify, Correct
from langevin.recipe.detect import candidates, chosen
from langevin.recipe.read import check, dump
from langevin.run.directory import Run, load_model, open_run
from langevin.run.evaluate import evaluate_run
from langevin.run.generate import RunModel
from langevin.run.plan import Wanted
from langevin.run.train import train_run
from langevin.serving.suspend import read
from langevin.training.metrics import read_metrics
from tests import clips, customers, motions, pictures, scores, texts, voices
from tests.serving.driving import engine
from tests.tiny import SMALL

MEMBERS = {member.__dataclass_fields__["kind"].default: member for member in get_args(union.AnyModality)}


def points(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    z = np.random.default_rng(0).normal(size=(400, 2))
    np.save(folder / "points.npy", z * [0.3, 1.0] + 2)
    return folder / "points.npy"


def sick(folder: Path) -> Path:
    """A text with mistakes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "draft.txt").write_text("teh cat sees the moon.\n\na dgo hears the sea.\n")
    return folder / "draft.txt"


def two_columns(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pairs.tsv").write_text("the cat sees the sea.\ta dog\na dog\ta dog\none bird\tthe moon\n")
    return folder / "pairs.tsv"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A modality with one of its tasks.

    Args:
        data: makes tiny data in a folder, and says where.
        changes: of the recipe.
        options: of a request, made with a folder for what it reads.
        bound: of the codec's error, in units of the data.
        scored: whether it has a number that `compare` ranks by.
    """

    kind: str
    data: Callable[[Path], Path]
    options: Callable[[Path], Any]
    changes: tuple[str, ...] = ()
    bound: float = 0.0
    scored: bool = True


def sample(kind: str, **options) -> Callable[[Path], Any]:
    return lambda folder: options_of(kind).Sample(**options)


TOKENS = ("text", "music")  # kinds whose x are token ids
PRECISE = ("training.precision=float32",)
CASES = {
    "classes": Case(kind="image", data=pictures.classes, options=sample("image", condition=("disc", "bar")),
                    changes=("data.flip=true", "data.codec.scale=0.01", "data.val_fraction=0.3")),
    "captions": Case(kind="image", data=pictures.captions, options=sample("image", condition=("red disc", "blue bar")),
                     changes=("data.val_fraction=0.3",)),
    "points": Case(kind="points", data=points, options=sample("points"), bound=1e-6,
                   changes=("data.codec.scale=0.37", "data.codec.offset=-0.7")),
    "corpus": Case(kind="text", data=texts.corpus, options=sample("text", prompt="the cat "),
                   changes=("data.task.context_length=32",)),
    "blocks": Case(kind="text", data=texts.corpus, options=sample("text", prompt="the old king"),
                   changes=("data.task.context_length=32", "network.attention=block", "network.block_size=8")),
    "bytes": Case(kind="text", data=texts.corpus, options=sample("text", infill="a [[3]] b [[]] c", best_of=2),
                  changes=("data.task.context_length=32", "data.codec.kind=bytes")),
    "dialogues": Case(kind="text", data=texts.dialogues, options=sample("text", prompt="user: what do you see?"),
                      changes=("data.codec.size=300", "data.task.context_length=64", "data.task.max_target_length=16")),
    "summaries": Case(kind="text", data=texts.summaries, options=sample("text", prompt="the cat sees the sea."),
                      changes=("data.codec.size=300", "data.task.context_length=96", "data.task.max_target_length=16")),
    "inferences": Case(kind="text", data=texts.inferences, changes=("data.codec.size=300",), scored=False,
                       options=lambda folder: Classify(file=str(two_columns(folder)))),
    "mends": Case(kind="text", data=texts.corpus,
                  changes=("data.task.context_length=32",),
                  options=lambda folder: Correct(file=str(sick(folder)), edit_threshold=0.0)),
    "chorales": Case(kind="music", data=scores.chorales, changes=("data.context_length=16",),
                     options=lambda folder: options_of("music").Sample(melody=scores.tune(folder), tempo=200.0)),
    "piano": Case(kind="music", data=scores.songs, changes=("data.context_length=16", "data.key=true"),
                  options=sample("music", bars=2)),
    "speech": Case(kind="speech", data=voices.spoken, options=sample("speech", text=("ah", "ee ah"), speaker=("ben",)),
                   changes=("data.val_fraction=0.3", "network.kernel=3", "data.units.kind=characters"), bound=0.9),
    "spliced": Case(kind="speech", data=voices.spoken, options=sample("speech", text=("ah ee",), seconds=0.5),
                    changes=("data.val_fraction=0.3", "data.splice.most=3", "data.seconds=0.4",
                             "data.units.kind=characters"), bound=0.9),
    "clips": Case(kind="video", data=clips.captioned,
                  options=lambda folder: options_of("video").Sample(text=("red square",), frames=7, history=1.5),
                  changes=("data.val_fraction=0.3", "data.frames=4"), bound=0.51),
    "strips": Case(kind="video", data=lambda folder: clips.strips(folder / "clips.parquet"),
                   options=lambda folder: options_of("video").Sample(
                       first_frames=str(clips.framed(folder) / "clip1"), frames=7, scheduling="rolling", chunk=2),
                   changes=("data.val_fraction=0.3", "network.attention=factorised"), bound=0.51),
    "waveform": Case(kind="speech", data=voices.spoken, options=sample("speech", seconds=0.3),
                     changes=("data.val_fraction=0.3", "data.codec.kind=waveform", "data.units.kind=characters",
                              "data.alignment.kind=monotonic", "data.alignment.iterations=2"), bound=1e-4),
    "whole table": Case(kind="table", data=customers.whole, options=sample("table", given=("plan=plus", "age=40"))),
    "table with holes": Case(kind="table", data=customers.with_holes, options=sample("table", given=("active=true",)),
                             changes=("data.val_fraction=0.3",)),
    "table of numbers": Case(kind="table", data=customers.numbers, options=sample("table"),
                             changes=("data.val_fraction=0.3", "network.kind=column_transformer", "process.warp=false")),
    "walks": Case(kind="motion", data=motions.walks, options=sample("motion", action=("run", "walk"), seconds=1.2),
                  changes=("data.window=32", "network.kernel=3", "data.projectors=[{kind: limits}, {kind: feet}]"),
                  bound=1e-4),
    "joints": Case(kind="motion", data=motions.mimics, bound=1e-4,
                   options=lambda folder: options_of("motion").Sample(continue_=motions.one(folder), seconds=0.5),
                   changes=("data.window=24", "data.codec.kind=poses", "data.codec.tokens=joint", "network.dimensions=2",
                            "network.patch=1",
                            "method.terms=0.5")),
    "swings": Case(kind="motion", data=motions.swings, options=sample("motion", seconds=3.0), bound=1e-5,
                   changes=("data.window=40", "network.patch=4", "method.levels=[]")),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A case with its finished run of two steps."""

    case: Case
    name: str
    folder: Path
    data: Path
    run: Run
    model: RunModel
    train: Any
    val: Any

    @property
    def modality(self) -> Any:
        """As it was fitted."""
        return self.run.recipe.data

    def asked(self, **changes) -> RequestContext:
        return RequestContext(model=self.model, data=lambda: (self.train, self.val), **changes)

    def plan(self, **changes) -> Plan:
        return self.modality.plan(self.case.options(self.folder / "request"), self.asked(**changes))

    def drawn(self, *, batch: int = 256, frames: bool = False, **changes) -> Samples:
        return self.model.run(self.plan(batch=batch, **changes), batch=batch, frames=frames)


@pytest.fixture(scope="module", params=CASES)
def trained(request, tmp_path_factory) -> Trained:
    case, folder = CASES[request.param], tmp_path_factory.mktemp(request.param)
    data = case.data(folder / "data")
    headless = case.kind == "points" or (case.kind == "table" and "column_transformer" not in str(case.changes))
    width = tuple(change for change in SMALL if "head_dim" not in change) if headless else SMALL
    changes = (*width, *PRECISE, "training.steps=2", *case.changes)
    run = train_run(Wanted(target=str(data), overrides=changes, out=folder / "run"))
    train, val = run.open_data()
    return Trained(
        case=case, name=request.param, folder=folder, data=data, run=run, model=load_model(run)[0], train=train, val=val
    )  # fmt: skip


def test_every_member_of_the_union_has_tiny_data():
    assert {case.kind for case in CASES.values()} == set(MEMBERS) - {"joint"}  # of others: tests/modalities/joint


# ------------------------------------------------------------------------------------------------------------- the data


@pytest.mark.parametrize("name", CASES)
def test_data_is_detected_by_its_own_modality_alone(name, tmp_path):
    path = CASES[name].data(tmp_path / "data")
    found = {kind: member.detect(path) for kind, member in MEMBERS.items()}
    assert [kind for kind, one in found.items() if one is not None] == [CASES[name].kind]
    (one,) = candidates(path)
    assert 0 < one.score <= 1
    assert one.reason
    assert one.modality == chosen(path) == MEMBERS[CASES[name].kind](path=str(path))


@pytest.mark.parametrize("kind", MEMBERS)
def test_nothing_and_what_is_of_no_kind_is_detected_by_none(kind, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "a.blend").write_bytes(b"BLENDER-v300RENDH\x00\x00\xff\xfe\x80")
    (tmp_path / "scenes" / "README.md").write_text("Words about the scenes.\n")
    for path in (tmp_path / "empty", tmp_path / "scenes", tmp_path / "scenes" / "a.blend", tmp_path / "nothing"):
        assert MEMBERS[kind].detect(path) is None


def test_two_that_fit_equally_are_refused_with_the_key_that_decides(tmp_path):
    pictures.plain(tmp_path / "mixed", count=4)
    for i in range(4):
        (tmp_path / "mixed" / f"text-{i}.txt").write_text("some words\n")
    with pytest.raises(
        ValueError, match=r"can be read as (image|text) .* and as (image|text) .*data\.kind="
    ) as refused:
        chosen(tmp_path / "mixed")
    assert all(f"data.kind={kind}" in str(refused.value) for kind in ("image", "text"))
    assert {chosen(tmp_path / "mixed", kind).kind for kind in ("image", "text")} == {"image", "text"}
    with pytest.raises(ValueError, match=r"no data\.kind 'images'; did you mean 'image'\? choose image, speech, video"):
        chosen(tmp_path / "mixed", "images")


def test_inspection_is_words_and_json(trained):
    found = trained.modality.inspect()
    assert found.lines()
    assert all(isinstance(line, str) and line.strip() for line in found.lines())
    assert json.loads(json.dumps(found.as_dict()))


def test_both_parts_are_there_and_known_by_what_is_in_them(trained):
    again = trained.modality.open()
    for part, same in zip((trained.train, trained.val), again, strict=True):
        assert len(part) == len(same) > 0
        assert part.fingerprint == same.fingerprint
        assert part.notes.lines() == same.notes.lines()
        assert not part.notes.broken
    assert trained.train.fingerprint != trained.val.fingerprint


def test_fitting_again_changes_nothing(trained):
    modality = trained.modality
    assert modality.fitted(trained.train) == modality
    fresh = MEMBERS[modality.kind](path=modality.path)
    once = fresh.fitted(trained.train)
    assert once.fitted(trained.train) == once
    based = once.fitted(trained.train, base=once)
    assert based.fitted(trained.train, base=once) == based


def test_what_is_fitted_comes_back_from_the_recipe(trained):
    recipe = trained.run.recipe
    assert check(yaml.safe_load(dump(recipe))) == recipe == open_run(trained.run.path).recipe
    assert recipe.data.path == str(
        (trained.folder / "data" / recipe.data.path.split("/data")[-1].strip("/")).absolute()
    )


# ------------------------------------------------------------------------------------------------------------- examples


def test_the_codec_keeps_its_bound(trained):
    modality, items = trained.modality, torch.arange(min(20, len(trained.train)))
    if trained.case.kind == "text":
        raw = list(trained.train.strings())
        coded = pad_sequence(
            modality.codec.encode_all(raw), batch_first=True, padding_value=modality.codec.vocab_size + 1
        )
        assert modality.decode(coded) == raw
        return
    if trained.case.kind == "music":
        windows = modality.batches(trained.train, device=torch.device("cpu"))
        for piece, (index, first) in zip(modality.decode(windows(items).x), windows.starts, strict=False):
            whole = modality.codec.plain(trained.train.pieces[index])
            assert piece == whole.between(first, min(first + windows.length, whole.steps))
        return
    if trained.case.kind == "speech":
        voices.keeps_its_bound(modality, trained.train, trained.case.bound)
        return
    if trained.case.kind == "video":
        clips.keeps_its_bound(modality, trained.train)
        return
    if trained.case.kind == "table":
        x = modality.batches(trained.train, device=torch.device("cpu"))(items).x
        sure = [modality.rows(trained.train.select(items).values), modality.decode(x)]
        there = [[cell for cell in row if cell is not None] for row in sure[0]]
        assert there == [[b for a, b in zip(*rows, strict=True) if a is not None] for rows in zip(*sure, strict=True)]
        return
    if trained.case.kind == "motion":
        motions.keeps_its_bound(modality, trained.train, trained.case.bound)
        return
    raw = trained.train.read(items)
    x = modality.batches(trained.train, device=torch.device("cpu"))(items).x
    error = (modality.decode(x).double() - raw.double()).abs().max()
    assert float(error) <= trained.case.bound
    assert modality.decode(x).dtype == raw.dtype


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_diverged_is_not_decoded(trained, bad):
    x = trained.modality.batches(trained.train, device=torch.device("cpu"))(torch.arange(2)).x
    if trained.case.kind == "table":
        with pytest.raises(ValueError, match="finite"):
            trained.modality.decode(
                {name: part.float() + bad if name == "numbers" else part for name, part in x.items()}
            )
        return
    x = x.clone()
    if trained.case.kind in TOKENS:
        x.view(-1)[3] = -1
        with pytest.raises(ValueError, match=r"-1"):
            trained.modality.decode(x)
        return
    x.view(-1)[3] = bad
    with pytest.raises(ValueError, match="finite"):
        trained.modality.decode(x)


def noise_of(items: torch.Tensor) -> SampleNoise:
    return SampleNoise(seeds=items * 7 + 1, steps=torch.zeros_like(items))


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    """All that a batch holds, by name."""
    found: dict[str, Any] = {}
    for name in ("x", "known", "mask"):
        value = getattr(batch, name)
        found |= {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, dict) else {name: value}
    if batch.condition is not None:
        batch.condition.map(lambda tensor: found.setdefault(f"condition {len(found)}", tensor))
    return {name: tensor for name, tensor in found.items() if tensor is not None}


@pytest.mark.parametrize("augmented", [False, True])
def test_examples_are_a_pure_function_of_items_and_noise(trained, augmented):
    """Equal when asked again; and alone as among others, but for padding behind the shorter ones."""
    for part in (trained.train, trained.val):
        batches = trained.model.batches(part)
        items = torch.tensor([5, 0, 3, 3, 1]) % len(batches)
        names = items if not augmented else torch.arange(5)
        together = tensors(batches(items, noise_of(names) if augmented else None))
        again = tensors(batches(items, noise_of(names) if augmented else None))
        assert together.keys() == again.keys()
        assert all(torch.equal(tensor, again[name]) for name, tensor in together.items())
        for i in range(5):
            alone = tensors(batches(items[i : i + 1], noise_of(names[i : i + 1]) if augmented else None))
            for name, tensor in alone.items():
                inside = together[name][i][tuple(slice(size) for size in tensor.shape[1:])]
                assert torch.equal(inside, tensor[0]), name
        for name in ("x", "x.numbers", "x.tokens"):
            if name in together:
                tokens = trained.case.kind in TOKENS or name == "x.tokens"
                assert together[name].dtype == (torch.int64 if tokens else torch.float32)


def test_examples_have_the_shape_that_is_said(trained):
    batches = trained.model.batches(trained.train)
    assert tuple(trained.run.facts["shape"]) == tuple(batches.shape)
    x = batches(torch.arange(len(batches))).x
    x = torch.cat([part.float() for part in x.values()], 1) if isinstance(x, dict) else x
    assert len(x) == len(batches)
    assert all(size <= most for size, most in zip(x.shape[1:], batches.shape, strict=True))
    if trained.case.kind != "text":
        assert tuple(x.shape[1:]) == tuple(batches.shape)


# ------------------------------------------------------------------------------------------------------------- requests


def near(a: Any, b: Any) -> None:
    """The same samples, to a rounding where they are numbers."""
    if isinstance(a, list) and isinstance(a[0], torch.Tensor):  # sounds: Griffin-Lim amplifies rounding
        assert all(float((one - other).abs().max()) < 2e-3 for one, other in zip(a, b, strict=True))
        return
    if not isinstance(a, torch.Tensor) and isinstance(a[0], tuple):  # cells of a table: a last digit may differ
        assert len(a) == len(b)
        different = [(c, d) for one, other in zip(a, b, strict=True) for c, d in zip(one, other, strict=True) if c != d]
        assert all(
            float(c.replace(",", ".")) == pytest.approx(float(d.replace(",", ".")), abs=0.02) for c, d in different
        )
        return
    if not isinstance(a, torch.Tensor):
        assert a == b
        return
    difference = (a.double() - b.double()).abs()
    if a.dtype == torch.uint8:
        assert float(difference.max()) <= 1
        assert float((difference > 0).double().mean()) < 0.01
    else:
        assert float(difference.max()) < 1e-4


def test_a_plan_is_a_function_of_its_seed_alone(trained):
    """In any batch, among other seeds, and again."""
    whole = trained.drawn(seed=3, count=6)
    near(trained.drawn(seed=3, count=6).values, whole.values)
    for batch in (1, 2, 4):
        found = trained.drawn(seed=3, count=6, batch=batch)
        near(found.values, whole.values)
        assert found.names == whole.names
    if whole.document:  # a request about a file, which says how many there are
        return
    near(trained.drawn(seed=5, count=2).values, whole.values[2:4])
    assert len(whole) == 6
    assert not isinstance(whole.values, torch.Tensor) or len(whole.values.flatten(1).unique(dim=0)) == 6


def served(trained, *, suspended=None, steps=10**6, **options):
    """A request that an engine has served for so many steps at most: its engine and ticket."""
    serving = engine()
    ticket = serving.submit(
        trained.plan(seed=3, count=3), trained.model, reproducible=True, resume=suspended, **options
    )
    for _ in range(steps):
        if not serving.tick():
            break
    return serving, ticket


def test_requests_that_are_served_together_get_what_they_get_alone(trained):
    serving = engine()
    tickets = {seed: serving.submit(trained.plan(seed=seed, count=2), trained.model) for seed in (3, 50)}
    while serving.tick():
        pass
    for seed, ticket in tickets.items():
        alone = trained.drawn(seed=seed, count=2)
        near(ticket.result(0).values, alone.values)
        assert ticket.result(0).names == alone.names
        assert ticket.result(0).nfe == alone.nfe


def test_a_request_suspended_after_any_step_ends_in_the_same_bytes(trained, tmp_path):
    whole, ticket = served(trained)
    expected = ticket.result(0)
    for steps in sorted({0, 1, whole.ticks // 2, whole.ticks - 1}):
        first, half_done = served(trained, steps=steps)
        kept = first.suspend(half_done)
        save_file(kept.tensors(), tmp_path / "kept.safetensors")
        again, rest = served(trained, suspended=read(tmp_path / "kept.safetensors"))
        assert again.evaluations <= whole.evaluations - kept.evaluations  # what was made is not made again
        assert equal(rest.result(0).values, expected.values)
        assert rest.result(0).nfe == expected.nfe


def equal(a: Any, b: Any) -> bool:
    """Whether values are the same to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return len(a) == len(b) and all(equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b))


def test_what_is_like_the_data_does_not_depend_on_the_batch(trained):
    found = [
        trained.model.run(
            trained.modality.plan_like(trained.val, trained.asked(count=4, seed=2, batch=batch)), batch=batch
        )
        for batch in (256, 3)
    ]
    near(found[0].values, found[1].values)
    assert found[0].names == found[1].names
    assert len(found[0]) == 4
    assert found[0].nfe == found[1].nfe > 0


def test_previews_are_the_same_few_things_each_time(trained):
    found = [trained.model.run(trained.modality.preview_plan(trained.asked())) for _ in range(2)]
    assert found[0].preview() == found[1].preview()
    assert found[0].preview().suffix in MEDIA_TYPES
    assert found[0]._repr_html_()
    first = found[0].first(2)
    assert len(first) == 2
    near(first.values, found[0].values[:2])


# ---------------------------------------------------------------------------------------------------------------- files


def test_samples_are_read_back_from_every_form(trained, tmp_path):
    samples = trained.drawn(count=3, frames=".gif" in trained.modality.forms)
    for form in trained.modality.forms:
        if form == "-":
            if trained.case.kind == "table":
                assert len(samples.text().splitlines()) == 4
                continue
            assert all(text.removesuffix("\n") in samples.text() for text in samples.values)
            continue
        out = samples.save(tmp_path / "deep" / f"samples{form}")
        read_back(form, out, samples)
    with pytest.raises(ValueError, match=r"are written as .*; got .*samples\.strange"):
        samples.save(tmp_path / "samples.strange")
    if trained.modality.forms[0] != "-":
        with pytest.raises(ValueError, match="no text"):
            samples.text()


def read_back(form: str, out: Path, samples: Samples) -> None:
    """Check that a file holds the samples."""
    if samples.modality.kind == "music":
        scores.read_back(form, out, samples)
        return
    if samples.modality.kind == "speech":
        voices.read_back(form, out, samples)
        return
    if samples.modality.kind == "video":
        clips.read_back(form, out, samples)
        return
    if samples.modality.kind == "table":
        customers.read_back(form, out, samples)
        return
    if samples.modality.kind == "motion":
        motions.read_back(form, out, samples)
        return
    match form:
        case ".npz":
            held = dict(np.load(out))
            name = "images" if samples.modality.kind == "image" else "points"
            values = samples.values.permute(0, 2, 3, 1) if name == "images" else samples.values
            assert np.array_equal(held[name], values.numpy())
            assert all(np.array_equal(held[key], value.numpy()) for key, value in samples.arrays.items())
            assert tuple(held.get("names", ())) == (samples.names if any(samples.names) else ())
        case ".png":
            assert out.read_bytes() == samples.preview().content
            assert Picture.open(io.BytesIO(out.read_bytes())).size > (8, 8)
        case ".gif":
            assert Picture.open(out).n_frames == len(samples.frames) > 1
        case "":
            held = [np.array(Picture.open(path)) for path in sorted(out.iterdir())]
            assert np.array_equal(np.stack(held), samples.values.permute(0, 2, 3, 1).numpy())
        case ".jsonl" | ".ndjson":
            lines = out.read_bytes().decode().removesuffix("\n").split("\n")
            assert [json.loads(line)["text"] for line in lines] == [text.removesuffix("\n") for text in samples.values]
        case _:
            assert samples.modality.kind == "text"
            assert out.read_bytes().decode() == samples.text()


# ------------------------------------------------------------------------------------------------ trained and measured


def test_two_steps_are_trained_and_looked_at(trained):
    lines = read_metrics(trained.run.path / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line][-1] == 2
    looked = [line for line in lines if "val_loss" in line]
    assert [line["step"] for line in looked] == [1, 2]
    for line in looked:
        assert all(math.isfinite(v) for v in (*line["val_loss"], *line["train_loss"]))
        assert any(len(line["val_loss"]) == len(line.get(scale, ())) for scale in ("log_snr", "time", "masked"))
    shown = sorted(path.name for path in (trained.run.path / "samples").glob("step-*"))
    suffix = trained.model.run(trained.modality.preview_plan(trained.asked())).preview().suffix
    assert shown[0] == f"step-00000000{suffix}"
    assert shown[-1] == f"step-00000002{suffix}"


def test_evaluation_is_rows_sections_and_figures(trained):
    options = options_of(trained.case.kind).Evaluate()
    found, report = evaluate_run(trained.run, trained.model, options, step=2, count=8, seeds=1)
    assert found.title
    assert len({(row.group, row.metric) for row in found.rows}) == len(found.rows) > 0
    for row in found.rows:
        assert math.isfinite(row.generated.estimate)
        assert row.floor is None or math.isfinite(row.floor)
        assert row.meaning
    page = report.read_text()
    assert all(row.metric in page for row in found.rows)
    assert any(section.heading == "Measured" for section in found.sections)

    def never(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    figures = json.loads((trained.run.path / "evaluation.json").read_text(), parse_constant=never)
    assert figures["step"] == 2
    assert figures.keys() >= found.figures.keys()


def test_a_scorer_ranks_samples_beside_real_data(trained):
    measuring = Measuring(
        model=trained.model, train=trained.train, val=trained.val, folder=trained.run.path / "evaluation",
        facts=trained.run.facts, load=lambda path: load_model(open_run(path))[0], count=8,
    )  # fmt: skip
    if not trained.case.scored:
        with pytest.raises(ValueError, match="langevin evaluate"):
            trained.modality.scorer(measuring)
        return
    scorer = trained.modality.scorer(measuring)
    plan = trained.modality.plan_like(trained.train, trained.asked(count=8))
    score = scorer.score(trained.model.run(plan))
    assert scorer.name
    assert math.isfinite(scorer.floor)
    assert score == scorer.score(trained.model.run(trained.modality.plan_like(trained.train, trained.asked(count=8))))
    assert score >= 0


REFUSED = {
    "classes": (sample("image", condition=("zebra",)), "no class is called 'zebra'; the run's classes are bar, disc"),
    "captions": (sample("image", rows=("red",)), "a table takes --rows and --columns"),
    "corpus": (sample("text", suffix="x" * 40), "40 tokens and 1 are to be generated, more than"),
    "blocks": (sample("text", infill="a [[]] b"), "does not see what follows a gap"),
    "bytes": (sample("text", length=0), "at least 1, got 0"),
    "dialogues": (sample("text", prompt="a", best_of=0), "1 to 1000, got 0"),
    "summaries": (sample("text"), "give it as --prompt"),
    "inferences": (sample("text", prompt="a"), "langevin classify RUN FILE"),
    "chorales": (sample("music", key="G major"), "--key is for runs with data.key=true"),
    "whole table": (sample("table", given=("pln=plus",)), "there is no column 'pln'; did you mean 'plan'?"),
    "table with holes": (sample("table", given=("plan=plux",)), "has no value 'plux'; did you mean 'plus'?"),
    "table of numbers": (sample("table", balance="a"), "needs a column of categories that is not given"),
    "walks": (sample("motion", action=("fly",)), "no action is called 'fly'; known are run, stand, walk"),
    "swings": (sample("motion", project=("dynamics",)), "needs data.source, whose equation of motion is known"),
    "piano": (sample("music", voices=Path("a.mid"), given="soprano"), "without voices (data.codec.kind=piano_roll)"),
}


@pytest.mark.parametrize("trained", REFUSED, indirect=True)
def test_a_request_that_does_not_fit_the_run_is_refused_before_any_work(trained):
    options, said = REFUSED[trained.name]
    with pytest.raises(ValueError, match=re.escape(said)):
        trained.modality.plan(options(trained.folder), trained.asked())
