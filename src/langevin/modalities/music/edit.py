"""A piece of which bars, voices or a share of the beats are written anew."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from langevin.diffusion.noise import SampleNoise
from langevin.extras import require
from langevin.modalities.modality import Plan, RequestContext
from langevin.modalities.music import plans
from langevin.modalities.music.codec import PianoRoll, Voices
from langevin.modalities.music.options import Edit, Sample
from langevin.modalities.music.piece import Piece
from langevin.modalities.music.plans import FREE, Score

if TYPE_CHECKING:
    from langevin.modalities.music.modality import Music


def edit_plan(music: "Music", options: Edit, context: RequestContext) -> Plan:
    """Write bars, voices or a share of the beats of a piece anew; the piece itself is the last of the samples.

    Raises:
        ValueError: as `sample`, and nothing to edit."""
    require("mido", "MIDI")
    common = Sample(key=options.key, avoid_parallels=options.avoid_parallels, soundfont=options.soundfont)
    if options.from_bar is not None or options.to_bar is not None:
        if options.strength is not None:
            raise ValueError("--strength writes beats anew, and --from-bar bars: give one of them")
        if options.from_bar is None:
            raise ValueError("--to-bar is the last bar that is written anew: give the first by --from-bar")
        wanted = replace(
            common, infill=options.input, from_bar=options.from_bar, to_bar=options.to_bar, given=options.given
        )
    elif options.given is not None and options.strength is None:
        wanted = replace(common, voices=options.input, given=options.given)
    elif options.strength is None:
        raise ValueError("nothing to edit: give --from-bar for bars, --given for voices that are kept, or --strength")
    else:
        wanted = common
    if options.given is not None and isinstance(music.codec, PianoRoll):
        raise ValueError("--given names voices, and this run holds a piano roll, without voices: leave it out")
    plans.require_consistent(music, wanted)
    piece = plans.read(options.input, music)
    if options.strength is not None:
        score = scattered(music, piece, options.strength, options.given, context)
    else:
        score = plans.requested(music, wanted, context)
    if not bool((score.tokens == FREE).any()):
        raise ValueError("nothing to edit: every note of these bars is given")
    whole = plans.fitting(music, piece, replace(context, say=lambda line: None))
    return with_input(whole, plans.answered(music, wanted, score, context))


def with_input(whole: Piece, plan: Plan) -> Plan:
    """The plan of answers, with the piece as it was after them."""
    made = yield from plan
    arrays = {"seed": torch.cat([made.arrays["seed"], torch.tensor([-1])])}
    names = (*(f"answer {i + 1}" for i in range(len(made))), "input")
    return replace(made, values=[*made.values, whole], names=names, arrays=arrays, num_drawn=len(made))


def scattered(music: "Music", piece: Piece, share: float, given: str | None, context: RequestContext) -> Score:
    """The score of which a share of the beats is free, each of one voice that is not given; of a piano roll, of all.

    Raises:
        ValueError: a share out of (0, 1]."""
    if not 0 < share <= 1:
        raise ValueError(f"--strength is a share of the beats, above 0 and at most 1, got {share:g}")
    piece = plans.fitting(music, piece, context)
    tokens = music.fixed.encode(piece).long()
    voices = tokens.shape[1] if isinstance(music.codec, Voices) else 1
    per_beat = music.steps_per_quarter
    beats = -(-len(tokens) // per_beat)
    seed = torch.tensor([context.seed])
    u = SampleNoise(seeds=seed, steps=torch.zeros_like(seed)).fork(12).uniform(torch.empty(1, beats, voices))[0]
    if given is not None:
        u[:, list(plans.voices_of(given, music))] = 2.0  # the last to be free
    if not bool((u < 2).any()):
        raise ValueError(f"--given {given} keeps every voice, so that nothing is written")
    count = max(1, round(share * int((u < 2).sum())))
    free = torch.zeros(beats * voices, dtype=torch.bool)
    free[u.flatten().argsort()[:count]] = True
    cells = free.view(beats, voices).repeat_interleave(per_beat, 0)[: len(tokens)].expand_as(tokens)
    return Score(tokens=torch.where(cells, FREE, tokens), piece=piece)
