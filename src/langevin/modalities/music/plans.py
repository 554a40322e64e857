"""Plans of requests: free pieces, and pieces of which some notes are given.

Every request is a score of tokens, (steps, streams), some of them masked. A score longer than the run's context is drawn in
windows that overlap by half: what a window has drawn is given to the next.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.sampler import AncestralUnmask, GibbsSampler
from langevin.extras import require
from langevin.modalities.modality import Draw, Plan, Request, RequestContext, Samples, seeds_of
from langevin.modalities.music import midi, synthesis
from langevin.modalities.music.batches import condition_of, metre
from langevin.modalities.music.codec import PianoRoll, range_of
from langevin.modalities.music.data import Scores
from langevin.modalities.music.key import KEYS, key_of, parse
from langevin.modalities.music.options import Sample
from langevin.modalities.music.piece import Piece, in_one_voice, notes_of, states, voice_names
from langevin.modalities.music.sources import content_of

if TYPE_CHECKING:
    from langevin.modalities.music.modality import Music

COUNT = 4
MOST_BARS = 2000
FREE = -1  # a position that is to be generated, whatever the vocabulary


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """What a request gives: tokens (steps, streams), FREE where they are to be generated; the piece that they are from."""

    tokens: Tensor
    piece: Piece | None = None


def sample(music: "Music", options: Sample, context: RequestContext) -> Plan:
    """Generate, harmonise, complete, continue or infill.

    Raises:
        ValueError: options that do not fit each other or the run, or a file that cannot be used."""
    require("mido", "MIDI")  # before any work
    require_consistent(music, options)
    return answered(music, options, requested(music, options, context), context)


def answered(music: "Music", options: Sample, score: Score, context: RequestContext) -> Plan:
    """The plan of samples of a score, with the options of how they sound."""
    if context.guided and bool((score.tokens == FREE).all()):
        raise ValueError("--guidance compares with the given notes masked, and none are given: leave it out")
    if options.soundfont is not None:
        synthesis.fluidsynth(Path(options.soundfont))
        music = replace(music, soundfont=str(options.soundfont))
    music = music.avoiding_parallels() if options.avoid_parallels else music
    seeds = seeds_of(context.seed, COUNT if context.count is None else context.count)
    tempo = options.tempo or (score.piece and score.piece.tempo) or music.tempo
    return drawn(music, score, seeds, _keys(music, options, score, seeds, context), context, tempo=tempo)


def _keys(music: "Music", options: Sample, score: Score, seeds: Tensor, context: RequestContext) -> Tensor | None:
    """(n,) keys: as requested, else that of what is given, else those of training pieces; None of a run without keys."""
    if not music.key:
        return None
    if options.key is not None:
        return torch.full((len(seeds),), parse(options.key))
    if score.piece is not None:
        return torch.full((len(seeds),), key_of(score.piece))
    train = context.data()[0]
    u = SampleNoise(seeds=seeds, steps=torch.zeros_like(seeds)).fork(11).uniform(torch.empty(len(seeds), 1))[:, 0]
    return torch.tensor([key_of(train.pieces[int(v * len(train))]) for v in u.tolist()])


def require_consistent(music: "Music", options: Sample) -> None:
    """Raises `ValueError` for options that do not fit each other, or the run."""
    names = [n for n in ("melody", "voices", "continue_", "infill") if getattr(options, n) is not None]
    if len(names) > 1:
        one, other = (name.strip("_") for name in names[:2])
        raise ValueError(f"--{one} and --{other} ask for different things: give one of them")
    what = names[0] if names else ""
    if options.bars is not None and (what not in ("", "continue_") or not 1 <= options.bars <= MOST_BARS):
        raise ValueError(
            f"--bars is a number of bars to generate, 1 to {MOST_BARS}, free or with --continue; got {options.bars}"
        )
    if what == "voices" if options.given is None else what not in ("voices", "infill"):
        raise ValueError("--voices FILE and --given soprano,bass belong together: the voices of the file that are kept")
    if (what == "infill") != (options.from_bar is not None) or (options.to_bar is not None and what != "infill"):
        raise ValueError("--infill FILE and --from-bar 3 belong together, with --to-bar 5 for more than one bar")
    if options.key is not None and not music.key:
        raise ValueError("--key is for runs with data.key=true, and this one was trained without keys: leave it out")
    if options.tempo is not None and not 5 <= options.tempo <= 999:
        raise ValueError(f"--tempo is in quarter notes a minute, 5 to 999, got {options.tempo:g}")
    if isinstance(music.codec, PianoRoll) and options.given is not None:
        raise ValueError(
            "this run holds a piano roll, without voices (data.codec.kind=piano_roll), so none can be given"
        )


# ---------------------------------------------------------------------------------------------------- what is given


def requested(music: "Music", options: Sample, context: RequestContext) -> Score:
    """The score that the options give, with what is to be generated left free."""
    if options.melody is not None:
        return harmonised(music, read(options.melody, music), context)
    if options.voices is not None:
        return completed(music, read(options.voices, music), voices_of(options.given or "", music), context)
    if options.continue_ is not None:
        piece = fitting(music, read(options.continue_, music), context)
        bars = options.bars or max(1, music.context_length // (2 * piece.bar))
        more = bars * piece.bar + -piece.steps % piece.bar  # to the end of its last bar, too
        tokens = torch.nn.functional.pad(music.fixed.encode(piece).long(), (0, 0, 0, more), value=FREE)
        return Score(tokens=tokens, piece=piece)
    if options.infill is not None:
        return _infilled(music, read(options.infill, music), options, context)
    steps = music.context_length if options.bars is None else options.bars * music.bar
    return Score(tokens=torch.full((steps, music.fixed.streams), FREE))


def _infilled(music: "Music", piece: Piece, options: Sample, context: RequestContext) -> Score:
    assert options.from_bar is not None, "it was checked"
    first, bars = options.from_bar, -(-piece.steps // piece.bar)
    last = first if options.to_bar is None else options.to_bar
    if not 1 <= first <= last <= bars:
        raise ValueError(f"{piece.name} has {bars} bars: --from-bar {first} and --to-bar {last} are not a part of them")
    piece = fitting(music, piece, context)
    tokens = music.fixed.encode(piece).long()
    gap = torch.zeros_like(tokens, dtype=torch.bool)
    gap[(first - 1) * piece.bar : last * piece.bar] = True
    if options.given is not None:
        gap[:, list(voices_of(options.given, music))] = False
    return Score(tokens=torch.where(gap, FREE, tokens), piece=piece)


def read(file: str | Path, music: "Music") -> Piece:
    """The piece of a MIDI file.

    Raises:
        ValueError: there is none."""
    path = Path(file)
    content = content_of(path.expanduser())
    if isinstance(content, str):
        raise ValueError(f"{path} {content}" if path.exists() else f"there is no MIDI file {path}")
    try:
        return midi.read(content, name=str(path), steps_per_quarter=music.steps_per_quarter)[0]
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def harmonised(music: "Music", piece: Piece, context: RequestContext) -> Score:
    """The score whose highest voice is the melody of a piece."""
    melody = melody_of(piece)
    if isinstance(music.codec, PianoRoll):
        melody = fitting(music, melody, context)
        tokens, known = music.codec.given(melody, (0,))
        return Score(tokens=torch.where(known, tokens.long(), FREE), piece=melody)
    return completed(music, replace(melody, voices=music.fixed.streams), (0,), context)


def completed(music: "Music", piece: Piece, voices: tuple[int, ...], context: RequestContext) -> Score:
    """The score of which only some voices of a piece are given."""
    notes = piece.notes[np.isin(piece.notes[:, 3], voices)]
    if not len(notes):
        raise ValueError(f"{piece.name}: the given voices hold no notes")
    kept = fitting(music, replace(piece, notes=notes), context)
    tokens, known = music.fixed.given(kept, voices)
    return Score(tokens=torch.where(known, tokens.long(), FREE), piece=kept)


def melody_of(piece: Piece) -> Piece:
    """The highest part of a piece as one voice; of several notes at a time, the highest."""
    notes = piece.notes[piece.notes[:, 3] == 0]
    alone = replace(piece, notes=notes, voices=1)
    if alone.monophonic:
        return alone
    pitch, struck = states(in_one_voice(alone).notes, in_one_voice(alone).notes[:, 2], piece.steps, 128)
    highest, every = pitch.max(1), np.arange(piece.steps)
    new = struck[every, highest] & (highest >= 0)
    return replace(alone, notes=notes_of(highest[:, None], new[:, None], np.zeros(1, int)))


def voices_of(given: str, music: "Music") -> tuple[int, ...]:
    """The voices by name or number. Raises `ValueError` for an unknown one."""
    names = voice_names(music.fixed.streams)
    known = {**{str(i + 1): i for i in range(len(names))}, **{name: i for i, name in enumerate(names)}}
    chosen = [name.strip().lower() for name in given.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        shown = ", ".join(known if names[0] == "1" else names)
        raise ValueError(f"--given {given!r} names no voice of the run: they are {shown}, separated by commas")
    return tuple(sorted({known[name] for name in chosen}))


def fitting(music: "Music", piece: Piece, context: RequestContext) -> Piece:
    """The piece moved into the trained ranges: by octaves if that is enough, else by semitones, which is said.

    Raises:
        ValueError: it spans more than the ranges, or has other voices than the run."""
    codec = music.fixed
    if isinstance(codec, PianoRoll):
        piece = codec.plain(piece)
    elif piece.voices != codec.streams or not piece.monophonic:
        raise ValueError(
            f"{piece.name} has {piece.voices} {'parts' if piece.monophonic else 'parts with several notes at a time'}, and "
            f"this run has {codec.streams} voices of one note at a time"
        )
    used = [(v, range_of(piece.notes[piece.notes[:, 3] == v, 2])) for v in sorted(set(piece.notes[:, 3].tolist()))]
    down = max(codec.ranges[v][0] - low for v, (low, _) in used)
    up = min(codec.ranges[v][1] - high for v, (_, high) in used)
    if down > up:
        low, high = (codec.low, max(high for _, high in codec.ranges))
        down, up = low - min(low for _, (low, _) in used), high - max(high for _, (_, high) in used)
    if down > up:
        raise ValueError(f"{piece.name} spans more than the trained ranges of the voices: it cannot be used as a whole")
    octaves = [12 * k for k in range(-10, 11) if down <= 12 * k <= up]
    semitones = min(octaves or range(down, up + 1), key=abs)
    if semitones:
        by = f"{abs(semitones) // 12} octaves" if octaves else f"{abs(semitones)} semitones"
        by = by.removesuffix("s") if by.startswith("1 ") else by
        context.say(f"{piece.name} is moved {'up' if semitones > 0 else 'down'} by {by}, into the trained ranges")
    return piece.transposed(semitones)


# ------------------------------------------------------------------------------------------------------- generation


def drawn(
    music: "Music", score: Score, seeds: Tensor, key: Tensor | None, context: RequestContext, *, tempo: float | None
) -> Plan:
    """Plan: the samples of a score, one per seed, in keys (n,)."""
    bar, upbeat = (score.piece.bar, score.piece.upbeat) if score.piece else (music.bar, 0)
    x = torch.where(score.tokens == FREE, music.mask, score.tokens).expand(len(seeds), -1, -1)
    x = yield from filled(music, x, seeds, key, context, bar=bar, upbeat=upbeat)
    pieces = [replace(piece, bar=bar, upbeat=upbeat, tempo=tempo) for piece in music.decode(x.flatten(1))]
    names = () if key is None else tuple(KEYS[k] for k in key.tolist())
    return Samples(modality=music, values=pieces, names=names, arrays={"seed": seeds})


def filled(
    music: "Music",
    x: Tensor,
    seeds: Tensor,
    key: Tensor | None,
    context: RequestContext,
    *,
    bar: int,
    upbeat: int,
) -> Generator[Request, Tensor, Tensor]:
    """x (b, steps, streams) with tokens at its masked positions, window by window."""
    x, sampling, streams = x.clone(), context.model.sampling, music.fixed.streams
    free = (x == music.mask).flatten(2).any(2).any(0).nonzero()[:, 0]
    if not len(free):
        return x
    for first in windows(int(free[0]), int(free[-1]) + 1, x.shape[1], music.context_length):
        window = x[:, first : first + music.context_length].flatten(1)
        masked = window == music.mask
        if not bool(masked.any()):
            continue
        place = metre(first - upbeat, window.shape[1] // streams, bar=bar, per_quarter=music.steps_per_quarter)
        condition = condition_of(key, [place] * len(x) if music.metre else [])
        if sampling.guidance and not bool(masked.all()):
            condition = replace(condition or Condition(), prompt=~masked)
        names = mix(seeds, first) if first else seeds
        draw = Draw(
            shape=tuple(window.shape[1:]),
            seeds=names,
            sampling=sampling,
            condition=condition,
            x=window,
            wrap=music.rules,
        )
        if isinstance(sampling.sampler, GibbsSampler):  # resamples a complete window
            begun = replace(sampling, sampler=AncestralUnmask(tokens=sampling.sampler.tokens))
            draw = replace(draw, x=(yield replace(draw, sampling=begun)), known=~masked)
        window = yield draw
        x[:, first : first + music.context_length] = window.unflatten(1, (-1, streams))
    return x


def windows(first: int, last: int, steps: int, length: int) -> list[int]:
    """First steps of windows of `length` that cover the steps first, ..., last - 1 of a score with context around them."""
    end = max(0, steps - length)
    if last - first <= length:
        return [min(max(0, (first + last - length) // 2), end)]
    hop = max(1, length // 2)
    begin, final = max(0, first - hop), min(end, last - length // 2)
    return [*range(begin, final, hop), final]


def free_pieces(music: "Music", dataset: Scores, count: int, context: RequestContext) -> Plan:
    """Plan: free pieces of a whole context, in the keys of pieces spread over a dataset."""
    score = Score(tokens=torch.full((music.context_length, music.fixed.streams), FREE))
    chosen = (torch.arange(count) * len(dataset) // count).tolist()
    key = torch.tensor([key_of(dataset.pieces[i]) for i in chosen]) if music.key else None
    return drawn(music, score, seeds_of(context.seed, count), key, context, tempo=music.tempo)
