"""`langevin evaluate` of text: bits a character beside an autoregressive model's, variety beside real text's, the task."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from langevin.cli.show import LiveLine, duration
from langevin.cli.table import command_of, show
from langevin.cli.verbs import Evaluate
from langevin.evaluation.report import Better, Curves, Facts, Line, MetricRow, Metrics, Quotes, Report, Section, Source
from langevin.evaluation.statistics import mean_interval
from langevin.modalities.text.rows import RowReader
from langevin.recipe.build import Built, open_data, reader
from langevin.run.directory import Run, open_run
from langevin.run.generate import with_options
from langevin.run.measure_text import Asked, MeasuredText, Variety, measure_text
from langevin.training import machine
from langevin.training.checkpoint import write_atomic


def measure_texts(asked: Evaluate, made: Run) -> MeasuredText:
    """See the module; writes report.html, report.json and evaluation.json."""
    line, begin = LiveLine(), time.perf_counter()
    built, step, complaints = made.load(average=asked.average, device=machine.device())
    for text in complaints:
        line.say(text)
    train, held_out = open_data(made.recipe)
    made.require_same(train.fingerprint, len(train))
    read = reader(made.recipe, held_out, device=machine.device())
    changes = {"steps": asked.steps, "sampler": asked.sampler, "guidance": asked.guidance}
    sampling = with_options(made.recipe.sampling, **changes)
    how = Asked(texts=asked.count or 64, batch=min(asked.batch, 32))
    base = baseline_of(asked, made, held_out, line)

    def progress(what: str) -> Callable[[int, int], None]:
        return lambda done, total: line.update(f"{what} {done}/{total}")

    found = measure_text(built, read, sampling, train, held_out, asked=how, baseline=base, progress=progress)
    line.close()
    command = command_of(asked)
    rows = table(found)
    figures = {"command": command, "step": step, "sampling": asdict(sampling), **found.as_dict()}
    write_atomic(made.path / "evaluation.json", json.dumps(figures, indent=1).encode())
    source = Source(samples={"rows": found.costs["own"].rows, "texts": how.texts}, seeds=[0], command=command)
    path = report(made, found, rows, source, step=step)
    show(rows, title=f"{made.path}: held-out text, {found.costs['own'].characters:,} characters")
    for given, written in found.quotes[:4]:
        print(f"\n{given[-300:]} -> {written}" if given else f"\n{written}")
    line.say(f"evaluated in {duration(time.perf_counter() - begin)}: {path}")
    return found


def baseline_of(asked: Evaluate, made: Run, held_out: object, line: LiveLine) -> tuple[Built, RowReader] | None:
    """An autoregressive run to stand beside, on the same held-out rows."""
    path = asked.baseline or made.path.with_name(made.path.name + "-causal")
    if asked.baseline is None and not (path / "recipe.yaml").is_file():
        if made.recipe.process.kind != "causal":
            line.say(
                f"no autoregressive run stands beside this one: train it with process.kind=causal network.attention=causal "
                f"--out {path}, and it is measured along"
            )
        return None
    other = open_run(path)
    if other.recipe.process.kind != "causal":
        raise ValueError(f"--baseline {path} is no autoregressive run (process.kind causal)")
    mine = made.recipe
    if other.facts["data"] != made.facts["data"] or (other.recipe.layout, other.recipe.held_out) != (
        mine.layout, mine.held_out,
    ) or other.recipe.codec != mine.codec:  # fmt: skip
        raise ValueError(f"{path} is of other data, rows or symbols than {made.path}: nothing can be compared with it")
    built, _, lines = other.load(device=machine.device())
    for text in lines:
        line.say(text)
    return built, reader(other.recipe, held_out, device=machine.device())


def table(found: MeasuredText) -> list[MetricRow]:
    """All figures in the table's form."""
    rows: list[MetricRow] = []
    for name, cost in found.costs.items():
        what = f"{name} ({cost.estimator}, {cost.rows} rows)"
        for unit, value, error in (
            ("character", cost.bits_per_character, cost.error), ("byte", cost.bits_per_byte, cost.byte_error),
        ):  # fmt: skip
            if value is None:
                continue
            rows.append(
                MetricRow(
                    metric=f"bits a {unit}, {what}", generated=mean_interval([value]), standard_error=error, better="lower",
                    meaning="what held-out text costs; a bound on it for diffusion, exact for a left-to-right reading",
                )
            )  # fmt: skip
    if found.generated is not None and found.real is not None:
        for name, meaning in VARIETY.items():
            value, floor = getattr(found.generated, name), getattr(found.real, name)
            if value is not None:
                rows.append(
                    MetricRow(
                        metric=name.replace("_", "-"), generated=mean_interval([float(value)]),
                        floor=None if floor is None else float(floor), better="near the floor", meaning=meaning,
                    )
                )  # fmt: skip
    rows += [
        MetricRow(metric=name, generated=mean_interval([value]), better=better(name), meaning="of the run's own task")
        for name, value in found.task.items()
    ]
    return rows


def better(name: str) -> Better:
    """Which way a figure of a task is better, by its name's end."""
    found: list[Better] = [way for end, way in TASK.items() if name.endswith(end)]
    return found[0] if found else "higher"


TASK: dict[str, Better] = {
    "length ratio": "near 1", "copied words": "", "copied word pairs": "", "standard error": "lower", "majority": "",
    "clean words changed": "lower", "clean words changed, clean text": "lower",
}  # fmt: skip
VARIETY = {
    "entropy": "of the characters of one text, nats: low where it repeats itself",
    "distinct_1": "share of different words, at equal counts",
    "distinct_2": "share of different word pairs",
    "novelty": "share of runs of four words that the training text does not hold",
    "longest": "words of the longest run that stands in the training text",
    "divergence": "of three-letter runs from held-out text, nats",
    "judge": "bits a character under the autoregressive run: never to be read without the rows above",
}
assert set(VARIETY) == set(Variety.__dataclass_fields__)


def report(made: Run, found: MeasuredText, rows: list[MetricRow], source: Source, *, step: int) -> Path:
    """report.html and report.json."""
    recipe = made.recipe
    sections: list[Section] = [
        Quotes(heading="Written", quotes=found.quotes, note="Drawn, not chosen: the first of their seeds."),
        Metrics(heading="Measured", rows=rows, source=source),
    ]
    if found.sureness is not None:
        sure = found.sureness
        kept = [i for i, w in enumerate(sure.weight) if w > 0]
        sections += [
            Curves(
                heading="Masked symbols by how much is masked",
                lines=[Line(label="share that is right", x=sure.shares, y=sure.accuracy)], x_label="share masked",
                y_label="accuracy", caption="Of the likeliest symbol at masked places, held-out text.",
            ),
            Curves(
                heading="Is it as sure as it is right?",
                lines=[
                    Line(label="run", x=[sure.confidence[i] for i in kept], y=[sure.right[i] for i in kept]),
                    Line(label="calibrated", x=[0.0, 1.0], y=[0.0, 1.0]),
                ],
                x_label="confidence", y_label="share right", caption="All shares of masks together, in ten bins.",
            ),
        ]  # fmt: skip
    network = {k: v for k, v in vars(recipe.network).items() if k not in ("ports",)}
    facts = {
        "network": ", ".join(f"{k} {v}" for k, v in network.items()),
        "process": recipe.process.kind,
        "codec": f"{recipe.codec.kind}, {getattr(recipe.codec, 'symbols', 0):,} symbols",
        "trained": f"{step} steps of {recipe.training.batch} rows",
        "sampling": f"{recipe.sampling.sampler}, {found.calls} network calls",
        **made.facts.get("machine", {}),
    }
    sections.append(Facts(heading="How it was made", rows=facts, source=source))
    return Report(title=f"{recipe.name}: {recipe.about}", sections=sections, summary=recipe.result).write(made.path)
