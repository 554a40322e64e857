"""Detection of clips, by file names and first bytes."""

from pathlib import Path, PurePosixPath

from langevin.modalities.animations import ANIMATIONS, frames_column, is_animated, moving_share
from langevin.modalities.content import is_folder
from langevin.modalities.paths import companions, is_about, regular, walk
from langevin.modalities.video.clip_files import FILMS


def detect(path: Path) -> tuple[float, str] | None:
    """(fraction of the files that are clips or describe them, evidence in words), or None without clips.

    Folders of frames look like images of classes, so they are not detected."""
    if regular(path):
        if path.suffix.lower() == ".parquet":
            column = frames_column(path)
            return None if column is None else (1.0, f"a Parquet file with a column {column}")
        return (1.0, "one clip") if path.suffix.lower() in FILMS or is_animated(path) else None
    if not is_folder(path):
        return None
    every = [name for name in walk(path) if not is_about(name)]
    every = sorted(set(every) - companions(every) - {name for name in every if _describes(name)})
    films = [name for name in every if PurePosixPath(name).suffix.lower() in FILMS]
    pictures = [name for name in every if PurePosixPath(name).suffix.lower() in ANIMATIONS]
    animations = round(moving_share(path, pictures) * len(pictures))
    if not films and not animations:
        return None
    return (len(films) + animations) / len(every), f"{len(films):,} films and {animations:,} animations"


def _describes(name: str) -> bool:
    return PurePosixPath(name).name.lower() in ("metadata.jsonl", "metadata.csv")
