"""A `DataReport` of broken items and free remarks."""

from dataclasses import dataclass

from langevin.modalities.paths import some


@dataclass(frozen=True, kw_only=True)
class Remarks:
    """`broken` files or records as (where, reason), and `remarks` as whole sentences."""

    remarks: tuple[str, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()

    def lines(self) -> list[str]:
        """One sentence per finding; empty if there are none."""
        names = [f"{where} {reason}" for where, reason in self.broken]
        return [f"Cannot be read, left out: {len(names):,} ({some(names)})."] * bool(names) + list(self.remarks)
