"""Small sources made for these tests: different pictures of noise, as files, in Parquet and as CIFAR-10."""

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from langevin.modalities.image.data import Images


def picture(seed: int, side: int = 12, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def noise(width: int = 60, height: int = 40, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def fill(root: Path, *names: str, seed: int = 0, **kind) -> Path:
    """Different pictures under these relative names."""
    for place, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed + place, **kind)))
    return root


def many(count: int, pattern: str = "{:03d}.png") -> list[str]:
    return [pattern.format(number) for number in range(count)]


def everything(images: Images) -> torch.Tensor:
    return images.read(torch.arange(len(images)))


def write_metadata(root: Path, name: str, *records: dict) -> None:
    if name.endswith("csv"):
        columns = list(dict.fromkeys(key for record in records for key in record))
        lines = [",".join(columns)] + [",".join(str(record.get(key, "")) for key in columns) for record in records]
    else:
        lines = [json.dumps(record) for record in records]
    (root / name).write_text("\n".join(lines), encoding="utf-8")


CLASSES = ["ant", "bee", "cow"]


def make_parquet(path: Path, count: int, *, seed: int = 0, names: list[str] | None = CLASSES, **columns) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": encoded(picture(seed + n)), "path": f"{n}.png"} for n in range(count)]
    content = pa.table({"image": images, "label": [n % 3 for n in range(count)]} | columns)
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        content = content.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path, row_group_size=7)
    return path


def make_cifar(root: Path, count: int, *, names: bool = True) -> torch.Tensor:
    """The official layout with few records; all pixels (6 count, 3, 32, 32)."""
    root.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (6, count, 3072), dtype=np.uint8)
    for place, name in enumerate([*[f"data_batch_{n}.bin" for n in range(1, 6)], "test_batch.bin"]):
        labels = np.arange(count, dtype=np.uint8)[:, None] % 10
        (root / name).write_bytes(np.concatenate([labels, pixels[place]], axis=1).tobytes())
    if names:
        (root / "batches.meta.txt").write_text("\n".join([f"class{n}" for n in range(10)]) + "\n")
    return torch.from_numpy(pixels.reshape(-1, 3, 32, 32))
