"""Clips in the latents of an autoencoder: a run that is the codec of another."""

import json
import shutil

import pytest
import torch
import yaml

from langevin.cli import main
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.modality import RequestContext
from langevin.modalities.video.codec import Latents
from langevin.modalities.video.options import Edit, Sample
from langevin.modalities.video.plans import held
from langevin.run.directory import load_model, open_run
from tests import clips

SMALL = {"ema_lengths": [0.1], "snapshots": 2, "batch": 4}


def train(folder, name, **sections):
    recipe = {
        "name": f"video/{name}",
        "training": {"steps": 2, **SMALL},
        "sampling": {"ema": 0.1, "steps": 2},
        **sections,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    return main(["train", str(folder / f"{name}.yaml"), "--out", str(folder / name)])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    data = {"kind": "video", "path": str(clips.captioned(folder / "data")), "val_fraction": 0.3}
    network = {"kind": "autoencoder", "dimensions": 3, "causal": True, "width": 8, "latent_channels": 3}
    assert train(folder, "codec", data=data, network=network, method={"kind": "autoencoder"}) == 0
    dit = {"kind": "dit", "dimensions": 3, "patch": [1, 2, 2], "width": 24, "depth": 1, "head_dim": 12}
    data["codec"] = {"kind": "latents", "path": str(folder / "codec")}
    assert train(folder, "drawn", data=data, network=dit, method={"levels": [{"kind": "per_frame"}]}) == 0
    return folder


@pytest.fixture(scope="module")
def model(work):
    return load_model(open_run(work / "drawn"))[0]


def request(model, options, count=2):
    context = RequestContext(model=model, data=model.modality.open, count=count)
    return model.run(model.modality.plan(options, context))


def test_latents_are_those_of_the_run_at_unit_scale(model, work):
    video = model.modality
    train, _ = video.open()
    x = video.batches(train, device=torch.device("cpu"))(torch.arange(len(train))).x
    assert x.shape == (len(train), 3, 4, 4, 4)
    assert float(x.std()) == pytest.approx(0.5, abs=0.02)
    assert abs(float(x.mean())) < 0.02
    autoencoder = load_model(open_run(work / "codec"))[0]
    raw = train.windows(torch.arange(3), 4)
    z = autoencoder.parts.network.encode(autoencoder.modality.codec.encode(raw))[0]
    torch.testing.assert_close((z - video.codec.mean) * video.codec.scale, x[:3], rtol=1e-4, atol=1e-4)
    again = video.batches(train, device=torch.device("cpu"))
    items = torch.tensor([2, 0, 2])
    noise = SampleNoise(seeds=items, steps=torch.zeros_like(items))
    for _ in range(2):  # made, and then kept
        torch.testing.assert_close(again(items, noise).x, x[items], rtol=1e-4, atol=1e-4)


def test_what_is_given_stays_and_clips_grow_longer_than_those_of_training(model, work):
    given = clips.write(work / "given.webp", clips.frames("left", "blue", count=3))
    pixels = torch.stack([model.modality.look.pixels(p) for p in clips.frames("left", "blue", count=3)])
    for frames in (4, 9):
        for sample in request(model, Sample(first_frames=str(given), frames=frames)).values:
            assert sample.shape == (frames, 3, 16, 16)
            assert torch.equal(sample[:3], pixels)
    between = request(model, Sample(interpolate=(str(given), str(given)), frames=8)).values[0]
    assert torch.equal(between[:3], pixels)
    assert torch.equal(between[-3:], pixels)


def test_unknown_frames_are_held_while_known_ones_are_encoded():
    clip = torch.arange(6)[:, None]
    known = torch.tensor([False, True, False, False, True, False])
    assert held(clip, known)[:, 0].tolist() == [1, 1, 1, 1, 4, 4]


def test_a_region_is_refused_and_frames_are_drawn_anew(model, work):
    given = clips.write(work / "edited.webp", clips.frames("left", "blue"))
    with pytest.raises(ValueError, match="draws latents: give --frames"):
        request(model, Edit(input=str(given), mask="4,4,8,8"))
    made = request(model, Edit(input=str(given), frames=("1,2",))).values[0]
    pixels = torch.stack([model.modality.look.pixels(p) for p in clips.frames("left", "blue")])
    assert torch.equal(made[[0, 2, 3]], pixels[[0, 2, 3]])


@pytest.mark.parametrize("name", ["codec", "drawn"])
def test_the_evaluation_says_what_the_autoencoder_keeps(work, name):
    assert main(["evaluate", str(work / name), "--count", "8", "--seeds", "1"]) == 0
    figures = json.loads((work / name / "evaluation.json").read_text())
    assert set(figures["copies"]) == {"peak signal-to-noise ratio, dB", "colour, still read", "direction, still read"}
    assert 0 < figures["copies"]["peak signal-to-noise ratio, dB"] < 60


def test_a_codec_that_is_none_is_refused(work, capsys):
    data = {"kind": "video", "path": str(work / "data"), "size": 8}
    for path, words in (
        (work / "nowhere", "is no run"),
        (work / "drawn", "network.kind dit"),
        (work / "codec", "8 pixels"),
    ):
        given = {**data, "codec": {"kind": "latents", "path": str(path)}}
        assert train(work, "refused", data=given, network={"kind": "dit", "dimensions": 3, "patch": 1}) == 1
        assert words in " ".join(capsys.readouterr().err.split())


def test_weights_that_changed_are_refused(work, model, tmp_path):
    codec = model.modality.codec
    moved = tmp_path / "moved"
    shutil.copytree(codec.path, moved)
    again = Latents(path=str(moved), sha256=codec.sha256, pixels=codec.pixels, scale=1.0)
    assert again.network is not None
    other = Latents(path=str(moved), sha256="0" * 64, pixels=codec.pixels, scale=1.0)
    with pytest.raises(ValueError, match="where there is one with other weights"):
        _ = other.network


def test_one_command_trains_both(work, tmp_path):
    changes = [
        "network.width=24",
        "network.head_dim=12",
        "network.depth=1",
        "training.steps=2",
        "training.batch=4",
        "sampling.steps=2",
    ]
    data = str(clips.captioned(tmp_path / "data"))
    assert main(["train", data, "--latent", "--out", str(tmp_path / "run"), "--minutes", "0.1", *changes]) == 0
    first, second = open_run(tmp_path / "run-autoencoder"), open_run(tmp_path / "run")
    assert first.recipe.network.causal
    assert second.recipe.data.codec.path == str(first.path)
    assert second.facts["shape"] == [2, 4, 8, 8]
