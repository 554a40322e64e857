"""Pictures that move: which files of a folder, and which Parquet files, hold clips and not images."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from PIL import Image

from langevin.modalities.content import opened
from langevin.modalities.paths import regular

ANIMATIONS = (".gif", ".webp", ".png", ".apng")  # suffixes of files that may move
FRAMES = ("frames", "clip")  # columns of Parquet files with pictures that hold frames side by side
PROBED = 8  # pictures that are opened to see whether they move


def is_animated(path: Path) -> bool:
    """Whether a picture has several frames."""
    try:
        with opened(path) as file, Image.open(file, formats=("GIF", "WEBP", "PNG")) as image:
            return getattr(image, "n_frames", 1) > 1
    except Exception:  # whatever Pillow raises: it is no animation that can be read
        return False


def moving_share(root: Path, names: Sequence[str]) -> float:
    """The share of pictures that move, in [0, 1], of a few that are opened; 0 without any that may."""
    may = [name for name in names if PurePosixPath(name).suffix.lower() in ANIMATIONS]
    probed = may[:: max(1, len(may) // PROBED)][:PROBED]
    moving = sum(is_animated(root / name) for name in probed) / max(1, len(probed))
    return moving * len(may) / max(1, len(names))


def frames_column(path: Path) -> str | None:
    """The column of clips of a Parquet file; None without one, without pyarrow, or of a file that cannot be read."""
    if find_spec("pyarrow") is None or not regular(path):
        return None
    from pyarrow import ArrowException, parquet

    try:
        names = set(parquet.read_schema(path).names)
    except (OSError, ValueError, ArrowException):
        return None
    return next((name for name in FRAMES if name in names), None)
