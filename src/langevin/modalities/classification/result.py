"""Classes of examples, as a table of text, CSV or JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from langevin.files import write_atomic
from langevin.modalities.modality import File, Samples


@dataclass(frozen=True, kw_only=True)
class Classified:
    """One example.

    Args:
        file_name: its name.
        label: the class to train on: the one it was given, else the predicted one, else nothing.
        predicted, probability: the likeliest class.
        given: the class that it is labelled with; nothing without.
        evaluations: how often the network was asked.
        disagreement: of noise levels, in nats.
    """

    file_name: str
    label: str
    predicted: str
    probability: float
    given: str
    evaluations: int
    disagreement: float

    def columns(self) -> dict[str, Any]:
        """Its columns, with numbers rounded."""
        return asdict(self) | {"probability": round(self.probability, 6), "disagreement": round(self.disagreement, 6)}


@dataclass(frozen=True, kw_only=True)
class Classes:
    """How classified examples are written: what `Samples` asks of a modality.

    Args:
        facts: about all of them, of JSON types.
    """

    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def kind(self) -> str:
        return "classes"

    @property
    def forms(self) -> tuple[str, ...]:
        """File suffixes, the default first; "-" is standard output."""
        return ("-", ".csv", ".json")

    def decode(self, x: Any) -> Any:
        """What is already decoded."""
        return x

    def preview(self, samples: Samples) -> File:
        """The table as text."""
        return File(suffix=".txt", content=self.text(samples).encode())

    def text(self, samples: Samples) -> str:
        """A line for each example: name, class, probability, and the class it is labelled with if it is another."""
        return "".join(self.line(one) for one in samples.values)

    def line(self, one: Classified) -> str:
        other = f"\tlabelled {one.given}" if one.given and one.given != one.predicted else ""
        return f"{one.file_name}\t{one.predicted}\t{one.probability:.3f}{other}\n"

    def save(self, samples: Samples, out: Path) -> None:
        """Write the table."""
        rows = [one.columns() for one in samples.values]
        if out.suffix == ".json":
            content = json.dumps({**self.facts, "items": rows}, indent=1, ensure_ascii=False)
        else:
            content = csv_of(rows)
        write_atomic(out, content.encode("utf-8", "surrogatepass"))


def csv_of(records: Sequence[Mapping[str, Any]]) -> str:
    """Records of equal columns as CSV, with a header."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(Classified.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()
