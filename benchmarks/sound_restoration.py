"""Repair of held-out recordings by a run of speech: what a recogniser hears before and after, and calibration.

    python benchmarks/sound_restoration.py runs/digits --count 60

A part of each recording around its loudest moment is cut out, or white noise is added. 19 answers are drawn to each, and
one of them is heard by a classifier that was trained on the real training part. Distances and the coverage of the range of
all answers (which is 0.9 for samples of the posterior) are of the log-mel frames in which something is missing. Beside them
are what was given, the sound before the gap again, and spectral subtraction. It ends with a line of JSON."""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from langevin.modalities.modality import Measuring, RequestContext
from langevin.modalities.speech.edit import mel_of, untouched
from langevin.modalities.speech.metrics.judges import judge_of
from langevin.modalities.speech.modality import Speech
from langevin.modalities.speech.options import Edit
from langevin.run.directory import load_model, open_run
from langevin.run.generate import RunModel

ANSWERS = 19
GAPS = (0.1, 0.2)  # seconds
RATIOS = (10.0, 0.0)  # decibels of signal to noise


def gap_of(signal: Tensor, seconds: float, rate: int) -> tuple[int, int]:
    """The first sample and the end of a gap around the loudest moment."""
    size = int(seconds * rate)
    energy = signal.square().cumsum(0)
    start = int((energy[size:] - energy[:-size]).argmax())
    return start, start + size


def again(signal: Tensor, gap: tuple[int, int]) -> Tensor:
    """The sound before the gap, repeated in it."""
    start, end = gap
    before = signal[max(0, start - (end - start)) : start]
    made = signal.clone()
    made[start:end] = before.repeat(-(-(end - start) // max(1, len(before))))[: end - start] if len(before) else 0
    return made


def subtracted(noisy: Tensor, std: float) -> Tensor:
    """Spectral subtraction of white noise."""
    window = torch.hann_window(512)
    seen = torch.stft(noisy, 512, 128, window=window, return_complex=True)
    power = std**2 * float(window.square().sum())
    gain = (1 - power / seen.abs().square().clamp_min(1e-12)).clamp_min(0.01).sqrt()
    return torch.istft(gain * seen, 512, 128, window=window, length=len(noisy))


class Bench:
    """The measurements of one run."""

    def __init__(self, run: Path, count: int, steps: int) -> None:
        opened = open_run(run)
        self.model: RunModel = load_model(opened)[0]
        self.model = replace(self.model, sampling=replace(self.model.sampling, steps=steps))
        self.speech: Speech = self.model.modality
        train, val = opened.open_data()
        folder = run / "evaluation"
        folder.mkdir(exist_ok=True)
        measuring = Measuring(
            model=self.model, train=train, val=val, folder=folder, facts={}, load=lambda path: self.model, say=print
        )
        self.judge: Any = judge_of(self.speech, measuring, "auto")
        items = (torch.arange(count) * len(val) // count).tolist()
        self.clips = [val.signal(i) for i in items]
        self.texts = [val.texts[i] for i in items]
        self.speakers = [val.speakers[int(val.labels[i])] for i in items]
        self.rate = self.speech.known_rate
        self.temporary = Path(tempfile.mkdtemp())

    def answers(self, signal: Tensor, **options: Any) -> list[Tensor]:
        """19 answers to one input."""
        path = self.temporary / "clip.wav"
        soundfile.write(path, signal.numpy(), self.rate, subtype="FLOAT")
        chosen = frozenset({"steps"})
        context = RequestContext(model=self.model, data=lambda: None, count=ANSWERS, seed=0, chosen=chosen)
        samples = self.model.run(self.speech.plan(Edit(input=str(path), **options), context))
        return list(samples.drawn.values)

    def frames(self, signal: Tensor, length: int) -> Tensor:
        """The log-mel frames of a signal of `length` samples, (bins, frames)."""
        padded = torch.nn.functional.pad(signal[:length], (0, max(0, length - len(signal))))
        return mel_of(self.speech).log_mel(padded[None], self.rate)[0]

    def row(self, made: list[list[Tensor]], missing: list[Tensor], seconds: float) -> dict[str, float]:
        """The figures of a method: the answers to each clip, and the missing frames (frames,) bool."""
        distance, covered = list[float](), list[float]()
        for clip, several, lost in zip(self.clips, made, missing, strict=True):
            truth = self.frames(clip, len(clip))[:, lost]
            found = torch.stack([self.frames(one, len(clip))[:, lost] for one in several])
            distance.append(float((found[0] - truth).abs().mean()))
            covered.append(float(((found.amin(0) <= truth) & (truth <= found.amax(0))).double().mean()))
        row = {"heard": self.judge.score([several[0] for several in made], self.texts)}
        row["distance"] = sum(distance) / len(distance)
        if len(made[0]) > 1:
            row["coverage"] = sum(covered) / len(covered)
            row["seconds"] = seconds / len(made)
        return {name: round(value, 3) for name, value in row.items()}

    def drawn(self, inputs: list[Tensor], options: list[dict[str, Any]], missing: list[Tensor]) -> dict[str, float]:
        """The figures of answers."""
        begin = time.perf_counter()
        made = [self.answers(one, **own) for one, own in zip(inputs, options, strict=True)]
        return self.row(made, missing, time.perf_counter() - begin)

    def gap(self, seconds: float) -> dict[str, dict[str, float]]:
        """The figures of a gap."""
        gaps = [gap_of(clip, seconds, self.rate) for clip in self.clips]
        cut, missing, masks = list[Tensor](), list[Tensor](), list[tuple[str]]()
        for clip, (start, end) in zip(self.clips, gaps, strict=True):
            kept = torch.ones(len(clip), dtype=torch.bool)
            kept[start:end] = False
            cut.append(torch.where(kept, clip, 0.0))
            missing.append(~untouched(self.speech, kept, self.frames(clip, len(clip)).shape[1]))
            masks.append((f"{start / self.rate},{end / self.rate}",))
        rows = {
            "the gap": self.row([[one] for one in cut], missing, 0),
            "the sound before it again": self.row(
                [[again(one, gap)] for one, gap in zip(cut, gaps, strict=True)], missing, 0
            ),
        }
        known = [{"text": t, "speaker": s} for t, s in zip(self.texts, self.speakers, strict=True)]
        for method in ("context", "mmps"):
            plain = [{"mask": mask, "method": method} for mask in masks]
            rows[method] = self.drawn(cut, plain, missing)
            rows[f"{method}, text known"] = self.drawn(
                cut, [{**one, **own} for one, own in zip(plain, known, strict=True)], missing
            )
        return rows

    def noise(self, decibels: float) -> dict[str, dict[str, float]]:
        """The figures of white noise."""
        generator = torch.Generator().manual_seed(0)
        stds = [float(clip.square().mean().sqrt()) * 10 ** (-decibels / 20) for clip in self.clips]
        noisy = [
            clip + std * torch.randn(clip.shape, generator=generator)
            for clip, std in zip(self.clips, stds, strict=True)
        ]
        everywhere = [torch.ones(self.frames(clip, len(clip)).shape[1], dtype=torch.bool) for clip in self.clips]
        plain = [{"denoise": std} for std in stds]
        known = [
            {"denoise": std, "text": t, "speaker": s} for std, t, s in zip(stds, self.texts, self.speakers, strict=True)
        ]
        return {
            "the noise": self.row([[one] for one in noisy], everywhere, 0),
            "spectral subtraction": self.row(
                [[subtracted(one, std)] for one, std in zip(noisy, stds, strict=True)], everywhere, 0
            ),
            "mmps": self.drawn(noisy, plain, everywhere),
            "mmps, text known": self.drawn(noisy, known, everywhere),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=60, help="recordings")
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    bench = Bench(args.run, args.count, args.steps)
    found: dict[str, Any] = {"clean": {"recordings": {"heard": bench.judge.score(bench.clips, bench.texts)}}}
    for seconds in GAPS:
        found[f"gap of {seconds} s"] = bench.gap(seconds)
        print(json.dumps(found[f"gap of {seconds} s"], indent=1), flush=True)
    for decibels in RATIOS:
        found[f"noise at {decibels:g} dB"] = bench.noise(decibels)
        print(json.dumps(found[f"noise at {decibels:g} dB"], indent=1), flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
