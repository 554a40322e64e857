"""A `DataReport` of broken items and free remarks."""

from dataclasses import dataclass

from torch import Tensor

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


def off_centre(x: Tensor, offset: float) -> tuple[str, ...]:
    """A remark where the mean of encoded data is far from 0 for their spread; `offset` is the codec's."""
    mean, std = float(x.double().mean()), float(x.double().std())
    if not abs(mean) > 3 * std > 0:
        return ()
    return (
        f"The data vary little around a mean far from 0: {mean:.3g} with a standard deviation of {std:.2g} after encoding. "
        f"Training may suffer; data.codec.offset={offset - mean:.4g} centres them.",
    )
