"""Detection of clips, by file names and first bytes."""

from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from langevin.modalities.paths import is_about, regular, walk
from langevin.modalities.video.clip_files import ANIMATIONS, FILMS
from langevin.modalities.video.sources import FRAMES, is_animated

PROBED = 8  # pictures that are opened to see whether they move


def detect(path: Path) -> tuple[float, str] | None:
    """(fraction of the files that are clips, evidence in words), or None without clips."""
    if regular(path):
        if path.suffix.lower() == ".parquet":
            return (1.0, "a Parquet file with a column of frames") if _has_frames(path) else None
        return (1.0, "one clip") if path.suffix.lower() in FILMS or is_animated(path) else None
    if not path.is_dir():
        return None
    every = [name for name in walk(path) if not is_about(name) and not _describes(name)]
    films = [name for name in every if PurePosixPath(name).suffix.lower() in FILMS]
    pictures = [name for name in every if PurePosixPath(name).suffix.lower() in ANIMATIONS]
    probed = pictures[:: max(1, len(pictures) // PROBED)][:PROBED]
    share = sum(is_animated(path / name) for name in probed) / len(probed) if probed else 0.0
    clips = len(films) + share * len(pictures)
    if not clips:
        return None
    return clips / len(every), f"{len(films):,} films and {round(share * len(pictures)):,} animations"


def _describes(name: str) -> bool:
    path = PurePosixPath(name.lower())
    return path.name in ("metadata.jsonl", "metadata.csv") or path.suffix == ".txt"


def _has_frames(path: Path) -> bool:
    if find_spec("pyarrow") is None:
        return False
    from pyarrow import ArrowException, parquet

    try:
        return bool(set(FRAMES) & set(parquet.read_schema(path).names))
    except (OSError, ValueError, ArrowException):
        return False
