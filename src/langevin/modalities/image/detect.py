"""Detection of image data, by file names and first bytes."""

from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from langevin.modalities.animations import frames_column, moving_share
from langevin.modalities.content import is_folder
from langevin.modalities.image.decode import SUFFIXES, looks_like_image
from langevin.modalities.parquet_pages import first_bytes
from langevin.modalities.paths import companions, is_about, regular, walk


def detect(path: Path) -> tuple[float, str] | None:
    """(fraction of the files that are images or describe them, evidence in words), or None without images."""
    if regular(path):
        if path.suffix.lower() == ".parquet":
            return (1.0, "a Parquet file with an image column") if _has_image_column(path) else None
        cifar = path.name.lower().endswith((".tar.gz", ".tgz")) and "cifar-10" in path.name.lower()
        return (1.0, "CIFAR-10's binary version") if cifar else None
    if not is_folder(path):
        return None
    if (path / "cifar-10-batches-bin").is_dir() or (path / "data_batch_1.bin").is_file():
        return 1.0, "CIFAR-10's binary version"
    every = [name for name in walk(path) if not is_about(name)]
    images = [name for name in every if PurePosixPath(name).suffix.lower() in SUFFIXES]
    parquet = [name for name in every if name.lower().endswith(".parquet")]
    if parquet and not images:
        return (
            (len(parquet) / len(every), "Parquet files with an image column") if _image_tables(path, parquet) else None
        )
    if not images or moving_share(path, images) > 0.5:  # clips: `data.kind=image` takes their first frames
        return None
    own = {*images, *companions(every)}
    others = [name for name in every if name not in own and not _describes(name)]
    share = len(images) / (len(images) + len(others))
    rest = f" and {len(others):,} other {'file' if len(others) == 1 else 'files'}" if others else ""
    return share, f"{len(images):,} image {'file' if len(images) == 1 else 'files'}{rest}"


def _describes(name: str) -> bool:
    """Whether a file holds captions or labels of images."""
    return PurePosixPath(name).name.lower() in ("metadata.jsonl", "metadata.csv")


def _image_tables(root: Path, names: list[str]) -> bool:
    return any(_has_image_column(root / name) for name in names[:2])


def _has_image_column(path: Path) -> bool:
    """Whether a Parquet file has a column of encoded images, by their first bytes; assumed if pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        return True
    if frames_column(path) is not None:
        return False
    return regular(path) and any(looks_like_image(head) for head in first_bytes(path).values())
