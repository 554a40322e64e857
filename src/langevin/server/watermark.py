"""The watermark of what a server gives out: which seeds were used, and whether a file was made with one of them."""

import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from langevin.run.watermark import detect
from langevin.safety.watermark import Detection
from langevin.server.errors import Refused
from langevin.server.runs import Runs
from langevin.server.tables import SEEDS

SURE = -6.0  # log10 of the p-value from which on a watermark is taken to be there
TRIED = 8  # models that a file is tested against


def fresh_seed() -> int:
    """A seed that was not used before, as far as chance goes; JavaScript reads it exactly."""
    return secrets.randbits(52)


@dataclass(frozen=True, kw_only=True)
class Watermark:
    """Keeps the seeds, and tests files.

    Args:
        key: what the noise of all samples is made from.
        engine: of the database with the seeds that were used.
    """

    key: bytes
    engine: sa.Engine

    def note(self, model: str, seed: int, count: int) -> None:
        """Write down, before they are drawn, that samples have the seeds from `seed` on."""
        try:
            with self.engine.begin() as connection:
                connection.execute(sa.insert(SEEDS).values(model=model, seed=seed, count=count))
        except IntegrityError:  # it is there already
            return

    def seeds(self, model: str) -> Iterator[int]:
        """The seeds that were used with a model, each once."""
        last = None
        with self.engine.connect() as connection:
            query = sa.select(SEEDS.c.seed, SEEDS.c.count).where(SEEDS.c.model == model).order_by(SEEDS.c.seed)
            for seed, count in connection.execute(query):
                begin = seed if last is None else max(seed, last + 1)
                yield from range(begin, seed + count)
                last = seed + count - 1 if last is None else max(last, seed + count - 1)

    def test(self, runs: Runs, name: str, content: bytes, suffix: str) -> Detection | None:
        """Whether the content of a file was made with a model; None if it cannot be: the model makes no such files, or made
        none yet."""
        try:
            model = runs.load(name).model
            encode = getattr(model.modality, "encode_file", None)
            if encode is None:
                return None
            with tempfile.TemporaryDirectory(prefix="langevin-") as folder:
                path = Path(folder) / f"file{suffix}"
                path.write_bytes(content)
                x = encode(path)
            return detect(model, x, self.seeds(name), self.key)
        except (Refused, ValueError):
            return None


def result_of(name: str, detection: Detection) -> dict[str, Any]:
    """A detection as a result of a provenance check."""
    found = detection.log10_p < SURE
    return {
        "type": "noise_watermark", "outcome": "detected" if found else "not_detected", "model": name,
        "p_value": detection.p_value, "log10_p_value": round(detection.log10_p, 2), "tried": detection.tried,
        "seed": detection.seed if found else None,
    }  # fmt: skip
