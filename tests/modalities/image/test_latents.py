"""Images in the latents of an autoencoder: a run that is the codec of another, and the command that trains both."""

import json
import re
import shutil
from dataclasses import replace
from typing import get_args

import pytest
import torch

from langevin.cli import main
from langevin.diffusion.denoiser import PredictionType
from langevin.diffusion.noise import SampleNoise
from langevin.evaluation.report import MetricRow, Metrics, Source, number
from langevin.evaluation.statistics import mean_interval
from langevin.modalities import latents
from langevin.modalities.image import codec, measure
from langevin.modalities.image.options import Edit, Explain, Sample
from langevin.modalities.modality import Budget, Needs, RequestContext
from langevin.networks import Autoencoder
from langevin.run.directory import load_model, open_run
from langevin.run.watermark import detect, marked
from tests import pictures

SMALL = ("training.steps=2", "training.batch=8", "training.snapshots=1")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    changes = (
        "data.flip=true",
        "network.width=32",
        "network.depth=1",
        "network.head_dim=16",
        "sampling.steps=3",
        *SMALL,
    )
    assert main(["train", "image/digits", "--latent", "--out", str(folder / "run"), "--minutes", "0.1", *changes]) == 0
    return folder


@pytest.fixture(scope="module")
def model(work):
    return load_model(open_run(work / "run"))[0]


@pytest.fixture
def forgotten():
    """As in a new process: nothing is in memory."""
    codec._kept.cache_clear()
    yield
    codec._kept.cache_clear()


def test_one_command_trains_both(work, model):
    first, second = open_run(work / "run-autoencoder"), open_run(work / "run")
    assert (first.recipe.network.kind, second.recipe.network.kind) == ("autoencoder", "dit")
    assert second.recipe.data.codec.path == str(work / "run-autoencoder")
    assert second.facts["shape"] == [2, 4, 4]
    assert first.recipe.data.flip, "changes of the data are of both"
    context = RequestContext(model=model, data=model.modality.open, count=3)
    drawn = model.run(model.modality.plan(Sample(), context))
    assert (drawn.values.shape, drawn.values.dtype) == ((3, 1, 8, 8), torch.uint8)


def test_an_autoencoder_that_is_there_is_used(work, capsys):
    before = open_run(work / "run-autoencoder").recipe
    assert main(["train", "image/digits", "--latent", "--out", str(work / "run"), *SMALL]) == 1
    assert "langevin resume" in capsys.readouterr().err
    (work / "again-autoencoder").symlink_to(work / "run-autoencoder")
    assert main(["train", "image/digits", "--latent", "--out", str(work / "again"), "network.width=32", *SMALL]) == 0
    assert "is there already" in capsys.readouterr().err
    assert open_run(work / "run-autoencoder").recipe == before
    (work / "other-autoencoder").symlink_to(work / "run")
    assert main(["train", "image/digits", "--latent", "--out", str(work / "other"), *SMALL]) == 1
    assert "is another run" in capsys.readouterr().err


@pytest.mark.parametrize("kind", get_args(PredictionType))
def test_latents_are_learned_by_any_prediction(work, tmp_path, kind):
    (tmp_path / "run-autoencoder").symlink_to(work / "run-autoencoder")
    words = [
        "--latent",
        "--out",
        str(tmp_path / "run"),
        f"method.prediction={kind}",
        "method.weighting=velocity",
        *SMALL,
    ]
    assert main(["train", "image/digits", *words, "network.width=32", "network.depth=1", "sampling.steps=3"]) == 0
    model = load_model(open_run(tmp_path / "run"))[0]
    denoiser, process = model.parts.denoiser, model.parts.process
    assert process.sigma_data == pytest.approx(0.5, abs=0.01)
    t, x_t = torch.full((1,), 0.6, dtype=torch.float64), torch.randn(1, 2, 4, 4)
    alpha, sigma, rates = process.schedule.alpha(t), process.schedule.sigma(t), process.schedule.tangent(t)
    # a network that says 0 says that x, the noise or the velocity is 0, where x_t = alpha x + sigma noise
    targets = {"clean": (torch.ones(1), torch.zeros(1)), "noise": (torch.zeros(1), torch.ones(1)), "velocity": rates}
    if kind in targets:
        system = torch.stack([torch.stack([part.double() for part in row]) for row in (targets[kind], (alpha, sigma))])
        share = torch.linalg.solve(system[..., 0], torch.tensor([0.0, 1.0]).double())[0]
    else:  # the best linear denoiser
        variance = process.sigma_data**2
        share = (alpha * variance / (alpha**2 * variance + sigma**2))[0]
    silent = replace(denoiser, network=lambda x, *_: torch.zeros_like(x))
    torch.testing.assert_close(silent(x_t, t).mean, float(share) * x_t, rtol=1e-4, atol=1e-5)
    assert main(["sample", str(tmp_path / "run"), "--count", "2", "--out", str(tmp_path / "a.png")]) == 0


def test_the_noise_of_latents_is_told_by_the_key_and_too_little_of_it_is_refused(
    work, model, tmp_path, capsys, monkeypatch
):
    run, decode, drawn = open_run(work / "run"), codec.Latents.decode, list[torch.Tensor]()
    monkeypatch.setattr(codec.Latents, "decode", lambda self, x: (drawn.append(x), decode(self, x))[1])
    keyed = marked(model, run, b"a secret of more than thirty-two letters")
    keyed.run(keyed.modality.plan(Sample(), RequestContext(model=keyed, data=model.modality.open, count=6, seed=40)))
    (x,) = drawn
    assert [detect(keyed, one[None], range(30, 60)).seed for one in x] == list(range(40, 46))
    other = marked(model, run, b"another secret of thirty-two letters or so")
    assert min(detect(other, one[None], range(30, 60)).log10_p for one in x) > -4
    (tmp_path / "key").write_text("a secret of more than thirty-two letters\n")
    assert main(["sample", str(work / "run"), "--watermark", str(tmp_path / "key")]) == 1
    assert "made of 32 random numbers, and no watermark can be told" in capsys.readouterr().err


def test_data_without_an_autoencoder_is_refused(capsys, tmp_path):
    assert main(["train", "toy/mixture", "--latent", "--out", str(tmp_path / "run")]) == 1
    assert "has none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_latents_are_those_of_the_autoencoder_at_unit_scale(work, model):
    image = model.modality
    train, _ = image.open()
    batches = image.batches(train, device=CPU)
    assert batches.shape == (2, 4, 4)
    x = batches(torch.arange(len(train))).x
    assert abs(float(x.mean())) < 0.01
    assert float(x.std()) == pytest.approx(0.5, abs=0.01)
    autoencoder = load_model(open_run(work / "run-autoencoder"))[0]
    items = torch.tensor([3, 0, 3, 11])
    noise = SampleNoise(seeds=torch.arange(4), steps=torch.zeros(4, dtype=torch.int64))
    mirrored = noise.fork(7).uniform(torch.empty(4, 1))[:, 0] < 0.5
    assert 0 < int(mirrored.sum()) < 4
    raw = train.read(items)
    raw[mirrored] = raw[mirrored].flip(-1)
    z = autoencoder.parts.network.encode(autoencoder.modality.codec.encode(raw))[0]
    torch.testing.assert_close(
        (z - image.codec.mean) * image.codec.scale, batches(items, noise).x, rtol=1e-4, atol=1e-4
    )


def test_kept_latents_are_read_again_and_never_those_of_something_else(work, model, forgotten):
    image, folder = model.modality, work / "run-autoencoder" / latents.FOLDER
    train, _ = image.open()
    shape = train.shape
    kept = image.codec.kept(train.fingerprint, len(train), shape, mirrored=False)
    assert bool(kept.made.all())
    assert kept.file.parent == folder
    x = image.batches(train, device=CPU)(torch.arange(5)).x
    for other in ({"fingerprint": "0" * 64}, {"count": len(train) - 1}, {"mirrored": True}):
        given = {"fingerprint": train.fingerprint, "count": len(train), "mirrored": False, **other}
        assert (
            image.codec.kept(given["fingerprint"], given["count"], shape, mirrored=given["mirrored"]).file != kept.file
        )
    assert latents.Kept.of(image.codec.path, "1" * 64, count=3, shape=(2, 4, 4)).file != kept.file
    whole = kept.file.read_bytes()
    for damaged in (whole[:-40], whole[:-8] + b"\x00" * 8, b"", b"no tensors"):
        kept.file.write_bytes(damaged)
        assert latents.read(kept.file, tuple(kept.values.shape)) is None
    codec._kept.cache_clear()
    again = image.codec.kept(train.fingerprint, len(train), shape, mirrored=False)
    assert not bool(again.made.any())
    torch.testing.assert_close(replace(again).at(torch.arange(5), lambda i: kept.values[i]), kept.values[:5])
    again.at(torch.arange(len(train)), lambda i: kept.values[i])
    assert kept.file.read_bytes() == whole, "the last one that was missing writes the file"
    assert torch.equal(image.batches(train, device=CPU)(torch.arange(5)).x, x)


def test_too_many_to_keep_are_made_anew(model, forgotten, monkeypatch):
    monkeypatch.setattr(latents, "MOST", 100)
    image = model.modality
    train, _ = image.open()
    batches = image.batches(train, device=CPU)
    batches.prepare(lambda done, total: pytest.fail("nothing is kept"))
    torch.testing.assert_close(batches(torch.arange(3)).x, image.codec.encode(train.read(torch.arange(3))))


@pytest.mark.parametrize("name", ["run", "run-autoencoder"])
def test_every_score_stands_beside_that_of_the_codec(work, name):
    assert main(["evaluate", str(work / name), "--count", "40", "--seeds", "1"]) == 0
    rows = json.loads((work / name / "evaluation.json").read_text())["measures"]["rows"]
    assert all(row["codec"] is not None for row in rows)
    run = load_model(open_run(work / name))[0]
    _, val = run.modality.open()
    real = val.read(torch.arange(40))
    network = run.parts.network if name == "run-autoencoder" else run.modality.codec.network
    z = network.encode(run.modality.codec.pixels.encode(real) if name == "run" else run.modality.codec.encode(real))[0]
    pixels = run.modality.codec.pixels if name == "run" else run.modality.codec
    assert torch.equal(measure.codec_of(run.modality, run.parts.network)(real), pixels.decode(network.decode(z)))
    assert ">Codec</th>" in (work / name / "report.html").read_text()


def test_runs_side_by_side_have_the_ceilings_that_evaluating_finds_and_the_memory_of_the_decoder(
    work, tmp_path, capsys
):
    assert main(["train", "image/digits", "--out", str(work / "pixels"), "network.width=32", *SMALL]) == 0
    runs = [work / name for name in ("pixels", "run", "run-autoencoder")]
    asked, out = ["--count", "24", "--seeds", "1"], tmp_path / "beside"
    capsys.readouterr()
    assert main(["compare", *map(str, runs), *asked, "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    heading = next(line for line in printed if line.startswith("Metric"))
    assert re.findall(r"Codec of \S+", heading) == ["Codec of run", "Codec of run-autoencoder"]
    sides = json.loads((out / "report.json").read_text())["sections"][1]["sides"]
    assert {"C_T", "authentic share", "coverage"} < {row["metric"] for row in sides[1]["rows"]}
    shutil.copytree(runs[0] / "evaluation", runs[1] / "evaluation", dirs_exist_ok=True)  # the same judge
    assert main(["evaluate", str(runs[1]), *asked]) == 0
    alone = json.loads((runs[1] / "evaluation.json").read_text())["measures"]["rows"]
    ceilings = [(row["metric"], row["group"], row["codec"]) for row in sides[1]["rows"]]
    assert [(row["metric"], row["group"], row["codec"]) for row in alone] == ceilings[: len(alone)]
    (line, *_) = (line for line in printed if line.startswith("  FD train"))
    assert number(alone[0]["codec"]) in line.split()
    weights = [sum(4 * p.numel() for p in load_model(open_run(path))[0].parts.network.parameters()) for path in runs]
    held = [float(re.findall(r"([\d.]+) MB", side["facts"]["memory of drawing 16 at once"])[1]) for side in sides]
    assert held[1] == pytest.approx((weights[1] + weights[2]) / 1e6, rel=0.02), "the decoder's weights are in it"


def test_a_table_without_a_codec_has_no_such_column():
    row = MetricRow(metric="FD", generated=mean_interval([1.0]), better="lower", meaning="distance")
    table = Metrics(heading="Measured", rows=[row], source=Source(samples={}, seeds=[0], command=""))
    assert "Codec" not in table.html()
    coded = Metrics(heading="Measured", rows=[replace(row, codec=0.25), row], source=table.source)
    assert ">0.25<" in coded.html()


def test_what_is_measured_in_pixels_is_refused(work, model, capsys, tmp_path):
    picture = tmp_path / "picture.png"
    pictures.draw("disc", "red", side=8, seed=0).save(picture)
    context = RequestContext(model=model, data=model.modality.open, count=2)
    for options in (Edit(input=str(picture), mask="2,2,4,4"), Explain(), Sample(reward="tests.tiny:reward")):
        with pytest.raises(ValueError, match="measured in pixels, and this run draws the latents"):
            model.run(model.modality.plan(options, context))
    changed = model.run(model.modality.plan(Edit(input=str(picture), strength=0.5), context))
    assert changed.values.shape[1:] == (1, 8, 8), "a change needs no pixels"
    assert main(["evaluate", str(work / "run"), "--likelihood"]) == 1
    assert "measured in pixels" in capsys.readouterr().err


def test_a_codec_that_does_not_fit_is_refused(work, model, tmp_path, capsys):
    base = ["train", "image/digits", "--out", str(tmp_path / "run"), *SMALL]
    for path, change, words in (
        (tmp_path / "nowhere", "data.val_fraction=0.1", "is no run"),
        (work / "run", "data.val_fraction=0.1", "network.kind dit"),
        (work / "run-autoencoder", "data.builtin=glyphs", "is no autoencoder of images"),
    ):
        assert main([*base, f"data.codec={{kind: latents, path: {path}}}", change]) == 1
        assert words in " ".join(capsys.readouterr().err.split())
    fitted = model.modality.codec
    with pytest.raises(ValueError, match="where there is one with other weights"):
        _ = replace(fitted, sha256="0" * 64).network
    with pytest.raises(ValueError, match="diverged"):
        fitted.decode(torch.full((1, 2, 4, 4), float("nan")))


def test_latents_that_say_nothing_are_refused(work, model, monkeypatch):
    raw = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    for value in (0.0, float("nan"), float("inf")):
        monkeypatch.setattr(latents, "encoded", lambda network, x, value=value: torch.full((3, 2, 4, 4), value))
        with pytest.raises(ValueError, match="nothing to learn from"):
            codec.Latents(path=model.modality.codec.path).fitted(raw)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (32, 3), (64, 3), (128, 3), (4, 1), (2, 1)])
def test_a_suggested_autoencoder_divides_the_side_and_has_fewer_numbers(side, channels):
    found = [latents.suggested(channels, side, Budget(minutes=m, flops=5e10), wanted=30_000) for m in (1, 100)]
    config = Autoencoder.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in found[0].items()})
    fitted = config.fitted(Needs(processes=("gaussian",), channels=channels, space=(side, side)))
    network = fitted.build()
    z, _ = network.encode(torch.zeros(1, channels, side, side))
    assert network.decode(z).shape == (1, channels, side, side)
    assert z.numel() < channels * side * side
    assert found[0]["width"] <= found[1]["width"]
    assert latents.reason(found[0], channels, side).startswith(
        f"autoencoder: {side}x{side}x{channels} to {z.shape[2]}x"
    )


def test_a_side_that_does_not_halve_is_refused():
    with pytest.raises(ValueError, match=r"data\.size=8"):
        latents.suggested(1, 7, Budget(minutes=1, flops=5e10), wanted=100)


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    changes = (
        "process.kind=masked",
        "data.flip=true",
        "network.width=32",
        "network.depth=1",
        "network.head_dim=16",
        *SMALL,
    )
    assert main(["train", "image/digits", "--latent", "--out", str(folder / "run"), "--minutes", "0.1", *changes]) == 0
    return folder


def test_codes_are_drawn_by_masked_diffusion_with_the_same_command(coded):
    first, model = open_run(coded / "run-autoencoder"), load_model(open_run(coded / "run"))[0]
    assert first.recipe.network.codes == 1000
    assert model.modality.codec.kind == "codes"
    train, val = model.modality.open()
    batches = model.modality.batches(train, device=CPU)
    x = batches(torch.arange(6)).x
    assert (x.shape, x.dtype) == ((6, 16), torch.int64)
    autoencoder = load_model(first)[0]
    raw = autoencoder.modality.codec.encode(train.read(torch.arange(6)))
    assert torch.equal(x, autoencoder.parts.network.tokens(raw).flatten(1))
    back = autoencoder.parts.network.decode_tokens(x.view(-1, 4, 4))
    assert torch.equal(model.modality.decode(x), autoencoder.modality.codec.decode(back))
    context = RequestContext(model=model, data=lambda: (train, val), count=3)
    drawn = model.run(model.modality.plan(Sample(condition=("3",)), context))
    assert (drawn.values.shape, drawn.values.dtype) == ((3, 1, 8, 8), torch.uint8)
    assert main(["evaluate", str(coded / "run"), "--count", "20", "--seeds", "1"]) == 0
    assert "masked" in json.loads((coded / "run" / "evaluation.json").read_text())["loss_gap"]


def test_states_on_the_way_to_codes_are_grey_where_masked(coded, tmp_path):
    model = load_model(open_run(coded / "run"))[0]
    x = torch.tensor([[1000, 7] * 8])
    images = model.modality.decode(x)
    assert bool((images[:, :, :, :2] == codec.GREY).all())
    assert torch.equal(images[..., 2:4], model.modality.decode(torch.tensor([[0, 7] * 8]))[..., 2:4])
    assert main(["sample", str(coded / "run"), "--count", "4", "--out", str(tmp_path / "way.gif")]) == 0


def test_changes_of_codes_are_refused(coded, tmp_path):
    model, picture = load_model(open_run(coded / "run"))[0], tmp_path / "picture.png"
    pictures.draw("disc", "red", side=8, seed=0).save(picture)
    context = RequestContext(model=model, data=model.modality.open, count=2)
    with pytest.raises(ValueError, match="draws codes"):
        model.run(model.modality.plan(Edit(input=str(picture), strength=0.5), context))


def test_changes_are_checked_before_the_autoencoder_is_trained(tmp_path, capsys):
    for change, words in (("network.widht=32", "widht"), ("data.enlarge=4", "measured in pixels")):
        assert main(["train", "image/digits", "--latent", "--out", str(tmp_path / "run"), *SMALL, change]) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "run-autoencoder").exists()
    changes = [
        "process={kind: masked}",
        "training={steps: 2, batch: 8, snapshots: 1}",
        "network.width=32",
        "network.head_dim=16",
    ]
    assert main(["train", "image/digits", "--latent", "--out", str(tmp_path / "run"), *changes]) == 0
    assert open_run(tmp_path / "run-autoencoder").recipe.network.codes == 1000
    assert open_run(tmp_path / "run-autoencoder").recipe.training.steps == 2


def test_codes_that_are_none_are_refused(work, coded, capsys, tmp_path):
    fitted = load_model(open_run(coded / "run"))[0].modality.codec
    for wrong in (torch.full((1, 16), 1001), torch.full((1, 16), -1), torch.zeros(1, 15, dtype=torch.int64)):
        with pytest.raises(ValueError, match="codes are 0 to 999"):
            fitted.decode(wrong)
    with pytest.raises(ValueError, match="has a normal latent"):
        codec.Codes(path=str(work / "run-autoencoder")).fitted(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    clips = ["video/moving-digits", "data.source.path=null", "data.source.count=20", "--out", str(tmp_path / "clips")]
    assert main(["train", *clips, "--latent", "process.kind=masked"]) == 1
    assert "no 'codes'" in capsys.readouterr().err
