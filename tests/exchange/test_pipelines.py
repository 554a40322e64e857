"""Networks of diffusers' form and diffusers' own: the same weights, outputs, and samples through its pipelines."""

import inspect
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from langevin.cli import main
from langevin.diffusion.betas import Betas
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.guidance import Box, ClassifierFreeGuidance
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import Euler
from langevin.diffusion.sampler.grid import FixedGrid, KarrasGrid
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.schedule import rho
from langevin.exchange.export import drawn
from langevin.exchange.load import network_of, put, read_pipeline
from langevin.exchange.pipelines import WEIGHTS, transformer_tree, unet_tree, write_pipeline
from langevin.exchange.schedulers import DEFAULTS, OTHER_SIGMAS, grid_of, scheduled, scheduler_of, timesteps_of
from langevin.networks import DiT2D, UNet2D
from langevin.networks.embedding import ConditioningConfig
from langevin.networks.timesteps import Timesteps
from langevin.run.directory import create, load_model, open_run
from tests.exchange.models import CONDITIONED, model

diffusers = pytest.importorskip("diffusers")
BETAS = {
    "linear": Betas(), "scaled_linear": Betas(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    "squaredcos_cap_v2": Betas(beta_schedule="squaredcos_cap_v2", num_train_timesteps=100),
    "trained": Betas(num_train_timesteps=4, trained=(0.01, 0.3, 0.2, 0.6)),
}  # fmt: skip
UNET = UNet2D.Config(
    block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8, channels=3
)
UNETS = {
    "plain": UNET,
    "scale and shift, classes": replace(UNET, time_scale_shift="scale_shift", conditioning=CONDITIONED),
    "of 2020": replace(
        UNET, freq_shift=1, flip_sin_to_cos=False, downsample_padding=0, attention_head_dim=None
    ),
}  # fmt: skip
DIT = DiT2D.Config(
    num_attention_heads=2, attention_head_dim=12, num_layers=2, patch_size=4, sample_size=8, learned_variance=True,
    channels=3, conditioning=ConditioningConfig(classes=3),
)  # fmt: skip


def stirred(network):
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize("config", [*UNETS.values(), DIT], ids=[*UNETS, "dit"])
def test_a_network_is_that_of_diffusers_with_the_same_weights(config):
    unet = isinstance(config, UNet2D.Config)
    tree = unet_tree(config, 8) if unet else transformer_tree(config)
    theirs = stirred((diffusers.UNet2DModel if unet else diffusers.DiTTransformer2DModel).from_config(tree))
    again, side = network_of(
        json.loads(json.dumps(tree)), None, null=config.conditioning.classes > 0, where="config.json"
    )
    assert (again, side) == (config, 8)
    ours = config.build().eval()
    put(ours, theirs.state_dict(), where="weights")
    x, t, labels = torch.randn(3, 3, 8, 8), torch.tensor([0, 500, 999]), torch.tensor([0, 2, 1])
    classes = bool(config.conditioning.classes)
    with torch.no_grad():
        expected = theirs(x, t, **({"class_labels": labels} if classes else {})).sample
        found = ours.at(x, t.float(), Port(tensor=labels) if classes else None)
    assert expected.std() > 0.1
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_samples_do_not_mix_and_a_withheld_class_is_its_own():
    for config in (UNETS["scale and shift, classes"], DIT):
        network = stirred(config.build())
        x, c_time = torch.randn(3, 3, 8, 8), torch.tensor([-1.0, 0.0, 1.0])
        condition = Condition(global_=Port(tensor=torch.tensor([0, 1, 1]), keep=torch.tensor([True, True, False])))
        with torch.no_grad():
            y = network(x, c_time, condition)
            assert torch.allclose(network(x[1:2], c_time[1:2], condition.select(slice(1, 2))), y[1:2], atol=1e-6)
            kept = network(x, c_time, Condition(global_=Port(tensor=torch.tensor([0, 1, 1]))))
        assert torch.allclose(kept[:2], y[:2], atol=1e-6)
        assert not torch.allclose(kept[2], y[2], atol=1e-3)


@pytest.mark.parametrize("betas", BETAS.values(), ids=BETAS)
def test_the_schedule_has_the_levels_of_every_timestep(betas):
    schedule, n = betas.schedule(), betas.num_train_timesteps
    trained = list(betas.trained) or None
    theirs = diffusers.DDIMScheduler(
        beta_schedule=betas.beta_schedule, beta_start=betas.beta_start, beta_end=betas.beta_end, num_train_timesteps=n,
        trained_betas=trained,
    )  # fmt: skip
    t = torch.arange(1, n + 1, dtype=torch.float64) / n
    assert torch.equal(theirs.alphas_cumprod.double(), betas.alpha_bar())
    assert torch.allclose(schedule.alpha(t).square(), betas.alpha_bar(), rtol=1e-9, atol=0)
    assert min(schedule.beta.values) > 0
    c_time = (-0.125 * schedule.log_snr(t)).float()
    assert torch.equal(Timesteps(betas)(c_time), torch.arange(n).float())
    between = Timesteps(betas)((c_time[1:] + c_time[:-1]) / 2)
    assert bool(((between > torch.arange(n - 1)) & (between < torch.arange(1, n))).all())


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 4, 7, 50])
def test_timesteps_are_those_of_diffusers(spacing, steps):
    theirs = diffusers.DDIMScheduler(timestep_spacing=spacing, clip_sample=False)
    theirs.set_timesteps(steps)
    assert timesteps_of(Betas(), steps, spacing, 0) == theirs.timesteps.tolist() or steps == 1


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A pipeline that diffusers saved, and its network."""
    here = tmp_path_factory.mktemp("saved") / "ddim"
    network = stirred(diffusers.UNet2DModel.from_config(unet_tree(UNET, 8)))
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False)
    diffusers.DDIMPipeline(network, scheduler).save_pretrained(here)
    return here, network


def noise_of(seeds, shape):
    return SampleNoise(seeds=seeds, steps=torch.zeros_like(seeds) - 1).normal(torch.zeros(len(seeds), *shape))


def test_an_imported_run_draws_what_diffusers_ddim_draws(saved, tmp_path):
    folder, network = saved
    assert main(["import", str(folder), "--out", str(tmp_path / "run")]) == 0
    run, _ = load_model(open_run(tmp_path / "run"))
    seeds, shape = torch.tensor([3, 8]), (3, 8, 8)
    scheduler = diffusers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(50)
    x = noise_of(seeds, shape)
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t).sample, t, x).prev_sample
    assert (drawn(run, shape, seeds, None) - x).abs().max() < 1e-5 * x.abs().max()
    assert (
        main(["sample", str(tmp_path / "run"), "--count", "2", "--steps", "2", "--out", str(tmp_path / "x.png")]) == 0
    )


def test_a_trained_kind_runs_in_diffusers_pipeline_and_comes_back_to_the_bit(tmp_path):
    run, shape = model((UNETS["scale and shift, classes"], (3, 8, 8)), sampler=Euler(), steps=6)
    guided = replace(run.sampling, guidance=(ClassifierFreeGuidance(weight=2.0),))
    here = create(tmp_path / "run", run.built.recipe, {"data": "none", "items": 0, "shape": list(shape)})
    (tmp_path / "out").mkdir()
    (tmp_path / "guided").mkdir()
    said = write_pipeline(here, replace(run, sampling=guided), tmp_path / "guided")
    assert "left out: the run's guidance by classifier_free" in said
    write_pipeline(here, run, tmp_path / "out")
    pipeline = diffusers.ConsistencyModelPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    seeds, labels = torch.tensor([1, 2]), torch.tensor([0, 2])
    scale = (80**2 + 0.6**2) ** 0.5 / (80**2 + 1) ** 0.5  # of our prior, over that of diffusers
    found = pipeline(
        batch_size=2, num_inference_steps=6, class_labels=labels.tolist(), latents=scale * noise_of(seeds, shape),
        output_type="pt",
    ).images  # fmt: skip
    expected = drawn(run, shape, seeds, Condition(global_=Port(tensor=labels)))
    assert torch.allclose(found, (expected / 2 + 0.5).clamp(0, 1), atol=1e-5)
    back, _ = read_pipeline(tmp_path / "out", tmp_path / "back")
    assert back.recipe.network == run.built.recipe.network
    assert back.recipe.data.class_names == run.built.recipe.data.class_names
    again = dict(load_model(back)[0].parts.network.named_parameters())
    for name, value in run.parts.network.named_parameters():
        assert torch.equal(again[name], value)


def test_a_scheduler_there_and_back():
    for betas, kind in ((BETAS["linear"], "noise"), (BETAS["trained"], "clean"), (None, "edm")):
        process = Gaussian(sigma_data=0.4) if betas is None else Gaussian(schedule=betas.schedule(), sigma_data=1.0)
        run, _ = model("mlp")
        found = scheduled(scheduler_of(betas, process, kind, run.sampling), where="here")
        assert (found.betas, found.prediction) == (betas, kind)
        assert found.process.sigma_data == process.sigma_data


@pytest.mark.parametrize(
    "values",
    [
        {"steps_offset": 1},
        {"timestep_spacing": "linspace"},
        {"timestep_spacing": "trailing"},
        {"clip_sample_range": 2.0},
    ],
)
def test_timesteps_and_clips_come_back(values):
    tree = {"_class_name": "DDIMScheduler", "beta_schedule": "linear", "num_train_timesteps": 1000, **values}
    found = scheduled(tree, where="here")
    back = scheduler_of(found.betas, found.process, found.prediction, found.sampling)
    for name, default in (("steps_offset", 0), ("timestep_spacing", "leading"), ("clip_sample_range", 1.0)):
        assert back[name] == values.get(name, default)
    assert back["clip_sample"]  # diffusers' default
    again = diffusers.DDIMScheduler.from_config(back)
    again.set_timesteps(50)
    assert timesteps_of(found.betas, 50, back["timestep_spacing"], back["steps_offset"]) == again.timesteps.tolist()


def test_a_range_that_diffusers_does_not_clip_to_and_other_timesteps_are_refused():
    betas = Betas()
    process = Gaussian(schedule=betas.schedule(), sigma_data=1.0)
    for changes, words in (
        ({"guidance": (Box(low=0.0, high=2.0),)}, "clips to a range about 0"),
        ({"grid": FixedGrid(log_snr=(-3.0, 0.0, 2.5))}, "visits other timesteps"),
    ):
        with pytest.raises(ValueError, match=words):
            scheduler_of(betas, process, "noise", Sampling(**changes))


def test_edm_keeps_its_rho_and_the_range_of_the_schedule():
    edm = {"_class_name": "EDMEulerScheduler", "rho": 3.0, "sigma_max": 20.0}
    found = scheduled(edm, where="here")
    assert found.sampling.grid.power == 3
    back = scheduler_of(None, found.process, "edm", Sampling(grid=KarrasGrid(power=3.0)))
    assert (back["rho"], back["sigma_max"]) == (3, pytest.approx(20))
    theirs = diffusers.EDMEulerScheduler(**{k: v for k, v in edm.items() if k != "_class_name"})
    theirs.set_timesteps(6)
    times = found.sampling.grid(torch.tensor([6]), found.process.schedule)
    assert torch.allclose(rho(found.process.schedule, times[0]).float(), theirs.sigmas, rtol=1e-5)
    with pytest.raises(ValueError, match="sigma_schedule karras"):
        scheduled({**edm, "sigma_schedule": "exponential"}, where="here")


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_a_configuration_leaves_out_is_as_in_diffusers(name):
    theirs = inspect.signature(getattr(diffusers, name).__init__).parameters
    schedule = theirs["beta_schedule"].default
    found = scheduled({"_class_name": name, "beta_schedule": schedule, "num_train_timesteps": 1000}, where="here")
    assert (found.betas.beta_start, found.betas.beta_end) == (theirs["beta_start"].default, theirs["beta_end"].default)
    assert bool(found.sampling.guidance) == ("clip_sample" in theirs and theirs["clip_sample"].default)
    assert found.sampling.grid == grid_of(found.betas, 50, theirs["timestep_spacing"].default, 0)
    assert any("is another sampler" in line for line in found.remarks) == (not name.startswith("DDIM"))
    for option in set(theirs) & {*OTHER_SIGMAS}:
        tree = {"_class_name": name, "beta_schedule": schedule, "num_train_timesteps": 1000, option: True}
        with pytest.raises(ValueError, match=f"{option} has no counterpart"):
            scheduled(tree, where="here")


@pytest.mark.parametrize("option", ["--steps 5", "--sampler heun", "--guidance 2"])
@pytest.mark.parametrize("to", ["diffusers", "jax"])
def test_options_of_loops_are_refused_for_weights(to, option, capsys):
    assert main(["export", "nothing", "--to", to, *option.split()]) == 1
    assert f"are of graphs, and --to {to} writes weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("betas", "sigma_data", "kind", "words"),
    [(None, 1.0, "noise", "expect method.prediction=edm, not noise"), (Betas(), 1.0, "edm", "read.* integer timesteps"),
     (Betas(), 0.5, "noise", "scaled by process.sigma_data=0.5")],
)  # fmt: skip
def test_what_no_scheduler_has_is_refused(betas, sigma_data, kind, words):
    process = Gaussian(schedule=(betas or Betas()).schedule(), sigma_data=sigma_data)
    with pytest.raises(ValueError, match=words):
        scheduler_of(betas, process, kind, model("mlp")[0].sampling)


@pytest.mark.parametrize(
    ("network", "words"),
    [("unet", r"queries and keys \(middle.attention.0.attention.q_norm\)"), ("dit", "rotary"), ("mlp", "no counterpart")],
)  # fmt: skip
def test_our_own_networks_are_refused_with_the_first_part(network, words, tmp_path):
    run, shape = model(network)
    here = create(tmp_path / "run", run.built.recipe, {"data": "none", "items": 0, "shape": list(shape)})
    with pytest.raises(ValueError, match=words):
        write_pipeline(here, run, tmp_path)


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def pickled(folder):
    (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")


def narrower(folder):
    weights = load_file(folder / "unet" / WEIGHTS)
    save_file({**weights, "conv_in.bias": torch.zeros(3)}, folder / "unet" / WEIGHTS)


def without_a_weight(folder):
    weights = load_file(folder / "unet" / WEIGHTS)
    weights.pop("mid_block.resnets.1.conv2.weight")
    save_file(weights, folder / "unet" / WEIGHTS)


def cut(folder):
    path = folder / "unet" / WEIGHTS
    os.truncate(path, path.stat().st_size // 2)


UNET_JSON, SCHEDULER_JSON = Path("unet/config.json"), Path("scheduler/scheduler_config.json")
HOSTILE = {
    "a pickle": (pickled, "in a pickle, which runs code"),
    "another shape": (narrower, r"'conv_in.bias' is \(3,\), and its configuration makes it \(8,\)"),
    "a weight less": (without_a_weight, "has no 'mid_block.resnets.1.conv2.weight'"),
    "half a file": (cut, "is damaged"),
    "no network": (lambda f: shutil.rmtree(f / "unet"), "neither unet/ nor transformer/"),
    "no scheduler": (lambda f: (f / SCHEDULER_JSON).unlink(), "scheduler_config.json is missing"),
    "no JSON": (lambda f: (f / UNET_JSON).write_text("{"), "is no JSON"),
    "a list": (lambda f: (f / UNET_JSON).write_text("[]"), "holds no mapping"),
    "deep JSON": (lambda f: (f / UNET_JSON).write_text("[" * 10**6), "is no JSON"),
    "another class": (lambda f: changed(f / UNET_JSON, _class_name="os.system"), "os.system is not read"),
    "wide": (lambda f: changed(f / UNET_JSON, block_out_channels=[10**9, 10**9]), "at most 10,000,000"),
    "many": (lambda f: changed(f / UNET_JSON, layers_per_block=10**6), "at most 16 levels of 64 blocks"),
    "huge": (lambda f: changed(f / UNET_JSON, block_out_channels=[2**22, 2**22]), "takes? .*GB"),
    "text": (lambda f: changed(f / UNET_JSON, layers_per_block="2"), "layers_per_block: Input should be a valid integer"),
    "no side": (lambda f: changed(f / UNET_JSON, sample_size=None), "sample_size is the side"),
    "fourier": (lambda f: changed(f / UNET_JSON, time_embedding_type="fourier"), "time_embedding_type=fourier has no"),
    "latents": (lambda f: changed(f / UNET_JSON, in_channels=4, out_channels=4), "latents of a VAE|conv_in"),
    "another way up": (lambda f: changed(f / UNET_JSON, up_block_types=["UpBlock2D"] * 2), "up_block_types are those of"),
    "flow": (lambda f: (f / SCHEDULER_JSON).write_text('{"_class_name": "FlowMatch"}'), "has no betas of integer"),
    "no end": (lambda f: changed(f / SCHEDULER_JSON, rescale_betas_zero_snr=True), "rescale_betas_zero_snr has no"),
    "betas": (lambda f: changed(f / SCHEDULER_JSON, beta_end=3.0), "betas lie between 0 and 1"),
    "steps": (lambda f: changed(f / SCHEDULER_JSON, num_train_timesteps=10**9), "num_train_timesteps is 2 to 10000"),
    "target": (lambda f: changed(f / SCHEDULER_JSON, prediction_type="score"), "prediction_type score is none of"),
    "grid": (lambda f: changed(f / SCHEDULER_JSON, timestep_spacing="random"), "timestep_spacing random is none of"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_that_is_wrong_is_refused_and_nothing_is_written(name, saved, tmp_path, capsys):
    spoil, words = HOSTILE[name]
    folder = tmp_path / "copy"
    shutil.copytree(saved[0], folder)
    spoil(folder)
    assert main(["import", str(folder), "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "not foreseen" not in said
    message = said[said.rindex("langevin: ") :]
    assert re.search(words, message), message
    assert not (tmp_path / "run").exists()
