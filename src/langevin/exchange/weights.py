"""A run's weights as safetensors with a mapping, and a forward in numpy and JAX that reads them."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from langevin.exchange import reference
from langevin.exchange.export import TOLERANCE, in_float32
from langevin.exchange.graph import Input, condition_of
from langevin.exchange.parts import inputs_of, left_out
from langevin.files import write_atomic
from langevin.methods.models import GaussianModel
from langevin.networks import MLP, DiT
from langevin.run.directory import Run
from langevin.run.generate import RunModel


def write_weights(run: Run, model: RunModel, folder: Path, step: int) -> list[str]:
    """Write weights.safetensors, mapping.json and forward.py into a folder, and compare that forward with the run.

    Returns:
        what was written, in sentences.

    Raises:
        ValueError: a network whose forward is not written there, or another result."""
    parts, config = model.parts, run.recipe.network
    if not isinstance(parts, GaussianModel) or not isinstance(config, MLP.Config | DiT.Config):
        raise ValueError(
            f"--to jax has a forward of network.kind=mlp and dit, and this is {config.kind}: take --to onnx"
        )
    inputs = inputs_of(model, tuple(run.facts["shape"]))
    _require_plain(config, inputs)
    network = parts.network.float().cpu()
    weights = {name: value.detach().contiguous() for name, value in network.named_parameters()}
    save_file(weights, folder / "weights.safetensors")
    facts = {
        "format": 1, "run": run.path.name, "step": step, "network": asdict(config), "process": asdict(parts.process),
        "prediction": parts.denoiser.prediction, "shape": run.facts["shape"],
        "ema": model.sampling.ema,
        "classes": list(getattr(run.recipe.data, "class_names", ())),
        "weights": {name: list(value.shape) for name, value in weights.items()},
    }  # fmt: skip
    write_atomic(folder / "mapping.json", json.dumps(facts, indent=1).encode())
    write_atomic(folder / "forward.py", Path(reference.__file__).read_bytes())
    difference = compared(run, model, folder, inputs)
    said = f"forward.py in numpy differs from the run by {difference:.1e} of its largest value"
    return [said, *left_out(model.sampling)]


def _require_plain(config: MLP.Config | DiT.Config, inputs: list[Input]) -> None:
    """Check for options that the forward has not. Raises `ValueError` with the first."""
    more = [one.name for one in inputs if one.name != "class_labels"]
    if isinstance(config, DiT.Config):
        more += ["attention=factorised"] if config.attention != "full" else []
        more += ["kernel"] if config.kernel else []
        more += ["caption_prior"] if config.caption_prior else []
    if more:
        raise ValueError(f"--to jax has no forward of a network with {more[0]}: take --to onnx")


def compared(run: Run, model: RunModel, folder: Path, inputs: list[Input]) -> float:
    """The largest difference of the written forward from the run, over the largest value, on a few samples.

    Raises:
        ValueError: it is another forward."""
    shape, parts = tuple(run.facts["shape"]), model.parts
    assert isinstance(parts, GaussianModel)
    x_t = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    t, labels = torch.tensor([0.1, 0.5, 0.95], dtype=torch.float64), torch.tensor([0, 0, -1])
    condition = condition_of(inputs, {"class_labels": labels})
    with torch.no_grad():
        expected = in_float32(parts.denoiser)(x_t, t, condition).mean
    found = reference.load(folder)(x_t.numpy(), t.numpy(), labels.numpy() if inputs else None)
    difference = float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if not difference <= TOLERANCE or math.isnan(difference):
        raise ValueError(f"the forward in numpy differs from the run by {difference:.1e} of its largest value")
    return difference
