"""The forward in numpy, and in JAX where it is installed, is the run's."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.process import Gaussian
from langevin.diffusion.schedule import Beta, Cosine, Rectified, VarianceExploding, VariancePreserving
from langevin.exchange.weights import write_weights
from langevin.networks import DiT
from langevin.run.directory import Run
from tests.exchange.models import SIDE, model

SCHEDULES = (
    Rectified(),
    Cosine(),
    VarianceExploding(),
    VariancePreserving(),
    VariancePreserving(beta=Beta(values=(1, 9, 3))),
)
CASES = [
    ("mlp", SCHEDULES[0], "edm"), ("mlp with classes", SCHEDULES[1], "velocity"), ("dit", SCHEDULES[2], "noise"),
    ("dit", SCHEDULES[3], "clean"), ("mlp", SCHEDULES[4], "velocity"),
    ((DiT.Config(width=24, depth=2, head_dim=12, patch=(2, 4), **SIDE), (1, 4, 8)), SCHEDULES[0], "edm"),
]  # fmt: skip


def exported(case, folder):
    """A run, its inputs, and what its denoiser says to them."""
    network, schedule, prediction = case
    run, shape = model(network, process=Gaussian(schedule=schedule, sigma_data=0.7), prediction=prediction)
    directory = Run(path=folder, recipe=run.built.recipe, facts={"shape": list(shape)})
    write_weights(directory, run, folder, step=5)
    x, t = torch.randn(4, *shape), torch.tensor([0.05, 0.4, 0.7, 0.99], dtype=torch.float64)
    labels = torch.tensor([0, 2, -1, 1]) if run.conditional else None
    condition = None if labels is None else Condition(global_=Port(tensor=labels.clamp_min(0), keep=labels >= 0))
    with torch.no_grad():
        mean = run.parts.denoiser(x, t, condition).mean
    return x.numpy(), t.numpy(), None if labels is None else labels.numpy(), mean.numpy()


def forward_of(folder):
    """The module that was written, as one that knows nothing of langevin."""
    spec = importlib.util.spec_from_file_location("forward", folder / "forward.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_the_forward_in_numpy_is_the_run(case, tmp_path):
    x, t, labels, expected = exported(case, tmp_path)
    found = forward_of(tmp_path).load(tmp_path)(x, t, labels)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    assert expected.std() > 1e-2


@pytest.mark.parametrize("case", CASES[1:3], ids=("mlp", "dit"))
def test_the_forward_in_jax_is_the_run(case, tmp_path):
    jax = pytest.importorskip("jax")
    x, t, labels, expected = exported(case, tmp_path)
    denoise = forward_of(tmp_path).load(tmp_path, jax.numpy)
    found = jax.jit(lambda x, labels: denoise(x, t, labels))(x, labels)
    assert np.abs(np.asarray(found) - expected).max() < 1e-5 * max(1, np.abs(expected).max())


def test_it_needs_no_langevin_and_the_mapping_names_every_weight(tmp_path):
    x, t, _, expected = exported(CASES[0], tmp_path)
    np.savez(tmp_path / "given.npz", x=x, t=t)
    program = (
        "import sys, numpy as np; from forward import load; g = np.load('given.npz');"
        "np.save('found.npy', load('.')(g['x'], g['t'])); assert not {'torch', 'langevin'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, env={"PYTHONPATH": str(tmp_path)})
    assert np.abs(np.load(tmp_path / "found.npy") - expected).max() < 1e-5
    facts = json.loads((tmp_path / "mapping.json").read_text())
    assert facts["weights"]["proj_in.weight"] == [16, 2]


@pytest.mark.parametrize(("network", "words"), [("unet", "this is unet"), ("transformer", "this is transformer")])
def test_a_network_without_a_forward_is_refused(network, words, tmp_path):
    run, shape = model(network)
    with pytest.raises(ValueError, match=words):
        write_weights(Run(path=tmp_path, recipe=run.built.recipe, facts={"shape": list(shape)}), run, tmp_path, step=5)


def test_an_option_without_a_forward_is_named(tmp_path):
    run, shape = model((DiT.Config(width=16, depth=1, head_dim=8, patch=4, kernel=3, **SIDE), (1, 8, 8)))
    with pytest.raises(ValueError, match="no forward of a network with kernel"):
        write_weights(Run(path=tmp_path, recipe=run.built.recipe, facts={"shape": list(shape)}), run, tmp_path, step=5)
