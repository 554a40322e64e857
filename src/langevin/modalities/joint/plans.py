"""From what is requested to a draw of all parts, some given and some never looked at."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.diffusion.guidance import weight_of
from langevin.modalities.joint.batches import CAPTION
from langevin.modalities.joint.options import Sample
from langevin.modalities.modality import Draw, Plan, RequestContext, Samples, Say, seeds_of
from langevin.modalities.paths import did_you_mean

if TYPE_CHECKING:
    from langevin.modalities.joint.modality import Joint

COUNT = 8


def plan(joint: "Joint", options: Sample, context: RequestContext) -> Plan:
    """The plan of a request.

    Raises:
        ValueError: an unknown part, a file that no part reads, or captions of a run without."""
    count = COUNT if context.count is None else context.count
    given = dict[str, Tensor]()
    if options.text:
        if joint.captions is None:
            raise ValueError(f"captions are no part of this run, so that '{options.text[0]}' says nothing to it")
        for text in dict.fromkeys(options.text):
            for complaint in joint.captions.complaints(text):
                context.say(f"caption '{text}': {complaint}")
        given[CAPTION] = joint.captions.encode([options.text[i % len(options.text)] for i in range(count)])
    if options.given is not None:
        name, x = read(joint, options.given, options.part, context.say)
        given[name] = x.expand(count, *x.shape[1:])
    elif options.part is not None:
        raise ValueError("--part says which part --given is of: give both")
    for name in options.only:
        if name not in joint.names:
            raise ValueError(f"--only names '{name}', and the parts are {', '.join(joint.names)}"
                             f"{did_you_mean(name, joint.names)}")  # fmt: skip
    withheld = tuple(n for n in joint.names if options.only and n not in options.only and n not in given)
    if len(withheld) + len(given) == len(joint.names):
        raise ValueError("nothing is left to draw: name another part in --only, or give less")
    if context.guided and not given and weight_of(context.model.sampling.guidance) != 1:
        raise ValueError("--guidance is by what is given: give --text or --given, or leave it out")
    return drawn(joint, given, count, context, withheld=withheld)


def read(joint: "Joint", file: str, part: str | None, say: Say) -> tuple[str, Tensor]:
    """The part that a file is of, and its x (1, ...).

    Raises:
        ValueError: no part, or several, read it."""
    if part is not None and part not in joint.parts:
        raise ValueError(f"--part is one of {', '.join(joint.parts)}, got '{part}'")
    if not Path(file).exists():
        raise ValueError(f"there is no file {file}")
    tried, why = [part] if part is not None else list(joint.parts), list[str]()
    found = dict[str, Tensor]()
    for name in tried:
        modality: Any = joint.parts[name]
        try:
            found[name] = modality.read(Path(file), say=say)
        except AttributeError:
            why.append(f"{name}: files of {modality.kind} are not read")
        except ValueError as error:
            why.append(f"{name}: {error}")
    if len(found) > 1:
        raise ValueError(f"{file} can be {' and '.join(found)}: say which by --part")
    if not found:
        raise ValueError(f"no part reads {file}: {'; '.join(why)}")
    return next(iter(found.items()))


def drawn(
    joint: "Joint", given: dict[str, Tensor], count: int, context: RequestContext, *, withheld: tuple[str, ...] = (),
    names: tuple[str, ...] = (),
) -> Plan:  # fmt: skip
    """The plan of samples with some parts given, (count, ...) each."""
    shape, seeds = joint.shape(context.model), seeds_of(context.seed, count)
    x: dict[str, Tensor] = {}
    known: dict[str, Tensor] = {}
    for name, size in shape.items():
        tokens = name == CAPTION
        x[name] = given.get(name, torch.zeros(count, *size, dtype=torch.int64 if tokens else torch.float32))
        known[name] = torch.full(x[name].shape, name in given)
    found: Any = yield Draw(
        shape=shape, seeds=seeds, sampling=context.model.sampling, x=x if given else None, known=known if given else None,
        withheld=withheld,
    )  # fmt: skip
    parts = {name: part for name, part in found.items() if name not in withheld}
    values = joint.decode(parts)
    captions = tuple(value.get(CAPTION, "") for value in values)
    return Samples(modality=joint, values=values, names=names or captions, arrays={"seed": seeds})
