"""Detection of speech, by file names."""

from pathlib import Path, PurePosixPath

from langevin.modalities.content import is_folder
from langevin.modalities.paths import companions, is_about, regular, walk
from langevin.modalities.speech.sound_files import SUFFIXES


def detect(path: Path) -> tuple[float, str] | None:
    """(fraction of the files that are sound or describe it, evidence in words), or None without sound."""
    if regular(path):
        return (1.0, "a sound file") if path.suffix.lower() in SUFFIXES else None
    if not is_folder(path):
        return None
    every = [name for name in walk(path) if not is_about(name)]
    sounds = [name for name in every if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not sounds:
        return None
    own = {*sounds, *companions(every)}
    others = [
        n for n in every if n not in own and PurePosixPath(n).name.lower() not in ("metadata.csv", "metadata.jsonl")
    ]
    rest = f" and {len(others):,} other {'file' if len(others) == 1 else 'files'}" if others else ""
    return len(sounds) / (
        len(sounds) + len(others)
    ), f"{len(sounds):,} sound {'file' if len(sounds) == 1 else 'files'}{rest}"
