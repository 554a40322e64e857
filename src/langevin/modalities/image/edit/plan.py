"""From the options of an edit to its plan."""

from typing import TYPE_CHECKING

from langevin.modalities.image.edit.change import restyled
from langevin.modalities.image.edit.enlarging import enlargements
from langevin.modalities.image.edit.repair import restored
from langevin.modalities.image.options import Edit
from langevin.modalities.modality import Plan, RequestContext

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

RESTORATIONS = ("mask", "denoise", "deblur", "enlarge", "colour", "outpaint", "lock_coarse")


def edit_plan(image: "Image", options: Edit, context: RequestContext) -> Plan:
    """The plan of an edit.

    Raises:
        ValueError: options that contradict each other or change nothing, or an input that cannot be read or does not
        fit."""
    if image.enlarge is not None:
        return enlargements(image, options, context)
    require_sense(options)
    require_effect(options, context)
    if options.to or options.source or options.strength is not None or options.between is not None:
        return restyled(image, options, context)
    return restored(image, options, context)


def require_effect(options: Edit, context: RequestContext) -> None:
    """Check that no option would do nothing. Raises `ValueError` for one that would."""
    follows = options.invert or options.source is not None or options.between is not None
    changes = follows or bool(options.to) or options.strength is not None
    noise = "a change has no noise" if changes else "--denoise says how much noise there is"
    idle = [
        (
            "guidance",
            context.guided and not (options.condition or options.to),
            "nothing leads anywhere: give --condition",
        ),
        ("sampler", follows and "sampler" in context.chosen, "the flow is followed by Heun's method"),
        ("fit tile", changes and options.fit == "tile", "only repairs are drawn in tiles: give --fit resize"),
        ("noise", options.noise != Edit.noise and (changes or options.denoise is not None), noise),
        ("method", options.method != Edit.method and changes, "it is for repairs"),
        ("spread", options.spread and follows, "it is of several answers to one question"),
        ("condition", bool(options.condition and options.to) and not follows, "--to says what the image becomes"),
    ]
    for name, useless, why in idle:
        if useless:
            raise ValueError(f"--{name} has no effect here, as {why}")


def require_sense(options: Edit) -> None:
    """Check the options by themselves. Raises `ValueError` for one out of range, or two that exclude each other."""
    repairs = [name for name in RESTORATIONS if getattr(options, name)]
    changes = [name for name in ("to", "strength", "source", "between") if getattr(options, name) not in (None, ())]
    spelt = [f"--{name.replace('_', '-')}" for name in (*repairs, *changes)]
    if repairs and changes:
        raise ValueError(f"{spelt[0]} repairs an image and {spelt[-1]} changes it: do one after the other")
    if options.source and (options.invert or options.strength is not None or options.between is not None):
        raise ValueError("--source takes the image by the flows of two runs: it goes with --to and --condition only")
    if options.invert and not options.to:
        raise ValueError("--invert generates under another condition: give it by --to")
    if options.between is not None and len(changes) > 1:
        raise ValueError(f"--between draws images between two, and {spelt[0]} changes one: do one after the other")
    if options.strength is not None and not 0 < options.strength <= 1:
        raise ValueError(f"--strength is a share of noise, above 0 and at most 1, got {options.strength:g}")
    if options.strength is not None and options.invert:
        raise ValueError("--invert follows the flow all the way, and --strength a part of the way: give one")
    for name in ("denoise", "deblur", "noise"):
        value = getattr(options, name)
        if value is not None and not 0 < value <= 255:
            raise ValueError(f"--{name} is a standard deviation above 0 and at most 255, got {value:g}")
    for name, least in (("enlarge", 2), ("outpaint", 1), ("lock_coarse", 1)):
        value = getattr(options, name)
        if value is not None and not least <= value <= 1024:
            raise ValueError(f"--{name.replace('_', '-')} is a whole number from {least} to 1024, got {value}")
    if options.outpaint and (options.enlarge or options.mask):
        raise ValueError("--outpaint draws a border around the whole input: it takes neither --mask nor --enlarge")
    if options.lock_coarse and len(repairs) > 1:
        raise ValueError(
            f"--lock-coarse draws a whole image anew, and {spelt[0]} a part of one: do one after the other"
        )
