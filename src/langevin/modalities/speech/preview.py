"""Speech as a picture, a spectrogram below its waveform, and as WAV files."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from langevin.files import write_atomic, write_folder
from langevin.modalities.files import file_name, save_arrays
from langevin.modalities.modality import Samples
from langevin.modalities.sound import wav
from langevin.modalities.speech.codec import LogMel, long_enough

if TYPE_CHECKING:
    from langevin.modalities.speech.modality import Speech

MOST = 64  # samples of a picture
BETWEEN = 0.4  # seconds of silence between the samples of one WAV


def picture(signals: Sequence[Tensor], names: Sequence[str], rate: int, *, columns: int | None = None) -> bytes:
    """A PNG of waveforms, each above its log-mel spectrogram, on one scale of time and one of loudness."""
    from matplotlib.figure import Figure  # half of the time to import the package

    count = min(len(signals), MOST)
    columns = columns or min(4, count)
    rows = -(-count // columns)
    loudest = max(1e-3, *(float(signal.abs().max()) for signal in signals[:count]))
    seconds = max(len(signal) for signal in signals[:count]) / rate
    figure = Figure(figsize=(3.2 * columns, 1.9 * rows), layout="constrained", dpi=80)
    axes = figure.subplots(2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": [1, 3] * rows})
    codec = LogMel().at(rate)
    for i in range(rows * columns):
        wave, mel = axes[2 * (i // columns), i % columns], axes[2 * (i // columns) + 1, i % columns]
        for axis in (wave, mel):
            axis.set_axis_off()
        if i >= count:
            continue
        signal = signals[i]
        wave.plot(np.arange(len(signal)) / rate, signal.numpy(), linewidth=0.4, color="#3c5a78")
        wave.set(xlim=(0, seconds), ylim=(-loudest, loudest))
        wave.set_title(names[i][:60] if names else "", fontsize=8, pad=2, parse_math=False)
        spectrogram = codec.log_mel(long_enough(signal, codec.shortest)[None].float(), rate)[0]
        mel.imshow(
            spectrogram.numpy(), origin="lower", aspect="auto", cmap="magma", vmin=-9, vmax=2,
            extent=(0, spectrogram.shape[1] * codec.stride / rate, 0, rate / 2000),
        )  # fmt: skip
        mel.set_xlim(0, seconds)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def joined(signals: Sequence[Tensor], rate: int) -> Tensor:
    """One signal after another, with silence between."""
    silence = torch.zeros(int(BETWEEN * rate))
    return torch.cat([part for signal in signals for part in (signal, silence)][:-1])


def save(speech: "Speech", samples: Samples, out: Path) -> None:
    """Write a WAV of all samples, one after another, a picture (.png), arrays (.npz), or a folder, a WAV per sample."""
    rate = speech.known_rate
    match out.suffix:
        case ".wav":
            write_atomic(out, samples.stamped(wav(joined(samples.values, rate), rate)))
        case ".png":
            write_atomic(out, samples.stamped(samples.preview().content))
        case ".npz":
            lengths = torch.tensor([len(signal) for signal in samples.values])
            padded = torch.nn.utils.rnn.pad_sequence(list(samples.values), batch_first=True)
            held = Samples(
                modality=speech, values=padded, names=samples.names, arrays={**samples.arrays, "length": lengths}
            )
            save_arrays(out, held, "signals", padded.numpy())
        case _:
            names = samples.names or [""] * len(samples)
            with write_folder(out) as folder:
                for i, (signal, name) in enumerate(zip(samples.values, names, strict=True)):
                    file = f"{i:05d}" + (f"-{file_name(name)}" if name else "") + ".wav"
                    (folder / file).write_bytes(samples.stamped(wav(signal, rate), i))
