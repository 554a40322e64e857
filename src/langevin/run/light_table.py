"""What each cheaper way of drawing costs in quality: times, bytes and scores beside those of the run as it is.

All ways draw the same sets of samples in turn, in one process, so that they share what else the machine does. A time is the
median over the sets, and a ratio the median of ratios within a set. A score is compared within a set too, as its samples
have equal seeds and conditions; the interval is of the mean difference.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.diffusion.light import AnyLight, BF16Weights, FeatureCache, GuidanceInterval, Int8Weights
from langevin.diffusion.shape import tree_map
from langevin.evaluation import page
from langevin.evaluation.report import number
from langevin.evaluation.statistics import Interval, mean_interval
from langevin.recipe.sampling import describe
from langevin.run.directory import Run
from langevin.run.generate import RunModel
from langevin.run.light import lightened
from langevin.run.memory import weight_bytes
from langevin.run.ranking import Ranking

ALL: tuple[AnyLight, ...] = (
    BF16Weights(), Int8Weights(), Int8Weights(products="int8"), FeatureCache(), FeatureCache(interval=3),
    FeatureCache(interval=100, moved=1.0), GuidanceInterval(),
)  # fmt: skip
COUNT = 500  # samples per set by default
GAIN = 0.97  # of time or bytes, above which nothing is gained
SLOWER = 1.1  # of time, for which fewer bytes are still a gain
MARGIN = 0.05  # of the score of the run as it is, by which a way that is free may be worse at most
Verdict = Literal["free", "costs", "open"]
COLUMNS = ("light", "ms a sample", "time", "weights", "bytes", "moved", "score", "change")


@dataclass(kw_only=True)
class Way:
    """A way of drawing, and what was measured of it.

    Args:
        light: what makes it cheaper; nothing is the run as it is.
        size: bytes of its weights.
        seconds: a sample, of each set.
        scores: of each set, lower is better.
        moved: root mean square change of the encoded samples of the first set; of tokens, the share that changed.
    """

    light: tuple[AnyLight, ...]
    model: RunModel
    size: int
    seconds: list[float] = field(default_factory=list[float])
    scores: list[float] = field(default_factory=list[float])
    moved: float = 0.0

    @property
    def name(self) -> str:
        return " and ".join(map(describe, self.light)) or "as it is"

    def ratio(self, plain: "Way") -> float:
        """Its time over that of the run as it is."""
        return statistics.median(a / b for a, b in zip(self.seconds, plain.seconds, strict=True))

    def change(self, plain: "Way") -> Interval:
        """Of the score, over the sets."""
        return mean_interval([a - b for a, b in zip(self.scores, plain.scores, strict=True)])

    def verdict(self, plain: "Way") -> Verdict:
        """free: the interval of the change ends below a margin. costs: it begins above 0. open: neither, or one set."""
        change = self.change(plain)
        if change.low is None or change.high is None:
            return "open"
        free = change.high <= MARGIN * abs(statistics.fmean(plain.scores))
        return "free" if free else "costs" if change.low > 0 else "open"

    def gains(self, plain: "Way") -> bool:
        """Whether it saves time, or bytes without taking time."""
        ratio = self.ratio(plain)
        return ratio < GAIN or (self.size < GAIN * plain.size and ratio < SLOWER)


@dataclass(frozen=True, kw_only=True)
class LightTable:
    """The ways of a run, the first as it is, and those that do not fit it.

    Args:
        refused: why, by name.
        measure: name of the score.
        count: samples per set.
    """

    ways: Sequence[Way]
    refused: Mapping[str, str]
    measure: str
    count: int
    command: str = ""

    @property
    def plain(self) -> Way:
        return self.ways[0]

    def cells(self) -> list[tuple[str, ...]]:
        """The cells of each way, as of `COLUMNS`."""
        found = list[tuple[str, ...]]()
        for way in self.ways:
            change, score = way.change(self.plain), mean_interval(way.scores)
            first = way is self.plain
            found.append((
                way.name, number(1000 * statistics.median(way.seconds), 3), f"x{way.ratio(self.plain):.2f}",
                f"{way.size / 1e6:.2f} MB", f"x{way.size / self.plain.size:.2f}", "" if first else number(way.moved, 2),
                _with_half(score), "" if first else _with_half(change, signed=True),
            ))  # fmt: skip
        return found

    def advice(self) -> str:
        """Which ways are free within the interval, in words."""
        plain, sets = self.plain, len(self.plain.scores)
        slow = [way.name for way in self.ways[1:] if not way.gains(plain)]
        named: dict[Verdict, list[str]] = {"free": [], "costs": [], "open": []}
        for way in self.ways[1:]:
            if way.gains(plain):
                share = way.size / plain.size
                size = f", x{share:.2f} bytes" if share < GAIN else ""
                named[way.verdict(plain)].append(f"{way.name} (x{way.ratio(plain):.2f} time{size})")
        free, costs, unknown = ("; ".join(named[verdict]) for verdict in ("free", "costs", "open"))
        text = f"Free, with {sets} sets of {self.count} samples (worse by {MARGIN:.0%} at most): {free or 'nothing'}."
        text += f" At a cost in quality: {costs}." if costs else ""
        text += f" Neither is shown, more sets or samples would: {unknown}." if unknown else ""
        return text + (f" Without a gain on this machine: {'; '.join(slow)}." if slow else "")

    def lines(self) -> list[str]:
        """The table and the advice for a terminal."""
        rows = [COLUMNS, *self.cells()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
            for row in rows
        ]
        refused = [f"not for this run: {name}: {why}" for name, why in self.refused.items()]
        return [f"light, score is {self.measure}:", *table, self.advice(), *refused]

    def html(self) -> str:
        """A section of the report."""
        about = (
            "The same samples, drawn in turn. Time is of one sample over that of the run as it is, moved the root mean "
            f"square change of encoded samples, score {self.measure} (lower is better), change within a set. "
        )
        table = page.table(COLUMNS, self.cells(), numbers=range(1, len(COLUMNS)))
        refused = "".join(page.paragraph(f"Not for this run: {name}: {why}") for name, why in self.refused.items())
        source = page.source(f"each set {self.count:,}", str(len(self.plain.scores)), self.command)
        return page.section("Light", page.paragraph(about + self.advice()) + table + refused + source)

    def data(self) -> dict[str, Any]:
        """All figures, of JSON types."""
        ways = [
            {
                "light": way.name, "seconds": way.seconds, "time_ratio": way.ratio(self.plain), "weight_bytes": way.size,
                "moved": way.moved, "scores": way.scores, "change": vars(way.change(self.plain)),
                "verdict": way.verdict(self.plain), "gains": way.gains(self.plain),
            }
            for way in self.ways
        ]  # fmt: skip
        return {
            "kind": "light", "heading": "Light", "measure": self.measure, "count": self.count, "ways": ways,
            "refused": dict(self.refused), "advice": self.advice(), "command": self.command,
        }  # fmt: skip


def _with_half(interval: Interval, *, signed: bool = False) -> str:
    text = ("+" if signed and interval.estimate > 0 else "") + number(interval.estimate, 3)
    return text + ("" if interval.half_width is None else f" ± {number(interval.half_width, 2)}")


def measured_light(
    run: Run, ranking: Ranking, light: Sequence[AnyLight] | None, own: tuple[AnyLight, ...] = ()
) -> LightTable:
    """Draw and score the sets of `ranking` by the run as it is, by each kind of light, and by all together that are free.

    Args:
        light: the kinds; None is all, of which those that do not fit the run are left out.
        own: what the recipe has, which is measured as one more way.

    Raises:
        ValueError: one that was named does not fit the run, or nothing does."""
    m = ranking.measuring
    plain: Any = m.model
    ways, refused = [Way(light=(), model=plain, size=weight_bytes(plain))], dict[str, str]()
    single = [(one,) for one in (ALL if light is None else light)]
    for several in single if own in ((), *single) else [*single, own]:
        try:
            model = lightened(plain, several, run, say=m.say)
        except ValueError as error:
            if light is not None:
                raise
            refused[" and ".join(map(describe, several))] = str(error)
            continue
        ways.append(Way(light=several, model=model, size=weight_bytes(model)))
    if len(ways) == 1:
        raise ValueError(f"there is nothing to gain for this run: {'; '.join(refused.values())}")
    progress = m.progress("drawing at less cost")
    _measure(ways, ranking, progress)
    together = _together(ways)
    if len(together) > 1 and set(together) != set(own):
        model = lightened(plain, together, run, say=m.say)
        again = [
            Way(light=(), model=plain, size=ways[0].size),
            Way(light=together, model=model, size=weight_bytes(model)),
        ]
        _measure(again, ranking, progress)
        again[1].seconds = [
            a / b * c for a, b, c in zip(again[1].seconds, again[0].seconds, ways[0].seconds, strict=True)
        ]
        ways.append(again[1])
    count = m.count or COUNT
    return LightTable(ways=ways, refused=refused, measure=ranking.scorer.name, count=count, command=m.command)


def _together(ways: Sequence[Way]) -> tuple[AnyLight, ...]:
    """Of each kind the fastest that is free and gains something; of the two forms of weights one."""
    plain, found = ways[0], dict[str, Way]()
    for way in ways[1:]:
        if len(way.light) != 1:
            continue
        one = way.light[0]
        kind = "weights" if isinstance(one, BF16Weights | Int8Weights) else one.kind
        if way.verdict(plain) == "free" and way.gains(plain):
            best = found.get(kind)
            if best is None or way.ratio(plain) < best.ratio(plain):
                found[kind] = way
    return tuple(way.light[0] for way in found.values())


def _measure(ways: Sequence[Way], ranking: Ranking, progress: Callable[[int, int], None]) -> None:
    """Draw and score every set by each way in turn."""
    m, reference = ranking.measuring, list[Any]()
    for number_ in range(m.seeds):
        for i, way in enumerate(ways):
            drawn = list[Any]()
            ranked = ranking.rank(way.model, number=number_ + 1, drawn=drawn)
            way.seconds.append(float(ranked.figures["seconds"]))
            way.scores.append(float(ranked.score))
            if number_ == 0:
                reference = drawn if i == 0 else reference
                way.moved = moved(drawn, reference)
            progress(number_ * len(ways) + i + 1, m.seeds * len(ways))


def moved(drawn: Sequence[Any], reference: Sequence[Any]) -> float:
    """The root mean square change of what was drawn; of tokens, the share that changed. NaN for other shapes."""
    squares, count = 0.0, 0
    for a, b in zip(_leaves(drawn), _leaves(reference), strict=True):
        if a.shape != b.shape:
            return float("nan")
        difference = (a - b).square() if a.is_floating_point() else (a != b)
        squares, count = squares + float(difference.double().sum()), count + a.numel()
    mean = squares / max(1, count)
    return mean**0.5 if any(x.is_floating_point() for x in _leaves(drawn)) else mean


def _leaves(parts: Iterable[Any]) -> list[Tensor]:
    found = list[Tensor]()

    def note(part: Tensor) -> Tensor:
        found.append(part)
        return part

    for part in parts:
        tree_map(note, torch.as_tensor(part) if not isinstance(part, Mapping) else part)
    return found
