"""Sentences spoken by the synthesiser espeak-ng: data for open speech, where no recordings of that size are at hand.

    LANGEVIN_DATA=FOLDER python benchmarks/speech_teacher.py spoken --hours 2.5

It writes WAV files of 16 kHz and `metadata.csv` (file_name,text,speaker) of two voices, with sentences of the folder
`books`. A run on it learns the voices of the program, not of people. The parts `train/` and `test/` share no sentence.
"""

import argparse
import csv
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 16_000
VOICES = {"mary": "en-us+f3", "john": "en-us+m3"}
WORDS = (4, 14)  # of a sentence
ODD = re.compile(r"[A-Z]{2}|\b[a-z]{18}|\b(?:Mr|Mrs|Ms|Dr|St|No|vol|etc)\.$")  # capitals, joined words, half sentences


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


def spoken(text: str, voice: str) -> np.ndarray:
    """The sound of a sentence at 16 kHz."""
    done = subprocess.run(
        ["espeak-ng", "-v", voice, "-s", "150", "--stdin", "--stdout"],
        input=text.encode(),
        capture_output=True,
        check=True,
    )
    sound, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    return soxr.resample(sound, rate, RATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--hours", type=float, default=2.5)
    parser.add_argument("--test", type=int, default=200, help="sentences of the test part")
    options = parser.parse_args()
    if "LANGEVIN_DATA" not in os.environ:
        sys.exit("the sentences come from the folder `books` of LANGEVIN_DATA, which is not set")
    if shutil.which("espeak-ng") is None:
        sys.exit("the program espeak-ng is not installed: apt install espeak-ng")
    source = sentences(Path(os.environ["LANGEVIN_DATA"]) / "books" / "train")
    for part in ("test", "train"):
        (options.out / part).mkdir(parents=True, exist_ok=True)
        seconds, lines, count = 0.0, [["file_name", "text", "speaker"]], 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while count < options.test if part == "test" else seconds < 3600 * options.hours:
                texts = [next(source) for _ in range(32)]
                voices = [list(VOICES)[(count + i) % len(VOICES)] for i in range(32)]
                for text, voice, sound in zip(texts, voices, pool.map(spoken, texts, [VOICES[v] for v in voices])):
                    name = f"{count:05d}.wav"
                    soundfile.write(options.out / part / name, sound, RATE)
                    lines.append([name, text, voice])
                    seconds, count = seconds + len(sound) / RATE, count + 1
                print(f"\r{part}: {count:,} sentences, {seconds / 3600:.2f} hours", end="", flush=True)
        with (options.out / part / "metadata.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)
        print()


if __name__ == "__main__":
    main()
