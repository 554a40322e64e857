"""Exported graphs are the run: torch.export, ONNX and OpenVINO, the denoiser and the loop, for batches of other sizes."""

import zipfile
from dataclasses import replace

import pytest
import torch
from torch import nn

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.guidance import Box, ClassifierFreeGuidance, RescaledGuidance, guide, weighted
from langevin.diffusion.sampler import DDPM, BogackiShampine, Heun
from langevin.diffusion.sampler.grid import UnmaskGrid
from langevin.exchange.export import drawn, export, in_float32, prepare
from langevin.exchange.folder import facts_of, write_facts
from langevin.exchange.graph import NetworkGraph, SamplerGraph
from langevin.exchange.parts import inputs_of, loop_noise, table_of
from langevin.exchange.targets import runner, write_graph
from langevin.exchange.trace import traced
from langevin.networks import MLP, DiT
from langevin.networks.embedding import ConditioningConfig
from langevin.run.directory import Run
from tests.exchange.models import model

NEAR = 2e-5  # of the largest value: float32 in another order of sums
TARGETS = ("torch", "onnx", "openvino")
NEEDED = {"torch": (), "onnx": ("onnxscript", "onnxruntime"), "openvino": ("onnxscript", "openvino")}
SEVERAL = [
    pytest.param(network, target, marks=() if (network, target) == ("mlp with classes", "onnx") else pytest.mark.slow)
    for network in ("mlp with classes", "dit", "unet")
    for target in TARGETS
]


def installed(target):
    for module in NEEDED[target]:
        pytest.importorskip(module)


def near(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= NEAR * expected.abs().max()


def require_no_source(path):
    """A graph says nothing of the files that it was traced from."""
    archive = zipfile.ZipFile(path) if path.suffix == ".pt2" else None
    parts = [path.read_bytes()] if archive is None else [archive.read(name) for name in archive.namelist()]
    for data in parts:
        assert b"exchange/graph.py" not in data
        assert b"stack_trace" not in data


@pytest.mark.parametrize("target", [pytest.param(t, marks=() if t == "torch" else pytest.mark.slow) for t in TARGETS])
def test_a_denoiser_and_its_loop_are_those_of_the_run(target, tmp_path):
    installed(target)
    run, shape = model("mlp")
    denoiser, sampler = export(prepare(run, shape, what="all"), tmp_path, target, what="all")
    x, t = torch.randn(5, 2), torch.tensor([0.02, 0.3, 0.5, 0.8, 0.99], dtype=torch.float64)
    with torch.no_grad():
        near(runner(tmp_path / denoiser.file, target)({"sample": x, "timestep": t}), run.parts.denoiser(x, t).mean)
    seeds = torch.tensor([7, 3, 11, 2**40, 5])
    noise, none = loop_noise(seeds, 3, shape, noisy=False)
    assert none is None
    found = runner(tmp_path / sampler.file, target)({"sample": noise})
    near(found, drawn(run, shape, seeds, None))
    assert found.std() > 1e-2
    recipe = replace(run.built.recipe, data=replace(run.built.recipe.data, path="/home/ada/photos"))
    here = Run(path=tmp_path, recipe=recipe, facts={"shape": list(shape)})
    write_facts(tmp_path, here, facts_of(here, prepare(run, shape, what="denoiser"), (denoiser, sampler), target, 1))
    assert "/home/ada" not in (tmp_path / "recipe.yaml").read_text()
    if target != "openvino":
        require_no_source(tmp_path / sampler.file)


@pytest.mark.parametrize(("network", "target"), SEVERAL)
def test_classes_guidance_and_noise_are_inside(network, target, tmp_path):
    installed(target)
    guidance = (ClassifierFreeGuidance(weight=2.0, interval=(0.1, 5.0)),)
    run, shape = model(network, sampler=DDPM(), guidance=guidance)
    denoiser, sampler = export(prepare(run, shape, what="all"), tmp_path, target, what="all")
    labels = torch.tensor([2, 0, -1])
    condition = Condition(global_=Port(tensor=labels.clamp_min(0), keep=labels >= 0))
    x, t = torch.randn(3, *shape), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    with torch.no_grad():
        expected = in_float32(run.parts.denoiser)(x, t, condition).mean
    near(runner(tmp_path / denoiser.file, target)({"sample": x, "timestep": t, "class_labels": labels}), expected)
    seeds = torch.tensor([4, 5, 6])
    first, noise = loop_noise(seeds, 3, shape, noisy=True)
    found = runner(tmp_path / sampler.file, target)({"sample": first, "class_labels": labels, "noise": noise})
    near(found, drawn(run, shape, seeds, condition))
    if target != "openvino":
        require_no_source(tmp_path / sampler.file)
    plain, _ = model(network, sampler=DDPM())
    assert (drawn(plain, shape, seeds, condition) - found).abs().max() > 1e-3  # guidance does something


@pytest.mark.parametrize("target", [pytest.param(t, marks=() if t == "torch" else pytest.mark.slow) for t in TARGETS])
def test_tokens_are_a_network_and_no_loop(target, tmp_path):
    installed(target)
    run, shape = model("transformer", grid=UnmaskGrid())
    exporting = prepare(run, shape, what="all")
    assert "tokens are drawn" in exporting.why
    (denoiser,) = export(exporting, tmp_path, target, what="all")
    x = torch.randint(0, 12, (4, 6))
    found = runner(tmp_path / denoiser.file, target)({"sample": x, "timestep": torch.rand(4, dtype=torch.float64)})
    with torch.no_grad():
        near(found, run.parts.network(x, torch.zeros(4)))
    with pytest.raises(ValueError, match="tokens are drawn and not computed"):
        prepare(run, shape, what="sampler")


@pytest.mark.slow
def test_two_stages_and_remembered_outputs_are_in_the_loop(tmp_path):
    run, shape = model("mlp", sampler=Heun(), steps=4)
    (sampler,) = export(prepare(run, shape, what="sampler"), tmp_path, "torch", what="sampler")
    seeds = torch.arange(2)
    near(runner(tmp_path / sampler.file, "torch")({"sample": loop_noise(seeds, 1, shape, noisy=False)[0]}),
         drawn(run, shape, seeds, None))  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": BogackiShampine()}, "chooses its steps from the samples"),
        ({"guidance": (RescaledGuidance(weight=2.0),)}, "guidance by rescaled is not part of an exported loop"),
    ],
)
def test_what_is_no_loop_of_fixed_steps_is_named(changes, words):
    run, shape = model("mlp with classes", **changes)
    with pytest.raises(ValueError, match=words):
        table_of(run, shape, inputs_of(run, shape))


def test_a_run_without_conditions_that_is_clipped_is_no_loop():
    run, shape = model("mlp", guidance=(Box(low=-1.0, high=1.0),))
    with pytest.raises(ValueError, match=r"guidance by box is not part of an exported loop.*with --what denoiser"):
        table_of(run, shape, inputs_of(run, shape))
    assert "guidance by box" in prepare(run, shape, what="all").why


@pytest.mark.parametrize(
    ("network", "port", "size"),
    [
        ((DiT.Config(width=16, depth=1, head_dim=8, patch=4, channels=1,
                     conditioning=ConditioningConfig(concat_channels=1)), (1, 8, 8)), "concat", (1, 8, 8)),
        ((MLP.Config(width=16, depth=1, channels=2, conditioning=ConditioningConfig(vector_width=4)), (2,)),
         "global_vector", (4,)),
    ],
)  # fmt: skip
class TestVectorsAndChannels:
    def test_guidance_withholds_them(self, network, port, size):
        run, shape = model(network, guidance=(ClassifierFreeGuidance(weight=3.0),))
        inputs = inputs_of(run, shape)
        graph = SamplerGraph(NetworkGraph(run.parts.network, inputs), table_of(run, shape, inputs), inputs)
        times = run.sampling.grid(torch.tensor([3]), run.parts.process.schedule)[0, 1].repeat(3)
        x, value = torch.randn(3, *shape), torch.randn(3, *size)
        condition = weighted(Condition(**{port: Port(tensor=value)}), run.sampling.guidance, 3, torch.device("cpu"))
        plain = in_float32(run.parts.denoiser)
        guided = guide(plain, run.sampling.guidance, process=run.parts.process, models=run.built.models)
        with torch.no_grad():
            expected = guided(x, times, condition).mean
            near(graph._mean(x, graph.coefficients[1], {port: value}), expected)
            assert (expected - plain(x, times, condition).mean).abs().max() > 1e-3  # guidance does something

    @pytest.mark.slow
    def test_so_does_the_exported_loop(self, network, port, size, tmp_path):
        run, shape = model(network, guidance=(ClassifierFreeGuidance(weight=3.0),))
        _, sampler = export(prepare(run, shape, what="all"), tmp_path, "torch", what="all")
        seeds, value = torch.arange(3), torch.randn(3, *size)
        given = {"sample": loop_noise(seeds, 1, shape, noisy=False)[0], port: value}
        expected = drawn(run, shape, seeds, Condition(**{port: Port(tensor=value)}))
        near(runner(tmp_path / sampler.file, "torch")(given), expected)


def test_a_part_whose_sizes_depend_on_data_is_named():
    run, shape = model("transformer", grid=UnmaskGrid())
    run.parts.network.ngram_prior = nn.Identity()
    with pytest.raises(ValueError, match="ngram_prior looks counts up by nonzero"):
        prepare(run, shape, what="denoiser")


class Orthogonal(nn.Module):
    def forward(self, x):
        return torch.linalg.qr(x)[0]


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Orthogonal()

    def forward(self, sample):
        return self.inner(sample)


class Branching(nn.Module):
    def forward(self, sample):
        return sample if bool((sample > 0).all()) else -sample


def test_an_operator_that_a_target_has_not_is_named_with_its_module(tmp_path):
    installed("onnx")
    program = traced(Odd(), {"sample": torch.randn(2, 3, 3)}, {})
    with pytest.raises(ValueError, match=r"ONNX cannot express the operator aten.linalg_qr, in inner \(Orthogonal\)"):
        write_graph(program, tmp_path, "odd", "onnx", ["sample"])
    assert write_graph(program, tmp_path, "odd", "torch", ["sample"]).exists()


def test_a_branch_on_values_cannot_be_traced():
    with pytest.raises(ValueError, match="depends on the values of its data"):
        traced(Branching(), {"sample": torch.randn(2, 3)}, {})
