"""Diffusion models for any data: trained and measured.

    import langevin as lv
    run = lv.train("photos", minutes=5)      # or lv.load("runs/photos")
    images = run.sample(16, condition="cat", steps=20)
    report = run.evaluate()

Nothing heavy is imported before one of these names is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langevin.diffusion import sampler as samplers
    from langevin.diffusion.sampler import sample, start
    from langevin.notebook import LoadedRun, load, train

__all__ = ["LoadedRun", "load", "sample", "samplers", "start", "train"]

_WHERE = {
    "load": "langevin.notebook", "train": "langevin.notebook", "LoadedRun": "langevin.notebook",
    "sample": "langevin.diffusion.sampler", "start": "langevin.diffusion.sampler",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "samplers":
        return import_module("langevin.diffusion.sampler")
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"langevin has no '{name}'; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
