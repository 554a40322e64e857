"""The help of `train` on data and recipes, from the modalities' own descriptions and the shipped recipes."""

from pathlib import Path

import langevin
from langevin.modalities.options import kinds, options_of

ROOT = Path(langevin.__file__).parent


def trainable() -> list[str]:
    """Names of the shipped recipes that can be trained, densities excluded."""
    files = sorted((ROOT / "recipes").rglob("*.yaml"))
    return [
        file.relative_to(ROOT / "recipes").with_suffix("").as_posix()
        for file in files
        if not file.read_text(encoding="utf-8").partition("\ndensity:")[1]
    ]


def target() -> str:
    """The help of the argument DATA|RECIPE."""
    return "\n\n".join(
        [
            "Your own data, whose kind is detected; the path of a recipe; or the name of a shipped recipe.",
            *(options_of(kind).RECOGNISED for kind in kinds()),
            f"Shipped recipes: {', '.join(trainable())}.",
        ]
    )
