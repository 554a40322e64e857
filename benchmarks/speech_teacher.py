"""Sentences spoken by the synthesiser espeak-ng: data for open speech, where no recordings of that size are at hand.

    LANGEVIN_DATA=FOLDER python benchmarks/speech_teacher.py spoken --hours 2.5
    python benchmarks/speech_teacher.py spoken --measure runs/open

It writes WAV files of 16 kHz and `metadata.csv` (file_name,text,speaker) of two voices, with sentences of the folder
`books`, and `timings.jsonl`: when each word and phoneme begins, in seconds. A run on it learns the voices of the program,
not of people. The parts `train/` and `test/` share no sentence.

`--measure` prints how far the words of the test part begin from where the program says, by the alignments that a run
searches, and by units of equal length.
"""

import argparse
import csv
import ctypes
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch

from langevin.modalities.speech import alignment
from langevin.modalities.speech.timeline import uniform_durations
from langevin.run.directory import open_run

RATE = 16_000
SPEED = 150  # words a minute
VOICES = {"mary": "en-us+f3", "john": "en-us+m3"}
WORDS = (4, 14)  # of a sentence
ODD = re.compile(r"[A-Z]{2}|\b[a-z]{18}|\b(?:Mr|Mrs|Ms|Dr|St|No|vol|etc)\.$")  # capitals, joined words, half sentences
Timings = list[tuple[str, float]]  # (what begins, seconds)


def sentences(books: Path) -> Iterator[str]:
    """Sentences of plain words from all books, in turn, so that every book is heard early."""
    found = list[list[str]]()
    for path in sorted(books.glob("*.txt")):
        text = " ".join(path.read_text(encoding="utf-8", errors="ignore").split())
        parts = re.findall(r"(?<=[.!?] )[A-Z][a-z',; -]*[A-Za-z',; -]*[.!?](?= )", text)
        found.append([p for p in parts if WORDS[0] <= len(p.split()) <= WORDS[1] and not ODD.search(p)])
    seen = set[str]()
    for number in range(max(map(len, found))):
        for part in found:
            if number < len(part) and part[number] not in seen:
                seen.add(part[number])
                yield part[number]


# ------------------------------------------------------------------------------------------------------- the program


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _Id),
    )  # fmt: skip


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_SYNCHRONOUS, _PHONEME_EVENTS, _UTF8, _RATE = 2, 1, 1, 1  # of espeak-ng/speak_lib.h
_END, _WORD, _PHONEME = 0, 1, 7


@cache
def library() -> tuple[Any, int]:
    """The library of espeak-ng, and its rate. It is not thread-safe."""
    lib = ctypes.CDLL("libespeak-ng.so.1")
    rate = lib.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
    lib.espeak_SetParameter(_RATE, SPEED, 0)
    return lib, rate


def spoken(said: tuple[str, str]) -> tuple[np.ndarray, Timings, Timings]:
    """The sound of (text, voice) at 16 kHz, and when its words and phonemes begin."""
    text, voice = said
    lib, rate = library()
    pieces, words, phonemes, content = list[np.ndarray](), Timings(), Timings(), text.encode()

    def heard(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        number = 0
        while (event := events[number]).type != _END:
            seconds, number = event.audio_position / 1000, number + 1
            if event.type == _WORD:
                first = event.text_position - 1
                words.append((text[first : first + event.length], seconds))
            elif event.type == _PHONEME:
                phonemes.append((event.id.string.decode(), seconds))
        return 0

    callback = _Callback(heard)
    lib.espeak_SetSynthCallback(callback)
    lib.espeak_SetVoiceByName(VOICES[voice].encode())
    lib.espeak_Synth(content, len(content) + 1, 0, 1, 0, _UTF8, None, None)
    return soxr.resample(np.concatenate(pieces).astype(np.float32) / 32768, rate, RATE), words, phonemes


def write(out: Path, hours: float, test: int) -> None:
    """Both parts."""
    source = sentences(Path(os.environ["LANGEVIN_DATA"]) / "books" / "train")
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for part in ("test", "train"):
            (out / part).mkdir(parents=True, exist_ok=True)
            seconds, lines, timings = 0.0, [["file_name", "text", "speaker"]], list[dict[str, Any]]()
            while len(timings) < test if part == "test" else seconds < 3600 * hours:
                said = [(text, list(VOICES)[i % len(VOICES)]) for i, text in enumerate(islice(source, 32))]
                for (text, voice), (sound, words, phonemes) in zip(said, pool.map(spoken, said), strict=True):
                    name = f"{len(timings):05d}.wav"
                    soundfile.write(out / part / name, sound, RATE)
                    lines.append([name, text, voice])
                    timings.append({"file_name": name, "words": words, "phonemes": phonemes})
                    seconds += len(sound) / RATE
                print(f"\r{part}: {len(timings):,} sentences, {seconds / 3600:.2f} hours", end="", flush=True)
            with (out / part / "metadata.csv").open("w", newline="") as file:
                csv.writer(file).writerows(lines)
            (out / part / "timings.jsonl").write_text("".join(json.dumps(one) + "\n" for one in timings))
            print()


# ------------------------------------------------------------------------------------------------------- alignments


def begins(units: torch.Tensor, durations: torch.Tensor, pauses: tuple[int, ...]) -> list[int]:
    """The first frame of each word: units between pauses."""
    starts, at = list[int](), (durations.cumsum(0) - durations).tolist()
    for i, unit in enumerate(units.tolist()):
        if unit not in pauses and (i == 0 or int(units[i - 1]) in pauses):
            starts.append(at[i])
    return starts


def measure(folder: Path, run: Path) -> None:
    """Print the distances of the beginnings of words."""
    speech = open_run(run).recipe.data
    _, val = speech.open()
    lines = (folder / "test" / "timings.jsonl").read_text().splitlines()
    told = {one["file_name"]: one["words"] for one in map(json.loads, lines)}
    units, far = speech.units_of(val), dict[str, list[float]]()
    searched = alignment.durations_of(speech.alignment, speech, val, units)
    compared = 0
    for recording, own, found in zip(val.recordings, units, searched, strict=True):
        words, frame = told[Path(recording.name).name], speech.codec.stride / val.rate
        ways = {"searched": found, "units of equal length": uniform_durations(len(own), int(found.sum()))}
        starts = {name: begins(own, durations, speech.units.pauses) for name, durations in ways.items()}
        if any(len(one) != len(words) for one in starts.values()):
            continue  # the program joins or splits a word
        compared += 1
        for name, frames in starts.items():
            far.setdefault(name, []).extend(abs(f * frame - s) for f, (_, s) in zip(frames, words, strict=True))
    for name, values in far.items():
        median, high = np.quantile(values, [0.5, 0.95])
        print(f"{name}: words begin {1000 * np.mean(values):.0f} ms off on average, median {1000 * median:.0f}, "
              f"95 % within {1000 * high:.0f} ({len(values):,} words of {compared} sentences of {len(val)})")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hours", type=float, default=2.5)
    parser.add_argument("--test", type=int, default=200, help="sentences of the test part")
    parser.add_argument("--measure", type=Path, help="a run whose alignments are measured on the folder")
    options = parser.parse_args()
    if options.measure is not None:
        measure(options.folder, options.measure)
        return
    if "LANGEVIN_DATA" not in os.environ:
        sys.exit("the sentences come from the folder `books` of LANGEVIN_DATA, which is not set")
    try:
        library()
    except OSError:
        sys.exit("the library of espeak-ng is not installed: apt install espeak-ng")
    write(options.folder, options.hours, options.test)


if __name__ == "__main__":
    main()
