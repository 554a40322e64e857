"""A folder that diffusers saved as a run: network, scheduler and weights, checked before anything is written."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from langevin.diffusion.betas import Betas
from langevin.exchange.pipelines import OWN, WEIGHTS
from langevin.exchange.schedulers import Scheduled, scheduled
from langevin.files import read_regular
from langevin.methods import Diffusion
from langevin.modalities.union import AnyModality
from langevin.networks import DiT2D, UNet2D
from langevin.recipe.build import build
from langevin.recipe.read import check_part
from langevin.recipe.tree import Recipe
from langevin.run.directory import Run, create, writing
from langevin.run.plan import require_no_run
from langevin.training import checkpoint
from langevin.training.loop import TrainingConfig, TrainingState

MOST = 1 << 22  # bytes of a configuration
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # names of attention before 2023


def read_pipeline(folder: Path, out: Path) -> tuple[Run, tuple[str, ...]]:
    """Write the run of a folder that diffusers saved.

    Returns:
        the run, and what is otherwise than in diffusers.

    Raises:
        ValueError: it is no such folder, a part of it has no counterpart, or its weights are not those of its
            configuration, with the first name."""
    part = next((folder / name for name in ("unet", "transformer") if (folder / name).is_dir()), None)
    if part is None:
        raise ValueError(f"{folder} is no pipeline of diffusers: it has neither unet/ nor transformer/")
    tree = read_json(part / "config.json")
    found = scheduled(read_json(folder / "scheduler" / "scheduler_config.json"), where="scheduler_config.json")
    own = read_json(folder / OWN, optional=True)
    null = own.get("null_class") is True
    config, side = network_of(tree, found.betas, null=null, where=f"{part.name}/config.json")
    weights, sha256 = read_weights(part)
    index = read_json(folder / "model_index.json", optional=True)
    known = own.get("classes") if isinstance(own.get("classes"), list) else index.get("id2label")
    recipe = recipe_of(config, found, folder, side, class_names(known, config.conditioning.classes))
    built = build(recipe)
    put(built.model.network, weights, where=f"{part.name}/{WEIGHTS}")
    facts = {"data": sha256, "items": 0, "shape": [config.channels, side, side]}
    state = TrainingState.new(built.model.method, recipe.training)
    with writing(out):
        require_no_run(out)
        run = create(out, recipe, facts)
        checkpoint.save(run.checkpoints, 0, state.groups(), state.counters())
    return run, found.remarks


def read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """A JSON file that holds a mapping. Raises `ValueError` if it is missing, too large or something else."""
    if optional and not path.is_file():
        return {}
    if not path.is_file():
        raise ValueError(f"{path} is missing: a pipeline that diffusers saved has it")
    try:
        tree = json.loads(read_regular(path, most=MOST))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {str(error)[:200]}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds no mapping")
    return tree


def network_of(
    tree: Mapping[str, Any], betas: Betas | None, *, null: bool, where: str
) -> tuple[UNet2D.Config | DiT2D.Config, int]:
    """The network of a config.json, and the side of its images.

    Args:
        null: whether the last class of a `UNet2DModel` stands for none.

    Raises:
        ValueError: another class, an option that has no counterpart, or sizes out of range."""
    side = tree.get("sample_size")
    side = side[0] if isinstance(side, list) and len(set(map(str, side))) == 1 else side
    if type(side) is not int or not 1 <= side <= 4096:
        raise ValueError(f"{where}: sample_size is the side of square images, 1 to 4096, got {str(side)[:40]}")
    match tree.get("_class_name"):
        case "UNet2DModel":
            return _unet(tree, betas, null, where), side
        case "DiTTransformer2DModel":
            return _transformer(tree, betas, side, where), side
        case name:
            raise ValueError(f"{where}: {str(name)[:60]} is not read; UNet2DModel and DiTTransformer2DModel are")


def _require(tree: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]], where: str) -> None:
    """Check options that have one form here; the first allowed value is the default."""
    for name, values in allowed.items():
        if tree.get(name, values[0]) not in values:
            given = str(tree.get(name))[:60]
            raise ValueError(f"{where}: {name}={given} has no counterpart here, only {' or '.join(map(str, values))}")


def _unet(tree: Mapping[str, Any], betas: Betas | None, null: bool, where: str) -> UNet2D.Config:
    _require(tree, {
        "center_input_sample": (False,), "time_embedding_type": ("positional",), "time_embedding_dim": (None,),
        "mid_block_type": ("UNetMidBlock2D",), "mid_block_scale_factor": (1,), "downsample_type": ("conv",),
        "upsample_type": ("conv",), "act_fn": ("silu", "swish"), "class_embed_type": (None,),
        "out_channels": (tree.get("in_channels"),),
    }, where)  # fmt: skip
    down, up = tree.get("down_block_types", ()), tree.get("up_block_types", ())
    attends = [str(name) == "AttnDownBlock2D" for name in down]
    if any(str(name) not in ("DownBlock2D", "AttnDownBlock2D") for name in down):
        raise ValueError(f"{where}: down_block_types are DownBlock2D and AttnDownBlock2D, got {str(down)[:80]}")
    if [str(name) for name in up] != ["AttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attends)]:
        raise ValueError(
            f"{where}: up_block_types are those of down_block_types from the last to the first, got {str(up)[:80]}"
        )
    if len(attends) != len(tree.get("block_out_channels", ())):
        raise ValueError(f"{where}: there are as many block_out_channels as down_block_types")
    names = {
        "block_out_channels", "layers_per_block", "attention_head_dim", "add_attention", "norm_num_groups", "norm_eps",
        "attn_norm_num_groups", "freq_shift", "flip_sin_to_cos", "downsample_padding", "dropout",
    }  # fmt: skip
    given: dict[str, Any] = {
        "kind": "unet2d",
        "attention_head_dim": 8,
        "attention": [i for i, one in enumerate(attends) if one],
    }
    given |= {name: tree[name] for name in names if name in tree}
    given |= {"time_scale_shift": tree.get("resnet_time_scale_shift", "default"), "channels": tree.get("in_channels")}
    count = tree.get("num_class_embeds")
    classes = count - 1 if null and type(count) is int else count
    config = check_part(given | _conditioned(classes), UNet2D.Config, where=where)
    return _with(config, betas=betas, null_class=null or not count)


def _transformer(tree: Mapping[str, Any], betas: Betas | None, side: int, where: str) -> DiT2D.Config:
    _require(tree, {
        "norm_type": ("ada_norm_zero",), "activation_fn": ("gelu-approximate",), "norm_elementwise_affine": (False,),
        "upcast_attention": (False,),
    }, where)  # fmt: skip
    channels, outputs = tree.get("in_channels"), tree.get("out_channels") or tree.get("in_channels")
    if type(channels) is not int or type(outputs) is not int or outputs not in (channels, 2 * channels):
        raise ValueError(f"{where}: out_channels are in_channels, or twice as many, got {channels} and {outputs}")
    names = {
        "num_attention_heads",
        "attention_head_dim",
        "num_layers",
        "patch_size",
        "attention_bias",
        "norm_eps",
        "dropout",
    }
    given: dict[str, Any] = {"kind": "dit2d", "sample_size": side, "channels": channels}
    given |= {name: tree[name] for name in names if name in tree}
    given["learned_variance"] = outputs > channels
    config = check_part(given | _conditioned(tree.get("num_embeds_ada_norm")), DiT2D.Config, where=where)
    if side % config.patch_size:
        raise ValueError(f"{where}: sample_size {side} is no multiple of patch_size {config.patch_size}")
    return _with(config, betas=betas)


def _conditioned(classes: Any) -> dict[str, Any]:
    return {"conditioning": {"classes": classes}} if classes else {}


def _with(config: Any, **changes: Any) -> Any:
    return type(config)(**{**vars(config), **changes})


def recipe_of(
    config: UNet2D.Config | DiT2D.Config, found: Scheduled, folder: Path, side: int, classes: tuple[str, ...]
) -> Recipe:
    """The recipe of an imported run. Raises `ValueError` if no modality has data of this shape."""
    shape = (config.channels or 0, side, side)
    for member in get_args(AnyModality):
        of_shape = getattr(member, "of_shape", None)
        data = None if of_shape is None else of_shape(shape, path=str(folder.absolute()), classes=classes)
        if data is not None:
            break
    else:
        raise ValueError(
            f"there are no data of {shape[0]} channels that could be decoded: latents of a VAE, which is not imported"
        )
    return Recipe(
        name="imported", description=f"imported from {folder.name}", data=data, network=config, process=found.process,
        method=Diffusion.Config(prediction=found.prediction), sampling=found.sampling,
        training=TrainingConfig(steps=1, ema_lengths=(), snapshots=0),
    )  # fmt: skip


def class_names(known: Any, count: int) -> tuple[str, ...]:
    """Names of the classes: those of a list, or of a mapping from numbers, where there is one for each; else numbers."""
    names = [known.get(str(i), i) for i in range(count)] if isinstance(known, dict) else known
    names = [str(name)[:200] for name in names[: count + 1]] if isinstance(names, list) else []
    return tuple(names) if len(names) == count == len(set(names)) else tuple(map(str, range(count)))


def read_weights(part: Path) -> tuple[dict[str, Tensor], str]:
    """The weights of a folder, and their SHA-256.

    Raises:
        ValueError: they are pickled, in several files, missing or damaged."""
    path = part / WEIGHTS
    if not path.is_file():
        if any(part.glob("*.bin")):
            raise ValueError(
                f"{part} has its weights in a pickle, which runs code when it is read: save it again by "
                "save_pretrained(..., safe_serialization=True)"
            )
        several = "in several files" if any(part.glob("*.index.json")) else "missing"
        raise ValueError(f"{path} is {several}: save the pipeline with one file of safetensors")
    try:
        with safe_open(path, "pt") as file, path.open("rb") as raw:
            weights = {renamed(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return weights, hashlib.file_digest(raw, "sha256").hexdigest()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {str(error)[:200]}") from error


def renamed(name: str) -> str:
    """A weight's name today, from one of an older diffusers."""
    if ".attentions." not in name:
        return name
    *before, layer, kind = name.split(".")
    return ".".join([*before, OLD.get(layer, layer), kind])


@torch.no_grad()
def put(network: nn.Module, weights: Mapping[str, Tensor], *, where: str) -> None:
    """Copy weights into a network of the same names. Raises `ValueError` with the first name that does not fit."""
    ours = dict(network.named_parameters())
    for name, parameter in ours.items():
        given = weights.get(name)
        if given is None:
            raise ValueError(f"{where} has no '{name}', which its configuration makes {tuple(parameter.shape)}")
        if given.shape != parameter.shape or not given.is_floating_point():
            raise ValueError(
                f"{where}: '{name}' is {tuple(given.shape)}, and its configuration makes it {tuple(parameter.shape)}"
            )
    if more := next((name for name in weights if name not in ours and name != "pos_embed.pos_embed"), None):
        raise ValueError(f"{where} has '{more}', which its configuration does not make")
    for name, parameter in ours.items():
        if not bool(torch.isfinite(weights[name]).all()):
            raise ValueError(f"{where}: '{name}' has numbers that are not finite")
        parameter.copy_(weights[name])
