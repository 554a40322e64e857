"""Writing samples to files, for any modality."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from langevin.files import write_atomic
from langevin.modalities.modality import Samples


def save_arrays(out: Path, samples: Samples, name: str, values: Any) -> None:
    """Write an .npz: the values under `name`, the further arrays, and the conditions in words under "names"."""
    arrays = {name: values, **{key: value.numpy() for key, value in samples.arrays.items()}}
    if any(samples.names):
        arrays["names"] = np.array(samples.names)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomic(out, content.getvalue())


def file_name(name: str) -> str:
    """A name made safe as part of a file name, of any system, at most 60 characters."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
