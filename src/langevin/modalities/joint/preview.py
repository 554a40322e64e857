"""Joint samples as files: a picture of all parts one below the other, and a folder with a file for each."""

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageSequence
from torch import Tensor

from langevin.files import write_atomic, write_folder
from langevin.modalities.joint.batches import CAPTION
from langevin.modalities.modality import File, Samples

if TYPE_CHECKING:
    from langevin.modalities.joint.modality import Joint

MOST = 200  # pictures of an animation
GAP = 6
COLUMNS = 16
MOST_SAMPLES = 256  # in one picture


def part_of(joint: "Joint", samples: Samples, name: str) -> Samples:
    """One part of the samples, as its modality has them."""
    modality: Any = joint.parts[name]
    values: Any = [value[name] for value in samples.values]
    if len({value.shape if isinstance(value, Tensor) else None for value in values} - {None}) == 1:
        values = torch.stack(values)
    return Samples(
        modality=modality, values=values, names=samples.names, columns=min(len(samples), COLUMNS), facts=samples.facts
    )


def preview(joint: "Joint", samples: Samples) -> File:
    """The previews of all parts that are pictures, one below the other; they move if one of them does."""
    films = list[tuple[list[Image.Image], float]]()
    for name in joint.parts:
        if name not in samples.values[0]:
            continue
        shown = part_of(joint, samples, name).preview()
        if shown.media_type.startswith("image/") and shown.suffix != ".svg":
            with Image.open(BytesIO(shown.content)) as image:
                image.load()  # before which a WebP has no duration
                duration = float(image.info.get("duration", 100) or 100)
                films.append(([f.convert("RGB") for f in ImageSequence.Iterator(image)][:MOST], duration))
    if not films:
        lines = [json.dumps({n: str(v)[:200] for n, v in value.items()}) for value in samples.values]
        return File(suffix=".txt", content="\n".join(lines).encode())
    longest = max(len(frames) for frames, _ in films)
    width = max(frames[0].width for frames, _ in films)
    height = sum(frames[0].height + GAP for frames, _ in films)
    pages = list[Image.Image]()
    for i in range(longest):
        page, top = Image.new("RGB", (width, height), (255, 255, 255)), 0
        for frames, _ in films:
            page.paste(frames[min(i, len(frames) - 1)], (0, top))
            top += frames[0].height + GAP
        pages.append(page)
    content = BytesIO()
    duration = next((d for frames, d in films if len(frames) == longest), 100.0)
    pages[0].save(
        content, "WEBP", save_all=True, append_images=pages[1:], loop=0, duration=round(duration), lossless=True
    )
    return File(suffix=".webp", content=content.getvalue())


def save(joint: "Joint", samples: Samples, out: Path) -> None:
    """Write one picture (.webp), or a folder: a file for each part of each sample. A caption is a .txt with
    the name of what it describes, as `train` reads it."""
    if out.suffix == ".webp":
        write_atomic(out, samples.stamped(preview(joint, samples).content))
        return
    with write_folder(out) as folder:
        for name in joint.parts:
            if name not in samples.values[0]:
                continue
            part_of(joint, samples, name).save(folder / name)  # a file per sample, as its own modality writes it
            files = sorted((folder / name).iterdir(), key=lambda file: int(file.stem.partition("-")[0]))
            for i, file in enumerate(files):
                file.rename(folder / f"{i:05d}-{name}{file.suffix}")
            (folder / name).rmdir()
        if joint.caption and CAPTION in samples.values[0]:
            for i, value in enumerate(samples.values):
                (folder / f"{i:05d}-{joint.caption}.txt").write_text(f"{value[CAPTION]}\n", encoding="utf-8")
