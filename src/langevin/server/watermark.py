"""The watermark of what a server gives out: which seeds were used, and whether a file was made with one of them."""

import math
import secrets
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from torch import Tensor

from langevin.methods.models import TokenModel
from langevin.run.generate import RunModel, changed
from langevin.run.watermark import detect
from langevin.safety.watermark import FOUND, Detection
from langevin.server.errors import Refused
from langevin.server.runs import Runs
from langevin.server.tables import SEEDS

TRIED = 8  # models that a file is tested against


def fresh_seed() -> int:
    """A seed that was not used before, as far as chance goes; JavaScript reads it exactly."""
    return secrets.randbits(52)


@dataclass(frozen=True, kw_only=True)
class Watermark:
    """Keeps the seeds, and tests files, one at a time.

    Args:
        engine: of the database with the seeds that were used.
    """

    engine: sa.Engine
    _one: Any = field(default_factory=threading.Lock)

    def note(self, model: str, seed: int, count: int, steps: int) -> None:
        """Write down, before they are drawn, that samples have the seeds from `seed` on, and their number of steps."""
        try:
            with self.engine.begin() as connection:
                connection.execute(sa.insert(SEEDS).values(model=model, seed=seed, count=count, steps=steps))
        except IntegrityError:  # it is there already
            return

    def seeds(self, model: str) -> dict[int, list[tuple[int, int]]]:
        """By number of steps, the (first seed, count) that were used with a model, in order."""
        found = dict[int, list[tuple[int, int]]]()
        with self.engine.connect() as connection:
            query = sa.select(SEEDS.c.seed, SEEDS.c.count, SEEDS.c.steps).where(SEEDS.c.model == model)
            for seed, count, steps in connection.execute(query.order_by(SEEDS.c.seed)).all():
                found.setdefault(steps, []).append((seed, count))
        return found

    def test(self, runs: Runs, name: str, content: bytes, suffix: str) -> Detection | None:
        """Whether the content of a file was made with a model; None if it cannot be: the model makes no such files, or made
        none yet."""
        try:
            model = runs.load(name).model
            with tempfile.TemporaryDirectory(prefix="langevin-") as folder, self._one:
                path = Path(folder) / f"file{suffix}"
                path.write_bytes(content)
                return self._tested(model, name, model.modality.encode_file(path))
        except (Refused, ValueError):
            return None

    def _tested(self, model: RunModel, name: str, x: Tensor) -> Detection:
        used = self.seeds(name)
        if not isinstance(model.parts, TokenModel):  # the number of steps does not show in the noise
            return detect(model, x, once(sorted(pair for pairs in used.values() for pair in pairs)))
        found = [detect(changed(model, steps=steps), x, once(pairs)) for steps, pairs in used.items()]
        if not found:
            raise ValueError("no seed was used yet")
        best, tried = min(found, key=lambda one: one.log10_p), sum(one.tried for one in found)
        more = math.log10(tried / best.tried)
        return replace(best, tried=tried, log10_p=min(0.0, best.log10_p + more))


def once(pairs: Iterable[tuple[int, int]]) -> Iterator[int]:
    """The seeds of (first, count) in rising order of the first, each once."""
    last = None
    for seed, count in pairs:
        begin = seed if last is None else max(seed, last + 1)
        yield from range(begin, seed + count)
        last = seed + count - 1 if last is None else max(last, seed + count - 1)


def can_test(runs: Runs, name: str) -> bool:
    """Whether single files of a run's modality can be tested."""
    try:
        return hasattr(runs.open(name).recipe.data, "encode_file")
    except Refused:
        return False


def result_of(name: str, detection: Detection) -> dict[str, Any]:
    """A detection as a result of a provenance check."""
    found = detection.log10_p < FOUND
    return {
        "type": "noise_watermark", "outcome": "detected" if found else "not_detected", "model": name,
        "p_value": detection.p_value, "log10_p_value": round(detection.log10_p, 2), "tried": detection.tried,
        "seed": detection.seed if found else None,
    }  # fmt: skip
