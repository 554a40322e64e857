"""Samples of several runs in one picture: a block for each, with its name, below real data where it is shown."""

import io
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image, ImageDraw, ImageFont

from langevin.modalities.lettering import fit_text
from langevin.modalities.modality import Measuring, RequestContext, Samples
from langevin.run.generate import RunModel

ROW = 10  # samples of a run, if its preview has no columns of its own
LINE, SIZE, INK, PAPER = 24, 15, (60, 60, 60), (255, 255, 255)  # pixels of a name and of its letters


def samples_of(models: Sequence[RunModel], measuring: Measuring) -> list[Samples]:
    """The preview samples of each model, of the same seeds and conditions."""
    return [
        model.run(
            model.modality.preview_plan(RequestContext(model=model, data=lambda: (measuring.train, measuring.val))),
            batch=measuring.batch,
        )
        for model in models
    ]


def picture_of(models: Sequence[RunModel], names: Sequence[str], measuring: Measuring) -> bytes | None:
    """A PNG file with the samples of each model under its name; None if their preview is no still picture.

    Where the modality has `real_like`, the first block is real data, and each run has a row, or rows of all classes: a
    column is of one class or caption."""
    drawn, names = samples_of(models, measuring), list(names)
    real = getattr(models[0].modality, "real_like", None)
    if real is not None:
        drawn = [one if one.columns else replace(one.first(ROW), columns=ROW) for one in drawn]
        drawn, names = [real(drawn[0], (measuring.train, measuring.val)), *drawn], ["real", *names]
    files = [one.preview() for one in drawn]
    if any(file.suffix != ".png" for file in files):
        return None
    return stacked(names, [file.content for file in files])


def stacked(names: Sequence[str], blocks: Sequence[bytes]) -> bytes:
    """PNG files below each other, each under its name, as one."""
    images = [Image.open(io.BytesIO(block)).convert("RGB") for block in blocks]
    width, font = max(image.width for image in images), ImageFont.load_default(size=SIZE)
    canvas = Image.new("RGB", (width, sum(image.height + LINE for image in images)), PAPER)
    pen, top = ImageDraw.Draw(canvas), 0
    for name, image in zip(names, images, strict=True):
        pen.text((4, top + LINE - 5), fit_text(name, font, width - 8), fill=INK, font=font, anchor="ls")
        canvas.paste(image, (0, top + LINE))
        top += LINE + image.height
    content = io.BytesIO()
    canvas.save(content, format="PNG", optimize=True)
    return content.getvalue()
