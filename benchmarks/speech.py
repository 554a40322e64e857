"""Speech: minutes of training until digits are recognised, aligned units against filler tokens; speed, and memory.

    LANGEVIN_DATA=FOLDER python benchmarks/speech.py --minutes 20

Ours is the recipe `speech/digits`; the peer is a plain re-statement of the recipe of E2-TTS and F5-TTS (`speech_peer`), by
us and not tuned, with the same batch, width, depth, precision and number of weights. Neither lowers its rate at the end,
which nobody knows beforehand. Both get the same examples in the same order, log-mel features, phonemes and decoder. They
train in turns of two seconds in one process, until one has reached the goal and the other goes on alone. A minute is one of
steps, without sampling and judging; the ratio is as fine as `--check-every`.

After every `--check-every` seconds of its steps a side says the same texts in the same lengths as the same speakers. It
stops drawing when too many are misheard for the goal of 98 %. The judge is a classifier of words trained on the real
training part; its error on held-out recordings, and on copies of these through the codec, is printed. A side that has not
reached the goal within `--minutes` gives a bound on the ratio. Of recordings longer than the window (1 in 88) the peer gets
the whole text.
"""

import dataclasses
import datetime
import multiprocessing
import os
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import harness
import speech_peer
from langevin.modalities.speech.metrics.judges import Classes
from langevin.modalities.speech.plans import Utterance
from langevin.recipe.build import build
from langevin.training import machine
from speech_sides import Ours, Peer, Work, tones

GOAL = 0.98  # share of samples that are to be recognised
TURN = 2.0  # seconds
PART = 48  # samples drawn before the next look at the number of mistakes


@dataclasses.dataclass(kw_only=True)
class Side:
    """One that trains, with its time so far; `reached` is the seconds of steps until the goal."""

    name: str
    model: Ours | Peer
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    steps: int = 0
    reached: float | None = None
    rates: list[float] = dataclasses.field(default_factory=list)
    heard: list[dict[str, float]] = dataclasses.field(default_factory=list)

    def turn(self, seconds: float) -> None:
        """Train for a time, or for one step if that is longer."""
        frames, begin, cpu = 0, time.perf_counter(), time.process_time()
        while not frames or time.perf_counter() - begin < seconds:
            frames += self.model.step()
            self.steps += 1
        spent = time.perf_counter() - begin
        self.seconds, self.cpu_seconds = self.seconds + spent, self.cpu_seconds + time.process_time() - cpu
        self.rates.append(frames / spent)

    def check(self, judge: Classes, wanted: Sequence[Utterance]) -> None:
        """Draw utterances until all are said, or too many are misheard."""
        mistakes, drawn, allowed = 0, 0, int((1 - GOAL) * len(wanted) + 1e-9)
        while drawn < len(wanted) and mistakes <= allowed:
            part = wanted[drawn : drawn + PART]
            signals = self.model.draw(part, 10**6 * (1 + len(self.heard)) + drawn)
            mistakes += len(judge.mistakes(signals, [one.text for one in part]))
            drawn += len(part)
        if mistakes <= allowed:
            self.reached = self.seconds
        share = 1 - mistakes / drawn
        self.heard.append({"minutes": self.seconds / 60, "steps": self.steps, "recognised": share, "of": drawn})
        print(
            f"{self.name:5} {self.seconds / 60:6.2f} minutes, {self.steps:6,} steps, {self.rates[-1]:8,.0f} frames/s: "
            f"{share:.1%} of {drawn} recognised{', the goal' if self.reached else ''}", flush=True,
        )  # fmt: skip

    def told(self) -> dict[str, Any]:
        return {
            "minutes": None if self.reached is None else self.reached / 60, "minutes_trained": self.seconds / 60,
            "cpu_minutes_trained": self.cpu_seconds / 60, "steps": self.steps,
            "frames_per_second": statistics.median(self.rates), "weights": speech_peer.weights(self.model.network),
            "checks": self.heard,
        }  # fmt: skip


def until_recognised(sides: Sequence[Side], judge: Classes, wanted: Sequence[Utterance], asked: Namespace) -> None:
    """Train in turns until each has reached the goal, or has had its minutes."""
    limit, mark = 60 * asked.minutes, 0.0
    while mark < limit and (training := [side for side in sides if side.reached is None]):
        mark = min(limit, mark + asked.check_every)
        while slower := [side for side in training if side.seconds < mark]:
            for side in slower:
                side.turn(min(TURN, mark - side.seconds))
        for side in training:
            side.check(judge, wanted)


def minutes_ratio(ours: Side, peer: Side) -> tuple[float | None, str]:
    """The peer's minutes over ours, and what that number is."""
    if ours.reached and peer.reached:
        return peer.reached / ours.reached, "measured"
    if ours.reached:
        return peer.seconds / ours.reached, f"lower bound: the peer was given up after {peer.seconds / 60:.2f} minutes"
    if peer.reached:
        return peer.reached / ours.seconds, f"upper bound: ours was given up after {ours.seconds / 60:.2f} minutes"
    return None, f"neither side reached the goal in {ours.seconds / 60:.2f} minutes"


def real_time(ours: Ours, peer: Peer, wanted: Sequence[Utterance], pairs: int) -> dict[str, dict[str, float]]:
    """Seconds of sampling and decoding per second of sound, alone and 32 at once; medians of runs in turns."""

    def factor(model: Ours | Peer, steps: int, count: int) -> Callable[[], float]:
        def run() -> float:
            begin = time.perf_counter()
            signals = model.draw(wanted[:count], 1, steps)
            return (time.perf_counter() - begin) * ours.work.train.rate / sum(map(len, signals))

        return run

    sides = {"ours 8": (ours, 8), "ours 16": (ours, 16), "peer 32": (peer, 32)}
    runs = {f"{name} {count}": factor(*side, count) for name, side in sides.items() for count in (1, 32)}
    got = harness.interleave(runs, pairs=pairs)
    found = {n: {"alone": statistics.median(got[f"{n} 1"]), "of 32": statistics.median(got[f"{n} 32"])} for n in sides}
    harness.show(
        f"seconds of computing per second of sound, with decoding, medians of {pairs} runs",
        ["side and steps", "alone", "of 32"],
        [[name, *values.values()] for name, values in found.items()],
    )
    return found


def peak_memory(name: str, path: str, asked: Namespace, told: Any) -> None:
    """Tell the peak memory (MB) of this process, which trains one side for five steps; None where it is not known."""
    torch.set_num_threads(asked.threads)
    work = Work.of(path, asked)
    model = Ours(work) if name == "ours" else Peer(work, speech_peer.weights(build(work.recipe).model.network))
    for _ in range(5):
        model.step()
    status = Path("/proc/self/status")  # not getrusage, which remembers the process before this one
    lines = status.read_text().splitlines() if status.is_file() else []
    told.put(next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None))


def peaks(path: str, asked: Namespace) -> dict[str, float | None]:
    """Peak memory (MB) of training each side, in a process of its own."""
    processes, found = multiprocessing.get_context("spawn"), dict[str, float | None]()
    for name in ("ours", "peer"):
        told = processes.Queue()
        child = processes.Process(target=peak_memory, args=(name, path, asked, told))
        child.start()
        child.join()
        found[name] = told.get(timeout=1) if child.exitcode == 0 else None
    return found


def parsed() -> Namespace:
    parser = harness.options(__doc__ or "")
    parser.add_argument("--minutes", type=float, default=20.0, help="of training, after which a side is given up")
    parser.add_argument("--check-every", type=float, default=30.0, help="seconds of training between two checks")
    parser.add_argument("--count", type=int, default=240, help="samples of a check")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    asked = harness.parse(parser)
    if min(asked.minutes, asked.check_every, asked.count, asked.threads) <= 0:
        parser.error("--minutes, --check-every, --count and --threads are positive")
    if asked.quick:
        asked.minutes, asked.check_every, asked.count = 0.1, 3.0, 24
    return asked


def main() -> None:
    asked, root = parsed(), os.environ.get("LANGEVIN_DATA", "")
    torch.set_num_threads(asked.threads)
    asked.precision = machine.precision("auto")
    if asked.quick:
        with tempfile.TemporaryDirectory() as folder:
            compare(tones(Path(folder)), asked)
        return
    if not (path := Path(root) / "speech_digits").is_dir() or not root:
        raise SystemExit("set LANGEVIN_DATA to the folder that holds speech_digits/ (or --quick, without figures)")
    compare(str(path), asked)


def compare(path: str, asked: Namespace) -> None:
    """Everything, on the recordings at a path."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    figures = {"benchmark": "speech", "date": date, **harness.introduce(machine.describe(), asked)}
    work = Work.of(path, asked)
    wanted, judge = work.wanted(asked.count), work.judge(epochs=60 if asked.quick else 25)
    errors = work.errors(judge)
    print(f"{date}: the judge mishears {errors['real']:.2%} of {len(work.val)} held-out recordings, and "
          f"{errors['copies']:.2%} of their copies through the codec", flush=True)  # fmt: skip
    ours = Side(name="ours", model=Ours(work))
    peer = Side(name="peer", model=Peer(work, speech_peer.weights(ours.model.network)))
    until_recognised([ours, peer], judge, wanted, asked)
    ratio, kind = minutes_ratio(ours, peer)
    both = min(len(ours.rates), len(peer.rates))
    frames = harness.ratio(ours.rates[:both], peer.rates[:both])
    harness.conclude({
        **figures, "minutes_ratio": ratio, "minutes_ratio_is": kind, "goal": GOAL, "judge_error": errors,
        "peer_is": "our re-statement of the filler-token recipe, not tuned", "frames_ratio": frames,
        "real_time_factor": real_time(ours.model, peer.model, wanted, asked.pairs),
        "peak_memory_mb": peaks(path, asked), "precision": work.recipe.training.precision,
        "batch": work.recipe.training.batch, "ours": ours.told(), "peer": peer.told(),
    })  # fmt: skip


if __name__ == "__main__":
    main()
