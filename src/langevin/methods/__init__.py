"""Training methods: a `Method` has players (the trained modules), a loss for each, and a generator.

`AnyMethod` is the `method:` section of a recipe. A new method is a file here with a `Config`, and its name in this union.
"""

from langevin.methods.adversarial import Adversarial
from langevin.methods.autoencoder import Autoencoding
from langevin.methods.consistency import Consistency
from langevin.methods.diffusion import Diffusion
from langevin.methods.distribution_matching import DistributionMatching
from langevin.methods.meanflow import MeanFlow
from langevin.methods.method import Method, Player, Report
from langevin.methods.optimizer import AdamW, Muon, OptimizerConfig
from langevin.methods.score_matching import ScoreMatching
from langevin.methods.spectral import SpectralLoss

AnyMethod = (
    Diffusion.Config | ScoreMatching.Config | SpectralLoss.Config | Autoencoding.Config | Adversarial.Config
    | Consistency.Config | MeanFlow.Config | DistributionMatching.Config
)  # fmt: skip

__all__ = [
    "AdamW", "Adversarial", "AnyMethod", "Autoencoding", "Consistency", "Diffusion", "DistributionMatching",
    "MeanFlow", "Method", "Muon", "OptimizerConfig", "Player", "Report", "ScoreMatching", "SpectralLoss",
]  # fmt: skip
