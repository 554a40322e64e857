"""Tables without a file: those that ship with scikit-learn, and those made by rules whose distributions are known.

A made table is a function of its seed. `mixed` has numbers, dates, booleans and categories that depend on each other:

    plan ~ (0.5, 0.3, 0.2);  age | plan ~ N(mean, 9^2), cut to 18 .. 90;  joined uniform on three years;
    active ~ Bernoulli(logistic(a_plan + 0.8 years since joined - 1));
    spend = 0 with probability 0.4 if inactive, 0.05 if active, else exp(N(2 + 0.02 age + b_plan, 0.4^2)), to cents;
    visits | plan, active ~ Poisson(rate);  city | plan ~ four categories.

`holes` is `mixed` with cells missing: of age completely at random, of spend at random given the plan, and of city at random
given whether the customer is active.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from langevin.extras import require
from langevin.modalities.table.columns import text_of
from langevin.modalities.table.read import Cells

Shipped = Literal["wine", "diabetes", "breast_cancer", "iris"]


@dataclass(frozen=True, kw_only=True)
class Bundled:
    """A table that ships with scikit-learn; its target is the last column.

    Args:
        name: wine (178 samples, 13 numbers, 3 classes), diabetes (442, 10, a number), breast_cancer (569, 30, 2), iris.
    """

    kind: Literal["bundled"] = "bundled"
    name: Shipped = "breast_cancer"

    def cells(self) -> Cells:
        """The table."""
        datasets = require("sklearn.datasets", "A table that ships with scikit-learn")
        options = {"scaled": False} if self.name == "diabetes" else {}
        found: Any = getattr(datasets, f"load_{self.name}")(**options)
        names = [str(name).replace(" (cm)", "").replace(" ", "_") for name in found.feature_names]
        columns = [[f"{value:.6g}" for value in column] for column in found.data.T.tolist()]
        target = found.target.tolist()
        classes = getattr(found, "target_names", None)
        columns.append([f"{v:.6g}" for v in target] if classes is None else [str(classes[int(v)]) for v in target])
        return made([*names, "target"], columns)


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """A made table of customers with columns of all types.

    Args:
        count: samples.
        holes: whether cells are missing.
    """

    kind: Literal["mixed"] = "mixed"
    count: int = 4000
    seed: int = 0
    holes: bool = False

    def __post_init__(self) -> None:
        if not 20 <= self.count <= 1_000_000:
            raise ValueError(f"data.source.count must be 20 to a million samples, got {self.count}")

    def cells(self) -> Cells:
        """The table."""
        generator = np.random.default_rng(self.seed)
        values = customers(generator, self.count)
        columns: dict[str, list[str | None]] = {
            name: [TEXTS[name](v) for v in column.tolist()] for name, column in values.items()
        }
        if self.holes:
            for name, gone in missing_cells(generator, values).items():
                columns[name] = [None if hole else cell for cell, hole in zip(columns[name], gone.tolist())]
        return made(list(columns), list(columns.values()))


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A made table of numbers: `columns` mixtures of curved clusters, of which some determine others.

    Args:
        count: samples.
        columns: 4 to 64.
    """

    kind: Literal["numbers"] = "numbers"
    count: int = 5000
    columns: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not 20 <= self.count <= 1_000_000 or not 4 <= self.columns <= 64:
            raise ValueError(
                f"data.source has 20 to a million samples of 4 to 64 columns, got {self.count} of {self.columns}"
            )

    def cells(self) -> Cells:
        """The table."""
        g = np.random.default_rng(self.seed)
        hidden = g.normal(size=(self.count, 3))
        weights, bend = g.normal(size=(3, self.columns)), g.normal(size=(3, self.columns))
        values = hidden @ weights + np.sin(2 * hidden) @ bend + 0.2 * g.normal(size=(self.count, self.columns))
        values[:, 0] = np.exp(0.5 * values[:, 0])
        values[:, 1] = np.round(values[:, 1] * 3)
        values[:, 2] = np.where(values[:, 2] < 0, 0, values[:, 2])
        values[:, 3] = values[:, 0] * values[:, 2]
        decimals = [3, 0] + [3] * (self.columns - 2)
        columns = [[f"{v:.{d}f}" for v in column] for column, d in zip(values.T.tolist(), decimals)]
        return made([f"x{i + 1}" for i in range(self.columns)], columns)


AnySource = Bundled | Mixed | Numbers

PLANS, CITIES = ("basic", "plus", "premium"), ("Amsterdam", "Berlin", "Cairo", "Dakar")
PLAN_SHARES = np.array([0.5, 0.3, 0.2])
AGE_OF_PLAN = np.array([34.0, 46.0, 58.0])
ACTIVE_OF_PLAN, SPEND_OF_PLAN = np.array([-0.5, 0.3, 1.2]), np.array([0.0, 0.7, 1.3])
CITY_OF_PLAN = np.array([[0.55, 0.25, 0.15, 0.05], [0.2, 0.5, 0.2, 0.1], [0.1, 0.15, 0.25, 0.5]])
FIRST_DAY, DAYS = 18262, 1096  # 2020-01-01, and three years
TEXTS: dict[str, Callable[[Any], str]] = {
    "plan": lambda v: PLANS[int(v)], "age": lambda v: str(int(v)), "joined": lambda v: text_of(86400.0 * v, "iso"),
    "active": lambda v: "true" if v else "false", "spend": lambda v: f"{v:.2f}", "visits": lambda v: str(int(v)),
    "city": lambda v: CITIES[int(v)],
}  # fmt: skip


def customers(g: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """The values of `mixed` by column: codes, numbers and days since 1970."""
    plan = g.choice(3, size=n, p=PLAN_SHARES)
    age = np.clip(np.round(g.normal(AGE_OF_PLAN[plan], 9.0)), 18, 90)
    joined = FIRST_DAY + g.integers(0, DAYS, size=n)
    active = g.random(n) < active_probability(plan, joined)
    nothing = g.random(n) < np.where(active, 0.05, 0.4)
    spend = np.where(nothing, 0.0, np.round(np.exp(g.normal(2 + 0.02 * age + SPEND_OF_PLAN[plan], 0.4)), 2))
    visits = g.poisson(visit_rate(plan, active))
    city = (g.random((n, 1)) > CITY_OF_PLAN[plan].cumsum(1)).sum(1)
    return {"plan": plan, "age": age, "joined": joined, "active": active, "spend": spend, "visits": visits,
            "city": city.clip(0, 3)}  # fmt: skip


def active_probability(plan: np.ndarray, joined: np.ndarray) -> np.ndarray:
    """The probability that a customer is active."""
    return 1 / (1 + np.exp(-(ACTIVE_OF_PLAN[plan] + 0.8 * (joined - FIRST_DAY) / 365 - 1)))


def visit_rate(plan: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The mean number of visits."""
    return (1.5 + 2 * plan) * np.where(active, 2.0, 0.5)


def missing_cells(g: np.random.Generator, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which cells are missing: of age completely at random, of spend and city at random given what is seen."""
    n = len(values["plan"])
    return {
        "age": g.random(n) < 0.15,
        "spend": g.random(n) < np.array([0.05, 0.2, 0.5])[values["plan"]],
        "city": g.random(n) < np.where(values["active"], 0.05, 0.35),
    }


def made(names: list[str], columns: list[list[Any]]) -> Cells:
    """The table of these texts."""
    return Cells(
        names=tuple(names),
        columns=tuple(columns),
        written=("",) * len(names),
        lines=list(range(2, len(columns[0]) + 2)),
    )
