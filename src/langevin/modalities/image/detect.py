"""Detection of image data, by file names and first bytes."""

from pathlib import Path, PurePosixPath

from langevin.modalities.image.decode import SUFFIXES
from langevin.modalities.paths import companions, is_about, regular, walk


def detect(path: Path) -> tuple[float, str] | None:
    """(fraction of the files that are images or describe them, evidence in words), or None without images."""
    if regular(path):
        if path.suffix.lower() == ".parquet":
            return (1.0, "a Parquet file with an image column") if _has_image_column(path) else None
        cifar = path.name.lower().endswith((".tar.gz", ".tgz")) and "cifar-10" in path.name.lower()
        return (1.0, "CIFAR-10's binary version") if cifar else None
    if not path.is_dir():
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
    if not images:
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
    """Whether a Parquet file has a column of encoded images; assumed if pyarrow is not installed."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return True
    try:
        return regular(path) and any("binary" in str(field.type) for field in parquet.read_schema(path))
    except (OSError, ValueError, MemoryError, ArrowException):
        return False
