"""A run as a folder that diffusers loads.

Networks of the kinds `unet2d` and `dit2d` have diffusers' names of weights, so their weights are copied. Other kinds have
parts that diffusers has not, and are refused with the first of them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from langevin.exchange.parts import left_out
from langevin.exchange.schedulers import scheduler_of
from langevin.files import write_atomic
from langevin.methods.models import GaussianModel
from langevin.networks import DiT2D, UNet2D
from langevin.run.directory import Run
from langevin.run.generate import RunModel

OWN = "langevin.json"  # what diffusers' files have no field for
WEIGHTS = "diffusion_pytorch_model.safetensors"
PARTS = {  # by kind of network, the first part that diffusers' networks have not
    "unet": "the middle's attention normalises queries and keys (middle.attention.0.attention.q_norm), and UNet2DModel "
    "does not",
    "dit": "its attention turns queries and keys by rotary angles and normalises them (blocks.0.attention.q_norm), and "
    "DiTTransformer2DModel does not",
}


def write_pipeline(run: Run, model: RunModel, folder: Path) -> list[str]:
    """Write the network and the scheduler of a run as diffusers saves them.

    Returns:
        what was written, in sentences.

    Raises:
        ValueError: with the first part that diffusers has not."""
    config, parts = run.recipe.network, model.parts
    if not isinstance(config, UNet2D.Config | DiT2D.Config) or not isinstance(parts, GaussianModel):
        why = PARTS.get(config.kind, f"diffusers has no counterpart of network.kind={config.kind}")
        raise ValueError(f"{why}: train with network.kind=unet2d or dit2d, which are of diffusers' form")
    scheduler = scheduler_of(config.betas, parts.process, parts.denoiser.prediction, model.sampling)
    part = "unet" if isinstance(config, UNet2D.Config) else "transformer"
    side = int(run.facts["shape"][-1])
    tree = unet_tree(config, side) if isinstance(config, UNet2D.Config) else transformer_tree(config)
    (folder / part).mkdir()
    (folder / "scheduler").mkdir()
    weights = {name: value.detach().cpu().float().contiguous() for name, value in parts.network.named_parameters()}
    save_file(weights, folder / part / WEIGHTS, metadata={"format": "pt"})
    _write_json(folder / part / "config.json", tree)
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    names = list(getattr(run.recipe.data, "class_names", ()))
    _write_json(folder / OWN, {"run": run.path.name, "classes": names, "null_class": bool(names)})
    said = [f"{tree['_class_name']} with {scheduler['_class_name']}"]
    said += left_out(model.sampling, *(["box"] if config.betas is not None else []))
    if part == "transformer":
        return [
            *said,
            "no pipeline: DiTPipeline decodes latents, and these are pixels; load transformer/ and scheduler/",
        ]
    plain = config.betas is not None and not config.conditioning.classes
    name = "DDIMPipeline" if plain else "ConsistencyModelPipeline"
    index = {
        "_class_name": name, "_diffusers_version": "0.36.0", "scheduler": ["diffusers", scheduler["_class_name"]],
        "unet": ["diffusers", "UNet2DModel"],
    }  # fmt: skip
    _write_json(folder / "model_index.json", index)
    return [*said, f"{name}.from_pretrained loads it"]


def _write_json(path: Path, tree: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(tree, indent=1).encode())


def unet_tree(config: UNet2D.Config, side: int) -> dict[str, Any]:
    """The config.json of a `UNet2DModel`."""
    levels, classes = range(len(config.block_out_channels)), config.conditioning.classes
    down = ["AttnDownBlock2D" if i in config.attention else "DownBlock2D" for i in levels]
    up = ["AttnUpBlock2D" if i in config.attention else "UpBlock2D" for i in reversed(levels)]
    return {
        "_class_name": "UNet2DModel", "_diffusers_version": "0.36.0", "sample_size": side,
        "in_channels": config.channels, "out_channels": config.channels,
        "block_out_channels": list(config.block_out_channels),
        "layers_per_block": config.layers_per_block, "down_block_types": down, "up_block_types": up,
        "attention_head_dim": config.attention_head_dim, "add_attention": config.add_attention,
        "norm_num_groups": config.norm_num_groups, "norm_eps": config.norm_eps,
        "attn_norm_num_groups": config.attn_norm_num_groups, "resnet_time_scale_shift": config.time_scale_shift,
        "freq_shift": config.freq_shift, "flip_sin_to_cos": config.flip_sin_to_cos,
        "downsample_padding": config.downsample_padding, "time_embedding_type": "positional", "act_fn": "silu",
        "num_class_embeds": classes + config.null_class if classes else None, "dropout": config.dropout,
    }  # fmt: skip


def transformer_tree(config: DiT2D.Config) -> dict[str, Any]:
    """The config.json of a `DiTTransformer2DModel`."""
    channels = config.channels or 0
    return {
        "_class_name": "DiTTransformer2DModel", "_diffusers_version": "0.36.0", "sample_size": config.sample_size,
        "num_attention_heads": config.num_attention_heads, "attention_head_dim": config.attention_head_dim,
        "in_channels": channels, "out_channels": channels * (1 + config.learned_variance), "num_layers": config.num_layers,
        "patch_size": config.patch_size, "attention_bias": config.attention_bias, "norm_eps": config.norm_eps,
        "num_embeds_ada_norm": config.conditioning.classes, "norm_type": "ada_norm_zero",
        "activation_fn": "gelu-approximate", "norm_elementwise_affine": False, "dropout": config.dropout,
    }  # fmt: skip
