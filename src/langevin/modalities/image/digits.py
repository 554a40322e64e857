"""scikit-learn's handwritten digits as a table."""

import numpy as np

from langevin.extras import require
from langevin.modalities.image.table import Table


def open_digits() -> Table:
    """The 1,797 digits, levels 0..16 scaled to 0..255. Raises `ValueError` if scikit-learn is not installed."""
    datasets = require("sklearn.datasets", "Digits")
    images, targets = datasets.load_digits(return_X_y=True)
    values = np.rint(images.reshape(-1, 64) * (255 / 16)).astype(np.uint8)  # 0..16 -> 0..255
    return Table(
        where="Digits",
        names=[f"digit-{row:04d}" for row in range(len(values))],
        fetch=lambda row: values[row].tobytes(),
        raw=(1, 8, 8),
        labels=[str(label) for label in targets.tolist()],
        classes=tuple("0123456789"),
    )
