"""Models ranked by the distance of their samples from real data: those of `compare` and `distil`, and of one run's EMAs."""

import time
from dataclasses import dataclass
from typing import Any

from langevin.modalities.modality import Draw, Measuring, Plan, RequestContext, Samples, Scorer
from langevin.run.generate import RunModel

SEED = 1_000_000  # of the first sample of a set, times the number of the set


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A set of samples, its score (lower is better), and how long drawing it took."""

    samples: Samples
    score: float
    seconds: float

    @property
    def figures(self) -> dict[str, Any]:
        """Function evaluations and seconds per sample, and the score; of JSON types."""
        seconds = self.seconds / max(1, len(self.samples))
        return {"nfe": self.samples.nfe, "score": self.score, "seconds": seconds}


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Draws `measuring.count` samples of a model like the training data, and scores them.

    Args:
        scorer: of the modality, for sets of this size.
    """

    measuring: Measuring
    scorer: Scorer

    @classmethod
    def of(cls, measuring: Measuring) -> "Ranking":
        """The ranking of a modality.

        Raises:
            ValueError: there is too little data to compare with, or nothing to rank by."""
        return cls(measuring=measuring, scorer=measuring.model.modality.scorer(measuring))

    def rank(self, model: RunModel, *, number: int = 1, drawn: list[Any] | None = None) -> Ranked:
        """Draw and score set `number` of a model: equal numbers have equal seeds and conditions.

        Args:
            drawn: to which what the plan's draws give, encoded, is added."""
        m = self.measuring
        context = RequestContext(
            model=model, data=lambda: (m.train, m.val), count=m.count, seed=SEED * number, batch=m.batch
        )
        begun = time.perf_counter()
        plan = noting(model.modality.plan_like(m.train, context), [] if drawn is None else drawn)
        samples = model.run(plan, batch=m.batch)
        spent = time.perf_counter() - begun
        return Ranked(samples=samples, score=self.scorer.score(samples), seconds=spent)


def noting(plan: Plan, drawn: list[Any]) -> Plan:
    """The same plan, which adds the result of each of its draws to `drawn`."""
    result: Any = None
    while True:
        try:
            request = plan.send(result)
        except StopIteration as done:
            return done.value
        result = yield request
        if isinstance(request, Draw):
            drawn.append(result)
