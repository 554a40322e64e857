"""The folder of an export: its graphs, langevin.json, which says how to use them, the run's recipe, and README.md."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langevin.exchange.export import Exported, Exporting
from langevin.exchange.targets import OUTPUT, Target
from langevin.files import write_atomic
from langevin.methods.models import TokenModel
from langevin.recipe.read import dump_checked
from langevin.recipe.sampling import describe
from langevin.run.directory import Run
from langevin.run.published import without_paths

FORMAT = 1  # of langevin.json


def facts_of(run: Run, exporting: Exporting, graphs: Sequence[Exported], target: Target, step: int) -> dict[str, Any]:
    """The content of langevin.json."""
    model, recipe = exporting.model, run.recipe
    tokens = model.parts if isinstance(model.parts, TokenModel) else None
    facts: dict[str, Any] = {
        "format": FORMAT, "run": run.path.name, "data": recipe.data.kind, "step": step, "target": target,
        "ema": model.sampling.ema, "shape": list(exporting.shape), "process": asdict(recipe.process),
        "graphs": {graph.name: _graph(graph, exporting) for graph in graphs},
        "classes": list(getattr(recipe.data, "class_names", ())),
        "codec": _plain(getattr(recipe.data, "codec", None)),
    }  # fmt: skip
    if tokens is not None:
        size = tokens.process.vocab_size
        facts |= {"vocabulary": size, "mask_token": size, "padding_token": size + 1}
    else:
        facts["prediction"] = getattr(recipe.method, "prediction", "clean")
    if exporting.table is not None:
        sampling = model.sampling
        facts["sampling"] = {
            "sampler": describe(sampling.sampler), "steps": sampling.steps, "calls": len(exporting.table),
            "grid": asdict(sampling.grid), "guidance": [asdict(one) for one in sampling.guidance],
        }  # fmt: skip
    if exporting.why:
        facts["no_sampler"] = exporting.why
    return facts


def _plain(codec: Any) -> Any:
    return None if codec is None else json.loads(json.dumps(asdict(codec), default=str))


def _graph(graph: Exported, exporting: Exporting) -> dict[str, Any]:
    parts = exporting.model.parts
    shape = [*exporting.shape, *([parts.process.vocab_size] if isinstance(parts, TokenModel) else [])]
    return {
        "file": graph.file,
        "inputs": [
            {"name": name, "shape": ["batch", *size], "dtype": kind, "meaning": meaning}
            for name, size, kind, meaning in graph.inputs
        ],
        "output": {"name": OUTPUT, "shape": ["batch", *shape], "dtype": "float32"},
        "difference": graph.difference,
    }


def write_facts(folder: Path, run: Run, facts: Mapping[str, Any]) -> None:
    """Write langevin.json, recipe.yaml and README.md."""
    write_atomic(folder / "langevin.json", json.dumps(facts, indent=1).encode())
    write_atomic(folder / "recipe.yaml", dump_checked(without_paths(run.recipe)).encode())
    write_atomic(folder / "README.md", readme(facts).encode())


def readme(facts: Mapping[str, Any]) -> str:
    """The card of an export, in Markdown."""
    tags = "\n".join(["- langevin", "- diffusion", f"- {facts['data']}"])
    parts = [
        f"---\nlibrary_name: langevin\ntags:\n{tags}\n---\n",
        f"# {facts['run']}\n",
        f"A diffusion model of {facts['data']}, trained for {facts['step']:,} steps, as {facts['target']}. "
        "`langevin.json` has all numbers that its use needs, `recipe.yaml` the whole configuration.\n",
    ]
    for name, graph in facts["graphs"].items():
        parts.append(f"## {name}: `{graph['file']}`\n\n| | name | shape | type | |\n|---|---|---|---|---|")
        parts += [_line("input", one) for one in graph["inputs"]]
        what = "samples x at t = 0" if name == "sampler" else "the mean of clean x given x_t"
        what = "logits of the clean tokens" if "vocabulary" in facts and name == "denoiser" else what
        parts.append(_line("output", {**graph["output"], "meaning": what}))
        parts.append(f"\nLargest difference from the run itself, over the largest value: {graph['difference']:.1e}.\n")
    if "no_sampler" in facts:
        parts.append(f"There is no sampler: {facts['no_sampler']}.\n")
    parts.append(f"## Use\n\n```python\n{_program(facts)}\n```\n")
    parts.append(f"## Decode\n\n{_decode(facts)}\n")
    return "\n".join(parts)


def _line(what: str, one: Mapping[str, Any]) -> str:
    shape = ", ".join(map(str, one["shape"]))
    return f"| {what} | `{one['name']}` | ({shape}) | {one['dtype']} | {one.get('meaning', '')} |"


def _program(facts: Mapping[str, Any]) -> str:
    """How the first graph of an export is called."""
    name = "sampler" if "sampler" in facts["graphs"] else "denoiser"
    graph = facts["graphs"][name]
    arrays = [_array(one) for one in graph["inputs"]]
    names = [one["name"] for one in graph["inputs"]]
    lines = ["import numpy as np", "", *arrays]
    match facts["target"]:
        case "torch":
            positional = [n for n in names if n in ("sample", "timestep")]
            named = [f"{n}=torch.from_numpy({n})" for n in names if n not in positional]
            call = ", ".join([*(f"torch.from_numpy({n})" for n in positional), *named])
            lines = [
                "import torch",
                *lines,
                f'graph = torch.export.load("{graph["file"]}").module()',
                f"x = graph({call}).numpy()",
            ]
        case "onnx":
            given = ", ".join(f'"{n}": {n}' for n in names)
            lines = ["import onnxruntime", *lines, f'graph = onnxruntime.InferenceSession("{graph["file"]}")']
            lines.append(f'x = graph.run(["{OUTPUT}"], {{{given}}})[0]')
        case _:
            given = ", ".join(f'"{n}": {n}' for n in names)
            precise = '{"INFERENCE_PRECISION_HINT": "f32"}'
            lines = ["import openvino", *lines, f'graph = openvino.compile_model("{graph["file"]}", "CPU", {precise})']
            lines.append(f"x = next(iter(graph({{{given}}}).values()))")
    return "\n".join(lines)


def _array(one: Mapping[str, Any]) -> str:
    size = ", ".join(["4", *(str(n) for n in one["shape"][1:])])
    size = f"({size},)" if "," not in size else f"({size})"
    if one["name"] == "timestep":
        return 'timestep = np.full(4, 0.5, "float64")'
    if one["dtype"].startswith("int"):
        return f'{one["name"]} = np.zeros({size}, "{one["dtype"]}")'
    return f'{one["name"]} = np.random.default_rng(0).standard_normal({size}, "float32")'


def _decode(facts: Mapping[str, Any]) -> str:
    """How x becomes data, in words."""
    codec = facts["codec"] or {}
    if "vocabulary" in facts:
        last, mask = facts["vocabulary"] - 1, facts["mask_token"]
        return f"Tokens 0 to {last} are those of `data.codec` in `recipe.yaml`; {mask} is the mask."
    if {"scale", "offset"} <= codec.keys() and isinstance(codec["scale"], int | float):
        return f"raw = (x - ({codec['offset']:.6g})) / {codec['scale']:.6g}."
    return "`codec` in `langevin.json` and `data` in `recipe.yaml` say how x becomes data; `langevin` decodes it."
