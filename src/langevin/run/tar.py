"""Samples as a tar file, in the order and with the names that readers of webdataset take: the files of a sample follow each
other and begin with its key."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langevin.modalities.modality import Samples


def tarred(samples: Samples, folder: Path, lines: Sequence[Mapping[str, Any]]) -> bytes:
    """The bytes of a tar file, which depend on the samples alone.

    Args:
        folder: where the files of the samples may be put first; there is nothing at it.
        lines: the record of each sample, which becomes its file KEY.json; its `index` is the key."""
    samples.save(folder)
    by_index: dict[int, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        by_index.setdefault(int(file.name.partition(".")[0].partition("-")[0]), []).append(file)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for i, line in enumerate(lines):
            key = f"{line['index']:012d}"
            for suffix, data in (
                *_files(by_index.get(i, [])),
                (".json", json.dumps(line, ensure_ascii=False).encode()),
            ):
                about = tarfile.TarInfo(key + suffix)
                about.size, about.mode = len(data), 0o644
                tar.addfile(about, io.BytesIO(data))
    return content.getvalue()


def _files(files: Sequence[Path]) -> Iterable[tuple[str, bytes]]:
    """The suffix and the content of each file of a sample: .png, or .image.png if several have the same."""
    suffixes = [file.suffix for file in files]
    for file in files:
        alone = suffixes.count(file.suffix) == 1 and file.suffix != ".json"
        part = "" if alone else "." + file.stem.partition("-")[2]
        yield part + file.suffix, file.read_bytes()
