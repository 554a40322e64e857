"""Motions in files: BVH, JSON, arrays, animations, and a contact sheet; states as plots as well."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from langevin.files import write_atomic, write_folder
from langevin.modalities.files import file_name, save_arrays
from langevin.modalities.modality import Samples
from langevin.modalities.motion import drawing
from langevin.modalities.motion.files import bvh, deepmimic

if TYPE_CHECKING:
    from langevin.modalities.motion.modality import Motion

MOST = 24  # motions of a picture or an animation
PLOTTED = 6  # columns of a plot


def films(motion: "Motion", values: Sequence[Tensor]) -> list[drawing.Film]:
    """Motions as films; states that cannot be drawn are points of their first two columns."""
    if motion.skeleton is not None:
        return [drawing.of_skeleton(motion.skeleton, one) for one in values]
    source = motion.source
    if source is None:
        shown = [one[:, :2] if one.shape[1] > 1 else torch.cat([one * 0, one], 1) for one in values]
        return [drawing.of_points(one[:, None], joined=False) for one in shown]
    radius = getattr(source, "radius", 0.0)
    return [drawing.of_points(source.points(one.double()), joined=source.joined, radius=radius) for one in values]


def animated(motion: "Motion", samples: Samples, form: str = "GIF") -> bytes:
    """An animation of the first motions."""
    values = list(samples.values)[:MOST]
    return drawing.animation(films(motion, values), samples.names[:MOST], motion.known_rate, form=form)


def picture(motion: "Motion", samples: Samples) -> bytes:
    """A PNG: for skeletons a contact sheet, for states their columns over time."""
    values = list(samples.values)[:MOST]
    if motion.skeleton is not None:
        return drawing.film_strip(films(motion, values), samples.names[:MOST], motion.known_rate)
    return plot(values, samples.names, motion.columns, motion.known_rate)


def plot(values: Sequence[Tensor], names: Sequence[str], columns: Sequence[str], rate: float) -> bytes:
    """A PNG of states over time, a panel each."""
    from matplotlib.figure import Figure  # half of the time to import the package

    across = min(4, len(values))
    rows = -(-len(values) // across)
    figure = Figure(figsize=(2.7 * across, 1.7 * rows + 0.3), layout="constrained", dpi=80)
    axes = figure.subplots(rows, across, squeeze=False, sharey=True)
    for i in range(rows * across):
        axis = axes[i // across, i % across]
        if i >= len(values):
            axis.set_axis_off()
            continue
        time = np.arange(len(values[i])) / rate
        for k in range(min(values[i].shape[1], PLOTTED)):
            axis.plot(time, values[i][:, k].numpy(), linewidth=1.2, label=columns[k] if i == 0 else None)
        axis.set_title(names[i][:40] if names else "", fontsize=8, pad=2, parse_math=False)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
    if values[0].shape[1] > 1:
        figure.legend(loc="outside lower center", ncols=PLOTTED, frameon=False, fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def text_of(motion: "Motion", values: Tensor, suffix: str) -> str:
    """One motion as BVH, JSON or CSV."""
    rate = motion.known_rate
    if suffix == ".csv" or motion.skeleton is None:
        time = torch.arange(len(values)) / rate
        rows = [
            ",".join([f"{t:.6g}", *(f"{v:.7g}" for v in row)])
            for t, row in zip(time.tolist(), values.tolist(), strict=True)
        ]
        return "\n".join([",".join(["time", *(c.replace(",", " ") for c in motion.columns)]), *rows]) + "\n"
    if suffix == ".bvh":
        return bvh.text_of(motion.skeleton, motion.turned_back(values), rate)
    return deepmimic.text_of(motion.skeleton, motion.turned_back(values), rate)


def save(motion: "Motion", samples: Samples, out: Path) -> None:
    """Write an animation, a picture, arrays, all motions as JSON, one motion as text, or a folder with two files
    for each (`single`)."""
    match out.suffix:
        case ".gif" | ".webp":
            write_atomic(out, samples.stamped(animated(motion, samples, out.suffix[1:].upper())))
        case ".png":
            write_atomic(out, samples.stamped(picture(motion, samples)))
        case ".npz":
            lengths = torch.tensor([len(one) for one in samples.values])
            own = [motion.turned_back(one) for one in samples.values]
            padded = torch.nn.utils.rnn.pad_sequence(own, batch_first=True)
            held = Samples(
                modality=motion, values=padded, names=samples.names,
                arrays={**samples.arrays, "length": lengths, "rate": torch.tensor(motion.known_rate)},
            )  # fmt: skip
            save_arrays(out, held, "states" if motion.skeleton is None else "poses", padded.numpy())
        case ".json":
            write_atomic(out, json.dumps(as_json(motion, samples)).encode())
        case "":
            names = samples.names or [""] * len(samples)
            with write_folder(out) as folder:
                for i, name in enumerate(names):
                    file = f"{i:05d}" + (f"-{file_name(name)}" if name else "")
                    for suffix, content in single(motion, samples.select([i])).items():
                        (folder / f"{file}{suffix}").write_bytes(samples.stamped(content, i))
        case _:
            write_atomic(out, text_of(motion, samples.values[0], out.suffix).encode())


def single(motion: "Motion", one: Samples) -> dict[str, bytes]:
    """A motion as a file to work with and one to look at, by suffix."""
    if motion.skeleton is None:
        return {".csv": text_of(motion, one.values[0], ".csv").encode(), ".png": picture(motion, one)}
    return {".bvh": text_of(motion, one.values[0], ".bvh").encode(), ".gif": animated(motion, one)}


def as_json(motion: "Motion", samples: Samples) -> Any:
    """All motions, of JSON types: of one skeleton in the form of DeepMimic if there is one, else positions of joints."""
    if motion.skeleton is not None and len(samples) == 1:
        return json.loads(text_of(motion, samples.values[0], ".json"))
    held: dict[str, Any] = {"rate": motion.known_rate, "names": list(samples.names)}
    if motion.skeleton is None:
        return {**held, "columns": list(motion.columns), "states": [one.tolist() for one in samples.values]}
    skeleton = motion.skeleton
    positions = [skeleton.positions_of(motion.turned_back(one).double()) for one in samples.values]
    return {
        **held, "joints": list(skeleton.names), "parents": list(skeleton.parents),
        "positions": [[[[round(v, 5) for v in joint] for joint in f] for f in one.tolist()] for one in positions],
    }  # fmt: skip
