"""Points as a picture of their density next to that of the data, or as a file of numbers."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.evaluation.clouds import Curve, clouds
from langevin.files import write_atomic
from langevin.modalities.files import save_arrays
from langevin.modalities.modality import File, Samples
from langevin.modalities.points.data import log_density

if TYPE_CHECKING:
    from langevin.modalities.points.modality import Points


def preview(points: "Points", samples: Samples) -> File:
    """The samples' density with the known density of the data, or next to that of the validation points."""
    curve, reference = truth(points, samples.values)
    return File(suffix=".png", content=clouds({"samples": samples.values, **reference}, curve=curve))


def truth(points: "Points", samples: Tensor) -> tuple[Curve | None, dict[str, Tensor]]:
    """The known density in one dimension as a curve, else validation points to show next to the samples."""
    if points.distribution is not None and samples.shape[1] == 1:
        reach = 1.3 * float(samples.abs().max()) + 1
        x = torch.linspace(-reach, reach, 2000, dtype=torch.float64)
        log_p = log_density(points.distribution, x[:, None])
        if log_p is not None:
            return Curve(x=x, p=log_p.exp(), label="density of the data"), {}
    return None, {"data": points.open()[1].values}


def save(samples: Samples, out: Path) -> None:
    """Write the preview (.png), or an .npz with the array `points`."""
    if out.suffix == ".png":
        write_atomic(out, samples.stamped(samples.preview().content))
    else:
        save_arrays(out, samples, "points", samples.values.numpy())
