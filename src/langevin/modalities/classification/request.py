"""The options of `langevin classify` for a run with classes. Imports no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from tyro.conf import Positional

from langevin.modalities.inputs import InputFile


@dataclass(frozen=True, kw_only=True)
class ClassifyByDenoising:
    """What is classified, and how. A class is judged by how well the run denoises an example when it is given the class, at
    the same noises for all classes."""

    files: Positional[tuple[InputFile, ...]] = ()
    """Files or folders, read like the run's data; classes that they are labelled with are compared. Default: the run's own
    held-out part, and with --error or --label-next all of its data."""
    by: Literal["denoising", "probe"] = "denoising"
    """denoising: the class by denoising errors. probe: a linear classifier on activations of the network, fitted to the
    run's labelled training examples; it says how good it is beside one on the data themselves."""
    noises: int = 32
    """Noises per class and example, at most: classes that have lost get fewer."""
    error: float | None = None
    """Keep only labels whose share of errors is estimated to be at most this, by the labelled held-out examples of the run.
    Others stay empty: --out labels.csv can be trained on by data.labels=labels.csv."""
    label_next: int | None = None
    """Show so many unlabelled examples that a person should label next: those on which noise levels disagree most."""

    FORMS: ClassVar[tuple[str, ...]] = ("-", ".csv", ".json")
    UNUSED: ClassVar[dict[str, str]] = dict.fromkeys(
        ("steps", "sampler", "guidance"), "a class is judged by single predictions, and nothing is sampled"
    )

    def require(self) -> None:
        """Check the options. Raises `ValueError` for one out of range, or two that do not fit."""
        if not 2 <= self.noises <= 100_000:
            raise ValueError(f"--noises is 2 to 100,000, got {self.noises}")
        if self.error is not None and not 0 < self.error < 1:
            raise ValueError(f"--error is a share of errors between 0 and 1, such as 0.05, got {self.error}")
        if self.label_next is not None and self.label_next < 1:
            raise ValueError(f"--label-next is a number of examples, got {self.label_next}")
        if self.label_next is not None and self.by == "probe":
            raise ValueError("--label-next goes by noise levels, which a probe does not have: leave --by probe out")
        if self.label_next is not None and self.error is not None:
            raise ValueError(
                "--label-next shows examples that are uncertain, and --error keeps certain ones: leave one out"
            )
